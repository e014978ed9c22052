// protobuf-protocol.mjs against the byte vectors of the server's own tests: what it writes is what they call so, and
// it reads all responses.

import { readFileSync } from "node:fs";
import { assert, run } from "./harness.mjs";
import { anyOf, WebPubSubProtobufProtocol } from "./protobuf-protocol.mjs";

const TYPE_URL = "type.googleapis.com/azure.webpubsub.TestMessage";
const protocol = WebPubSubProtobufProtocol({ reliable: true });
const withExtra = WebPubSubProtobufProtocol({ reliable: true, extra: { ttl_seconds: 300 } });

// What a vector reads as, and the SDK's message for it.
const REQUESTS = [
  ['join "g1" ack 1', { kind: "joinGroup", group: "g1", ackId: 1 }],
  ['leave "g1" ack 2', { kind: "leaveGroup", group: "g1", ackId: 2 }],
  ['join "g1"', { kind: "joinGroup", group: "g1" }],
  ['join "g1" ack 0', { kind: "joinGroup", group: "g1", ackId: 0 }],
  ['send "g1" ack 3 text hi', { kind: "sendToGroup", group: "g1", ackId: 3, dataType: "text", data: "hi" }],
  ['send "g1" binary = \\x01\\x02\\xff', { kind: "sendToGroup", group: "g1", dataType: "binary", data: new Uint8Array([1, 2, 255]).buffer }],
  [
    `send "g1" protobuf = \\n/${TYPE_URL}\\x12\\x02\\x08\\x01`,
    { kind: "sendToGroup", group: "g1", dataType: "protobuf", data: anyOf(TYPE_URL, [8, 1]) },
  ],
  ['send "g1" text', { kind: "sendToGroup", group: "g1", dataType: "text", data: "" }],
  ['send "g1" binary', { kind: "sendToGroup", group: "g1", dataType: "binary", data: new ArrayBuffer(0) }],
  ['send "g1" protobuf', { kind: "sendToGroup", group: "g1", dataType: "protobuf", data: new ArrayBuffer(0) }],
  ['send "g1" noEcho text', { kind: "sendToGroup", group: "g1", dataType: "text", data: "", noEcho: true }],
  ['send "g1" ttl 300 text', { kind: "sendToGroup", group: "g1", dataType: "text", data: "" }, withExtra],
  ["event vote ack 5 text yes", { kind: "sendEvent", event: "vote", ackId: 5, dataType: "text", data: "yes" }],
  ["sequence ack 12", { kind: "sequenceAck", sequenceId: 12 }],
  ["ping", { kind: "ping" }],
  ['invoke "1" event ask text hi', { kind: "invoke", event: "ask", invocationId: "1", dataType: "text", data: "hi" }],
  ['invoke "1" event ask json 10', { kind: "invoke", event: "ask", invocationId: "1", dataType: "json", data: 10 }],
  ['cancel "1"', { kind: "cancelInvocation", invocationId: "1" }],
  ['stream "s-1"', { kind: "sendToGroup", group: "g1", stream: { streamId: "s-1", idleTimeoutInMs: 1000 } }],
  ["group state ack 1", { kind: "setGroupState", group: "g1", ackId: 1, state: { k: "v" } }],
  ["group state ack 3", { kind: "subscribeGroupState", group: "g1", ackId: 3 }],
];

const fromGroup = { kind: "groupData", group: "g1", sequenceId: undefined, metadata: undefined };
const fromServer = { kind: "serverData", group: undefined, sequenceId: undefined, metadata: undefined };
const connected = { kind: "connected", connectionId: "c1", userId: "u1", reconnectionToken: undefined };
const answered = { kind: "invokeResponse", invocationId: "1", success: true, error: undefined };
const bytes = [1, 2, 255];
const RESPONSES = {
  ack: { kind: "ack", ackId: 1, success: true, error: undefined },
  "ack of the largest id": { kind: "ack", ackId: 2 ** 64, success: true, error: undefined },
  "refused ack": { kind: "ack", ackId: 3, success: false, error: { name: "Forbidden", message: "text" } },
  connected,
  "connected, anonymous": { ...connected, userId: undefined },
  "connected, reliable": { ...connected, reconnectionToken: "opaque" },
  disconnected: { kind: "disconnected", message: "reason" },
  pong: { kind: "pong" },
  "invocation refused": { kind: "invokeResponse", invocationId: "1", success: false, error: { name: "NotFound", message: "text" } },
  "invocation answered": answered,
  "invocation answered, json": { ...answered, dataType: "json", data: [1] },
  "invocation answered, no Any": { ...answered, dataType: "binary", data: [10, 47] },
  "invocation answered, metadata": { ...answered, dataType: "text", data: "" },
  "stream closed": { kind: "streamClosed", streamId: "s-1", error: { name: "BadRequest", message: "text" } },
  "server text": { ...fromServer, dataType: "text", data: "hi" },
  "server text, reliable": { ...fromServer, sequenceId: 7, dataType: "text", data: "hi" },
  "group json": { ...fromGroup, dataType: "json", data: [1] },
  "group binary": { ...fromGroup, dataType: "binary", data: bytes },
  "group protobuf": { ...fromGroup, dataType: "protobuf", data: [...new Uint8Array(anyOf(TYPE_URL, [8, 1]))] },
  "group text token": { ...fromGroup, dataType: "text", data: "a\nb" },
  "group binary token": { ...fromGroup, dataType: "binary", data: bytes },
  "group protobuf token": { ...fromGroup, dataType: "protobuf", data: [10, 1, 116] },
  "group protobuf token that is no Any": { ...fromGroup, dataType: "binary", data: [10, 47] },
  "group empty text": { ...fromGroup, dataType: "text", data: "" },
  "group empty binary": { ...fromGroup, dataType: "binary", data: [] },
  "group empty protobuf": { ...fromGroup, dataType: "protobuf", data: [] },
  "group metadata, reliable": { ...fromGroup, sequenceId: 300, metadata: { k2: "v", k1: "" }, dataType: "text", data: "hi" },
};

// Pairs of lines, with the bytes on the even or the odd ones.
function vectors(file) {
  const text = readFileSync(`${process.env.VECTORS}/${file}`, "utf8");
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Array.from({ length: lines.length / 2 }, (_, n) => [lines[2 * n], lines[2 * n + 1]]);
}

function hex(line) {
  const part = (part) => (part.startsWith('"') ? part.slice(1, -1) : String.fromCharCode(parseInt(part, 16)));
  return Buffer.from(line.split(" ").map(part).join(""), "latin1").toString("hex");
}

run(async () => {
  const requests = vectors("requests.txt");
  for (const [reads, message, by = protocol] of REQUESTS) {
    // Several vectors may read the same; the first is the way to write it.
    const [line] = requests.find((vector) => vector[1] === reads) ?? assert.fail(`no vector reads ${reads}`);
    assert.equal(Buffer.from(by.writeMessage(message)).toString("hex"), hex(line), reads);
  }
  const responses = vectors("responses.txt");
  for (const [name, line] of responses) {
    const message = protocol.parseMessages(Uint8Array.from(Buffer.from(hex(line), "hex")).buffer);
    if (message.data instanceof ArrayBuffer) message.data = [...new Uint8Array(message.data)];
    assert.deepEqual(message, RESPONSES[name], name);
  }
  assert.equal(responses.length, Object.keys(RESPONSES).length);
});
