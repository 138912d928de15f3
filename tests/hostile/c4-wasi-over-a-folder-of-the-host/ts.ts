import { WASI } from "node:wasi";

const point = Deno.env.get("POINT")!;

function attempt(what: string, escapes: () => string | undefined) {
  let got: string | undefined;
  try {
    got = escapes();
  } catch { /* as it should be */ }
  console.log(got === undefined ? `held: ${what}` : `ESCAPED: ${what} ${got}`);
}

/** Opens a file in the preopened folder and does something with its descriptor. */
function opened(name: string, flags: number, rights: bigint, use: (wasi: any, fd: number, memory: ArrayBuffer) => string) {
  const wasi: any = new WASI({ version: "preview1", preopens: { "/x": point } } as any);
  const memory = new WebAssembly.Memory({ initial: 1 });
  wasi.initialize({ exports: { memory } });
  const bytes = new TextEncoder().encode(name);
  new Uint8Array(memory.buffer).set(bytes, 100);
  const error = wasi.wasiImport.path_open(3, 0, 100, bytes.length, flags, rights, 0n, 0, 200);
  if (error !== 0) return undefined;
  return use(wasi, new DataView(memory.buffer).getUint32(200, true), memory.buffer);
}

attempt("a file that only the host has", () =>
  opened("only-here.txt", 0, 2n, (wasi, fd, memory) => {
    const view = new DataView(memory);
    view.setUint32(300, 400, true);
    view.setUint32(304, 64, true);
    wasi.wasiImport.fd_read(fd, 300, 1, 308);
    return new TextDecoder().decode(new Uint8Array(memory, 400, view.getUint32(308, true)));
  }));
attempt("a file is made", () => opened("planted", 1, 64n, () => "made"));
attempt("a list that is another when it is read again", () => {
  const { iterator } = Symbol;
  const original = Array.prototype[iterator];
  let reads = 0;
  Array.prototype[iterator] = function* (this: unknown[]) {
    for (let i = 0; i < this.length; i++) {
      const entry: any = this[i];
      const isPreopen = Array.isArray(entry) && entry[0] === "/x";
      yield isPreopen && reads++ === 0 ? ["/x", Deno.cwd()] : entry;
    }
  } as any;
  try {
    return opened("only-here.txt", 0, 2n, () => "opened");
  } finally {
    Array.prototype[iterator] = original;
  }
});
