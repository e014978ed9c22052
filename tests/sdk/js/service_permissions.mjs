// What a connection may do, granted and revoked while it is connected, as the service and the client see it.

import { TEXT, assert, connect, expectNext, expectRefused, expectRestError, groupText, run, service } from "./harness.mjs";

run(async () => {
  const hub = service();
  for (const protocol of ["reliable", "json"]) {
    const { client, id, ...peer } = await connect({ userId: "ann", roles: [], protocol });
    const may = async (permission, targetName, expected) =>
      assert.equal(await hub.hasPermission(id, permission, { targetName }), expected, `${permission} ${targetName}`);
    const join = (group) => client.joinGroup(group);
    const send = (group) => client.sendToGroup(group, "x", "text", { noEcho: true });

    for (const [permission, act] of [["joinLeaveGroup", join], ["sendToGroup", send]]) {
      await may(permission, "g", false);
      await may(permission, undefined, false);
      await expectRefused(act("g"), "Forbidden");
      await hub.grantPermission(id, permission, { targetName: "g" });
      await may(permission, "g", true);
      await may(permission, "G", false);
      await may(permission, undefined, false);
      await act("g");
      await expectRefused(act("h"), "Forbidden");
      // A star is a star.
      await hub.grantPermission(id, permission, { targetName: "*" });
      await may(permission, "h", false);
      await hub.revokePermission(id, permission, { targetName: "g" });
      await may(permission, "g", false);
      await expectRefused(act("g"), "Forbidden");

      await hub.grantPermission(id, permission);
      await may(permission, undefined, true);
      await may(permission, "h", true);
      await act("h");
      await hub.revokePermission(id, permission, { targetName: "h" });
      await may(permission, "h", false);
      await may(permission, undefined, true);
      await expectRefused(act("h"), "Forbidden");
      await act("i");
      await hub.revokePermission(id, permission);
      await may(permission, undefined, false);
      await may(permission, "i", false);
      await expectRefused(act("i"), "Forbidden");
    }
    // What was joined stays joined, though it may not even be left.
    await hub.group("g").sendToAll("still here", TEXT);
    await expectNext(peer, groupText("g", "still here"));
    await expectRefused(client.leaveGroup("g"), "Forbidden");
    client.stop();
  }

  // Roles of the token are where it starts.
  const { client, id } = await connect({ roles: ["webpubsub.sendToGroups.chat-*", "webpubsub.joinLeaveGroup.a.b"] });
  assert.equal(await hub.hasPermission(id, "sendToGroup", { targetName: "chat-1" }), true);
  assert.equal(await hub.hasPermission(id, "sendToGroup", { targetName: "chat.1" }), false);
  assert.equal(await hub.hasPermission(id, "joinLeaveGroup", { targetName: "a.b" }), true);
  await hub.revokePermission(id, "sendToGroup", { targetName: "chat-1" });
  await expectRefused(client.sendToGroup("chat-1", "x", "text"), "Forbidden");
  await client.sendToGroup("chat-2", "x", "text");
  await hub.grantPermission(id, "sendToGroup", { targetName: "chat-1" });
  await client.sendToGroup("chat-1", "x", "text");

  // The Rust side has set the limit to 20.
  await hub.revokePermission(id, "joinLeaveGroup");
  for (let n = 0; n < 20; n++) await hub.grantPermission(id, "joinLeaveGroup", { targetName: `g${n}` });
  const conflict = hub.grantPermission(id, "joinLeaveGroup", { targetName: "one more" });
  await expectRestError(conflict, { status: 409, code: "Error.Conflict" });

  for (const permission of ["joinLeaveGroup", "sendToGroup"]) {
    for (const options of [{}, { targetName: "g" }]) {
      await expectRestError(hub.grantPermission("unknown", permission, options), { status: 404, code: "Error.NotFound" });
      await hub.revokePermission("unknown", permission, options);
      assert.equal(await hub.hasPermission("unknown", permission, options), false);
    }
  }
});
