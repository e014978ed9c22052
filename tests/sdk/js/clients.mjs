// Two clients: connect, join, publish in three types, noEcho, acks, refusals, leave.

import { ALL_ROLES, assert, connect, expectNext, expectNothing, expectRefused, run } from "./harness.mjs";

const PAYLOADS = [
  ["json", { a: [1, "ä"], b: null }, { a: [1, "ä"], b: null }],
  ["json", "a string", "a string"],
  ["text", "tëxt \"quoted\"\n", "tëxt \"quoted\"\n"],
  ["text", "", ""],
  ["binary", new Uint8Array([0, 1, 254, 255]).buffer, [0, 1, 254, 255]],
];

run(async () => {
  for (const protocol of ["reliable", "json"]) {
    const alice = await connect({ userId: "alice", protocol });
    const bob = await connect({ userId: "bob", protocol });
    assert.notEqual(alice.id, bob.id);
    await alice.client.joinGroup("g");
    await bob.client.joinGroup("g");

    for (const [dataType, sent, data] of PAYLOADS) {
      const result = await alice.client.sendToGroup("g", sent, dataType);
      assert.equal(result.isDuplicated, false);
      const message = { group: "g", fromUserId: "alice", dataType, data };
      await expectNext(alice, message);
      await expectNext(bob, message);
    }

    await alice.client.sendToGroup("g", "not to me", "text", { noEcho: true });
    await alice.client.sendToGroup("g", "fire", "text", { fireAndForget: true });
    await expectNext(bob, { group: "g", fromUserId: "alice", dataType: "text", data: "not to me" });
    await expectNext(bob, { group: "g", fromUserId: "alice", dataType: "text", data: "fire" });
    await expectNext(alice, { group: "g", fromUserId: "alice", dataType: "text", data: "fire" });

    // The same ack id again is done already, and says so.
    const once = { ackId: 4711, noEcho: true };
    assert.equal((await alice.client.sendToGroup("g", "once", "text", once)).isDuplicated, false);
    assert.equal((await alice.client.sendToGroup("g", "once", "text", once)).isDuplicated, true);
    await expectNext(bob, { group: "g", fromUserId: "alice", dataType: "text", data: "once" });

    await bob.client.leaveGroup("g");
    await alice.client.sendToGroup("g", "bob has left", "text");
    await expectNext(alice, { group: "g", fromUserId: "alice", dataType: "text", data: "bob has left" });
    expectNothing(bob);

    const nobody = await connect({ userId: "nobody", roles: [], protocol });
    await expectRefused(nobody.client.joinGroup("g"), "Forbidden");
    await expectRefused(nobody.client.sendToGroup("g", "x", "text"), "Forbidden");
    await expectRefused(nobody.client.sendEvent("e", "x", "text"), "InternalServerError");
    await assert.rejects(nobody.client.invokeEvent("e", "x", "text"), /NotFound|handler|event/i);
    const stream = await connect({ userId: "streamer", roles: ALL_ROLES, protocol });
    await assert.rejects(stream.client.openGroupStream("g"));

    const some = await connect({ userId: "some", roles: ["webpubsub.sendToGroups.team-*", "webpubsub.joinLeaveGroup.team-1"], protocol });
    await some.client.joinGroup("team-1");
    await some.client.sendToGroup("team-1", "hi", "text");
    await expectNext(some, { group: "team-1", fromUserId: "some", dataType: "text", data: "hi" });
    await expectRefused(some.client.joinGroup("team-2"), "Forbidden");
    await expectRefused(some.client.sendToGroup("g", "x", "text"), "Forbidden");
    expectNothing(alice);

    for (const peer of [alice, bob, nobody, stream, some]) peer.client.stop();
  }
});
