// Starts a second server on the port of its first.
Deno.serve(() => new Response("first"));
Deno.serve(() => new Response("second"));
