// Ends itself with a code of its own, in the middle of its module.
console.log("leaving");
Deno.exit(3);
console.log("never printed");
