// Never gives its thread back, from the start on.
console.log("looping");
while (true);
