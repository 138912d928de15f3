let asked = 0;
const secret = Deno.serve({ port: 0, hostname: "127.0.0.2", onListen() {} }, () => {
  asked++;
  return new Response("a secret");
});
const there = `127.0.0.2:${secret.addr.port}`;
const targets: Record<string, string> = {
  "/text": `http://${there}/secret`,
  "/twice": "/text",
  "/file": "file:///etc/passwd",
  "/data": "data:text/plain,data",
};
const site = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
  const target = targets[new URL(request.url).pathname];
  return target ? new Response(null, { status: 302, headers: { location: target } }) : new Response("own");
});
const own = `http://127.0.0.1:${site.addr.port}`;
for (const path of ["/text", "/twice", "/file", "/data"]) {
  for (const type of ["text", "bytes"]) {
    try {
      const { default: got } = await import(`${own}${path}`, { with: { type } });
      // Deno looks for what is no web address at the site itself.
      const own = got === "own" && path !== "/text";
      console.log(`${own ? "held" : "ESCAPED"}: ${path} as ${type}${own ? "" : ` gives ${String(got).slice(0, 40)}`}`);
    } catch {
      console.log(`held: ${path} as ${type}`);
    }
  }
}
const { default: text } = await import(`${own}/own`, { with: { type: "text" } });
console.log(`seen: ${text}`);
console.log(asked === 0 ? "held: nobody was asked" : "ESCAPED: the other host was asked");
await Promise.all([site.shutdown(), secret.shutdown()]);
