// Closing from the service: whose connections end, what they are told, and whether they are gone.

import { assert, connect, run, service, until } from "./harness.mjs";

run(async () => {
  const hub = service();
  for (const protocol of ["reliable", "json"]) {
    // Names of their own: a stopped reliable client stays for a while.
    const [ann, bob, red] = ["ann", "bob", "red"].map((name) => `${name}-${protocol}`);
    const client = (options) => connect({ protocol, comesBack: false, ...options });
    const gone = async (peer, reason) => {
      await until(`${peer.userId} is told`, () => peer.disconnected.length === 1);
      const told = peer.disconnected[0].message?.message;
      if (reason) assert.equal(told, reason);
      else assert.ok(told, "a default reason");
      assert.equal(await hub.connectionExists(peer.id), false);
    };
    const stays = async (peer) => {
      assert.equal(await hub.connectionExists(peer.id), true);
      assert.equal(peer.disconnected.length, 0);
    };

    const one = await client({ userId: ann });
    const two = await client({ userId: ann, groups: [red] });
    const three = await client({ userId: ann, groups: [red] });
    const four = await client({ userId: bob, groups: [red] });
    assert.equal(await hub.userExists(ann), true);
    assert.equal(await hub.userExists("unknown"), false);
    assert.equal(await hub.connectionExists("unknown"), false);

    await hub.closeConnection(one.id, { reason: "one ä" });
    await gone(one, "one ä");
    await hub.closeConnection(one.id);
    await hub.closeUserConnections(ann, { reason: "two", excluded: [three.id] });
    await gone(two, "two");
    await stays(three);
    await hub.group(red).closeAllConnections({ reason: "three", excluded: [four.id, "unknown"] });
    await gone(three, "three");
    await stays(four);
    assert.equal(await hub.userExists(ann), false);
    await hub.closeAllConnections({ excluded: [four.id] });
    await stays(four);
    const five = await client({});
    await hub.closeAllConnections({ reason: "all" });
    await gone(four, "all");
    await gone(five, "all");
    const six = await client({ userId: bob, groups: [red] });
    await hub.group(red).closeAllConnections();
    await gone(six);
    assert.equal(await hub.groupExists(red), false);
    await hub.closeUserConnections("unknown");
    await hub.group("unknown").closeAllConnections();
    await hub.closeAllConnections();

    // A closed client comes back by itself, as another connection.
    const back = await connect({ userId: ann, protocol });
    await hub.closeConnection(back.id, { reason: "because" });
    await until("it is told", () => back.disconnected.length === 1);
    assert.equal(back.disconnected[0].message?.message, "because");
    await until("it is back", () => back.connected.length === 2);
    assert.notEqual(back.connected[1].connectionId, back.id);
    assert.equal(await hub.connectionExists(back.id), false);
    back.client.stop();
    await hub.closeAllConnections();
  }
});
