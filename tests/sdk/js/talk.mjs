// The JavaScript half of a conversation with Python (talk.py): clients and service SDKs of both.

import { ask, assert, connect, run, service, until } from "./harness.mjs";

const EACH = 20;
const numbers = Array.from({ length: EACH }, (_, n) => n);

run(async () => {
  const peer = await connect({ userId: "js" });
  await peer.client.joinGroup("talk");
  await ask("meet");

  for (const n of numbers) {
    await peer.client.sendToGroup("talk", { n }, "json");
    await service().sendToAll({ service: "js", n });
  }
  await until("all have come", () => peer.messages.length >= 4 * EACH);

  const of = (pick) => peer.messages.filter(pick).map(({ data }) => data.n);
  for (const language of ["js", "python"]) {
    assert.deepEqual(of((message) => message.fromUserId === language), numbers, language);
    assert.deepEqual(of((message) => message.data.service === language), numbers, `service ${language}`);
  }
  assert.equal(peer.messages.length, 4 * EACH);

  // Bytes and text cross the languages unchanged.
  peer.messages.length = 0;
  await ask("meet");
  await peer.client.sendToGroup("talk", new Uint8Array([0, 128, 255]).buffer, "binary", { noEcho: true });
  await peer.client.sendToGroup("talk", "ä\u0001\"\u{1f600}", "text", { noEcho: true });
  await until("Python's answer", () => peer.messages.length >= 2);
  assert.deepEqual(peer.messages, [
    { group: "talk", fromUserId: "python", dataType: "binary", data: [255, 128, 0] },
    { group: "talk", fromUserId: "python", dataType: "text", data: "\u{1f600}\"\u0001ä" },
  ]);
  await ask("meet");
});
