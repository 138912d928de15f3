// Serves, then throws from a timer's callback, where nobody can catch it.
Deno.serve(() => new Response("up"));
setTimeout(() => {
  throw new TypeError("the timer failed");
}, 300);
