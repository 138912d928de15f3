console.log("tried: huge-string");
console.error("x".repeat(64 << 20));
