// The SDKs with token credentials instead of access keys: tokens of an issuer that the server trusts, over TLS,
// without which they send none.

import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { TEXT, assert, connect, expectNext, expectRefused, expectRestError, groupText, run, serverText, service, until } from "./harness.mjs";

const { ENDPOINT, OWNER_TOKEN, READER_TOKEN, STRANGER_TOKEN } = process.env;
const SCOPE = "https://webpubsub.azure.com/.default";

// As libraries of identity providers are used: asked for a scope, answering a token and its end.
function serviceWith(token, endpoint = ENDPOINT) {
  const credential = {
    getToken: async (scopes) => {
      assert.deepEqual([scopes].flat(), [SCOPE]);
      return { token, expiresOnTimestamp: Date.now() + 3_600_000 };
    },
  };
  return new WebPubSubServiceClient(endpoint, credential, "chat");
}

run(async () => {
  const owner = serviceWith(OWNER_TOKEN);
  const { url } = await owner.getClientAccessToken({ userId: "x" });
  assert.match(url, /^wss:\/\//);
  const plain = serviceWith(OWNER_TOKEN, ENDPOINT.replace("https", "http"));
  await assert.rejects(plain.userExists("ann"), /https/);

  for (const protocol of ["reliable", "json"]) {
    // A token the server made opens the connection; it says who connects, what for, and into which group.
    const roles = ["webpubsub.joinLeaveGroup.g"];
    const ann = await connect({ userId: "ann", roles, groups: ["first"], protocol, comesBack: false, through: owner });
    await owner.group("first").sendToAll("from the start", TEXT);
    await expectNext(ann, groupText("first", "from the start"));
    await owner.sendToAll({ to: "all" });
    await expectNext(ann, { dataType: "json", data: { to: "all" } });
    await owner.sendToUser("ann", "to the user", TEXT);
    await expectNext(ann, serverText("to the user"));
    await owner.sendToConnection(ann.id, "to the connection", TEXT);
    await expectNext(ann, serverText("to the connection"));

    assert.equal(await owner.connectionExists(ann.id), true);
    assert.equal(await owner.userExists("ann"), true);
    assert.equal(await owner.userExists("ben"), false);
    assert.equal(await owner.groupExists("g"), false);
    await ann.client.joinGroup("g");
    assert.equal(await owner.groupExists("g"), true);

    await expectRefused(ann.client.sendToGroup("g", "x", "text"), "Forbidden");
    await owner.grantPermission(ann.id, "sendToGroup", { targetName: "g" });
    assert.equal(await owner.hasPermission(ann.id, "sendToGroup", { targetName: "g" }), true);
    await ann.client.sendToGroup("g", "granted", "text");
    await expectNext(ann, { ...groupText("g", "granted"), fromUserId: "ann" });
    await owner.revokePermission(ann.id, "sendToGroup", { targetName: "g" });
    assert.equal(await owner.hasPermission(ann.id, "sendToGroup", { targetName: "g" }), false);

    // Who may only look. Answers to HEAD have no body to read a code from.
    const reader = serviceWith(READER_TOKEN);
    assert.equal(await reader.connectionExists(ann.id), true);
    assert.equal(await reader.userExists("ben"), false);
    assert.equal(await reader.groupExists("g"), true);
    assert.equal(await reader.hasPermission(ann.id, "joinLeaveGroup", { targetName: "g" }), true);
    const forbidden = { status: 403, code: "Error.Forbidden" };
    await expectRestError(reader.sendToAll("x", TEXT), forbidden);
    await expectRestError(reader.group("g").sendToAll("x", TEXT), forbidden);
    await expectRestError(reader.grantPermission(ann.id, "sendToGroup"), forbidden);
    await expectRestError(reader.closeConnection(ann.id), forbidden);
    await expectRestError(reader.getClientAccessToken({ userId: "x" }), forbidden);

    // Whose issuer nobody trusts.
    const stranger = serviceWith(STRANGER_TOKEN);
    const unauthorized = { status: 401, code: "Error.Unauthorized" };
    await expectRestError(stranger.sendToAll("x", TEXT), unauthorized);
    await expectRestError(stranger.getClientAccessToken({ userId: "x" }), unauthorized);
    await expectRestError(stranger.userExists("ann"), { status: 401 });

    // Access keys are switched off, here and for connections.
    await expectRestError(service().sendToAll("x", TEXT), forbidden);
    await assert.rejects(connect({ userId: "ann", protocol, comesBack: false, through: service() }), /401/);

    // None of those has sent anything.
    await owner.sendToAll("the end", TEXT);
    await expectNext(ann, serverText("the end"));
    await owner.closeConnection(ann.id);
    await until("ann is gone", async () => !(await owner.userExists("ann")));
  }
});
