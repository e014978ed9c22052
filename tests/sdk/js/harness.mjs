// What every JavaScript scenario needs: clients that remember what came, and waiting with a deadline.
// A scenario fails by throwing; the Rust side (tests/src/script.rs) shows standard error.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient, WebPubSubJsonProtocol } from "@azure/web-pubsub-client";

export { assert };

export const ALL_ROLES = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"];

const DEADLINE_MS = 60_000;
const LOOK_EVERY_MS = 2;

// A service client of a hub, as an application makes it.
export function service(connectionString = process.env.CONNECTION_STRING, hub = "chat") {
  const allowInsecureConnection = connectionString.includes("Endpoint=http://");
  return new WebPubSubServiceClient(connectionString, hub, { allowInsecureConnection });
}

// A started client that queues what it is told. `protocol` is "reliable" (the SDK's default), "json" or a protocol
// object for the SDK; without `comesBack` it stays away once it is closed. `knownAs` is the user it is let in as.
export async function connect({
  userId,
  knownAs = userId,
  roles = ALL_ROLES,
  groups,
  protocol = "reliable",
  comesBack = true,
  through = service(),
} = {}) {
  const getClientAccessUrl = async () => (await through.getClientAccessToken({ userId, roles, groups })).url;
  const options = { messageRetryOptions: { maxRetries: 0 }, autoReconnect: comesBack };
  if (protocol === "json") options.protocol = WebPubSubJsonProtocol();
  if (typeof protocol === "object") options.protocol = protocol;
  const peer = { client: new WebPubSubClient({ getClientAccessUrl }, options), userId };
  peer.connected = [];
  peer.disconnected = [];
  peer.messages = [];
  peer.client.on("connected", (e) => peer.connected.push(e));
  peer.client.on("disconnected", (e) => peer.disconnected.push(e));
  peer.client.on("rejoin-group-failed", (e) => fail(`cannot rejoin ${e.group}: ${e.error}`));
  peer.client.on("stopped", () => {});
  peer.client.on("group-message", ({ message }) => peer.messages.push(plain(message)));
  peer.client.on("server-message", ({ message }) => peer.messages.push(plain(message)));
  await peer.client.start();
  await until("connected", () => peer.connected.length === 1);
  assert.equal(peer.connected[0].userId ?? undefined, knownAs);
  peer.id = peer.connected[0].connectionId;
  return peer;
}

// A message without what differs from run to run.
function plain(message) {
  const { kind, group, fromUserId, dataType, metadata } = message;
  const data = message.data instanceof ArrayBuffer ? [...new Uint8Array(message.data)] : message.data;
  const content = metadata === undefined ? { dataType, data } : { dataType, data, metadata };
  return kind === "groupData" ? { group, fromUserId: fromUserId ?? null, ...content } : content;
}

// The next message a peer gets must be this one.
export async function expectNext(peer, expected) {
  await until(`${peer.userId} gets ${JSON.stringify(expected)}`, () => peer.messages.length > 0);
  assert.deepEqual(peer.messages.shift(), expected);
}

// Nothing more has come. Say it after something that comes later has arrived.
export function expectNothing(peer) {
  assert.deepEqual(peer.messages, []);
}

// Expects a rejection whose error detail has that name.
export async function expectRefused(promise, name) {
  await assert.rejects(promise, (error) => {
    const found = error.errorDetail?.name ?? error.name;
    assert.equal(found, name, `${error}`);
    return true;
  });
}

// Expects a service call to fail as the SDK shows errors: status, code, and the parameter at fault if there is one.
export async function expectRestError(promise, { status, code, target, message }) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.name, "RestError", `${error}`);
    assert.equal(error.statusCode, status, error.message);
    if (code) {
      assert.equal(error.code, code, error.message);
      assert.equal(error.details.code, code);
      assert.equal(error.details.target, target);
      assert.ok(error.details.message.length > 5, "a message for people");
    }
    if (message) assert.equal(error.details.message, message);
    return true;
  });
}

// Everyone whose name is in `expected` gets the text next, the others do not: what comes next for all of them is
// `marker`, sent last to the whole hub.
export async function expectReceivers(peers, expected, text) {
  for (const name of expected) await expectNext(peers[name], text);
  marks += 1;
  const mark = `mark ${marks}`;
  await service().sendToAll(mark, { contentType: "text/plain" });
  for (const peer of Object.values(peers)) await expectNext(peer, { dataType: "text", data: mark });
}

let marks = 0;

// A group's message from the service.
export function groupText(group, data) {
  return { group, fromUserId: null, dataType: "text", data };
}

export function serverText(data) {
  return { dataType: "text", data };
}

export const TEXT = { contentType: "text/plain" };

// Waits for a condition that SDK callbacks make true. A bounded poll, since the SDK has no event for most of them;
// how often it looks changes no outcome.
export async function until(what, holds) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`still waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

let answers;

// Has the Rust side do something and waits until it is done.
export async function ask(what) {
  // Opened late: reading standard input keeps Node alive.
  answers ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  console.log(JSON.stringify({ ask: what }));
  const { done } = await answers.next();
  assert.ok(!done, "the harness is gone");
}

function fail(text) {
  console.error(text);
  process.exit(1);
}

// Runs a scenario. The exit is explicit: sockets and standard input would keep Node alive.
export function run(scenario) {
  scenario().then(
    () => process.exit(0),
    (error) => fail(error?.stack ?? String(error)),
  );
}
