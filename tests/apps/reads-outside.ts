// Reads a file that is not its own: says what it is told, then fails of it.
try {
  await Deno.readTextFile("/etc/hostname");
} catch (error) {
  console.log(error instanceof Deno.errors.NotCapable, (error as Error).message);
}
await Deno.readTextFile("../crash-loop/main.ts");
