// Prints to both streams and ends: a program, not a server.
console.log("out");
console.error("err");
