// Run a cell on an engine that is a service of a Hypha server.
// Usage: npm install hypha-rpc
//        HYPHA_SERVER_URL=… HYPHA_TOKEN=… node client.mjs [SERVICE]
// SERVICE is `workspace/deno-app-engine`, or `deno-app-engine` for one in the token's own workspace.
import { hyphaWebsocketClient } from "hypha-rpc";

const server = await hyphaWebsocketClient.connectToServer({
  server_url: process.env.HYPHA_SERVER_URL,
  token: process.env.HYPHA_TOKEN,
});
// Of several engines, the one that has least to do.
const engine = await server.getService(process.argv[2] ?? "deno-app-engine", { mode: "select:min:getEngineLoad" });
const kernel = await engine.createKernel({ mode: "worker-typescript" });
try {
  const code = "for (let i = 1; i <= 3; i++) console.log(`step ${i}`); 6 * 7";
  for await (const event of await engine.streamExecution({ kernelId: kernel.id, code })) {
    if (event.type === "stream") process.stdout.write(event.data.text);
    else if (event.type === "execute_result") console.log("=>", event.data.data["text/plain"]);
  }
} finally {
  await engine.destroyKernel({ kernelId: kernel.id });
  await server.disconnect();
}
