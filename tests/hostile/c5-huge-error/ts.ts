console.log("tried: huge-error");
class E extends Error {} ; Object.defineProperty(E.prototype, "name", { value: "n".repeat(32 << 20) }); throw new E("m".repeat(32 << 20));
