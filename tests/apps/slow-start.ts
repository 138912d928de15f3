// Needs two seconds before it serves.
await new Promise((resolve) => setTimeout(resolve, 2_000));
Deno.serve(() => new Response("ready"));
