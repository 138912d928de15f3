// As lifecycle.ts, but ends itself from a timer.
import process from "node:process";

for (const type of ["load", "beforeunload", "unload"]) {
  addEventListener(type, () => console.log(type));
}
process.on("beforeExit", (code) => console.log("process beforeExit", code));
process.on("exit", (code) => console.log("process exit", code));
setTimeout(() => Deno.exit(4), 50);
console.log("module evaluated");
