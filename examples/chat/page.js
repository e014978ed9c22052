// The page's script: a client of ringhub by the released SDK. It asks the app for a URL and connects there.

import { WebPubSubClient } from "@azure/web-pubsub-client";

const element = (id) => document.getElementById(id);
const [door, chat, say] = ["door", "chat", "say"].map(element);

let me; // { name, room, ticket }
let client; // none while at the door

function enter(who) {
  me = who;
  door.hidden = true;
  chat.hidden = false;
  element("messages").replaceChildren();
  element("people").replaceChildren();
  element("room").textContent = me.room;
  say.elements.text.focus();

  // A lost socket is recovered by the SDK, with nothing lost. Beyond that it would come back whatever happens; whether
  // to is decided in `connect`.
  const ours = new WebPubSubClient({ getClientAccessUrl }, { autoReconnect: false });
  ours.on("connected", () => {
    show("connected", "connected");
    ours.sendEvent("who", "", "text").catch(() => {});
  });
  ours.on("group-message", ({ message: { fromUserId, data } }) => {
    if (fromUserId) line("words", data, fromUserId);
    else if (data.type === "joined") came(data.name);
    else if (data.type === "left") went(data.name);
  });
  ours.on("server-message", ({ message: { data } }) => {
    if (data.type === "room") moved(data.room, data.names);
    else if (data.type === "notice") line("notice", data.text);
    else if (data.type === "dismissed") leave(data.reason);
  });
  ours.on("stopped", () => connect(ours));
  client = ours;
  connect(ours);
}

async function connect(ours) {
  show("connecting", "connecting…");
  for (let waitMs = 500; client === ours; waitMs = Math.min(2 * waitMs, 8000)) {
    try {
      await ours.start();
      if (client !== ours) ours.stop();
      return;
    } catch {
      // Refused, or not reached? A browser does not tell a page; the app does.
      const reason = await ask("objection").then((answer) => answer.reason, () => undefined);
      if (reason) return leave(reason);
      show("lost", "no connection, trying again");
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}

async function getClientAccessUrl() {
  const { url, ticket } = await ask("negotiate");
  remember({ ticket });
  return url;
}

async function ask(what) {
  const answer = await fetch(`${what}?${new URLSearchParams(me)}`);
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

// A tab knows who it is, so that a reload comes back to where it was.
function remember(more) {
  Object.assign(me, more);
  sessionStorage.setItem("me", JSON.stringify(me));
}

function leave(reason = "") {
  goodbye();
  client = undefined;
  sessionStorage.removeItem("me");
  chat.hidden = true;
  door.hidden = false;
  element("reason").textContent = reason;
  door.elements.name.focus();
}

// The SDK's stop looks like a lost socket, which ringhub keeps a place for. Whoever goes for good says so.
function goodbye() {
  client?.sendEvent("leave", "", "text", { fireAndForget: true }).catch(() => {});
  client?.stop();
}

door.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(Object.fromEntries(new FormData(door)));
});

say.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = say.elements.text.value.trim();
  say.reset();
  const [, command, argument] = /^\/([a-z]+)\s*(.*)$/i.exec(text) ?? [];
  // A command goes to the app, words to everybody in the room: back to us too, in the order in which all see them.
  const sent = command ? client.sendEvent(command, argument, "text") : client.sendToGroup(me.room, text, "text");
  sent.catch(() => line("notice", `Not sent: ${text}`));
});

element("leave").addEventListener("click", () => leave());
addEventListener("pagehide", goodbye);
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

// What is shown, always as text: nothing that somebody says is ever HTML.

function show(state, words) {
  element("state").className = state;
  element("state").textContent = words;
}

function moved(room, names) {
  remember({ room });
  element("room").textContent = room;
  element("people").replaceChildren();
  names.forEach(add);
  line("notice", `In ${room}: ${names.join(", ")}`);
}

function came(name) {
  add(name);
  line("notice", `${name} came in`);
}

function went(name) {
  person(name)?.remove();
  line("notice", `${name} left`);
}

function add(name) {
  if (!person(name)) element("people").append(labelled("li", name));
}

function person(name) {
  return [...element("people").children].find((item) => item.textContent === name);
}

function line(kind, text, name) {
  const item = document.createElement("li");
  item.className = name === me.name ? `${kind} ours` : kind;
  if (name) item.append(labelled("b", name));
  const words = document.createElement("span");
  words.textContent = text;
  item.append(words);
  element("messages").append(item);
  element("messages").scrollTop = element("messages").scrollHeight;
}

// A name in a colour of its own.
function labelled(tag, name) {
  const label = document.createElement(tag);
  label.textContent = name;
  const hue = [...name].reduce((sum, character) => (sum * 31 + character.codePointAt(0)) % 360, 7);
  label.style.setProperty("--hue", hue);
  return label;
}

const remembered = sessionStorage.getItem("me");
if (remembered) enter(JSON.parse(remembered));
else leave();
