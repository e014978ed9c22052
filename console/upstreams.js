// The section about event handlers and listeners: a table of each, and the last calls of the handler that was chosen.
// All text from the network goes in as text, never as markup.

const byId = (id) => document.getElementById(id);

/** The handler whose calls are shown. */
let chosen = null;
/** Calls whose details are open, so that they stay open when the next answer comes. */
const open = new Set();

/** Asks for them anew and shows them; fails if there is no answer. */
export async function refreshUpstreams() {
  // Everybody's calls only until it is known whose are shown.
  const query = chosen ? `?${new URLSearchParams({ hub: chosen.hub, handler: chosen.place })}` : "";
  const answer = await fetch(`upstreams${query}`);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  show(await answer.json());
}

function show({ handlers, listeners }) {
  byId("upstreams").hidden = handlers.length + listeners.length === 0;
  byId("handlers").hidden = handlers.length === 0;
  byId("listeners").hidden = listeners.length === 0;
  const handler = handlers.find(isChosen) ?? handlers[0] ?? null;
  chosen = handler;
  keepFocus(byId("handlers").tBodies[0], handlers.map(handlerRow));
  byId("listeners").tBodies[0].replaceChildren(...listeners.map(listenerRow));
  byId("calls").hidden = !handler;
  // Without calls it is an answer to a question that was asked before another handler was chosen.
  if (handler?.calls) showCalls(handler, handlers.length > 1);
}

const isChosen = ({ hub, place }) => hub === chosen?.hub && place === chosen?.place;

const STATES = { working: "good", probing: "warn", resting: "bad" };

function handlerRow(handler) {
  const choose = button("link", handler.url, `${handler.hub}/${handler.place}`);
  choose.setAttribute("aria-pressed", String(isChosen(handler)));
  choose.title = "Show its last calls";
  choose.addEventListener("click", () => {
    chosen = handler;
    // Should there be no answer, the page's next look says so.
    refreshUpstreams().catch(() => {});
  });
  const counts = Object.values(handler.events);
  const sum = (of) => counts.reduce((all, outcomes) => all + of(outcomes), 0);
  const succeeded = sum((outcomes) => outcomes.success ?? 0);
  const refused = sum((outcomes) => outcomes.refused ?? 0);
  const failed = sum((outcomes) => Object.values(outcomes).reduce((a, b) => a + b, 0)) - succeeded - refused;
  return row(
    [`${handler.hub} #${handler.place}`, "name"],
    [choose, "text url"],
    [badge(handler.state, STATES[handler.state]), "text"],
    [handler.inFlight],
    [handler.queued],
    [succeeded],
    [refused],
    [failed, failed ? "bad" : ""],
    [handler.retries],
    [seconds(handler.latency.p50Seconds)],
    [seconds(handler.latency.p99Seconds)],
  );
}

function listenerRow(listener) {
  return row(
    [`${listener.hub} #${listener.place}`, "name"],
    [listener.destination, "text"],
    [listener.queued],
    [listener.delivered],
    [listener.dropped, listener.dropped ? "bad" : ""],
    [listener.failed, listener.failed ? "bad" : ""],
  );
}

function showCalls(handler, isOneOfSeveral) {
  byId("calls-title").textContent = isOneOfSeveral ? `Last calls of ${handler.hub} #${handler.place}` : "Last calls";
  const table = byId("calls").querySelector("table");
  table.hidden = handler.calls.length === 0;
  byId("no-calls").hidden = handler.calls.length > 0;
  const keys = handler.calls.map((call) => `${call.connectionId}/${call.id}`);
  for (const key of open) if (!keys.includes(key)) open.delete(key);
  keepFocus(table.tBodies[0], handler.calls.flatMap((call, index) => callRows(keys[index], call)));
}

/** What calls came to that is no fault of the handler's. */
const QUIET = { success: "good", refused: "warn", cancelled: "" };

function callRows(key, call) {
  const toggle = button("link", call.group ? `${call.event} (${call.group})` : call.event, key);
  const outcome = call.outcome.replaceAll("_", " ");
  const line = row(
    [clock(call.timeUnix), "name"],
    [toggle, "text"],
    [call.connectionId, "text id"],
    [badge(call.status ? `${call.status} ${outcome}` : outcome, QUIET[call.outcome] ?? "bad"), "text"],
    [call.attempts],
    [seconds(call.totalSeconds)],
  );
  const details = element("tr", "details");
  const cell = element("td");
  cell.colSpan = line.cells.length;
  cell.append(facts(call));
  details.append(cell);
  const show = () => {
    details.hidden = !open.has(key);
    toggle.setAttribute("aria-expanded", String(open.has(key)));
  };
  show();
  toggle.addEventListener("click", () => {
    if (!open.delete(key)) open.add(key);
    show();
  });
  return [line, details];
}

function facts(call) {
  const list = element("dl", "facts");
  const times = [`queued ${seconds(call.queueSeconds)}`];
  if (call.firstByteSeconds !== null) times.push(`answer after ${seconds(call.firstByteSeconds)}`);
  times.push(`all of it ${seconds(call.totalSeconds)}`);
  for (const [name, value] of [
    ["cause", call.cause],
    ["time", times.join(", ")],
    ["request", `ce-id ${call.id}, ${bytes(call.requestBytes)}`],
    ["", body(call.requestBody, call.requestBytes)],
    ["answer", call.status ? `${call.status}, ${bytes(call.answerBytes)}` : "none"],
    ["", body(call.answerBody, call.answerBytes)],
  ]) {
    if (value) list.append(element("dt", "", name), element("dd", name ? "" : "body", value));
  }
  return list;
}

/** What is kept of a body, if bodies are kept. */
function body(kept, all) {
  if (!kept) return "";
  const text = kept.text ?? `base64 ${kept.base64}`;
  return all > BODY_BYTES_KEPT ? `${text}…` : text;
}

const BODY_BYTES_KEPT = 4096;

// Small things

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function button(className, text, focus) {
  const made = element("button", className, text);
  made.type = "button";
  made.dataset.focus = focus;
  return made;
}

function badge(text, mark = "") {
  return element("span", `badge ${mark}`, text);
}

/** A row of cells, each a node, a text or a number, with its class. */
function row(...cells) {
  const line = document.createElement("tr");
  for (const [content, className = ""] of cells) {
    const cell = element("td", className);
    cell.append(typeof content === "number" ? content.toLocaleString("en") : content);
    line.append(cell);
  }
  return line;
}

/** Replaces rows; a button that had the focus has it in the new ones too. */
function keepFocus(body, rows) {
  const focus = body.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  body.replaceChildren(...rows);
  if (focus) body.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
}

function bytes(count) {
  return count === 1 ? "1 byte" : `${count.toLocaleString("en")} bytes`;
}

function seconds(value) {
  if (value === null) return "–";
  if (value < 0.001) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 1) return `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
  return `${value.toFixed(value < 10 ? 2 : 0)} s`;
}

function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString("en", { hour12: false });
}
