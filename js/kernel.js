// The part of a kernel that lives inside its isolate: display, results, errors, prompts.
//
// This module runs while the runtime boots, before user code and before the op table is emptied,
// so it captures its ops here and nothing of it is reachable from a cell. `start()` is called once
// the globals stand, `configure()` when the kernel is claimed.

import { core, internals, primordials } from "ext:core/mod.js";

const {
  op_kernel_cell,
  op_kernel_emit,
  op_kernel_has_mounts,
  op_kernel_input,
  op_kernel_may_adopt,
  op_kernel_vm_original_function,
  op_kernel_vm_original_script,
  op_kernel_vm_originals,
  op_program_any_address,
  op_program_node_address,
  op_program_node_listening,
  op_timer_now,
  op_timer_schedule,
} = core.ops;
const { __processTimers: processTimers } = core;
const { setTimeOrigin } = core.loadExtScript("ext:deno_web/15_performance.js");

// Taken before any cell can replace them.
const {
  ArrayIsArray,
  JSONStringify,
  MathAbs,
  MathMax,
  ObjectFreeze,
  ObjectEntries,
  ObjectDefineProperty,
  ObjectGetOwnPropertyDescriptor,
  ReflectApply,
  SafeWeakMap,
  String,
  StringPrototypeToWellFormed,
  SymbolFor,
  TypeError,
} = primordials;
const ErrorCtor = globalThis.Error;

// ---------------------------------------------------------------- what is closed to cells

const UV_EPERM = -1;

/** Lets `node:net` take only descriptors that are a program's to take. */
function guardOpen({ prototype }) {
  const { open } = prototype;
  ObjectDefineProperty(prototype, "open", {
    value: function (fd) {
      return op_kernel_may_adopt(fd) ? ReflectApply(open, this, [fd]) : UV_EPERM;
    },
    writable: false,
    configurable: false,
    enumerable: true,
  });
}

guardOpen(core.loadExtScript("ext:deno_node/internal_binding/pipe_wrap.ts").Pipe);
guardOpen(core.loadExtScript("ext:deno_node/internal_binding/tcp_wrap.ts").TCP);
op_kernel_vm_originals(op_kernel_vm_original_script, op_kernel_vm_original_function);

/**
 * Refuses `node:wasi`, which opens paths by itself, and would find what the host has under a mount's name.
 * Its folders cannot be looked at first: the constructor reads them again, through prototypes that a cell
 * may have replaced.
 */
function refuseWasi() {
  const wasi = core.loadExtScript("ext:deno_node/wasi.ts");
  const { WASI } = wasi;
  const Refused = new Proxy(WASI, {
    construct() {
      throw new TypeError("node:wasi is not available in a kernel with a mounted folder: it would open files past the mount");
    },
  });
  WASI.prototype.constructor = Refused;
  wasi.WASI = Refused;
  wasi.default.WASI = Refused;
}

// A web worker begins with the mounts of its kernel.
if (op_kernel_has_mounts()) refuseWasi();

const $display = SymbolFor("Jupyter.display");
const HTML_ESCAPES = { __proto__: null, "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const MAX_TABLE_RECORDS = 50;
const MAX_TABLE_ROWS = 10;
const MAX_TIMER_MS = 2 ** 31 - 1;
/** Longest text a result shows of one string, in UTF-16 code units. */
const MAX_SHOWN_STRING = 1 << 20;

const isObject = (value) => (typeof value === "object" && value !== null) || typeof value === "function";
const escapeHtml = (value) => String(value).replace(/[&<>"']/g, (c) => HTML_ESCAPES[c]);

/** JSON that never throws: what cannot be represented is written as text, half characters as `\ufffd`. */
function toJson(value) {
  return JSONStringify(value, (_key, v) =>
    typeof v === "string" ? StringPrototypeToWellFormed(v) : typeof v === "bigint" ? String(v) : v);
}

function emit(type, data) {
  op_kernel_emit(type, toJson(data), false);
}

/** The last event of a cell, after which nothing of it runs. */
function emitLast(type, data) {
  op_kernel_emit(type, toJson(data), true);
}

function inspect(value) {
  return globalThis.Deno.inspect(value, { colors: false, depth: 4, strAbbreviateSize: MAX_SHOWN_STRING });
}

// ---------------------------------------------------------------- detectors

function startsWith(bytes, ...magic) {
  return bytes instanceof Uint8Array && bytes.length > magic.length && magic.every((b, i) => bytes[i] === b);
}

const isPng = (v) => startsWith(v, 137, 80, 78, 71, 13, 10, 26, 10);
const isJpeg = (v) => startsWith(v, 0xff, 0xd8, 0xff);
const isGif = (v) => startsWith(v, 0x47, 0x49, 0x46, 0x38);

/** Image bytes as a bundle, or undefined. */
function imageBundle(value) {
  const mime = isPng(value) ? "image/png" : isJpeg(value) ? "image/jpeg" : isGif(value) ? "image/gif" : null;
  return mime === null ? undefined : { [mime]: value.toBase64() };
}

function vegaMime(schema) {
  const lite = /vega-lite\/v(\d+)/.exec(schema ?? "");
  return lite ? `application/vnd.vegalite.v${lite[1]}+json` : "application/vnd.vega.v5+json";
}

/** Polars column types, as Tabular Data Resource types. */
function fieldType(type) {
  const name = String(type?.toJSON?.()?.DataType ?? type?.variant ?? type);
  if (/^(u?int|i\d|u\d)/i.test(name)) return "integer";
  if (/^(float|f\d|decimal)/i.test(name)) return "number";
  if (/^bool/i.test(name)) return "boolean";
  if (/^list|^array/i.test(name)) return "array";
  if (/^(struct|object)/i.test(name)) return "object";
  return name === "Null" ? "null" : "string";
}

function tableBundle(frame) {
  const fields = ObjectEntries(frame.schema).map(([name, type]) => ({ name, type: fieldType(type) }));
  const data = frame.head(MAX_TABLE_RECORDS).toRecords();
  const head = fields.map((f) => `<th>${escapeHtml(f.name)}</th>`).join("");
  const rows = frame.head(MAX_TABLE_ROWS).toRecords().map((row) =>
    `<tr>${fields.map((f) => `<td>${escapeHtml(row[f.name])}</td>`).join("")}</tr>`
  ).join("");
  return {
    "application/vnd.dataresource+json": { data, schema: { fields } },
    "text/html": `<table><thead><tr>${head}</tr></thead><tbody>${rows}</tbody></table>`,
  };
}

/** Rich representations found by what the value can do, in the documented order; {} when none. */
function detect(value) {
  if (!isObject(value)) return {};
  if (typeof value.toSpec === "function") {
    const spec = value.toSpec();
    if (isObject(spec)) return { [vegaMime(spec.$schema)]: spec };
  }
  if (isObject(value.schema) && typeof value.head === "function" && typeof value.toRecords === "function") {
    return tableBundle(value);
  }
  if (typeof value.toDataURL === "function") {
    const match = /^data:([^;,]+)(?:;[^,]*)?,(.*)$/s.exec(String(value.toDataURL()));
    if (match) return { [match[1]]: match[2] };
  }
  const image = imageBundle(value);
  if (image) return image;
  if (typeof value.outerHTML === "string") {
    return { [/^\s*<svg[\s>]/i.test(value.outerHTML) ? "image/svg+xml" : "text/html"]: value.outerHTML };
  }
  return {};
}

/** Bytes become base64 text, everything else is left to JSON. */
function cleanBundle(bundle) {
  const clean = {};
  for (const [mime, value] of ObjectEntries(bundle)) {
    if (value === undefined) continue;
    clean[mime] = value instanceof Uint8Array
      ? value.toBase64()
      : value instanceof ArrayBuffer
      ? new Uint8Array(value).toBase64()
      : value;
  }
  return clean;
}

async function displaySymbolBundle(value) {
  if (!isObject(value) || typeof value[$display] !== "function") return undefined;
  const bundle = await value[$display]();
  return isObject(bundle) ? cleanBundle(bundle) : undefined;
}

function describe(value) {
  const rich = detect(value);
  return cleanBundle({ "text/plain": inspect(value), ...rich });
}

function emitResult(value, executionCount) {
  emitLast("execute_result", { execution_count: executionCount, data: describe(value), metadata: {} });
}

async function showByItself(value, executionCount) {
  const shown = await displaySymbolBundle(value);
  if (shown) {
    emit("display_data", { data: shown, metadata: {} });
  } else {
    emitResult(value, executionCount);
  }
}

async function format(value) {
  return await displaySymbolBundle(value) ?? describe(value);
}

// ---------------------------------------------------------------- Deno.jupyter

const displayable = (bundle) => ({ [$display]: () => bundle });

const tagged = (mime) => (strings, ...values) =>
  displayable({ [mime]: strings.reduce((text, part, i) => text + part + (values[i] ?? ""), "") });

function image(source) {
  const bytes = typeof source === "string" ? globalThis.Deno.readFileSync(source) : source;
  const bundle = imageBundle(bytes);
  if (!bundle || "image/gif" in bundle) {
    throw new TypeError("Deno.jupyter.image takes the path or the bytes of a PNG or JPEG image");
  }
  return displayable(bundle);
}

async function display(value, options = {}) {
  const plain = isObject(value) && typeof value !== "function" && !ArrayIsArray(value);
  const data = options.raw && plain ? cleanBundle(value) : await format(value);
  const content = { data, metadata: options.metadata ?? {} };
  if (options.display_id !== undefined) content.transient = { display_id: String(options.display_id) };
  emit(options.update ? "update_display_data" : "display_data", content);
}

const BROADCASTS = {
  __proto__: null,
  display_data: (c) => ({ data: cleanBundle(c.data ?? {}), metadata: c.metadata ?? {}, transient: c.transient ?? {} }),
  execute_result: (c) => ({
    execution_count: c.execution_count ?? state.executionCount,
    data: cleanBundle(c.data ?? {}),
    metadata: c.metadata ?? {},
  }),
  stream: (c) => ({ name: c.name === "stderr" ? "stderr" : "stdout", text: String(c.text ?? "") }),
  clear_output: (c) => ({ wait: c.wait === true }),
  error: (c) => ({
    ename: String(c.ename ?? "Error"),
    evalue: String(c.evalue ?? ""),
    traceback: ArrayIsArray(c.traceback) ? c.traceback.map(String) : [],
  }),
};
BROADCASTS.update_display_data = BROADCASTS.display_data;
BROADCASTS.execute_error = BROADCASTS.error;

/** Comm messages, whose content goes as it is. */
const COMM_MESSAGES = ["comm_open", "comm_msg", "comm_close"];

function commBody(content, { metadata, buffers }) {
  const encoded = [...(buffers ?? [])].map((buffer) => {
    const { buffer: bytes = buffer, byteOffset, byteLength } = buffer;
    return new Uint8Array(bytes, byteOffset, byteLength).toBase64();
  });
  return { content, metadata: metadata ?? {}, buffers: encoded };
}

const listeners = new Map();

async function broadcast(type, content = {}, extra = {}) {
  const shape = BROADCASTS[type];
  if (COMM_MESSAGES.includes(type)) {
    emit(type, commBody(content, extra));
  } else if (shape) {
    emit(type === "error" ? "execute_error" : type, shape({ ...extra, ...content }));
  }
  for (const listener of [...(listeners.get(type) ?? [])]) listener(content, extra);
}

const jupyter = {
  $display,
  display,
  format,
  formatResult: format,
  md: tagged("text/markdown"),
  html: tagged("text/html"),
  svg: tagged("image/svg+xml"),
  image,
  broadcast,
  onBroadcast(type, listener) {
    if (!listeners.has(type)) listeners.set(type, new Set());
    listeners.get(type).add(listener);
  },
  offBroadcast(type, listener) {
    listeners.get(type)?.delete(listener);
  },
};

// ---------------------------------------------------------------- prompts

function prompt(message = "Prompt", defaultValue = "", { password = false } = {}) {
  const text = defaultValue ? `${message} [${defaultValue}]` : String(message);
  const answer = op_kernel_input(text, password);
  return answer === "" ? String(defaultValue) : answer;
}

function confirm(message = "Confirm") {
  return /^\s*y(es)?\s*$/i.test(op_kernel_input(`${message} [y/N] `, false) ?? "");
}

function alert(message = "Alert") {
  op_kernel_input(`${message} [Enter] `, false);
}

// ---------------------------------------------------------------- errors

function errorReport(error) {
  // Getters and proxies of a hostile error must not break the report.
  try {
    if (error instanceof ErrorCtor || (isObject(error) && typeof error.stack === "string" && "message" in error)) {
      const ename = String(error.name || "Error");
      const evalue = String(error.message ?? "");
      const stack = typeof error.stack === "string" && error.stack ? error.stack : `${ename}: ${evalue}`;
      const causes = error.cause !== undefined ? [`Caused by: ${inspect(error.cause)}`] : [];
      const parts = ArrayIsArray(error.errors) ? error.errors.map((e) => `    ${inspect(e)}`) : [];
      return { ename, evalue, traceback: [stack, ...parts, ...causes] };
    }
    const evalue = typeof error === "string" ? error : isObject(error) ? inspect(error) : String(error);
    return { ename: "Error", evalue, traceback: [`Uncaught ${evalue}`] };
  } catch {
    return { ename: "Error", evalue: "the thrown value cannot be described", traceback: [] };
  }
}

// ---------------------------------------------------------------- timers of a cell

/** Timers that the running cell has set and that have not fired; those of earlier cells stay alone. */
const cellTimers = { cell: 0, pending: new Set(), clear: undefined };

function noteTimer(setTimer, thisArgument, [callback, ...rest]) {
  const cell = op_kernel_cell();
  if (cell === 0 || typeof callback !== "function") {
    return ReflectApply(setTimer, thisArgument, [callback, ...rest]);
  }
  if (cell !== cellTimers.cell) {
    cellTimers.cell = cell;
    cellTimers.pending = new Set();
  }
  const { pending } = cellTimers;
  const once = setTimer.name === "setTimeout";
  const timer = ReflectApply(setTimer, thisArgument, [function (...args) {
    if (once) pending.delete(timer);
    return ReflectApply(callback, this, args);
  }, ...rest]);
  pending.add(timer);
  return timer;
}

/**
 * Lets `globalThis[name]` note what cells set. Loads Deno's timers now: nearly every kernel uses them,
 * and an interrupt while they load would break them.
 */
function watchTimers(name) {
  const value = new Proxy(globalThis[name], { apply: noteTimer });
  cellTimers.clear ??= globalThis.clearTimeout;
  ObjectDefineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: true });
}

/**
 * Stops the timers of an interrupted cell: its loop would otherwise go on with the next one. And a
 * termination may have kept Deno from setting its clock again: then no timer would ever fire.
 */
function recoverTimers() {
  if (cellTimers.cell !== 0 && cellTimers.cell === op_kernel_cell()) {
    for (const timer of cellTimers.pending) cellTimers.clear(timer);
    cellTimers.pending = new Set();
  }
  // Nothing is due that early: this only tells when the next one is.
  const next = MathAbs(processTimers(-Infinity));
  op_timer_schedule(MathMax(0, next - op_timer_now()));
}

/** The error of a web worker does not cross over to its owner, only what it says and where. */
function workerError({ message, filename, lineno, colno }) {
  return filename ? `${message}\n    at ${filename}:${lineno}:${colno}` : message;
}

/** How an error nobody caught is told on stderr. */
function uncaughtText(prefix, error) {
  const { traceback } = errorReport(error);
  const text = traceback.join("\n");
  return text.startsWith("Uncaught") ? `${text}\n` : `Uncaught ${prefix}${text}\n`;
}

/**
 * Reports what nobody caught, and keeps Deno from ending the program over it. Registered before any
 * listener of a cell, it decides after all of them: one that prevents the default has handled it.
 */
function reportUncaught(type, prefix, errorOf) {
  const { queueMicrotask } = globalThis;
  globalThis.addEventListener(type, (event) => {
    let handled = false;
    event.preventDefault();
    ObjectDefineProperty(event, "preventDefault", { value: () => void (handled = true) });
    queueMicrotask(() => {
      if (!handled) core.print(uncaughtText(prefix, errorOf(event)), true);
    });
  });
}

// ---------------------------------------------------------------- servers of a main program

/** Tells the host when `Deno.serve` is not told where to listen: the engine chooses then. */
function serveWhereTheEngineSays() {
  const { serve } = globalThis.Deno;
  globalThis.Deno.serve = new Proxy(serve, {
    apply(serve, thisArgument, args) {
      const options = typeof args[0] === "function" ? args[1] : args[0];
      op_program_any_address(!options?.port);
      try {
        return ReflectApply(serve, thisArgument, args);
      } finally {
        op_program_any_address(false);
      }
    },
  });
}

/**
 * Servers of `node:net` and `node:http`, which bind their sockets themselves: where they may not, they
 * get the same port of an address that is the app's own.
 */
function bindWhereTheEngineSays() {
  const { prototype } = core.loadExtScript("ext:deno_node/internal_binding/tcp_wrap.ts").TCP;
  const { bindWithFlags, getsockname, listen } = prototype;
  /** Whether a handle is bound to the app's own address. */
  const bound = new SafeWeakMap();
  for (const name of ["bind", "bindWithFlags", "bind6"]) {
    const original = prototype[name];
    prototype[name] = function (address, port, ...rest) {
      const own = op_program_node_address(address, port);
      bound.set(this, own !== "");
      return own === ""
        ? ReflectApply(original, this, [address, port, ...rest])
        : ReflectApply(bindWithFlags, this, [own, port, 0]);
    };
  }
  prototype.listen = function (...args) {
    const error = ReflectApply(listen, this, args);
    const socket = {};
    if (!error && bound.has(this) && !ReflectApply(getsockname, this, [socket])) {
      op_program_node_listening(socket.port, bound.get(this));
    }
    return error;
  };
}

// ---------------------------------------------------------------- what the host calls

const state = { executionCount: 0, environs: undefined };

/** `ENVIRONS`, as the original had it. */
function showEnvirons(env) {
  state.environs = ObjectFreeze({ ...env });
  ObjectDefineProperty(globalThis, "ENVIRONS", {
    value: state.environs,
    writable: true,
    configurable: true,
    enumerable: false,
  });
}

const host = {
  /** After the globals stand, once. */
  start() {
    globalThis.Deno.jupyter = jupyter;
    for (const [name, value] of ObjectEntries({ prompt, confirm, alert })) {
      ObjectDefineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: true });
    }
    ObjectDefineProperty(globalThis, "_", { value: undefined, writable: true, configurable: true, enumerable: false });
    ObjectDefineProperty(globalThis, "_error", { value: undefined, writable: true, configurable: true, enumerable: false });
    // With one timer that always waits, a termination can never make Deno believe that none does.
    core.createSystemInterval(() => {}, MAX_TIMER_MS, true);
    watchTimers("setTimeout");
    watchTimers("setInterval");
    reportUncaught("error", "", (event) => event.error ?? workerError(event));
    reportUncaught("unhandledrejection", "(in promise) ", (event) => event.reason);
    delete internals.kernel;
  },

  /** The same for the main program of an app, whose globals are Deno's own. */
  startProgram() {
    serveWhereTheEngineSays();
    bindWhereTheEngineSays();
    delete internals.kernel;
  },

  configure(env) {
    // Of a process that was forked, or waited, begins now.
    setTimeOrigin();
    if (op_kernel_has_mounts()) refuseWasi();
    showEnvirons(env);
  },

  /** After cells that were none of the user's. */
  forget() {
    state.executionCount = 0;
    globalThis._ = undefined;
    globalThis._error = undefined;
  },

  /** Variables that have changed while the kernel runs. */
  environ(changed) {
    // Unless a cell has taken the name for something else.
    const shown = ObjectGetOwnPropertyDescriptor(globalThis, "ENVIRONS")?.value;
    if (shown === state.environs) showEnvirons({ ...shown, ...changed });
  },

  /** After an interrupt. */
  recover: recoverTimers,

  /** Shows the value of a cell's last expression. A promise of that when the value takes its time. */
  result(value, executionCount) {
    state.executionCount = executionCount;
    if (value === undefined) return;
    globalThis._ = value;
    if (isObject(value) && typeof value[$display] === "function") return showByItself(value, executionCount);
    emitResult(value, executionCount);
  },

  error(error) {
    globalThis._error = error;
    emitLast("execute_error", errorReport(error));
  },

  /** What `Inspect` answers for a value. */
  inspectValue(value, expression) {
    const kind = typeof value === "function"
      ? (/^class\b/.test(Function.prototype.toString.call(value)) ? "class" : "function")
      : value === null
      ? "null"
      : ArrayIsArray(value)
      ? "array"
      : typeof value;
    return `${expression}: ${kind}\n${inspect(value)}`;
  },

  /** Names a completion can offer after `value.`, with their kinds. */
  members(value) {
    const names = new Map();
    for (let o = Object(value); o !== null && names.size < 2000; o = Object.getPrototypeOf(o)) {
      for (const [name, property] of ObjectEntries(Object.getOwnPropertyDescriptors(o))) {
        if (!names.has(name) && /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(name)) {
          names.set(name, typeof property.value === "function" ? "method" : "property");
        }
      }
    }
    return [...names];
  },
};

internals.kernel = host;
