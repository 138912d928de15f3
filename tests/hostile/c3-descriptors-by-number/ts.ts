import dgram from "node:dgram";
import fs from "node:fs";
import net from "node:net";
import tty from "node:tty";

const numbers = Array.from({ length: 62 }, (_, i) => i + 3);

/** Tries with every number; what does not throw (or says no by an event) is an escape. */
async function attempt(what: string, take: (fd: number) => unknown) {
  const taken: string[] = [];
  for (const fd of numbers) {
    try {
      const got = await take(fd);
      if (got !== "refused") taken.push(`${fd}: ${String(got)}`);
    } catch { /* as it should be */ }
  }
  console.log(taken.length === 0 ? `held: ${what}` : `ESCAPED: ${what} ${taken.join(", ")}`);
}

/** How a thing with events ends: with an error, or else with what shows that it is open. */
function ends(thing: any, open: string): Promise<string> {
  return new Promise((yes) => {
    thing.on("error", () => yes("refused"));
    thing.on(open, () => yes(open));
    setTimeout(() => yes("silence"), 2000);
  });
}

await attempt("net.Socket reads", (fd) => {
  const socket = new net.Socket({ fd, readable: true, writable: false });
  return ends(socket, "data");
});
await attempt("net.Socket writes", (fd) => {
  const socket = new net.Socket({ fd, readable: false, writable: true });
  return new Promise((yes) => {
    socket.on("error", () => yes("refused"));
    socket.write(new Uint8Array([0, 0, 0, 1, 0xc0]), (e) => yes(e ? "refused" : "written"));
  });
});
await attempt("net.Server listens", (fd) => ends(net.createServer().listen({ fd }), "listening"));
await attempt("dgram binds", (fd) => {
  const socket = dgram.createSocket("udp4");
  const end = ends(socket, "listening");
  socket.bind({ fd } as any);
  return end;
});
await attempt("fs.readSync", (fd) => fs.readSync(fd, new Uint8Array(16)));
await attempt("fs.fstatSync", (fd) => fs.fstatSync(fd).mode);
await attempt("fs.writeSync", (fd) => fs.writeSync(fd, new Uint8Array([0, 0, 0, 1, 0xc0])));
await attempt("fs.closeSync", (fd) => fs.closeSync(fd) ?? "closed");
await attempt("fs.createReadStream", (fd) => ends(fs.createReadStream("", { fd }), "data"));
await attempt("tty.ReadStream", (fd) => { new tty.ReadStream(fd); });
await attempt("tty.WriteStream", (fd) => { new tty.WriteStream(fd); });
for (const folder of ["/proc/self/fd", "/dev/fd", "/proc/thread-self/fd", `/proc/${Deno.pid}/fd`]) {
  await attempt(`Deno.open ${folder.replace(/\d+/, "PID")}`, (fd) => Deno.openSync(`${folder}/${fd}`, { read: true, write: true }));
  await attempt(`fs.openSync ${folder.replace(/\d+/, "PID")}`, (fd) => fs.openSync(`${folder}/${fd}`, "r+"));
}

const inWorker = `
  import net from "node:net";
  import fs from "node:fs";
  const taken = [];
  for (let fd = 3; fd < 65; fd++) {
    const end = await new Promise((yes) => {
      try {
        const socket = new net.Socket({ fd, readable: true, writable: true });
        socket.on("error", () => yes(null));
        socket.write(new Uint8Array([0, 0, 0, 1, 0xc0]), (e) => yes(e ? null : "written"));
      } catch { yes(null); }
    });
    if (end) taken.push("net " + fd);
    try { fs.fstatSync(fd); taken.push("fstat " + fd); } catch {}
  }
  postMessage(taken);
`;
await attempt("a worker", async (fd) => {
  if (fd > 3) return "refused";
  const worker = new Worker(`data:text/javascript,${encodeURIComponent(inWorker)}`, { type: "module" });
  const taken: string[] = await new Promise((yes, no) => {
    worker.onmessage = (e) => yes(e.data);
    worker.onerror = (e) => { e.preventDefault(); no(new Error(e.message)); };
  });
  worker.terminate();
  return taken.length === 0 ? "refused" : taken;
});
