// Serves on two ports; only one of them can be what lies behind the app's address.
Deno.serve({ port: 8123 }, () => new Response("first"));
Deno.serve({ port: 8124 }, () => new Response("second"));
