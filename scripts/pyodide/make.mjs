// Makes what a Python kernel starts from: one archive of the packages that come with the engine, the
// memory of an interpreter that has imported them, and the wheels that are loaded when they are imported. Run by
// setup.sh, under Deno:
//
//   deno run --allow-read --allow-write make.mjs PYODIDE WHEELS ON_DEMAND PYTHON OUT
//
// PYODIDE is the npm package, WHEELS and ON_DEMAND are folders of wheels, PYTHON that of our own package.

import { addSitePackages, becomeBrowserWorker, bootPyodide, pythonGlobals } from "../../js/pyodide_boot.js";

const [pyodideDir, wheelsDir, onDemandDir, pythonDir, outDir] = Deno.args;
const { exit, readFileSync, readTextFileSync, writeFileSync, readDirSync } = Deno;

const decoder = new TextDecoder();
const asset = (name) => readFileSync(`${pyodideDir}/${name}`);
const lockFile = JSON.parse(decoder.decode(asset("pyodide-lock.json")));
const wheelsIn = (folder) =>
  [...readDirSync(folder)].filter((f) => f.name.endsWith(".whl"))
    .map((f) => [f.name, readFileSync(`${folder}/${f.name}`)]);
const wheels = wheelsIn(wheelsDir);
const { subtle } = crypto;
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

/** The wheels that are loaded when they are imported. Left out is what Pyodide does without. */
const DEPENDS = { "hypha-rpc": ["msgpack", "munch", "shortuuid"], msgpack: [], munch: [], shortuuid: [] };

/**
 * Puts these wheels into the list of the distribution's packages, in the place of others of the same name: so they are
 * found by what imports them, and by micropip.
 */
async function addOnDemand() {
  const names = [];
  for (const [file, original] of wheelsIn(onDemandDir)) {
    const [distribution, version] = file.split("-");
    const name = distribution.replaceAll("_", "-");
    const isClient = name === "hypha-rpc";
    const bytes = isClient ? await withLazyHttpx(original) : original;
    // What was changed has a name of its own.
    const file_name = isClient ? file.replace(version, `${version}+engine`) : file;
    const sha256 = new Uint8Array(await subtle.digest("SHA-256", bytes)).toHex();
    const kind = { install_dir: "site", package_type: "package", tool: {}, unvendored_tests: false };
    lockFile.packages[name] = { ...kind, name, version, file_name, sha256, imports: [distribution], depends: DEPENDS[name] };
    writeFileSync(`${outDir}/${file_name}`, bytes);
    names.push(name);
  }
  if (names.sort().join() !== Object.keys(DEPENDS).join()) throw new Error(`not the wheels that were expected: ${names}`);
  writeFileSync(`${outDir}/pyodide-lock.json`, new TextEncoder().encode(JSON.stringify(lockFile)));
}

/**
 * The client of Hypha imports httpx for a transport that is not the usual one. That of the distribution is large, and
 * another would take its place in kernels: so it is imported when that transport is used.
 */
async function withLazyHttpx(wheel) {
  const pyodide = await boot({});
  pyodide.FS.writeFile("/original.whl", wheel);
  pyodide.runPython(`
import zipfile
MODULE, IMPORT, LAZY = "hypha_rpc/http_client.py", "\\nimport httpx\\n", """
class _Httpx:
    def __getattr__(self, name):
        import httpx

        return getattr(httpx, name)


httpx = _Httpx()
"""
with zipfile.ZipFile("/original.whl") as original, zipfile.ZipFile("/changed.whl", "w") as changed:
    for name in sorted(original.namelist()):
        content = original.read(name)
        if name == MODULE:
            text = content.decode()
            assert text.count(IMPORT) == 1, "the module imports httpx in another way"
            content = text.replace(IMPORT, LAZY).encode()
        changed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
`);
  return pyodide.FS.readFile("/changed.whl");
}

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

await addOnDemand();
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
