// Rejects a promise that nobody handles, while a timer would keep it alive for a minute.
setTimeout(() => console.log("never printed"), 60_000);
Promise.reject(new RangeError("nobody handles this"));
console.log("after the rejection");
