// Calls the service deno-app-engine with an official JavaScript client, as the registry has it.
//
// Usage: node --experimental-websocket clients.mjs PACKAGE SERVICE_ID GROUP
//
// PACKAGE is one of package.json, which is in the folder HYPHA_TEST_NODE_MODULES. GROUP is `calls` (of kernels),
// `agent-lab` or `webllm-chat` (what these programs do). Takes HYPHA_SERVER_URL and HYPHA_TOKEN from the environment.
// Ends with what is wrong.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import process from "node:process";

const [PACKAGE, SERVICE, GROUP] = process.argv.slice(2);
const LONG = 3_000_000;

// The old client names what browsers have: it asks of each value whether it is one of these.
for (const name of ["ImageData", "FileList", "FileSystemDirectoryHandle", "FileSystemFileHandle", "FileSystemHandle", "FileSystemWritableFileStream"]) {
  globalThis[name] ??= class {};
}
// What went wrong is in the errors; the clients tell much else.
for (const level of ["debug", "info", "log", "warn", "error"]) console[level] = () => {};

const packages = createRequire(`${process.env.HYPHA_TEST_NODE_MODULES}/`);
const { hyphaWebsocketClient } = packages(PACKAGE);
const server = await hyphaWebsocketClient.connectToServer({
  server_url: process.env.HYPHA_SERVER_URL,
  token: process.env.HYPHA_TOKEN,
});

async function refused(call, words) {
  const error = await call.then((answer) => assert.fail(`it is not refused: ${JSON.stringify(answer)}`), (error) => error);
  assert.ok(String(error).includes(words), `${words} is not in: ${error}`);
}

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

const groups = {
  async calls() {
    const engine = await server.getService(SERVICE);
    const kernel = await engine.createKernel({ mode: "worker-typescript" });
    const kernelId = kernel.id;
    assert.equal(kernel.language, "typescript");
    assert.ok((await engine.listKernels()).some((it) => it.id === kernelId));
    assert.equal(await engine.getEngineLoad(), 1);

    async function finished(code) {
      const { execution_id: executionId } = await engine.executeCode({ kernelId, code });
      for (;;) {
        try {
          return await engine.getExecutionResult({ kernelId, executionId });
        } catch (error) {
          assert.ok(String(error).includes("Execution not found"), String(error));
        }
      }
    }
    const result = (events) => events.at(-1).data.data["text/plain"];
    assert.equal(result(await finished("6 * 7")), "42");

    const types = [];
    for await (const event of await engine.streamExecution({ kernelId, code: "console.log('hi'); throw new TypeError('no')" })) {
      types.push(event.type);
      if (event.type === "execute_error") assert.equal(event.data.ename, "TypeError");
    }
    assert.deepEqual(types, ["stream", "execute_error", "complete"]);
    // A stream that is left early.
    for await (const event of await engine.streamExecution({ kernelId, code: "for (let i = 0; i < 3; i++) { console.log(i); await new Promise((done) => setTimeout(done, 20)) }" })) {
      assert.equal(event.type, "stream");
      break;
    }

    assert.equal(result(await finished(`const long = "${"x".repeat(LONG)}"; long.length`)), String(LONG));
    const print = `console.log("y".repeat(${LONG}))`;
    for (const events of [await all(await engine.streamExecution({ kernelId, code: print })), await finished(print)]) {
      const texts = events.filter((it) => it.type === "stream").map((it) => it.data.text);
      assert.equal(texts.join(""), `${"y".repeat(LONG)}\n`);
    }

    // A date is a date again, and bytes are bytes.
    const made = await engine.createVectorIndex({});
    const metadata = { when: new Date(1_700_000_000_123), none: null, nested: { list: [1, 2.5, "three"] } };
    await engine.addDocuments({ indexId: made.id, documents: [{ id: "d", vector: [1, 0], metadata }] });
    const found = await engine.queryVectorIndex({ indexId: made.id, query: [1, 0] });
    const [document] = found.results;
    assert.equal(new Date(document.metadata.when).getTime(), metadata.when.getTime(), String(document.metadata.when));
    assert.deepEqual(document.metadata.nested, metadata.nested);
    await engine.destroyVectorIndex({ indexId: made.id });

    await refused(engine.executeCode({ kernelId: "none", code: "1" }), "Kernel not found or access denied");
    await refused(engine.executeCode({ kernelId }), "No code provided");
    await refused(engine.createKernel({ id: 7 }), "Invalid parameters");
    assert.deepEqual({ ...await engine.destroyKernel({ kernelId }) }, { success: true });
    await refused(engine.destroyKernel({ kernelId }), "Kernel not found or access denied");
  },

  // One service of several with its name, a kernel with Python, and a tab that shows what comes.
  async "agent-lab"() {
    const [workspace] = SERVICE.split("/");
    const engine = await server.getService(`${workspace}/deno-app-engine`, { mode: "select:min:getEngineLoad" });
    const { id: kernelId } = await engine.createKernel({});
    assert.equal((await engine.pingKernel({ kernelId })).success, true);
    let shown = "";
    for await (const output of await engine.streamExecution({ kernelId, code: "print('hello')\n1 / 0" })) {
      if (output.type === "stream") shown += output.data.text;
      if (output.type === "error") shown += `${output.data.ename}: ${output.data.evalue} ${Array.isArray(output.data.traceback)}`;
      if (output.type === "complete") shown += ` ${output.status}`;
    }
    assert.match(shown, /^hello\n.*ZeroDivisionError.*: division by zero true success$/);
    assert.equal((await engine.interruptKernel({ kernelId })).success, true);
    assert.equal((await engine.restartKernel({ kernelId })).success, true);
    assert.equal((await engine.destroyKernel({ kernelId })).success, true);
  },

  async "webllm-chat"() {
    const engine = await server.getService(SERVICE);
    const config = {
      id: "webllm", name: "Chat", description: "d", instructions: "Be brief.", kernelType: "TYPESCRIPT", maxSteps: 5,
      autoAttachKernel: true,
    };
    const agent = await engine.createAgent(config);
    assert.equal(agent.id, "webllm");
    assert.ok((await engine.listAgents()).some((it) => it.id === agent.id));
    let text = "", answer = "";
    for await (const chunk of await engine.chatWithAgent({ agentId: agent.id, message: "2+2?", sessionId: "s" })) {
      if (chunk.type === "text_chunk") text += chunk.content;
      else if (chunk.type === "text") answer = chunk.content;
      else if (chunk.type === "error") assert.fail(chunk.error);
    }
    assert.ok(text.includes("returnToUser"), text);
    assert.equal(answer, "4");
    const failed = await all(await engine.chatWithAgent({ agentId: "none", message: "2+2?", sessionId: "s" }));
    assert.deepEqual(failed.map((it) => [it.type, typeof it.error]), [["error", "string"]]);
    assert.equal((await engine.destroyAgent({ agentId: agent.id })).success, true);
  },
};

try {
  await groups[GROUP]();
  process.exit(0);
} catch (error) {
  process.stderr.write(`${String(error?.stack ?? error).slice(0, 4000)}\n`);
  process.exit(1);
}
