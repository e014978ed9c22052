// The session is gone: recovery is refused, the SDK opens a new connection and rejoins its groups.

import { ask, assert, connect, expectNext, expectNothing, run, service, until } from "./harness.mjs";

run(async () => {
  const client = await connect({ userId: "u" });
  for (const group of ["a", "b", "left"]) await client.client.joinGroup(group);
  await client.client.leaveGroup("left");
  const ids = [client.id];

  const cameBack = async (times) => {
    await until("a new connection", () => client.connected.length === times);
    const { connectionId } = client.connected.at(-1);
    assert.ok(!ids.includes(connectionId), "a new connection, not the old one");
    ids.push(connectionId);
    const hub = service();
    await until("it has rejoined", async () => (await hub.groupExists("a")) && (await hub.groupExists("b")));
    for (const group of ["a", "b"]) {
      await hub.group(group).sendToAll(group, { contentType: "text/plain" });
      await expectNext(client, { group, fromUserId: null, dataType: "text", data: group });
    }
    assert.equal(await hub.groupExists("left"), false);
    expectNothing(client);
  };

  // The session is closed by the service.
  await service().closeConnection(client.id, { reason: "closed by the test" });
  await cameBack(2);
  assert.equal(client.disconnected[0].message?.message, "closed by the test");
  assert.equal(await service().connectionExists(ids[0]), false);

  // The server itself is gone, and the one in its place knows nothing.
  await ask("replace the server");
  await cameBack(3);
  assert.equal(client.disconnected.length, 2);
});
