// Prints, then throws from the body of its module.
console.log("starting");
throw new Error("no configuration");
