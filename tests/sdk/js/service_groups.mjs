// Who is in which group, changed by the service: one connection, one user, or all that a filter names.

import { TEXT, assert, connect, expectReceivers, expectRestError, groupText, run, service } from "./harness.mjs";

run(async () => {
  const hub = service();
  const peers = {
    ann: await connect({ userId: "ann" }),
    ann2: await connect({ userId: "ann", protocol: "json" }),
    bob: await connect({ userId: "bob", protocol: "json" }),
    nobody: await connect({ protocol: "json" }),
  };
  const { ann, ann2, bob } = peers;
  const members = async (name, expected) => {
    await hub.group(name).sendToAll("x", TEXT);
    await expectReceivers(peers, expected, groupText(name, "x"));
    assert.equal(await hub.groupExists(name), expected.length > 0);
  };

  const one = hub.group("one");
  await one.addConnection(ann.id);
  await one.addConnection(ann.id);
  await members("one", ["ann"]);
  await one.addUser("ann");
  await members("one", ["ann", "ann2"]);
  await one.removeConnection(ann.id);
  await one.removeConnection(ann.id);
  await members("one", ["ann2"]);
  await one.removeUser("ann");
  await members("one", []);

  for (const name of ["a", "b"]) {
    await hub.group(name).addUser("ann");
    await hub.group(name).addConnection(bob.id);
  }
  await hub.removeConnectionFromAllGroups(ann.id);
  await members("a", ["ann2", "bob"]);
  await members("b", ["ann2", "bob"]);
  await hub.removeUserFromAllGroups("ann");
  await members("a", ["bob"]);
  await members("b", ["bob"]);
  await hub.removeUserFromAllGroups("bob");

  await hub.addConnectionsToGroups(["x", "y"], "userId eq 'ann'");
  await members("x", ["ann", "ann2"]);
  await members("y", ["ann", "ann2"]);
  await hub.addConnectionsToGroups(["x"], `connectionId eq '${bob.id}'`);
  await members("x", ["ann", "ann2", "bob"]);
  await hub.removeConnectionsFromGroups(["x", "y", "unknown"], `connectionId in ('${ann.id}', '${bob.id}')`);
  await members("x", ["ann2"]);
  await members("y", ["ann2"]);
  await hub.addConnectionsToGroups(["z"], "not('x' in groups)");
  await members("z", ["ann", "bob", "nobody"]);
  await hub.removeConnectionsFromGroups(["z"], "userId eq null");
  await members("z", ["ann", "bob"]);
  await hub.addConnectionsToGroups(["nothing"], "userId eq 'unknown'");
  await members("nothing", []);
  // Without a filter: every connection of the hub.
  await hub.addConnectionsToGroups(["everyone"], "");
  await members("everyone", ["ann", "ann2", "bob", "nobody"]);
  await hub.removeConnectionsFromGroups(["everyone", "x", "y", "z"], undefined);
  for (const name of ["everyone", "x", "y", "z"]) await members(name, []);
  // A member that was put in leaves by itself, if it may.
  await hub.group("left").addConnection(ann2.id);
  await ann2.client.leaveGroup("left");
  await members("left", []);

  // Nobody there: adding says so, removing is done already.
  await expectRestError(one.addConnection("unknown"), { status: 404, code: "Error.NotFound" });
  await expectRestError(one.addUser("unknown"), { status: 404, code: "Error.NotFound" });
  await one.removeConnection("unknown");
  await one.removeUser("unknown");
  await hub.removeConnectionFromAllGroups("unknown");
  await hub.removeUserFromAllGroups("unknown");
  const bad = { status: 400, code: "Error.BadRequest" };
  await expectRestError(hub.addConnectionsToGroups([], ""), { ...bad, target: "groups" });
  await expectRestError(hub.addConnectionsToGroups(["g", " "], ""), { ...bad, target: "groups" });
  await expectRestError(hub.removeConnectionsFromGroups([], ""), { ...bad, target: "groups" });
  assert.equal(await hub.groupExists("g"), false);
});
