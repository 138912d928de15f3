// Two apps and the engine in one browser: what each page's own things do, and what it gets of the
// others.

import { run } from "./browser.mjs";

run(async (browser, { engine, apps }) => {
  const context = await browser.newContext();
  const open = async (address) => {
    const page = await context.newPage();
    await page.goto(address);
    return page;
  };
  const console = await open(`${engine}/api/docs/`);
  await console.evaluate(() => {
    document.cookie = "console=secret; path=/";
    localStorage.setItem("console", "secret");
  });

  const [first, second] = await Promise.all(apps.map((id) => open(`${engine}/apps/${id}/?seen`)));
  const addresses = [first.url(), second.url()];
  const without_slash = await open(`${engine}/apps/${apps[0]}`);
  addresses.push(without_slash.url());

  // A form that logs in with a cookie, and follows a redirect.
  await first.click("button");
  await first.waitForURL("**/home");
  const welcome = await first.textContent("body");
  const own = await first.evaluate(ownThings);
  await first.reload();
  const worker = await first.textContent("body");

  const origin = new URL(addresses[0]).origin;
  const foreign = await second.evaluate(foreignThings, {
    origin,
    engine,
    path: `${engine}/apps/${apps[0]}/data.js`,
  });
  const controlled = [];
  for (const page of [console, second]) {
    await page.reload();
    controlled.push(await page.evaluate(() => navigator.serviceWorker.controller !== null));
  }
  // What the operator's own page gets is not the worker's answer either.
  const api = await console.evaluate(async () => (await fetch("/api/kernels")).text());
  return { addresses, welcome, own, worker, foreign, controlled, api };
});

/** Runs in the page of the first app. */
async function ownThings() {
  localStorage.setItem("app", "secret");
  const events = new EventSource("/events");
  const event = await new Promise((resolve, reject) => {
    events.onmessage = (message) => resolve(message.data);
    events.onerror = () => reject(new Error("no events"));
  }).finally(() => events.close());
  const socket = new WebSocket(new URL("/socket", location.href.replace("http", "ws")));
  const echo = await new Promise((resolve, reject) => {
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (message) => resolve(message.data);
    socket.onerror = () => reject(new Error("no socket"));
  }).finally(() => socket.close());
  const posted = await (await fetch("/echo", { method: "POST", body: "text" })).text();
  document.cookie = "script=1; path=/";
  document.cookie = "wide=1; path=/; domain=localhost";
  await navigator.serviceWorker.register("/sub/worker.js", { scope: "/" });
  await navigator.serviceWorker.ready;
  return { stored: localStorage.getItem("app"), event, echo, posted, cookies: document.cookie };
}

/** Runs in the page of the second app. */
async function foreignThings({ origin, engine, path }) {
  const name = (error) => error.name;
  const read = (address, options) => fetch(address, options).then((r) => r.text(), name);
  const loads = (tag, source) =>
    new Promise((resolve) => {
      const element = document.createElement(tag);
      element.onload = () => resolve("loaded");
      element.onerror = () => resolve("error");
      element.src = source;
      document.body.append(element);
    });
  const frame = async (source) => {
    const frame = document.createElement("iframe");
    const loaded = new Promise((resolve) => (frame.onload = resolve));
    frame.src = source;
    document.body.append(frame);
    await loaded;
    try {
      return frame.contentDocument?.body ? "readable" : "closed";
    } catch {
      return "closed";
    }
  };
  const opens = (address) =>
    new Promise((resolve) => {
      const socket = new WebSocket(address);
      socket.onopen = () => resolve("open");
      socket.onerror = () => resolve("error");
    });
  const register = (address, scope) =>
    navigator.serviceWorker.register(address, { scope }).then(() => "registered", name);
  return {
    storage: Object.keys(localStorage),
    cookies: document.cookie,
    app: await read(`${origin}/data.js`),
    appWithCookies: await read(`${origin}/data.js`, { credentials: "include" }),
    appByPath: await read(path),
    api: await read(`${engine}/api/kernels`),
    scriptOfApp: await loads("script", `${origin}/data.js`),
    scriptByPath: await loads("script", path),
    image: await loads("img", `${origin}/data.js`),
    frameOfApp: await frame(`${origin}/`),
    frameOfEngine: await frame(`${engine}/api/docs/`),
    socket: await opens(`${origin.replace("http", "ws")}/socket`),
    workerForOther: await register(`${origin}/worker.js`, `${origin}/`),
    workerForEngine: await register(`${engine}/apps/x/worker.js`, `${engine}/`),
  };
}
