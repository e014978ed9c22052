// The released client SDK speaking protobuf (protobuf-protocol.mjs), together with clients that speak JSON: what
// either publishes reaches both, whatever its type.

import { WebPubSubJsonReliableProtocol } from "@azure/web-pubsub-client";
import { ALL_ROLES, assert, connect, expectNext, expectNothing, expectRefused, run, service, until } from "./harness.mjs";
import { anyOf, WebPubSubProtobufProtocol } from "./protobuf-protocol.mjs";

const ANY = anyOf("type.googleapis.com/azure.webpubsub.TestMessage", [8, 1]);
const METADATA = { "trace-id": "0af7", lang: "en" };

// What is published, and what every receiver gets.
const PAYLOADS = [
  ["text", "tëxt \"quoted\"\n", "tëxt \"quoted\"\n"],
  ["text", "", ""],
  ["json", { a: [1.5, "ä"], b: null }, { a: [1.5, "ä"], b: null }],
  ["json", "a string", "a string"],
  ["binary", new Uint8Array([0, 1, 254, 255]).buffer, [0, 1, 254, 255]],
  ["binary", new ArrayBuffer(0), []],
  ["protobuf", ANY, [...new Uint8Array(ANY)]],
  // Longer than one byte of length can say, in every message that it is in.
  ["text", "ä".repeat(40_000), "ä".repeat(40_000)],
];

// A JSON protocol that sets metadata, which the SDK cannot.
function jsonWithMetadata() {
  const protocol = WebPubSubJsonReliableProtocol();
  const withMetadata = (text) => JSON.stringify({ ...JSON.parse(text), metadata: METADATA });
  return {
    name: protocol.name,
    isReliableSubProtocol: protocol.isReliableSubProtocol,
    parseMessages: (input) => protocol.parseMessages(input),
    writeMessage: (message) => withMetadata(protocol.writeMessage(message)),
  };
}

run(async () => {
  const hub = service();
  for (const reliable of [true, false]) {
    const protocol = WebPubSubProtobufProtocol({ reliable });
    const alice = await connect({ userId: "alice", protocol });
    const carol = await connect({ userId: "carol", protocol: WebPubSubProtobufProtocol({ reliable: !reliable }) });
    const bob = await connect({ userId: "bob", protocol: reliable ? "reliable" : "json" });
    for (const peer of [alice, carol, bob]) await peer.client.joinGroup("g");

    // There is no sender's name in protobuf.
    const everybodyGets = async (fromUserId, message) => {
      for (const peer of [alice, carol]) await expectNext(peer, { group: "g", fromUserId: null, ...message });
      await expectNext(bob, { group: "g", fromUserId, ...message });
    };
    for (const from of [alice, bob]) {
      for (const [dataType, sent, data] of PAYLOADS) {
        const result = await from.client.sendToGroup("g", sent, dataType);
        assert.equal(result.isDuplicated, false);
        await everybodyGets(from.userId, { dataType, data });
      }
    }

    // A JSON client may call any bytes protobuf. Nobody has to read an Any in them.
    await bob.client.sendToGroup("g", new Uint8Array([10, 47]).buffer, "protobuf");
    await expectNext(bob, { group: "g", fromUserId: "bob", dataType: "protobuf", data: [10, 47] });
    await expectNext(alice, { group: "g", fromUserId: null, dataType: "binary", data: [10, 47] });
    await expectNext(carol, { group: "g", fromUserId: null, dataType: "binary", data: [10, 47] });

    // Metadata travels both ways.
    const dora = await connect({ userId: "dora", protocol: WebPubSubProtobufProtocol({ reliable, extra: { metadata: METADATA, ttl_seconds: 300 } }) });
    const emil = await connect({ userId: "emil", protocol: jsonWithMetadata() });
    for (const from of [dora, emil]) {
      await from.client.sendToGroup("g", { from: from.userId }, "json");
      await everybodyGets(from.userId, { dataType: "json", data: { from: from.userId }, metadata: METADATA });
    }

    // Everything an ack can say.
    await alice.client.sendToGroup("g", "not to me", "text", { noEcho: true });
    await alice.client.sendToGroup("g", "fire", "text", { fireAndForget: true });
    await expectNext(bob, { group: "g", fromUserId: "alice", dataType: "text", data: "not to me" });
    await expectNext(carol, { group: "g", fromUserId: null, dataType: "text", data: "not to me" });
    await everybodyGets("alice", { dataType: "text", data: "fire" });
    const once = { ackId: 4711, noEcho: true };
    assert.equal((await alice.client.sendToGroup("g", "once", "text", once)).isDuplicated, false);
    assert.equal((await alice.client.sendToGroup("g", "once", "text", once)).isDuplicated, true);
    await expectNext(bob, { group: "g", fromUserId: "alice", dataType: "text", data: "once" });
    await expectNext(carol, { group: "g", fromUserId: null, dataType: "text", data: "once" });
    const nobody = await connect({ userId: "nobody", roles: [], protocol });
    await expectRefused(nobody.client.joinGroup("g"), "Forbidden");
    await expectRefused(nobody.client.sendToGroup("g", "x", "text"), "Forbidden");
    await expectRefused(nobody.client.sendEvent("e", "x", "text"), "InternalServerError");
    await assert.rejects(nobody.client.invokeEvent("e", "x", "text"), /NotFound|handler|event/i);
    const stream = await connect({ userId: "streamer", roles: ALL_ROLES, protocol });
    await assert.rejects(stream.client.openGroupStream("g"));

    // The application server's messages.
    for (const [content, options, dataType, data] of [
      [{ a: 1 }, {}, "json", { a: 1 }],
      ["plain ä", { contentType: "text/plain" }, "text", "plain ä"],
      [new Uint8Array([0, 255]).buffer, {}, "binary", [0, 255]],
    ]) {
      await hub.sendToUser("alice", content, options);
      await expectNext(alice, { dataType, data });
      await hub.sendToConnection(carol.id, content, options);
      await expectNext(carol, { dataType, data });
      await hub.group("g").sendToAll(content, options);
      await everybodyGets(null, { dataType, data });
    }

    await carol.client.leaveGroup("g");
    await bob.client.sendToGroup("g", "carol has left", "text");
    await expectNext(alice, { group: "g", fromUserId: null, dataType: "text", data: "carol has left" });
    expectNothing(carol);

    // Told why, and back as a new connection.
    await hub.closeConnection(carol.id, { reason: "because" });
    await until("carol is told", () => carol.disconnected.length === 1);
    assert.equal(carol.disconnected[0].message?.message, "because");
    await until("carol is back", () => carol.connected.length === 2);
    assert.notEqual(carol.connected[1].connectionId, carol.id);

    for (const peer of [alice, bob, carol, dora, emil, nobody, stream]) peer.client.stop();
  }
});
