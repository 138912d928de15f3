import process from "node:process";

const pids: [string, number][] = [
  ["itself", Deno.pid],
  ["its parent", Deno.ppid],
  ["the server", Number(Deno.env.get("SERVER"))],
  ["its group", 0],
  ["everybody", -1],
];
for (const [whom, pid] of pids) {
  for (const signal of ["SIGSTOP", "SIGTSTP", "SIGKILL", "SIGUSR1"] as const) {
    for (const [how, kill] of [["Deno.kill", Deno.kill], ["process.kill", process.kill]] as const) {
      // Signals to everybody end the machine when they are sent.
      const sent = whom === "everybody" ? "SIGURG" : signal;
      try {
        (kill as any)(pid, sent);
        console.log(`ESCAPED: ${how} ${signal} to ${whom}`);
      } catch {
        console.log(`held: ${how} ${signal} to ${whom}`);
      }
    }
  }
}
