// Boots Pyodide where it does not expect to run: in a Deno runtime, without files and network. It is
// made to see the worker of a browser, and everything it would fetch is handed to it.
//
// Used by kernels (`python.js`) and by the script that makes the memory snapshot.

/** Where Pyodide believes to come from; nothing is ever fetched there. */
const INDEX_URL = "http://pyodide.invalid/";
const SITE_PACKAGES = "/lib/engine/site-packages.zip";

/** What Python's `js` module shows: what a page's script could do, and nothing of the host. */
const GLOBAL_NAMES = [
  // ECMAScript
  "Object", "Function", "Array", "Number", "Boolean", "String", "Symbol", "BigInt", "Math", "JSON", "Date", "RegExp",
  "Promise", "Proxy", "Reflect", "Map", "Set", "WeakMap", "WeakSet", "WeakRef", "FinalizationRegistry", "Iterator",
  "ArrayBuffer", "SharedArrayBuffer", "DataView", "Atomics", "Int8Array", "Uint8Array", "Uint8ClampedArray",
  "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array", "Float16Array",
  "Float32Array", "Float64Array", "Error", "AggregateError", "EvalError", "RangeError", "ReferenceError",
  "SyntaxError", "TypeError", "URIError", "Intl", "Temporal", "WebAssembly", "NaN", "Infinity", "undefined",
  "parseInt", "parseFloat", "isNaN", "isFinite", "encodeURI", "encodeURIComponent", "decodeURI", "decodeURIComponent",
  // Web
  "fetch", "Headers", "Request", "Response", "FormData", "WebSocket", "EventSource", "URL", "URLSearchParams",
  "URLPattern", "TextEncoder", "TextDecoder", "TextEncoderStream", "TextDecoderStream", "AbortController",
  "AbortSignal", "Event", "EventTarget", "CustomEvent", "ErrorEvent", "MessageEvent", "CloseEvent", "ProgressEvent",
  "DOMException", "Blob", "File", "FileReader", "ReadableStream", "WritableStream", "TransformStream",
  "CompressionStream", "DecompressionStream", "MessageChannel", "MessagePort", "setTimeout", "clearTimeout",
  "setInterval", "clearInterval", "queueMicrotask", "structuredClone", "crypto", "Crypto", "CryptoKey",
  "SubtleCrypto", "performance", "console", "atob", "btoa", "reportError",
];

/** The global object that Python sees. */
export function pythonGlobals() {
  const globals = {};
  for (const name of GLOBAL_NAMES) {
    if (name in globalThis) globals[name] = globalThis[name];
  }
  // The browser's functions insist on being called on the global object.
  for (const name of ["fetch", "setTimeout", "clearTimeout", "setInterval", "clearInterval", "queueMicrotask"]) {
    const own = globalThis[name];
    globals[name] = (...args) => own(...args);
  }
  globals.globalThis = globals;
  globals.self = globals;
  return globals;
}

/** What Pyodide needs of the global object besides. */
const PYODIDE_NAMES = ["globalThis", "eval", "escape", "unescape"];

/**
 * Makes the global object look like that of a module worker, with nothing else on it: code reaches it
 * through any function's constructor. Before Pyodide's modules are evaluated.
 */
export function becomeBrowserWorker() {
  const kept = new Set([...GLOBAL_NAMES, ...PYODIDE_NAMES]);
  // What has no name is Deno's: by symbols it knows its global object.
  for (const name of Object.getOwnPropertyNames(globalThis)) {
    if (!kept.has(name)) delete globalThis[name];
  }
  class WorkerGlobalScope {
    static [Symbol.hasInstance](value) {
      return value === globalThis;
    }
  }
  Object.assign(globalThis, { WorkerGlobalScope, self: globalThis });
  Object.defineProperty(globalThis, "location", { value: new URL(INDEX_URL), configurable: true, writable: true });
}

/**
 * @param loadPyodide, createPyodideModule  what Pyodide's two modules export
 * @param asset      (name) => Uint8Array of the distribution's file
 * @param lockFile   pyodide-lock.json, parsed
 * @param packages   async (fileName) => Response of a package of the distribution
 * @param jsglobals  what Python sees as `js`
 * @param snapshot   what a memory snapshot has besides the memory: `{ head, size, map(memory) }`
 * @param options    more options of loadPyodide
 */
export async function bootPyodide(
  { loadPyodide, createPyodideModule, asset, lockFile, packages, jsglobals, snapshot, options = {} },
) {
  const { fetch } = globalThis;
  const { instantiateStreaming } = WebAssembly;
  globalThis.fetch = async (url, init) => {
    const text = String(url?.url ?? url);
    if (!text.startsWith(INDEX_URL)) return await fetch(url, init);
    const name = text.slice(INDEX_URL.length);
    // What Pyodide needs of a response; a real one would load all of Deno's streams.
    if (name === "pyodide.asm.wasm") return {};
    if (name === "python_stdlib.zip") return { ok: true, arrayBuffer: () => asset(name).buffer };
    return await packages(name);
  };
  // Compiles lazily, without a copy through a stream.
  WebAssembly.instantiateStreaming = async (_response, imports) => {
    const module = new WebAssembly.Module(asset("pyodide.asm.wasm"));
    return { module, instance: await WebAssembly.instantiate(module, imports) };
  };
  try {
    return await loadPyodide({
      indexURL: INDEX_URL,
      packageBaseUrl: INDEX_URL,
      lockFileContents: lockFile,
      createPyodideModule: (settings) => createModule(createPyodideModule, settings, snapshot),
      jsglobals,
      env: { HOME: "/home/pyodide" },
      ...(snapshot ? { _loadSnapshot: snapshot.head } : {}),
      ...options,
    });
  } finally {
    WebAssembly.instantiateStreaming = instantiateStreaming;
  }
}

async function createModule(createPyodideModule, settings, snapshot) {
  const module = await createPyodideModule(settings);
  if (snapshot) {
    // Pyodide would copy the memory out of the snapshot; it finds it there already.
    if (module.HEAPU8.length < snapshot.size) module.growMemory(snapshot.size);
    snapshot.map(module.HEAPU8);
  }
  return module;
}

/** Puts the packages that come with the engine on Python's path. */
export function addSitePackages(pyodide, zip) {
  pyodide.FS.mkdirTree(SITE_PACKAGES.slice(0, SITE_PACKAGES.lastIndexOf("/")));
  pyodide.FS.writeFile(SITE_PACKAGES, zip, { canOwn: true });
  return SITE_PACKAGES;
}
