// Registers every event that surrounds a program, and prints the order in which they come.
import process from "node:process";

for (const type of ["load", "beforeunload", "unload"]) {
  addEventListener(type, () => console.log(type));
}
process.on("beforeExit", (code) => console.log("process beforeExit", code));
process.on("exit", (code) => console.log("process exit", code));
setTimeout(() => console.log("timer"), 50);
console.log("module evaluated");
