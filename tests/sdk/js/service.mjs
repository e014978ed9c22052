// The service client: sends to all, group, user and connection, closes, exists checks, membership, tokens.

import { assert, connect, expectNext, expectNothing, run, service, until } from "./harness.mjs";

// Content, options, data type and data as a client sees them.
const PAYLOADS = [
  [{ a: 1 }, {}, "json", { a: 1 }],
  ["a string is JSON by default", {}, "json", "a string is JSON by default"],
  ["plain ä", { contentType: "text/plain" }, "text", "plain ä"],
  [new Uint8Array([0, 255]).buffer, {}, "binary", [0, 255]],
];

run(async () => {
  const hub = service();
  for (const protocol of ["reliable", "json"]) {
    const alice = await connect({ userId: "user/ä 1", groups: ["grp.α/1"], protocol });
    const bob = await connect({ userId: "bob", protocol });
    const group = hub.group("grp.α/1");

    for (const [content, options, dataType, data] of PAYLOADS) {
      await hub.sendToAll(content, options);
      await expectNext(alice, { dataType, data });
      await expectNext(bob, { dataType, data });
      await hub.sendToAll(content, { ...options, excludedConnections: [bob.id] });
      await expectNext(alice, { dataType, data });
      await group.sendToAll(content, options);
      await expectNext(alice, { group: "grp.α/1", fromUserId: null, dataType, data });
      await hub.sendToUser("user/ä 1", content, options);
      await expectNext(alice, { dataType, data });
      await hub.sendToConnection(alice.id, content, options);
      await expectNext(alice, { dataType, data });
    }
    expectNothing(bob);

    assert.equal(await hub.connectionExists(alice.id), true);
    assert.equal(await hub.userExists("user/ä 1"), true);
    assert.equal(await hub.groupExists("grp.α/1"), true);
    assert.equal(await hub.connectionExists("nobody"), false);
    assert.equal(await hub.userExists("nobody"), false);
    assert.equal(await hub.groupExists("nobody"), false);

    const late = hub.group("late");
    await late.addConnection(bob.id);
    await late.sendToAll("1", { contentType: "text/plain" });
    await expectNext(bob, { group: "late", fromUserId: null, dataType: "text", data: "1" });
    await late.removeConnection(bob.id);
    await late.addUser("user/ä 1");
    await late.sendToAll("2", { contentType: "text/plain" });
    await expectNext(alice, { group: "late", fromUserId: null, dataType: "text", data: "2" });
    await late.removeUser("user/ä 1");
    assert.equal(await hub.groupExists("late"), false);
    await late.addConnection(bob.id);
    await hub.removeConnectionFromAllGroups(bob.id);
    await late.addUser("bob");
    await hub.removeUserFromAllGroups("bob");
    assert.equal(await hub.groupExists("late"), false);
    await assert.rejects(late.addConnection("nobody"));
    expectNothing(bob);

    // Tokens: what is asked for is what the client may do.
    const { token, url } = await hub.getClientAccessToken({ userId: "u", roles: ["webpubsub.sendToGroup.g"], groups: ["g"], expirationTimeInMinutes: 5 });
    assert.ok(url.includes(token));

    // Closed clients come back by themselves; the reason is the application's to see.
    await hub.closeConnection(alice.id, { reason: "because" });
    await until("alice is told", () => alice.disconnected.length === 1);
    assert.equal(alice.disconnected[0].message?.message, "because");
    await until("alice is back", () => alice.connected.length === 2);
    assert.notEqual(alice.connected[1].connectionId, alice.id);
    assert.equal(await hub.connectionExists(alice.id), false);

    alice.client.stop();
    bob.client.stop();
    await hub.closeUserConnections("bob");
    await hub.group("grp.α/1").closeAllConnections();
    await hub.closeAllConnections();
    await until("all are gone", async () => !(await hub.userExists("bob")));
  }
});
