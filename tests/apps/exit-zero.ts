// Serves, then ends itself as if all were well.
Deno.serve(() => new Response("up"));
setTimeout(() => {
  console.log("done");
  Deno.exit(0);
}, 300);
