import v8 from "node:v8";
import vm from "node:vm";

function set(flag: string) {
  try {
    v8.setFlagsFromString(flag);
  } catch { /* as well */ }
}

function attempt(what: string, escaped: () => boolean) {
  let got = false;
  try {
    got = escaped();
  } catch { /* as it should be */ }
  console.log(got ? `ESCAPED: ${what}` : `held: ${what}`);
}

set("--allow-natives-syntax");
attempt("natives in a function", () => (new Function("return %GetOptimizationStatus(() => 1)"))() !== undefined);
attempt("natives in eval", () => (0, eval)("%GetOptimizationStatus(() => 1)") !== undefined);
attempt("natives in a script", () => new vm.Script("%GetOptimizationStatus(() => 1)") !== undefined);
set("--expose-gc");
attempt("gc of a new context", () => typeof vm.runInNewContext("globalThis.gc") === "function");
set("--stack-size=100000");
attempt("a stack that overflows", () => {
  const deep = (n: number): number => 1 + deep(n + 1);
  try {
    deep(0);
    return true;
  } catch (e) {
    return !(e instanceof RangeError);
  }
});
set("--correctness-fuzzer-suppressions");
set("--abort-on-uncaught-exception");
try {
  throw new Error("caught");
} catch {
  console.log("held: an exception aborts");
}
