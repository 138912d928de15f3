console.log("tried: tiny-events");
for (let i = 0; i < 1e6; i++) console.error("");
