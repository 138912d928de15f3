/**
 * The smallest web server, written for Deno's old standard library: `serve` there listens on a port
 * itself (`Deno.listen` and `Deno.serveHttp`). A new app says `Deno.serve(handler)` and needs no
 * import and no port.
 *
 *   curl -s $SERVER/apps/readme-server/
 *   curl -s $SERVER/apps/readme-server/api/status
 */

import { serve } from "https://deno.land/std@0.208.0/http/server.ts";

const started = Date.now();

function handler(request: Request): Response {
  switch (new URL(request.url).pathname) {
    case "/":
      return new Response("Hello from a Deno app!");
    case "/api/status":
      return Response.json({ status: "running", uptime_s: (Date.now() - started) / 1_000 });
    default:
      return new Response("Not found", { status: 404 });
  }
}

await serve(handler, { port: 8080 });
