console.log("tried: long-output");
for (let i = 0; i < 1024; i++) console.error("x".repeat(64 << 10));
