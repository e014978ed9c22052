// A reliable client behind a proxy that cuts its socket while messages flow: each arrives once, each sender's in
// order, on the same connection, and the application never hears of it.

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
    // Both ways into the group. A 202 says that all cores have it, an ack that the sender's next comes behind it.
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
  const received = receiver.messages.map((message) => Number(message.data));
  const all = Array.from({ length: sent }, (_, n) => n + 1);
  assert.deepEqual(received.toSorted((a, b) => a - b), all, "each once");
  const byService = (n) => n % 10 === 0;
  const byClient = (n) => !byService(n);
  for (const of of [byService, byClient]) assert.deepEqual(received.filter(of), all.filter(of));
  for (const n of all.filter(byService)) assert.ok(!received.slice(0, received.indexOf(n)).includes(n + 1), `${n}`);
  assert.equal(receiver.connected.length, 1, "recovered, not connected anew");
  assert.equal(receiver.disconnected.length, 0);
  // And it can still talk.
  await receiver.client.joinGroup("h");
});
