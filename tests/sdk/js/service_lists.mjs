// Lists of members, page by page. The Rust side has put 450 connections into "many", with and without users.

import { assert, connect, expectRestError, run, service } from "./harness.mjs";

const COUNT = 450;

run(async () => {
  const hub = service();
  const many = hub.group("many");
  // The method is async although what it returns is too (rest-api, section 2.2).
  const list = async (options) => (await many.listConnections(options))[Symbol.asyncIterator]();
  const read = async (iterator) => {
    const found = [];
    for (let item = await iterator.next(); !item.done; item = await iterator.next()) found.push(item.value);
    return found;
  };

  const all = await read(await list({}));
  assert.equal(all.length, COUNT);
  const ids = all.map((member) => member.connectionId);
  assert.deepEqual(ids, [...new Set(ids)].sort(), "each once, in order");
  assert.equal(all.filter((member) => member.userId === null || member.userId === undefined).length, COUNT / 3);
  assert.equal(all.filter((member) => member.userId === "ü/1").length, COUNT / 3);

  for (const maxPageSize of [1, 7, 199, 200]) {
    const top = maxPageSize === 1 ? 5 : undefined;
    const found = await read(await list({ maxPageSize, top }));
    assert.deepEqual(found.map((member) => member.connectionId), ids.slice(0, top ?? COUNT));
  }
  for (const top of [1, 199, 200, 201, 450, 1000]) {
    assert.equal((await read(await list({ top }))).length, Math.min(top, COUNT));
  }

  // Page by page, and on from any of them.
  const links = [];
  const onResponse = (response) => links.push(JSON.parse(response.bodyAsText).nextLink);
  const pages = (await many.listConnections({ maxPageSize: 150, onResponse })).byPage();
  const sizes = [];
  for await (const page of pages) sizes.push(page.length);
  assert.deepEqual(sizes, [150, 150, 150]);
  assert.equal(links[2], null);
  // What the SDK keeps as its token is the link, which it follows as it is.
  const [token] = links;
  assert.ok(/^https?:\/\//.test(token), token);
  const rest = (await many.listConnections()).byPage({ continuationToken: token });
  const second = await rest.next();
  assert.deepEqual(second.value.map((member) => member.connectionId), ids.slice(150, 300));
  const third = await rest.next();
  assert.deepEqual(third.value.map((member) => member.connectionId), ids.slice(300));
  assert.equal((await rest.next()).done, true);
  const continuationToken = new URL(token).searchParams.get("continuationToken");
  const behind = await read(await list({ continuationToken, top: 10 }));
  assert.deepEqual(behind.map((member) => member.connectionId), ids.slice(150, 160));

  const none = await (await hub.group("none").listConnections()).next();
  assert.equal(none.done, true);
  const single = await connect({ userId: "ann", groups: ["single"] });
  const found = await (await hub.group("single").listConnections()).next();
  assert.deepEqual(found.value, { connectionId: single.id, userId: "ann" });

  const bad = { status: 400, code: "Error.BadRequest" };
  const first = async (group, options) => (await hub.group(group).listConnections(options)).next();
  await expectRestError(first("many", { continuationToken: "x" }), { ...bad, target: "continuationToken" });
  await expectRestError(first("single", { continuationToken }), { ...bad, target: "continuationToken" });
});
