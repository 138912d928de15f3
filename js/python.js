// The part of a Python kernel that lives in JavaScript: boots Pyodide and carries cells, events,
// prompts and packages between the host and the Python package `engine_kernel`.
//
// Evaluated while the runtime boots, so it captures its ops; nothing of it is reachable from Python.

import { core, internals, primordials } from "ext:core/mod.js";
import { addSitePackages, becomeBrowserWorker, bootPyodide, pythonGlobals } from "ext:python/pyodide_boot.js";
import { fileRequests } from "ext:python/python_files.js";
import { mountFileSystem } from "ext:python/python_mount.js";

const {
  op_kernel_emit,
  op_kernel_flush,
  op_kernel_input,
  op_python_asset,
  op_python_booted,
  op_python_fatal,
  op_python_interrupt_buffer,
  op_python_keep_package,
  op_python_map_memory,
  op_python_package,
  op_python_package_places,
  op_python_sleep,
} = core.ops;

const { Error, Uint8Array } = primordials;
const { setTimeOrigin } = core.loadExtScript("ext:deno_web/15_performance.js");
const CDN = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/";

/** A package of the distribution: from this machine, else with the kernel's own permissions from the CDN. */
function packageSource(fetch) {
  return async (name) => {
    let bytes = op_python_package(name);
    if (!bytes) {
      try {
        const response = await fetch(CDN + name);
        if (!response.ok) throw new Error(`status ${response.status}`);
        bytes = new Uint8Array(await response.arrayBuffer());
        // Checks the sum that the distribution has for it.
        op_python_keep_package(name, bytes);
      } catch (error) {
        throw new Error(`${name} could not be had. Tried: ${op_python_package_places(name)}, ${CDN}${name} (${error.message})`);
      }
    }
    return new Response(bytes);
  };
}

let deno;
let pyodide;
let kernel;
let files;

const host = {
  emit: (kind, data) => op_kernel_emit(kind, data, false),
  input: (prompt, password) => op_kernel_input(prompt, password),
  flush: () => op_kernel_flush(),
  sleep: (seconds) => op_python_sleep(seconds),
};

/** How a cell ends that waits for something. */
async function outcome(task) {
  try {
    return await task;
  } finally {
    task.destroy();
  }
}

/** What C code and Python's original streams print. */
function capture(isError) {
  const decoder = new TextDecoder();
  return {
    write(buffer) {
      const text = decoder.decode(buffer, { stream: true });
      if (text !== "") core.print(text, isError);
      return buffer.length;
    },
    isatty: false,
  };
}

internals.python = {
  becomeBrowserWorker() {
    delete internals.kernel;
    deno = globalThis.Deno;
    becomeBrowserWorker();
  },

  async boot({ loadPyodide }, { default: createPyodideModule }, useSnapshot) {
    const snapshot = useSnapshot
      ? {
        head: op_python_asset("snapshot.head"),
        size: op_python_asset("snapshot.memory").length,
        map: (memory) => op_python_map_memory("snapshot.memory", memory),
      }
      : undefined;
    const lockFile = JSON.parse(core.decode(op_python_asset("pyodide-lock.json")));
    pyodide = await bootPyodide({
      loadPyodide,
      createPyodideModule,
      asset: op_python_asset,
      lockFile,
      packages: packageSource(globalThis.fetch),
      jsglobals: pythonGlobals(),
      snapshot,
    });
    const path = addSitePackages(pyodide, op_python_asset("site-packages.zip"));
    if (!snapshot) pyodide.runPython(`import sys; sys.path.append(${JSON.stringify(path)})`);
    pyodide._api.on_fatal = ({ status, message }) =>
      op_python_fatal(status === undefined ? `failed: ${message}` : `exited with code ${status}`);
    pyodide.setStdin({ error: true });
    pyodide.setStdout(capture(false));
    pyodide.setStderr(capture(true));
    pyodide.setInterruptBuffer(new Int32Array(op_python_interrupt_buffer()));
    kernel = pyodide.pyimport("engine_kernel._pyodide").kernel();
    kernel.attach(host);
    op_python_booted();
    // Once for nothing: compiles what a claim will need.
    internals.python.configure({}, "/home/pyodide", []);
  },

  configure(env, cwd, mountPoints) {
    setTimeOrigin();
    const { FS } = pyodide;
    FS.mkdirTree(cwd);
    for (const root of mountPoints) {
      FS.mkdirTree(root);
      FS.mount(mountFileSystem(FS, deno), { root }, root);
    }
    const variables = pyodide.toPy(env);
    kernel.configure(variables, cwd);
    files = fileRequests(FS, cwd);
    variables.destroy();
  },

  /** Cells between these two are none of the user's. */
  rehearse: () => kernel.rehearse(),
  forget: () => kernel.forget(),

  setEnvironment(env) {
    const variables = pyodide.toPy(env);
    try {
      kernel.set_environment(variables);
    } finally {
      variables.destroy();
    }
  },

  readFile: (path, offset, length) => files.read(path, offset, length),
  writeFile: (path, offset, data) => files.write(path, offset, data),
  statFile: (path) => files.stat(path),
  listFiles: (path, most) => files.list(path, most),
  renameFile: (from, to) => files.rename(from, to),
  deleteFile: (path, recursive) => files.remove(path, recursive),
  execute(code) {
    const ended = kernel.begin(code);
    return typeof ended === "string" ? ended : outcome(ended);
  },
  comm: async (kind, body) => await kernel.comm(kind, body),
  runProgram: async (source, path, args) => await kernel.begin_program(source, path, args),
  cancel: () => kernel.cancel(),
  complete: (code, cursor) => kernel.complete(code, cursor),
  inspect: (code, cursor) => kernel.inspect(code, cursor),
  isComplete: (code) => kernel.is_complete(code),
  check: (name, code) => kernel.check(name, code),
  // Python has a value of its own for null.
  commInfo: (targetName) => kernel.comm_info(targetName ?? undefined),
};
