// Makes what a Python kernel starts from: one archive of the packages that come with the engine, and
// the memory of an interpreter that has imported them. Run by setup.sh, under Deno:
//
//   deno run --allow-read --allow-write make.mjs PYODIDE WHEELS PYTHON OUT
//
// PYODIDE is the npm package, WHEELS a folder of wheels, PYTHON the folder of our own package.

import { addSitePackages, becomeBrowserWorker, bootPyodide, pythonGlobals } from "../../js/pyodide_boot.js";

const [pyodideDir, wheelsDir, pythonDir, outDir] = Deno.args;
const { exit, readFileSync, readTextFileSync, writeFileSync, readDirSync } = Deno;

const decoder = new TextDecoder();
const asset = (name) => readFileSync(`${pyodideDir}/${name}`);
const lockFile = JSON.parse(decoder.decode(asset("pyodide-lock.json")));
const wheels = [...readDirSync(wheelsDir)].filter((f) => f.name.endsWith(".whl"))
  .map((f) => [f.name, readFileSync(`${wheelsDir}/${f.name}`)]);
const sources = pythonFiles(pythonDir, "");
const urls = ["pyodide.mjs", "pyodide.asm.mjs"].map((name) => new URL(name, `file://${pyodideDir}/`).href);

function pythonFiles(folder, prefix) {
  return [...readDirSync(folder)].flatMap((entry) => {
    const [path, name] = [`${folder}/${entry.name}`, `${prefix}${entry.name}`];
    if (entry.isDirectory) return entry.name === "__pycache__" ? [] : pythonFiles(path, `${name}/`);
    return [[name, readTextFileSync(path)]];
  });
}

becomeBrowserWorker();
const [{ loadPyodide }, { default: createPyodideModule }] = await Promise.all(urls.map((url) => import(url)));

const boot = (options) =>
  bootPyodide({
    loadPyodide,
    createPyodideModule,
    asset,
    lockFile,
    packages: (name) => Promise.reject(new Error(`${name} is not for the snapshot`)),
    jsglobals: pythonGlobals(),
    options,
  });

/** One archive with compiled modules, which import faster than a folder of wheels. */
async function sitePackages() {
  const pyodide = await boot({});
  pyodide.FS.mkdirTree("/site");
  for (const [name, text] of sources) {
    pyodide.FS.mkdirTree(`/site/${name}`.replace(/\/[^/]*$/, ""));
    pyodide.FS.writeFile(`/site/${name}`, text);
  }
  for (const [, bytes] of wheels) pyodide.unpackArchive(bytes, "wheel", { extractDir: "/site" });
  pyodide.runPython(`
import compileall, os, py_compile, zipfile
compileall.compile_dir("/site", quiet=1, legacy=True, stripdir="/site", prependdir="/lib/engine/site-packages.zip",
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
names = sorted(
    os.path.relpath(os.path.join(folder, name), "/site")
    for folder, _, files in os.walk("/site")
    for name in files
    if "__pycache__" not in folder
)
with zipfile.ZipFile("/site.zip", "w") as archive:
    for name in names:
        entry = zipfile.ZipInfo(name)
        with open(os.path.join("/site", name), "rb") as file:
            archive.writestr(entry, file.read())
`);
  return pyodide.FS.readFile("/site.zip");
}

async function snapshot(zip) {
  const pyodide = await boot({ _makeSnapshot: true });
  const path = addSitePackages(pyodide, zip);
  pyodide.runPython(`
import sys
sys.path.append(${JSON.stringify(path)})
from engine_kernel import _pyodide
import gc
_pyodide.kernel()
gc.collect()
# Collections of a kernel then leave these objects, and the shared pages they lie in, alone.
gc.freeze()
`);
  return pyodide.makeMemorySnapshot();
}

const zip = await sitePackages();
writeFileSync(`${outDir}/site-packages.zip`, zip);
const memory = await snapshot(zip);
// The memory in a file of its own, so that kernels can map it. The second word tells where it begins.
const [, start] = new Uint32Array(memory.buffer, memory.byteOffset, 2);
writeFileSync(`${outDir}/snapshot.head`, memory.subarray(0, start));
writeFileSync(`${outDir}/snapshot.memory`, memory.subarray(start));
console.log(`Python: ${zip.length >> 10} KiB of packages, ${(memory.length - start) >> 10} KiB of memory`);
// Interpreters leave timers behind.
exit(0);
