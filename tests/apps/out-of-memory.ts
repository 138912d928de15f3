// Keeps all that it allocates until there is no more memory.
console.log("filling");
const kept: number[][] = [];
while (true) kept.push(new Array(100_000).fill(0.5));
