// Every way to send, every kind of content, and who gets it: exclusions, filters, times to live.

import { Readable } from "node:stream";
import { odata } from "@azure/web-pubsub";
import {
  TEXT,
  connect,
  expectNext,
  expectNothing,
  expectReceivers,
  expectRestError,
  groupText,
  run,
  serverText,
  service,
} from "./harness.mjs";

// Content, options, data type and data as a client sees them.
const CONTENTS = [
  [{ a: 1, b: [null, "ä"] }, {}, "json", { a: 1, b: [null, "ä"] }],
  ["a string is JSON by default", {}, "json", "a string is JSON by default"],
  [0.5, {}, "json", 0.5],
  [false, {}, "json", false],
  [[], {}, "json", []],
  ["plain ä 🎈", TEXT, "text", "plain ä 🎈"],
  ["", TEXT, "text", ""],
  [new Uint8Array([0, 255]).buffer, {}, "binary", [0, 255]],
  [new Uint8Array([1, 2]), {}, "binary", [1, 2]],
  // Of no known length, so it comes in chunks.
  [() => Readable.from([Buffer.from("cd"), Buffer.from("e")]), {}, "binary", [99, 100, 101]],
];

// Filters and who gets what is sent to the whole hub with them.
const FILTERS = [
  [odata`userId eq ${"ann"}`, ["ann"]],
  [odata`userId ne ${"ann"}`, ["bob", "nobody"]],
  [odata`userId eq ${null}`, ["nobody"]],
  ["'red' in groups", ["ann", "bob"]],
  ["'red' in groups and not('blue' in groups)", ["ann"]],
  ["length(groups) gt 1", ["bob"]],
  ["startswith(userId, 'b') or userId in ('ann', 'x')", ["ann", "bob"]],
  ["true", ["ann", "bob", "nobody"]],
  ["false", []],
];

run(async () => {
  const hub = service();
  const group = hub.group("red");
  for (const protocol of ["reliable", "json"]) {
    const ann = await connect({ userId: `one-${protocol}`, groups: [`only-${protocol}`], protocol });
    const only = hub.group(`only-${protocol}`);
    for (const [content, options, dataType, data] of CONTENTS) {
      await hub.sendToAll(content, options);
      await expectNext(ann, { dataType, data });
      await hub.sendToUser(ann.userId, content, options);
      await expectNext(ann, { dataType, data });
      await hub.sendToConnection(ann.id, content, options);
      await expectNext(ann, { dataType, data });
      await only.sendToAll(content, options);
      await expectNext(ann, { group: only.groupName, fromUserId: null, dataType, data });
    }
    expectNothing(ann);
    ann.client.stop();
  }

  const peers = {
    ann: await connect({ userId: "ann", groups: ["red"], protocol: "json" }),
    bob: await connect({ userId: "bob", groups: ["red", "blue"] }),
    nobody: await connect({ protocol: "json" }),
  };
  const { ann, bob, nobody } = peers;
  for (const [filter, receivers] of FILTERS) {
    await hub.sendToAll("x", { ...TEXT, filter });
    await expectReceivers(peers, receivers, serverText("x"));
    const members = receivers.filter((name) => name !== "nobody");
    await group.sendToAll("x", { ...TEXT, filter });
    await expectReceivers(peers, members, groupText("red", "x"));
    await hub.sendToUser("bob", "x", { ...TEXT, filter });
    await expectReceivers(peers, receivers.filter((name) => name === "bob"), serverText("x"));
  }

  await hub.sendToAll("x", { ...TEXT, excludedConnections: [ann.id, nobody.id, "unknown"] });
  await expectReceivers(peers, ["bob"], serverText("x"));
  await group.sendToAll("x", { ...TEXT, excludedConnections: [bob.id] });
  await expectReceivers(peers, ["ann"], groupText("red", "x"));
  await group.sendToAll("x", { ...TEXT, excludedConnections: [ann.id], filter: "'blue' in groups" });
  await expectReceivers(peers, ["bob"], groupText("red", "x"));

  for (const messageTtlSeconds of [0, 1, 300]) {
    const options = { ...TEXT, messageTtlSeconds };
    await hub.sendToAll("x", options);
    await expectReceivers(peers, ["ann", "bob", "nobody"], serverText("x"));
    await group.sendToAll("x", options);
    await expectReceivers(peers, ["ann", "bob"], groupText("red", "x"));
    await hub.sendToUser("ann", "x", options);
    await expectReceivers(peers, ["ann"], serverText("x"));
    await hub.sendToConnection(nobody.id, "x", options);
    await expectReceivers(peers, ["nobody"], serverText("x"));
  }

  // The released client has no type for metadata and hands on what came.
  const requestOptions = { customHeaders: { "X-WebPubSub-Metadata-A": "1" } };
  await hub.sendToAll("x", { ...TEXT, requestOptions });
  await expectReceivers(peers, ["ann", "bob", "nobody"], { ...serverText("x"), metadata: { a: "1" } });

  // Sends to nobody are accepted.
  await hub.sendToUser("unknown", "x", TEXT);
  await hub.sendToConnection("unknown", "x", TEXT);
  await hub.group("unknown").sendToAll("x", TEXT);

  const bad = { status: 400, code: "Error.BadRequest" };
  const filters = [
    ["not length(userId)", "Invalid syntax for 'not length(userId)': Type 'null', expect 'bool'. (Parameter 'filter')"],
    ["userId eq", undefined],
    ["userId", undefined],
    ["nonsense(1)", undefined],
    ["'unended", undefined],
    [`${"(".repeat(200)}true${")".repeat(200)}`, undefined],
  ];
  for (const [filter, message] of filters) {
    const expected = { ...bad, target: "filter", message };
    await expectRestError(hub.sendToAll("x", { filter }), expected);
    await expectRestError(hub.sendToUser("ann", "x", { filter }), expected);
    await expectRestError(group.sendToAll("x", { filter }), expected);
    await expectRestError(hub.addConnectionsToGroups(["g"], filter), expected);
    await expectRestError(hub.removeConnectionsFromGroups(["g"], filter), expected);
  }
  await expectRestError(hub.sendToUser(" ", "x"), { ...bad, target: "userId" });
  await expectRestError(hub.sendToAll(null), bad);
  await expectRestError(hub.sendToAll("x".repeat(1 << 20)), bad);
  await expectRestError(hub.group(" ").sendToAll("x"), { ...bad, target: "group" });
  await expectRestError(hub.sendToAll("x", { messageTtlSeconds: 301 }), { ...bad, target: "messageTtlSeconds" });
  await expectRestError(hub.sendToUser("ann", "x", { messageTtlSeconds: -1 }), { ...bad, target: "messageTtlSeconds" });
  await expectReceivers(peers, [], undefined);
});
