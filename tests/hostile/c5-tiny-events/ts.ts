console.log("tried: tiny-events");
for (let i = 0; i < 250_000; i++) console.error("");
