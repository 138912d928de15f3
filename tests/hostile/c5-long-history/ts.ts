console.log("tried: long-history");
for (let i = 0; i < 480; i++) console.error("x".repeat(64 << 10));
