// Waits for what never comes, with nothing left that could make it come.
console.log("waiting");
await new Promise(() => {});
console.log("never printed");
