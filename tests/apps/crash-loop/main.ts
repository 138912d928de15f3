// Fails 100 ms after every start.
console.log("started");
await new Promise((resolve) => setTimeout(resolve, 100));
throw new Error("failed again");
