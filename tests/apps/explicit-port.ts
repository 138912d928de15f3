// Asks for a port and an address of its own choice.
Deno.serve(
  { port: 8123, hostname: "127.0.0.1", onListen: ({ port }) => console.log(`on ${port}`) },
  () => new Response("explicit"),
);
