// A reliable client behind a proxy that cuts its socket while messages flow: each arrives once, in order,
// on the same connection, and the application never hears of it.

import { ask, assert, connect, run, service, until } from "./harness.mjs";

const CUT_AFTER_BYTES = [0, 1, 130, 777, 2500, 5000];
const EACH = 50;

run(async () => {
  const direct = service(process.env.DIRECT_CONNECTION_STRING);
  const sender = await connect({ userId: "sender", through: direct });
  const receiver = await connect({ userId: "receiver", groups: ["g"] });
  let sent = 0;
  const send = async () => {
    sent += 1;
    const text = String(sent);
    // Both ways into the group, one after the other: the ack and the 202 give the order.
    if (sent % 10 === 0) await direct.group("g").sendToAll(text, { contentType: "text/plain" });
    else await sender.client.sendToGroup("g", text, "text");
  };
  for (const bytes of CUT_AFTER_BYTES) {
    await ask(`cut-after ${bytes}`);
    for (let n = 0; n < EACH; n += 1) await send();
    await until(`message ${sent}`, () => receiver.messages.length >= sent);
  }
  // A cut while nothing flows, noticed by the client first.
  await ask("cut");
  for (let n = 0; n < EACH; n += 1) await send();
  await until(`message ${sent}`, () => receiver.messages.length >= sent);
  // A goodbye that comes after everything else.
  await direct.sendToConnection(receiver.id, "end", { contentType: "text/plain" });
  await until("the end", () => receiver.messages.length > sent);

  assert.equal(receiver.messages.pop().data, "end");
  assert.deepEqual(receiver.messages.map((message) => message.data), Array.from({ length: sent }, (_, n) => String(n + 1)));
  assert.equal(receiver.connected.length, 1, "recovered, not connected anew");
  assert.equal(receiver.disconnected.length, 0);
  // And it can still talk.
  await receiver.client.joinGroup("h");
});
