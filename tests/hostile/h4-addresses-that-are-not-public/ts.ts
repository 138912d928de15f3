import dgram from "node:dgram";
import net from "node:net";

const port = Number(Deno.env.get("PORT"));
const own = Deno.env.get("OWN")!.split(",").filter((a) => a !== "");
const addresses: Record<string, string[]> = {
  "this machine": [...own, "127.0.0.1", "127.9.9.9", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "localhost"],
  "reserved": ["198.18.0.1", "192.0.0.1", "240.0.0.1", "192.88.99.1"],
  "many hosts": ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1"],
  "translated": ["64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "::127.0.0.1"],
  "private": ["10.0.0.1", "100.64.0.1", "169.254.169.254", "172.16.0.1", "192.168.0.1", "fc00::1", "fe80::1", "fec0::1"],
};

/** What it gives, or what it throws, be it from a tick of its own. */
function orThrown(go: () => unknown): Promise<unknown> {
  return new Promise((yes, no) => {
    const thrown = (e: ErrorEvent) => {
      e.preventDefault();
      no(e.error);
    };
    addEventListener("error", thrown);
    Promise.resolve().then(go).then(yes, no).finally(() => removeEventListener("error", thrown));
    setTimeout(no, 3000, new Error("silence"));
  });
}

const url = (host: string) => host.includes(":") ? `[${host}]` : host;
const ways: Record<string, (hostname: string) => unknown> = {
  connect: (hostname) => Deno.connect({ hostname, port }),
  fetch: (hostname) => fetch(`http://${url(hostname)}:${port}/health`),
  WebSocket: (hostname) => new Promise((yes, no) => {
    const socket = new WebSocket(`ws://${url(hostname)}:${port}/`);
    socket.onerror = (e) => no((e as any).error ?? new Error((e as any).message));
    socket.onopen = yes;
  }),
  listen: (hostname) => Deno.listen({ hostname, port: 0 }),
  "UDP bind": (hostname) => new Promise((yes, no) => {
    dgram.createSocket(hostname.includes(":") ? "udp6" : "udp4").on("error", no).bind(0, hostname, () => yes(0));
  }),
  "UDP send": (hostname) => new Promise((yes, no) => {
    const socket = dgram.createSocket(hostname.includes(":") ? "udp6" : "udp4").on("error", no);
    socket.send("x", port, hostname, (e) => e ? no(e) : yes(0));
  }),
  "node:net": (hostname) => new Promise((yes, no) => {
    net.connect({ host: hostname, port }, () => yes(0)).on("error", no);
  }),
};

for (const [kind, hosts] of Object.entries(addresses)) {
  for (const [way, go] of Object.entries(ways)) {
    const escaped: string[] = [];
    for (const host of hosts) {
      try {
        await orThrown(() => go(host));
        escaped.push(host);
      } catch (e) {
        // One that just is not there was looked for.
        if (!/NotCapable|Requires net|denied|EACCES|EPERM/.test(`${(e as Error).name} ${(e as any).code} ${(e as Error).message}`)) escaped.push(`${host} (${e})`);
      }
    }
    console.log(escaped.length === 0 ? `held: ${way}, ${kind}` : `ESCAPED: ${way}, ${kind}: ${escaped.join("; ")}`);
  }
}
