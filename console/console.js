// The page of the admin listener: counters once a second, and two clients that speak
// json.webpubsub.azure.v1 over a bare WebSocket. All text from the network goes in as text, never as markup.

import { refreshUpstreams } from "./upstreams.js";

const LOG_LINES_MAX = 500;

const byId = (id) => document.getElementById(id);

// Counters

let before = null;

const tiles = [
  ["connections", (now) => now.totals.websockets],
  ["messages in / s", (now, rate) => rate((s) => s.totals.messages_in)],
  ["messages out / s", (now, rate) => rate((s) => sumHubs(s, "messages_out"))],
  ["bytes in / s", (now, rate) => rate((s) => s.totals.bytes_in)],
  ["bytes out / s", (now, rate) => rate((s) => s.totals.bytes_out)],
  ["bytes waiting", (now) => now.totals.outbox_bytes],
  ["HTTP requests", (now) => now.totals.http_requests],
  ["slow clients closed", (now) => now.totals.slow_consumers],
  ["protocol faults", (now) => now.totals.faults],
  ["cores", (now) => now.cores.length],
];

function sumHubs(stats, name) {
  return Object.values(stats.hubs).reduce((sum, hub) => sum + hub[name], 0);
}

function show(now) {
  const at = performance.now();
  const rate = (of) => {
    if (!before) return 0;
    return Math.max(0, Math.round((of(now) - of(before.stats)) / ((at - before.at) / 1000)));
  };
  const rows = tiles.map(([name, of]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    value.textContent = Number(of(now, rate)).toLocaleString("en");
    row.append(term, value);
    return row;
  });
  byId("counters").replaceChildren(...rows);
  const hubs = Object.entries(now.hubs).map(([hub, row]) => {
    const line = document.createElement("tr");
    for (const text of [hub, row.connections, row.suspended, row.messages_in, row.messages_out]) {
      const cell = document.createElement("td");
      cell.textContent = typeof text === "number" ? text.toLocaleString("en") : text;
      line.append(cell);
    }
    return line;
  });
  byId("hubs").hidden = hubs.length === 0;
  byId("hubs").tBodies[0].replaceChildren(...hubs);
  byId("status").className = "";
  byId("status").textContent = `${now.version}, clients at ${now.service}, up ${now.uptimeSeconds} s`;
  if (!now.canTry) byId("status").textContent += "; trying a client needs the admin listener on loopback";
  before = { stats: now, at };
}

async function refresh() {
  try {
    const answer = await fetch("stats");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    await refreshUpstreams();
  } catch (error) {
    byId("status").className = "bad";
    byId("status").textContent = `the server does not answer (${error.message})`;
    before = null;
  }
  setTimeout(refresh, 1000);
}

// Clients

function pane(form) {
  form.append(byId("pane").content.cloneNode(true));
  const field = form.elements;
  const log = form.querySelector(".log");
  field.user.value = form.dataset.user;
  let socket = null;
  let ackId = 0;

  function write(kind, text) {
    const follows = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    const line = document.createElement("li");
    line.className = kind;
    line.textContent = text;
    log.append(line);
    if (log.children.length > LOG_LINES_MAX) log.firstElementChild.remove();
    if (follows) log.scrollTop = log.scrollHeight;
  }

  function setOpen(open) {
    for (const name of ["join", "leave", "publish"]) field[name].disabled = !open;
    for (const name of ["hub", "user"]) field[name].disabled = open;
    field.connect.textContent = open ? "Disconnect" : "Connect";
  }

  function send(message) {
    const text = JSON.stringify({ ...message, ackId: ++ackId });
    socket.send(text);
    write("out", `> ${text}`);
  }

  async function connect() {
    field.connect.disabled = true;
    try {
      const query = new URLSearchParams({ hub: field.hub.value, user: field.user.value });
      // The server takes `+` as it is; a space is %20.
      const answer = await fetch(`token?${query.toString().replaceAll("+", "%20")}`, { method: "POST" });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.message);
      open(body.url);
    } catch (error) {
      write("bad", `cannot connect: ${error.message}`);
      field.connect.disabled = false;
    }
  }

  function open(url) {
    socket = new WebSocket(url, "json.webpubsub.azure.v1");
    socket.onopen = () => {
      field.connect.disabled = false;
      setOpen(true);
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      write(message.type === "message" ? "message" : "", `< ${event.data}`);
    };
    socket.onclose = (event) => {
      write("bad", `closed with ${event.code}${event.reason ? `: ${event.reason}` : ""}`);
      socket = null;
      field.connect.disabled = false;
      setOpen(false);
    };
  }

  field.connect.addEventListener("click", () => (socket ? socket.close(1000) : connect()));
  field.join.addEventListener("click", () => send({ type: "joinGroup", group: field.group.value }));
  field.leave.addEventListener("click", () => send({ type: "leaveGroup", group: field.group.value }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!socket) return;
    send({ type: "sendToGroup", group: field.group.value, dataType: "text", data: field.message.value });
  });
}

document.querySelectorAll(".pane").forEach(pane);
refresh();
