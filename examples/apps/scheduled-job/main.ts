/**
 * A job that runs at an interval, and what every such job needs: runs never overlap, a failed run is
 * kept and logged and does not end the job, and it stops cleanly. GET / answers with the last results.
 *
 *   JOB_INTERVAL_MS   from the end of one run to the start of the next (60000)
 *   JOB_LIMIT_MB      heap in use at which a run counts as failed (512)
 */

import { setTimeout as delay } from "node:timers/promises";

type Result = { started: string; ms: number } & ({ heapMb: number } | { error: string });

const KEPT = 20;

/** A positive number from the environment. */
function setting(name: string, otherwise: number): number {
  const value = Number(Deno.env.get(name) ?? otherwise);
  if (!(value > 0)) throw new RangeError(`${name} must be a positive number`);
  return value;
}

const intervalMs = setting("JOB_INTERVAL_MS", 60_000);
const limitMb = setting("JOB_LIMIT_MB", 512);
const results: Result[] = [];
const stopping = new AbortController();

/** The job itself: replace it by your own. */
function measure(): number | Promise<number> {
  const heapMb = Math.round(Deno.memoryUsage().heapUsed / 2 ** 20);
  if (heapMb >= limitMb) throw new Error(`${heapMb} MB in use, the limit is ${limitMb} MB`);
  return heapMb;
}

async function run(): Promise<Result> {
  const started = new Date();
  const time = () => ({ started: started.toISOString(), ms: Date.now() - started.getTime() });
  try {
    const heapMb = await measure();
    console.log(`${started.toISOString()} ok: ${heapMb} MB in use`);
    return { ...time(), heapMb };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    console.error(`${started.toISOString()} failed: ${message}`);
    return { ...time(), error: message };
  }
}

/** Waits for the next run, or until the job is to stop. */
function pause(): Promise<void> {
  return delay(intervalMs, undefined, { signal: stopping.signal }).catch(() => {});
}

function stop() {
  if (stopping.signal.aborted) return;
  console.log("stopping");
  stopping.abort();
}

Deno.addSignalListener("SIGTERM", stop);
addEventListener("unload", stop);

const server = Deno.serve(
  { signal: stopping.signal },
  () => Response.json({ intervalMs, results }),
);

while (!stopping.signal.aborted) {
  results.unshift(await run());
  results.splice(KEPT);
  await pause();
}

await server.finished;
Deno.removeSignalListener("SIGTERM", stop);
console.log("stopped");
