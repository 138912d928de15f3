// Keeps a file in the folder data/ of its working directory, and counts its starts there.
await Deno.mkdir("data", { recursive: true });
const starts = Number(await Deno.readTextFile("data/starts.txt").catch(() => "0")) + 1;
await Deno.writeTextFile("data/starts.txt", String(starts));
console.log(`start ${starts}`);
