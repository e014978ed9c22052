// The `ws` package as a `simple` peer of `ringhub-bench compare`: `S` subscribes and is answered `OK`,
// `P...` publishes the rest to all. run.sh copies it beside the installed package.

import { WebSocketServer } from "ws";

const everybody = new Set();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 4096, perMessageDeflate: false });

server.on("listening", () => console.log(`listening on ws://127.0.0.1:${server.address().port}`));
server.on("connection", (socket) => {
  socket.on("close", () => everybody.delete(socket));
  // A reset by the generator at its end; `close` follows.
  socket.on("error", () => {});
  socket.on("message", (message) => {
    if (message.toString() === "S") {
      everybody.add(socket);
      socket.send("OK");
      return;
    }
    const rest = message.subarray(1);
    for (const member of everybody) member.send(rest, { binary: false });
  });
});
