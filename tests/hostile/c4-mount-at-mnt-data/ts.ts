const point = Deno.env.get("POINT")!;
console.log("seen:", Deno.readTextFileSync(`${point}/hello.txt`));
Deno.writeTextFileSync(`${point}/made.txt`, "made");
console.log("seen:", Deno.readTextFileSync(`${point}/made.txt`));
for (const path of ["..", "../..", "../../etc/hostname"]) {
  try {
    console.log("ESCAPED:", path, Deno.statSync(`${point}/${path}`).size);
  } catch {
    console.log("held:", path);
  }
}
