// The service's own middleware as the application server, the released clients as its clients. `EXPRESS` names the
// package, `PORT` is where the server has been told to find it.

import express from "express";
import { WebPubSubClient } from "@azure/web-pubsub-client";
import { ALL_ROLES, assert, connect, expectNext, expectRefused, run, service, until } from "./harness.mjs";

const { WebPubSubEventHandler } = await import(process.env.EXPRESS);
const KNOWS_PRESENCE = process.env.EXPRESS === "@azure/web-pubsub-express";

// What the application was told, by user.
const told = [];
const tell = (what) => (request) => told.push({ what, ...request });
const toldOf = (user) => told.filter(({ context }) => context.userId === user);

function handleConnect(request, response) {
  tell("connect")(request);
  switch (request.context.userId) {
    case "refused":
      return response.fail(401, "not you");
    case "wrong":
      return response.fail(400, "what?");
    case "broken":
      return response.fail(500, "a secret");
    case "another":
      return response.success({ userId: "renamed", groups: ["g", "h"], roles: ["webpubsub.sendToGroup.g"] });
    case "powerless":
      return response.success({ roles: [] });
    default:
      response.setState("connects", 1);
      response.setState("name", "ünïcode");
      return response.success();
  }
}

function handleUserEvent(request, response) {
  tell(request.context.eventName)(request);
  const { data, dataType, context } = request;
  switch (context.eventName) {
    case "echo":
      return response.success(dataType === "json" ? JSON.stringify(data) : data, dataType);
    case "count":
      response.setState("count", (context.states.count ?? 0) + 1);
      return response.success(JSON.stringify(context.states), "json");
    case "quiet":
      return response.success();
    case "wrong":
      return response.fail(400, "what?");
    case "unauthorized":
      return response.fail(401, "not you");
    case "later":
      return setTimeout(() => response.success("later", "text"), 20);
    default:
      return response.fail(500, "a secret");
  }
}

async function listen() {
  const app = express();
  const chat = new WebPubSubEventHandler("chat", {
    path: "/eventhandler",
    handleConnect,
    handleUserEvent,
    onConnected: tell("connected"),
    onDisconnected: tell("disconnected"),
    onGroupJoined: tell("joined"),
    onGroupLeft: tell("left"),
  });
  app.use(chat.getMiddleware());
  // At its default path, without a single callback.
  app.use(new WebPubSubEventHandler("bare").getMiddleware());
  const allowedEndpoints = ["https://other.example.com:9", process.env.ENDPOINT];
  app.use(new WebPubSubEventHandler("picky", { allowedEndpoints }).getMiddleware());
  app.use(new WebPubSubEventHandler("closed", { allowedEndpoints: ["https://other.example.com"] }).getMiddleware());
  await new Promise((resolve) => app.listen(Number(process.env.PORT), "127.0.0.1", resolve));
}

// The handshake fails, and says with which status.
async function expectNoEntry(userId, status, hub = "chat") {
  const through = service(process.env.CONNECTION_STRING, hub);
  const { url } = await through.getClientAccessToken({ userId, roles: ALL_ROLES });
  const client = new WebPubSubClient(url, { autoReconnect: false });
  client.on("stopped", () => {});
  await assert.rejects(client.start(), (error) => {
    assert.match(`${error.message ?? error}`, new RegExp(`${status}`));
    return true;
  });
}

async function aLife() {
  const peer = await connect({ userId: "alice", groups: ["initial"] });
  await until("connected is told", () => toldOf("alice").length >= 2);
  const [first, second] = toldOf("alice");
  assert.equal(first.what, "connect");
  assert.equal(first.context.hub, "chat");
  assert.equal(first.context.eventName, "connect");
  assert.equal(first.context.connectionId, peer.id);
  assert.equal(first.context.origin, "127.0.0.1");
  assert.match(first.context.signature, /^sha256=[0-9a-f]{64}$/);
  assert.deepEqual(first.claims.sub, ["alice"]);
  assert.deepEqual(first.claims.role, ALL_ROLES);
  assert.deepEqual(first.queries, {});
  assert.deepEqual(first.subprotocols, ["json.reliable.webpubsub.azure.v1"]);
  assert.deepEqual(first.clientCertificates, []);
  assert.equal(second.context.connectionId, peer.id);
  assert.deepEqual(second.context.states, { connects: 1, name: "ünïcode" });

  // Every type there and back.
  for (const [data, dataType, back] of [
    ["text ü", "text"],
    [{ a: [1, null] }, "json"],
    [new Uint8Array([0, 128, 255]).buffer, "binary", [0, 128, 255]],
    ["", "text", undefined],
  ]) {
    const { isDuplicated } = await peer.client.sendEvent("echo", data, dataType);
    assert.equal(isDuplicated, false);
    // Who joins is told beside it.
    const got = told.findLast(({ what }) => what === "echo");
    assert.equal(got.dataType, dataType);
    assert.deepEqual(got.data instanceof Uint8Array ? [...got.data] : got.data, back ?? data);
    // An empty answer is none.
    if (data !== "") await expectNext(peer, { dataType, data: back ?? data });
  }
  await peer.client.sendEvent("quiet", "x", "text");
  await peer.client.sendEvent("quiet", "x", "text", { fireAndForget: true });

  // What the handler remembers of this connection.
  for (const count of [1, 2, 3]) {
    await peer.client.sendEvent("count", 0, "json");
    await expectNext(peer, { dataType: "json", data: { connects: 1, name: "ünïcode", count } });
  }
  const other = await connect({ userId: "bob", protocol: "json" });
  await other.client.sendEvent("count", 0, "json");
  await expectNext(other, { dataType: "json", data: { connects: 1, name: "ünïcode", count: 1 } });

  for (const name of ["wrong", "unauthorized", "unknown"]) {
    await expectRefused(peer.client.sendEvent(name, "x", "text"), "InternalServerError");
  }
  // The middleware knows no such type, and the next event goes on.
  const any = new Uint8Array([0x0a, 1, 0x74]).buffer;
  await expectRefused(peer.client.sendEvent("echo", any, "protobuf"), "InternalServerError");

  // In order, whatever time each takes.
  const sent = ["later", "echo", "later", "echo"].map((name) => peer.client.sendEvent(name, "now", "text"));
  await Promise.all(sent);
  for (const data of ["later", "now", "later", "now"]) await expectNext(peer, { dataType: "text", data });

  other.client.stop();
  await until("the end is told", () => toldOf("bob").at(-1)?.what === "disconnected");
  const end = toldOf("bob").at(-1);
  assert.equal(end.reason ?? "", "");
  assert.deepEqual(end.context.states, { connects: 1, name: "ünïcode", count: 1 });
  await service().closeConnection(peer.id, { reason: "enough" });
  await until("the reason is told", () => toldOf("alice").find(({ what }) => what === "disconnected"));
  assert.equal(toldOf("alice").find(({ what }) => what === "disconnected").reason, "enough");
}

async function invocations() {
  const peer = await connect({ userId: "asking" });
  for (const [data, dataType] of [
    ["text ü", "text"],
    [{ a: [1] }, "json"],
  ]) {
    const answer = await peer.client.invokeEvent("echo", data, dataType);
    assert.deepEqual({ dataType: answer.dataType, data: answer.data }, { dataType, data });
  }
  const answer = await peer.client.invokeEvent("echo", new Uint8Array([0, 255]).buffer, "binary");
  assert.deepEqual([...new Uint8Array(answer.data)], [0, 255]);
  await peer.client.invokeEvent("quiet", "x", "text");
  await expectRefused(peer.client.invokeEvent("wrong", "x", "text"), "BadRequest");
  await expectRefused(peer.client.invokeEvent("unauthorized", "x", "text"), "Forbidden");
  await expectRefused(peer.client.invokeEvent("unknown", "x", "text"), "InternalServerError");
  // Given up by the client; the connection goes on.
  await assert.rejects(peer.client.invokeEvent("later", "x", "text", { abortSignal: AbortSignal.timeout(1) }));
  assert.equal((await peer.client.invokeEvent("echo", "still here", "text")).data, "still here");
  assert.deepEqual(peer.messages, []);
  peer.client.stop();
}

async function decisions() {
  await expectNoEntry("refused", 401);
  await expectNoEntry("wrong", 400);
  await expectNoEntry("broken", 500);
  const renamed = await connect({ userId: "another", knownAs: "renamed", groups: ["of-token"] });
  await service().group("of-token").sendToAll("not here", { contentType: "text/plain" });
  await renamed.client.sendToGroup("g", "x", "text");
  await expectNext(renamed, { group: "g", fromUserId: "renamed", dataType: "text", data: "x" });
  await expectRefused(renamed.client.sendToGroup("h", "x", "text"), "Forbidden");
  await expectRefused(renamed.client.joinGroup("g"), "Forbidden");
  const powerless = await connect({ userId: "powerless" });
  await expectRefused(powerless.client.joinGroup("g"), "Forbidden");
  for (const peer of [renamed, powerless]) peer.client.stop();
}

async function presence() {
  const peer = await connect({ userId: "present", groups: ["initial"] });
  await peer.client.joinGroup("g");
  await peer.client.leaveGroup("g");
  peer.client.stop();
  const changes = () => toldOf("present").filter(({ what }) => what === "joined" || what === "left");
  if (!KNOWS_PRESENCE) {
    // It lets them pass by, which is not our failure.
    await until("the end is told", () => toldOf("present").at(-1)?.what === "disconnected");
    return assert.deepEqual(changes(), []);
  }
  await until("all is told", () => changes().length === 4);
  // Nobody waits for their answers, so they come on several connections, and which is read first is for Node to say.
  assert.deepEqual(
    changes().map(({ what, group }) => `${what} ${group}`).toSorted(),
    ["joined g", "joined initial", "left g", "left initial"],
  );
}

async function otherHubs() {
  for (const hub of ["bare", "picky"]) {
    const peer = await connect({ userId: "u", through: service(process.env.CONNECTION_STRING, hub) });
    await peer.client.sendEvent("anything", "x", "text");
    assert.deepEqual(peer.messages, []);
    peer.client.stop();
  }
  await expectNoEntry("u", 500, "closed");
}

run(async () => {
  await listen();
  await aLife();
  await invocations();
  await decisions();
  await presence();
  await otherHubs();
});
