console.log("tried: empty-objects");
await Deno.jupyter.broadcast("display_data", { data: { "application/json": Array(7e6).fill({}) }, metadata: {}, transient: {} }).catch(() => {});
