import vm from "node:vm";

const source = "(function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2); })(10)";

function attempt(what: string, caches: Uint8Array[], run: (cache: any) => [boolean | undefined, unknown]) {
  const wrong: string[] = [];
  caches.forEach((cache, n) => {
    try {
      const [rejected, result] = run(cache);
      if (rejected !== true || result !== 55) wrong.push(`${n}: ${rejected} ${result}`);
    } catch (e) {
      wrong.push(`${n}: ${e}`);
    }
  });
  console.log(wrong.length === 0 ? `held: ${what}` : `ESCAPED: ${what} ${wrong.slice(0, 5).join(", ")}`);
}

/** The cache with a byte changed, for bytes all over it. */
function damaged(cache: Uint8Array): Uint8Array[] {
  return Array.from({ length: 80 }, (_, n) => {
    const copy = new Uint8Array(cache);
    copy[Math.floor((n / 80) * copy.length)] ^= 0x55;
    return copy;
  });
}

const script = (cachedData: any): [boolean | undefined, unknown] => {
  const made = new vm.Script(source, { cachedData });
  return [made.cachedDataRejected, made.runInThisContext()];
};
const body = "function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2); } return f(10);";
const compiled = (cachedData: any): [boolean | undefined, unknown] => {
  const made: any = vm.compileFunction(body, [], { cachedData });
  return [made.cachedDataRejected, made()];
};
const own = new vm.Script(source).createCachedData() as Uint8Array;
attempt("Script with its own cache", [own], script);
attempt("Script with damaged caches", damaged(own), script);
attempt("Script with made up caches", [new Uint8Array(0), new Uint8Array(64), crypto.getRandomValues(new Uint8Array(4096))], script);
const made: any = vm.compileFunction(body, [], { produceCachedData: true } as any);
const others = [made.cachedData ?? own];
attempt("compileFunction with its own cache", others, compiled);
attempt("compileFunction with damaged caches", damaged(others[0]), compiled);
attempt("views of other kinds", [own], (cache) => script(new DataView(cache.buffer, cache.byteOffset, cache.byteLength)));
