import http from "node:http";
import net from "node:net";

const deno = Deno as any;

async function attempt(what: string, escapes: () => unknown) {
  let got: unknown;
  try {
    got = await escapes();
  } catch (e) {
    // A socket that is not there was looked for; only what is refused was not.
    got = /NotCapable|ERR_ACCESS_DENIED|EACCES|EPERM|Requires |listenDatagram is not a function/.test(`${(e as any).name} ${(e as any).code} ${(e as any).message}`) ? "refused" : e;
  }
  console.log(got === "refused" ? `held: ${what}` : `ESCAPED: ${what} ${String(got)}`);
}

function node(open: (done: () => void) => { on(name: "error", take: (e: Error) => void): unknown }) {
  return new Promise((yes, no) => {
    open(() => yes("open")).on("error", no);
  });
}

await attempt("vsock connect", async () => void await deno.connect({ transport: "vsock", cid: 2, port: 1024 }) ?? "open");
await attempt("vsock listen", () => void deno.listen({ transport: "vsock", cid: -1, port: 5000 }) ?? "open");
for (const [kind, path] of [
  ["abstract", "\0hostile"],
  ["pathname", "/run/hostile.sock"],
  ["docker", "/var/run/docker.sock"],
]) {
  await attempt(`${kind}, Deno connects`, async () => void await Deno.connect({ transport: "unix", path }) ?? "open");
  await attempt(`${kind}, Deno listens`, () => void Deno.listen({ transport: "unix", path }) ?? "open");
  await attempt(`${kind}, Deno serves`, () => void Deno.serve({ path, onListen() {} } as any, () => new Response()) ?? "open");
  await attempt(`${kind}, datagrams`, () => void deno.listenDatagram({ transport: "unixpacket", path }) ?? "open");
  await attempt(`${kind}, node connects`, () => node((done) => net.connect({ path }, done)));
  await attempt(`${kind}, node listens`, () => node((done) => net.createServer().listen(path, done)));
  await attempt(`${kind}, node:http`, () => node((done) => http.get({ socketPath: path }, done)));
  await attempt(`${kind}, an HTTP client`, async () => {
    using client = (Deno as any).createHttpClient({ proxy: { transport: "unix", path } });
    await fetch("http://example.com/", { client } as any);
    return "open";
  });
}
