console.log("tried: completions");
var huge: any = Object.fromEntries(Array.from({ length: 100 }, (_, n) => ["x".repeat(1 << 20) + n, n]));
var many: any = Object.fromEntries(Array.from({ length: 1_000_000 }, (_, n) => ["name" + n, n]));
void 0;
