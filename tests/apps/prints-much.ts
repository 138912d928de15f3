// Prints 10,000 lines at once.
for (let line = 1; line <= 10_000; line++) console.log(`line ${line}`);
