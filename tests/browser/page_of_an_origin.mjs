// A page of some origin tries everything against the engine. Tells what each attempt brought.

import { run } from "./browser.mjs";

run(async (browser, { page: address, engine, app, token }) => {
  const page = await browser.newPage();
  await page.goto(address);
  return await page.evaluate(attempts, { engine, app, token });
});

/** Runs in the page. */
async function attempts({ engine, app, token }) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const kernel = (id) => JSON.stringify({ id, lang: "ts" });
  const kernels = `${engine}/api/kernels`;
  const json = { ...headers, "content-type": "application/json" };

  /** What a fetch lets the page read: a status and a text, or nothing. */
  const fetched = async (address, options) => {
    const response = await fetch(address, options);
    return response.type === "opaque" ? "opaque" : `${response.status} ${await response.text()}`;
  };
  /** Which of two events an element or a connection fires. */
  const fires = (target, good) =>
    new Promise((resolve) => {
      target[`on${good}`] = () => resolve(good);
      target.onerror = () => resolve("error");
    });
  const element = (name, source) => {
    const element = document.createElement(name);
    const fired = fires(element, "load");
    element.src = source;
    document.body.append(element);
    return fired;
  };
  const frame = async (source) => {
    const frame = document.createElement("iframe");
    const fired = fires(frame, "load");
    frame.src = source;
    document.body.append(frame);
    await fired;
    try {
      return frame.contentDocument?.body ? "readable" : "closed";
    } catch {
      return "closed";
    }
  };
  const form = async () => {
    const frame = document.createElement("iframe");
    frame.name = "target";
    document.body.append(frame);
    const form = document.createElement("form");
    Object.assign(form, { action: kernels, method: "POST", enctype: "text/plain", target: "target" });
    const input = document.createElement("input");
    // Together with the equals sign between them it is JSON.
    input.name = '{"id": "by-form", "lang": "ts", "env": {"a": "';
    input.value = '"}}';
    form.append(input);
    document.body.append(form);
    const answered = fires(frame, "load");
    form.submit();
    await answered;
    return "sent";
  };

  const all = {
    get: () => fetched(kernels, { headers }),
    getWithoutCors: () => fetched(kernels, { mode: "no-cors" }),
    health: () => fetched(`${engine}/health`),
    postText: () => fetched(kernels, { method: "POST", mode: "no-cors", body: kernel("by-text") }),
    postTextWithCors: () =>
      fetched(kernels, {
        method: "POST",
        body: kernel("by-text-with-cors"),
        headers: { "content-type": "text/plain" },
      }),
    postJson: () => fetched(kernels, { method: "POST", body: kernel("by-json"), headers: json }),
    postApp: () =>
      fetched(`${engine}/api/apps`, {
        method: "POST",
        mode: "no-cors",
        body: JSON.stringify({ id: "by-page", lang: "ts", startup_script: "1" }),
      }),
    app: () => fetched(app, { headers }),
    form,
    beacon: async () => String(navigator.sendBeacon(kernels, kernel("by-beacon"))),
    image: () => element("img", kernels),
    script: () => element("script", `${engine}/api/docs/swagger-ui-bundle.js`),
    frame: () => frame(`${engine}/api/docs/`),
    events: () => {
      const source = new EventSource(`${engine}/api/events`);
      return fires(source, "open").finally(() => source.close());
    },
    webSocket: () => {
      const socket = new WebSocket(app.replace("http", "ws"));
      return fires(socket, "open").finally(() => socket.close());
    },
  };
  const results = {};
  for (const [name, attempt] of Object.entries(all)) {
    const late = new Promise((resolve) => setTimeout(resolve, 20_000, "late"));
    results[name] = await Promise.race([attempt().catch((error) => error.name), late]);
  }
  return results;
}
