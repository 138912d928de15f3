// Serves a small model as an OpenAI-compatible endpoint on a port of loopback, which it prints.
// Usage: node serve.mjs FOLDER: node-llama-cpp and model.gguf are in it. It ends when its input does.
import http from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const { getLlama, LlamaCompletion } = await import(
  pathToFileURL(createRequire(join(folder, "package.json")).resolve("node-llama-cpp"))
);
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: join(folder, "model.gguf") });
// One thread: several wait for each other in a loop, and on a busy machine a token takes seconds then.
const context = await model.createContext({ contextSize: 4096, threads: 1 });
const sequence = context.getSequence();
const completion = new LlamaCompletion({ contextSequence: sequence });

const textOf = (content) => typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");

// The model's own format, ChatML.
function promptOf(messages) {
  const turns = messages.map(({ role, content }) => `<|im_start|>${role}\n${textOf(content)}<|im_end|>\n`);
  return `${turns.join("")}<|im_start|>assistant\n`;
}

async function answer(request, response) {
  const body = JSON.parse(await new Response(request).text());
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (chunk) => response.write(`data: ${JSON.stringify({ object: "chat.completion.chunk", model: body.model, ...chunk })}\n\n`);
  const say = (delta, finish_reason = null) => send({ choices: [{ index: 0, delta, finish_reason }] });
  const prompt = model.tokenize(promptOf(body.messages), true);
  say({ role: "assistant", content: "" });
  const { response: text, metadata } = await completion.generateCompletionWithMeta(prompt, {
    maxTokens: Math.min(body.max_tokens ?? 128, 512),
    temperature: body.temperature ?? 0,
    customStopTriggers: ["<|im_end|>"],
    signal: gone.signal,
    stopOnAbortSignal: true,
    onTextChunk: (content) => say({ content }),
  });
  say({}, metadata.stopReason === "maxTokens" ? "length" : "stop");
  const completion_tokens = model.tokenize(text).length;
  const usage = { prompt_tokens: prompt.length, completion_tokens, total_tokens: prompt.length + completion_tokens };
  send({ choices: [], usage });
  response.end("data: [DONE]\n\n");
}

// One answer at a time, the next waits.
let turn = Promise.resolve();
const server = http.createServer((request, response) => {
  if (request.method !== "POST" || request.url !== "/v1/chat/completions") {
    response.writeHead(404, { "content-type": "application/json" }).end('{"error":{"message":"not found"}}');
    return;
  }
  turn = turn.then(() => answer(request, response)).catch((error) => {
    console.error(error);
    response.destroy();
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
