// Every method of the service client: that it succeeds, that a wrong key is the SDK's 401, and that none is forgotten.

import { WebPubSubServiceClient } from "@azure/web-pubsub";
// The client SDK brings it; this Node has none of its own.
import { WebSocket } from "ws";
import { assert, connect, expectRestError, run, service } from "./harness.mjs";

// Name, call, what it answers. `id` is a connection of user "ann" in group "g".
const METHODS = [
  ["sendToAll", (hub) => hub.sendToAll("x"), undefined],
  ["sendToUser", (hub) => hub.sendToUser("ann", "x"), undefined],
  ["sendToConnection", (hub, id) => hub.sendToConnection(id, "x"), undefined],
  ["connectionExists", (hub, id) => hub.connectionExists(id), true],
  ["userExists", (hub) => hub.userExists("ann"), true],
  ["groupExists", (hub) => hub.groupExists("g"), true],
  ["addConnectionsToGroups", (hub) => hub.addConnectionsToGroups(["h"], "true"), undefined],
  ["removeConnectionsFromGroups", (hub) => hub.removeConnectionsFromGroups(["h"], "true"), undefined],
  ["grantPermission", (hub, id) => hub.grantPermission(id, "sendToGroup", { targetName: "g" }), undefined],
  ["hasPermission", (hub, id) => hub.hasPermission(id, "sendToGroup", { targetName: "g" }), true],
  ["revokePermission", (hub, id) => hub.revokePermission(id, "sendToGroup", { targetName: "g" }), undefined],
  ["removeConnectionFromAllGroups", (hub, id) => hub.removeConnectionFromAllGroups(id), undefined],
  ["removeUserFromAllGroups", (hub) => hub.removeUserFromAllGroups("ann"), undefined],
  ["closeConnection", (hub) => hub.closeConnection("unknown"), undefined],
  ["closeUserConnections", (hub) => hub.closeUserConnections("unknown"), undefined],
  ["closeAllConnections", (hub, id) => hub.closeAllConnections({ excluded: [id] }), undefined],
];

const GROUP_METHODS = [
  ["addConnection", (group, id) => group.addConnection(id), undefined],
  ["addUser", (group) => group.addUser("ann"), undefined],
  ["sendToAll", (group) => group.sendToAll("x"), undefined],
  ["listConnections", async (group) => (await (await group.listConnections()).next()).value?.userId, "ann"],
  ["removeConnection", (group, id) => group.removeConnection(id), undefined],
  ["removeUser", (group) => group.removeUser("ann"), undefined],
  ["closeAllConnections", (group) => group.closeAllConnections(), undefined],
];

const PROTOCOLS = [
  [undefined, "/client/hubs/chat"],
  ["default", "/client/hubs/chat"],
  ["mqtt", "/clients/mqtt/hubs/chat"],
  ["socketio", "/clients/socketio/hubs/chat"],
];

function methodsOf(prototype, apart) {
  return Object.getOwnPropertyNames(prototype).filter((name) => name !== "constructor" && !apart.includes(name)).sort();
}

run(async () => {
  const hub = service();
  const names = (table) => table.map(([name]) => name).sort();
  assert.deepEqual(methodsOf(WebPubSubServiceClient.prototype, ["group", "getClientAccessToken"]), names(METHODS));
  assert.deepEqual(methodsOf(Object.getPrototypeOf(hub.group("g")), []), names(GROUP_METHODS));

  const { id } = await connect({ userId: "ann", groups: ["g"], protocol: "json" });
  const expectAnswer = async (name, call, answer) => {
    const found = await call;
    // What answers nothing has said enough by not failing.
    if (answer !== undefined) assert.equal(found, answer, name);
  };
  for (const [name, call, answer] of METHODS) await expectAnswer(name, call(hub, id), answer);
  for (const [name, call, answer] of GROUP_METHODS) await expectAnswer(name, call(hub.group("g"), id), answer);

  const endpoint = process.env.CONNECTION_STRING.replace(/AccessKey=[^;]*/, "AccessKey=another-key-0123456789-0123456789");
  const stranger = service(endpoint);
  // Answers to HEAD have no body to read a code from.
  const refused = { status: 401 };
  for (const [name, call] of METHODS) {
    console.log(name);
    await expectRestError(call(stranger, id), refused);
  }
  for (const [name, call] of GROUP_METHODS) {
    console.log(`group.${name}`);
    await expectRestError(call(stranger.group("g"), id), refused);
  }
  await expectRestError(stranger.sendToAll("x"), { ...refused, code: "Error.Unauthorized" });
  await expectRestError(stranger.connectionExists(id), refused);

  // A hub with another name knows nobody of this one; a name that is none is refused.
  const elsewhere = service(undefined, "elsewhere");
  assert.equal(await elsewhere.connectionExists(id), false);
  assert.equal(await service(undefined, "CHAT").connectionExists(id), true);
  await assert.rejects(service(undefined, "1chat").sendToAll("x"));

  // With an access key tokens are made here; the server is who takes them.
  for (const [clientProtocol, path] of PROTOCOLS) {
    const options = { userId: "u", roles: ["webpubsub.sendToGroup.g"], groups: ["g"], expirationTimeInMinutes: 5 };
    const { token, baseUrl, url } = await hub.getClientAccessToken({ ...options, clientProtocol });
    assert.equal(new URL(baseUrl).pathname, path);
    assert.equal(url, `${baseUrl}?access_token=${token}`);
    const client = await handshake(url);
    const wrong = await handshake(url.replace(path, "/client/hubs/chat"));
    // A token of another kind of client opens nothing here.
    assert.deepEqual([client, wrong], path.startsWith("/client/") ? ["open", "open"] : ["refused", "refused"]);
  }
  const expired = await hub.getClientAccessToken({ expirationTimeInMinutes: -10 });
  assert.equal(await handshake(expired.url), "refused");
  assert.equal(await handshake(expired.baseUrl), "refused");
});

// What becomes of a plain WebSocket.
function handshake(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => {
      socket.close();
      resolve("open");
    };
    socket.onerror = () => resolve("refused");
  });
}
