// A chat with rooms. What people say goes from page to page through ringhub and never comes here. ringhub asks this
// app who may come in and what to answer to commands, and tells it who came and went.

import { randomUUID } from "node:crypto";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import express from "express";

const PORT = process.env.PORT ?? 3000;
// With the key of ringhub.toml.
const CONNECTION_STRING =
  process.env.CONNECTION_STRING ??
  "Endpoint=http://127.0.0.1:8080;AccessKey=the-key-of-the-chat-example-for-development-only;Version=1.0;";
const HUB = "chat";

const service = new WebPubSubServiceClient(CONNECTION_STRING, HUB, { allowInsecureConnection: true });

// Who is in: name → { connectionId, ticket }. A real app has accounts for this. Which room somebody is in is not here
// but in the connection's state, which ringhub keeps and sends along with every event, so it outlives this process.
const people = new Map();

const BANNED = new Set(["admin", "root"]);
// Plain characters, so that a name is the same in a header, a URL and a log.
const NAME = /^[A-Za-z0-9_-]{1,20}$/;

// What there is against letting somebody in; undefined if nothing.
function objection(name, room, ticket) {
  if (!NAME.test(name)) return "A name has 1 to 20 letters, digits, - and _.";
  if (!NAME.test(room)) return "A room's name has 1 to 20 letters, digits, - and _.";
  if (BANNED.has(name.toLowerCase())) return `The name ${name} is banned.`;
  // Whoever shows the ticket comes back, after a reload say, and may not have been missed yet.
  if (people.has(name) && people.get(name).ticket !== ticket) return `The name ${name} is taken.`;
}

const handler = new WebPubSubEventHandler(HUB, {
  // Before a client is let in. The token says who it is, its URL where it wants to go.
  handleConnect(req, res) {
    const { userId: name, connectionId } = req.context;
    const [room = ""] = req.queries.room ?? [];
    const [ticket = ""] = req.queries.ticket ?? [];
    const reason = objection(name, room, ticket);
    if (reason) return res.fail(401, reason);

    const before = people.get(name);
    people.set(name, { connectionId, ticket });
    if (before) attempt(dismiss(before.connectionId));
    res.setState("room", room);
    res.success({ groups: [room], roles: [`webpubsub.sendToGroup.${room}`] });
  },

  onConnected({ context: { userId: name, states } }) {
    attempt(announce(states.room, "joined", name));
  },

  // Once for every client that was let in, also when it was lost and did not come back in time.
  onDisconnected({ context: { userId: name, connectionId, states } }) {
    const now = people.get(name);
    if (now && now.connectionId !== connectionId) return; // is here again, under another connection
    people.delete(name);
    attempt(announce(states.room, "left", name));
  },

  // An event of a client is a command; what is passed to `success` goes back to that client.
  async handleUserEvent(req, res) {
    try {
      const answer = await command(req.context, req.data, res);
      res.success(JSON.stringify(answer), "json");
    } catch (error) {
      console.error(error);
      res.fail(500, "The command failed.");
    }
  },
});

async function command({ eventName, userId: name, connectionId, states }, argument, res) {
  switch (eventName) {
    case "who":
      return roomWithNames(states.room);
    case "join":
      if (!NAME.test(argument)) return { type: "notice", text: "/join needs a room: letters, digits, - and _." };
      if (argument !== states.room) await move(connectionId, states.room, argument, name);
      res.setState("room", argument);
      return roomWithNames(argument);
    // The SDK closes its socket as if it were lost, to be recovered within half a minute. A page that goes for good
    // says so.
    case "leave":
      await service.closeConnection(connectionId);
      return {};
    default:
      return { type: "notice", text: `There is no /${eventName}. Try /who, or /join and a room.` };
  }
}

// May speak there before it is there, and here until it is gone.
async function move(connectionId, from, to, name) {
  await service.grantPermission(connectionId, "sendToGroup", { targetName: to });
  await service.group(to).addConnection(connectionId);
  await service.group(from).removeConnection(connectionId);
  await service.revokePermission(connectionId, "sendToGroup", { targetName: from });
  await announce(from, "left", name);
  await announce(to, "joined", name);
}

// ringhub knows who is in a group, so nobody else needs to keep count.
async function roomWithNames(room) {
  const names = new Set();
  for await (const { userId } of await service.group(room).listConnections()) names.add(userId);
  return { type: "room", room, names: [...names].sort() };
}

// Only the app can send to a group without being a user, so pages know whom to believe.
function announce(room, type, name) {
  return service.group(room).sendToAll({ type, name });
}

// The same person came in anew, perhaps with a copy of the page: the older one must not come back and take turns.
async function dismiss(connectionId) {
  await service.sendToConnection(connectionId, { type: "dismissed", reason: "You are here in another window now." });
  await service.closeConnection(connectionId);
}

// Nobody waits for these, and one that fails must not end the app.
function attempt(promise) {
  promise.catch((error) => console.error(error.message));
}

const app = express();
app.use(handler.getMiddleware());
app.use(express.static("public"), express.static("dist"));

// Where the page gets its URL from. A real app knows by its own login who asks.
app.get("/negotiate", async (req, res) => {
  const { name, room, ticket = randomUUID() } = req.query;
  const { url } = await service.getClientAccessToken({ userId: name });
  res.json({ url: `${url}&${new URLSearchParams({ room, ticket })}`, ticket });
});

// A browser hides from a page why its WebSocket was refused, so the page asks here.
app.get("/objection", ({ query: { name = "", room = "", ticket } }, res) => {
  res.json({ reason: objection(name, room, ticket) });
});

const server = app.listen(PORT, "127.0.0.1", (error) => {
  if (error) throw error;
  console.log(`chat on http://127.0.0.1:${server.address().port}`);
});
