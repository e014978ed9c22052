// Names of users and groups with characters that URLs, filters and JSON treat specially.

import { odata } from "@azure/web-pubsub";
import { TEXT, assert, connect, expectNext, expectNothing, expectRefused, groupText, run, serverText, service, until } from "./harness.mjs";

const NAMES = [
  "two words",
  "a/b",
  "50%",
  "a%2Fb",
  "a+b",
  "it's",
  "''",
  '"quoted" \\ back',
  "grüße",
  "日本語",
  "🎈",
  "?a=b&c#d",
  ":send",
  "[a](b),{c};*",
];

run(async () => {
  const hub = service();
  const other = await connect({ userId: "other", groups: ["other"], protocol: "json" });
  for (const [at, name] of NAMES.entries()) {
    const protocol = at % 2 ? "reliable" : "json";
    const peer = await connect({ userId: name, groups: [name], roles: [`webpubsub.joinLeaveGroup.${name}`], protocol, comesBack: false });
    const group = hub.group(name);
    assert.equal(await hub.userExists(name), true, name);
    assert.equal(await hub.groupExists(name), true, name);
    await hub.sendToUser(name, "user", TEXT);
    await expectNext(peer, serverText("user"));
    await group.sendToAll("group", TEXT);
    await expectNext(peer, groupText(name, "group"));

    await hub.sendToAll("user filter", { ...TEXT, filter: odata`userId eq ${name}` });
    await expectNext(peer, serverText("user filter"));
    await hub.sendToAll("group filter", { ...TEXT, filter: odata`${name} in groups` });
    await expectNext(peer, serverText("group filter"));
    await group.sendToAll("not", { ...TEXT, excludedConnections: [peer.id] });
    await group.sendToAll("not", { ...TEXT, filter: odata`not (userId in (${name}, 'x'))` });

    const members = [];
    for await (const member of await group.listConnections()) members.push(member);
    assert.deepEqual(members, [{ connectionId: peer.id, userId: name }]);

    await expectRefused(peer.client.sendToGroup(name, "x", "text"), "Forbidden");
    await hub.grantPermission(peer.id, "sendToGroup", { targetName: name });
    assert.equal(await hub.hasPermission(peer.id, "sendToGroup", { targetName: name }), true);
    await peer.client.sendToGroup(name, "own", "text");
    await expectNext(peer, { ...groupText(name, "own"), fromUserId: name });
    await hub.revokePermission(peer.id, "sendToGroup", { targetName: name });
    assert.equal(await hub.hasPermission(peer.id, "sendToGroup", { targetName: name }), false);

    await peer.client.leaveGroup(name);
    assert.equal(await hub.groupExists(name), false);
    await peer.client.joinGroup(name);
    await group.removeConnection(peer.id);
    await group.addConnection(peer.id);
    await group.removeUser(name);
    assert.equal(await hub.groupExists(name), false);
    await group.addUser(name);
    assert.equal(await hub.groupExists(name), true);
    await hub.removeUserFromAllGroups(name);
    await hub.addConnectionsToGroups([name, `${name} 2`], odata`userId eq ${name}`);
    await hub.group(`${name} 2`).sendToAll("two", TEXT);
    await expectNext(peer, groupText(`${name} 2`, "two"));
    await hub.removeConnectionsFromGroups([name], odata`${`${name} 2`} in groups`);
    assert.equal(await hub.groupExists(name), false);
    await hub.closeUserConnections(name, { reason: name });
    await until("it is told", () => peer.disconnected.length === 1);
    assert.equal(peer.disconnected[0].message?.message, name);
  }
  await hub.sendToAll("end", TEXT);
  await expectNext(other, serverText("end"));
  expectNothing(other);
});
