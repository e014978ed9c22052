// The chat of examples/chat as people meet it: its page in Chromium, all clicks and keys.

import http from "node:http";
import puppeteer from "puppeteer-core";
import { ask, assert, run } from "./harness.mjs";

run(async () => {
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    // Chromium has no sandbox for root, and a container's /dev/shm is small.
    args: process.getuid() === 0 ? ["--no-sandbox", "--disable-dev-shm-usage"] : ["--disable-dev-shm-usage"],
  });
  try {
    await chat(browser);
  } finally {
    await browser.close();
  }
});

async function chat(browser) {
  const ann = await Person.open(browser);
  await ann.enter("ann");
  await ann.sees("notice", "In lobby: ann");
  const bob = await Person.open(browser);
  await bob.enter("bob");
  await bob.sees("notice", "In lobby: ann, bob");
  await ann.sees("notice", "bob came in");
  await ann.seesPeople("ann", "bob");

  // Everybody sees the same, in the same order, each line once.
  const said = [];
  for (let n = 0; n < 5; n += 1) {
    for (const [person, words] of [[ann, `ann's ${n}`], [bob, `bob's ${n} <b>&amp;</b>`]]) {
      await person.says(words);
      said.push(words);
      await ann.sees("words", words);
      await bob.sees("words", words);
    }
  }
  assert.deepEqual(await ann.lines("words"), said);
  assert.deepEqual(await bob.lines("words"), said);

  // The handler refuses, and its reason comes to the page.
  const eve = await Person.open(browser);
  for (const [name, reason] of [
    ["Admin", "The name Admin is banned."],
    ["ann", "The name ann is taken."],
    ["a b", "A name has 1 to 20 letters, digits, - and _."],
  ]) {
    await eve.enter(name);
    await eve.isRefused(reason);
  }
  assert.deepEqual(await upgrade("admin"), { status: 401, body: "The name admin is banned." });
  await eve.enter("eve");
  await eve.seesPeople("ann", "bob", "eve");
  await ann.sees("notice", "eve came in");

  // A reload comes back to where it was, and goes on.
  await ann.page.reload();
  await ann.sees("notice", "In lobby: ann, bob, eve");
  await bob.says("back already?");
  await ann.sees("words", "back already?");
  await ann.says("as you see");
  await bob.sees("words", "as you see");
  await bob.seesPeople("ann", "bob", "eve");

  // Rooms are apart, and whoever moved may speak there.
  await bob.says("/join music");
  await bob.sees("notice", "In music: bob");
  await ann.sees("notice", "bob left");
  await eve.says("/join music");
  await bob.sees("notice", "eve came in");
  await bob.says("only for eve");
  await eve.sees("words", "only for eve");
  await bob.says("/dance");
  await bob.sees("notice", "There is no /dance. Try /who, or /join and a room.");

  // A copy of a window takes its place.
  const copy = await eve.copy();
  await copy.sees("notice", "In music: bob, eve");
  await eve.isRefused("You are here in another window now.");
  await copy.says("still me");
  await bob.sees("words", "still me");

  // The app forgets everything; what it knew of a connection is in the connection's state.
  await ask("restart the app");
  const seen = (await bob.lines("notice")).filter((line) => line === "In music: bob, eve").length;
  await bob.says("/who");
  await bob.sees("notice", "In music: bob, eve", seen + 1);
  await ann.says("nobody noticed");
  await ann.sees("words", "nobody noticed");
  assert.deepEqual((await ann.lines("words")).includes("only for eve"), false);

  // Sockets are lost; what was said meanwhile is not.
  const before = (await copy.lines("words")).length;
  await ask("cut the sockets");
  for (let n = 0; n < 5; n += 1) await bob.says(`through the cut ${n}`);
  await copy.sees("words", "through the cut 4");
  assert.deepEqual(
    (await copy.lines("words")).slice(before).sort(),
    [0, 1, 2, 3, 4].map((n) => `through the cut ${n}`),
  );

  // Who closes a window, or leaves, is missed at once.
  await copy.page.close({ runBeforeUnload: true });
  await bob.sees("notice", "eve left");
  await bob.page.locator("#leave").click();
  await bob.page.waitForSelector("#door:not([hidden])");
}

// What a browser hides from a page: how its upgrade is answered.
async function upgrade(name) {
  const answer = await fetch(`${process.env.PAGE}/negotiate?name=${name}&room=lobby`);
  const { url } = await answer.json();
  const headers = {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "json.webpubsub.azure.v1",
  };
  const response = await new Promise((resolve, reject) => {
    const request = http.get(url.replace(/^ws/, "http"), { headers }, resolve).on("error", reject);
    request.on("upgrade", () => reject(new Error(`${name} was let in`)));
  });
  let body = "";
  for await (const part of response) body += part;
  return { status: response.statusCode, body };
}

// Somebody with a window.
class Person {
  static async open(browser, context) {
    const person = new Person();
    person.context = context ?? (await browser.createBrowserContext());
    person.page = await person.context.newPage();
    person.page.on("pageerror", (error) => console.error(`the page failed: ${error.message}`));
    await person.page.goto(process.env.PAGE);
    return person;
  }

  // A second window with everything that the tab remembers, as "duplicate tab" makes one.
  async copy() {
    const memory = await this.page.evaluate(() => sessionStorage.getItem("me"));
    const copy = await Person.open(undefined, this.context);
    await copy.page.evaluate((me) => sessionStorage.setItem("me", me), memory);
    await copy.page.reload();
    return copy;
  }

  async enter(name) {
    await this.page.locator("#door [name=name]").fill(name);
    await this.page.locator("#door button").click();
  }

  async says(words) {
    await this.page.locator("#say [name=text]").fill(words);
    await this.page.locator("#say button").click();
  }

  lines(kind) {
    return this.page.$$eval(`#messages .${kind} span`, (spans) => spans.map((span) => span.textContent));
  }

  sees(kind, words, times = 1) {
    const seen = ({ kind, words, times }) =>
      [...document.querySelectorAll(`#messages .${kind} span`)].filter((span) => span.textContent === words)
        .length >= times;
    return this.until(`sees ${words}`, seen, { kind, words, times });
  }

  seesPeople(...names) {
    const seen = (names) =>
      [...document.querySelectorAll("#people li")].map((item) => item.textContent).sort().join() === names.join();
    return this.until(`sees ${names} there`, seen, names);
  }

  isRefused(reason) {
    const refused = (reason) =>
      !document.getElementById("door").hidden && document.getElementById("reason").textContent === reason;
    return this.until(`is told ${reason}`, refused, reason);
  }

  async until(what, holds, argument) {
    await this.page.waitForFunction(holds, { timeout: 20_000 }, argument).catch(async () => {
      throw new Error(`never ${what}; the page is:\n${await this.page.evaluate(() => document.body.innerText)}`);
    });
  }
}
