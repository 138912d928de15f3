import fs from "node:fs";
import net from "node:net";
import sqlite from "node:sqlite";
import v8 from "node:v8";

const point = Deno.env.get("POINT")!;

/** What is tried must fail; or, if it does not, leave the host alone, which the runner looks at. */
async function attempt(what: string, escapes: () => unknown) {
  let got: unknown;
  try {
    got = await Promise.race([escapes(), new Promise((r) => setTimeout(r, 3000, "refused"))]);
  } catch {
    got = "refused";
  }
  console.log(got === "refused" ? `held: ${what}` : `ESCAPED: ${what} ${String(got)}`);
}

/** Whether a text is the host's. */
const told = (text: string) => text.includes("secret") ? text : "refused";

await attempt("files that only the host has", async () => told(await Deno.readTextFile(`${point}/only-here.txt`)));
await attempt("files that both have", async () => told(await Deno.readTextFile(`${point}/hello.txt`)));
await attempt("Deno.open", () => { using file = Deno.openSync(`${point}/only-here.txt`); return file.statSync().size; });
await attempt("node:fs", () => told(fs.readFileSync(`${point}/only-here.txt`, "utf8")));
await attempt("Deno.readDir", () => {
  const names = [...Deno.readDirSync(point)].map((e) => e.name);
  return names.includes("only-here.txt") ? names : "refused";
});
await attempt("fetch", async () => told(await (await fetch(`file://${point}/only-here.txt`)).text()));
await attempt("import", async () => JSON.stringify(await import(`file://${point}/only-here.txt`, { with: { type: "text" } })));
await attempt("node:sqlite opens", () => { new sqlite.DatabaseSync(`${point}/planted.db`).exec("create table t(x)"); return "opened"; });
await attempt("node:sqlite attaches", () => { new sqlite.DatabaseSync(":memory:").exec(`attach '${point}/planted.db' as other; create table other.t(x)`); return "attached"; });
await attempt("node:sqlite vacuums", () => { new sqlite.DatabaseSync(":memory:").exec(`vacuum into '${point}/planted.db'`); return "written"; });
await attempt("node:sqlite backs up", async () => { await sqlite.backup(new sqlite.DatabaseSync(":memory:"), `${point}/planted.db`); return "written"; });
await attempt("Deno.listen on a unix socket", () => { Deno.listen({ transport: "unix", path: `${point}/socket` }); return "listens"; });
await attempt("Deno.connect to a unix socket", async () => { await Deno.connect({ transport: "unix", path: `${point}/socket` }); return "connected"; });
await attempt("node:net on a unix socket", () => new Promise((yes) => {
  net.createServer().on("error", () => yes("refused")).listen(`${point}/socket`, () => yes("listens"));
}));
await attempt("a heap snapshot", () => {
  // In the mount it may be; the runner looks at what is not.
  v8.writeHeapSnapshot(`${point}/planted.heapsnapshot`);
  return Deno.statSync(`${point}/planted.heapsnapshot`).size > 0 ? "refused" : "written";
});
await attempt("a heap snapshot near the limit", () => { v8.setHeapSnapshotNearHeapLimit(1); return "refused"; });
await attempt("Deno.watchFs", () => { Deno.watchFs(point).close(); return "watches"; });
await attempt("a link to the host's file", () => {
  Deno.symlinkSync(`${point}/only-here.txt`, `${point}/link`);
  return told(Deno.readTextFileSync(`${point}/link`));
});
await attempt("a link of the mount's file to the outside", () => {
  Deno.linkSync("/etc/hostname", `${point}/hard`);
  return "linked";
});
console.log(`seen: ${Deno.readTextFileSync(`${point}/hello.txt`)}`);
