#!/usr/bin/env python3
"""Measure what engine.py does not, on a server that this starts and stops.

Executions a second under a compiled load generator, the listing while every kernel spins, interrupts
of three kinds of endless cells with the kernel's state kept, and restarts. scripts/bench.sh runs it.

All traffic is on 127.0.0.1, every wait is bounded, and every kernel is deleted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

from client import Client, Engine  # noqa: E402
from report import summary  # noqa: E402
from server import Server  # noqa: E402

ENDLESS = {
    "loop": "while (true) {}",
    "microtasks": "await (async () => { while (true) await null })()",
    "regex": '/^(a+)+$/.test("a".repeat(40) + "b")',
}
SETTLE_SECONDS = 0.3
ANSWER_SECONDS = 15.0


def measure_interrupt(engine: Engine, kind: str, rounds: int) -> dict:
    """An endless cell, interrupted: how long until the answer, and is the kernel still what it was?"""
    times: list[float] = []
    counts = {"state_kept": 0, "ended": 0, "was_busy": 0}
    found: dict = {"rounds": rounds}
    with engine.kernel("typescript") as kernel:
        try:
            engine.value(kernel, "globalThis.x = 41")
            for _ in range(rounds):
                session = engine.submit(kernel, ENDLESS[kind])
                time.sleep(SETTLE_SECONDS)
                counts["was_busy"] += engine.busy([kernel])
                times.append(engine.act(kernel, "interrupt"))
                engine.result(kernel, session)
                counts["ended"] += 1
                counts["state_kept"] += engine.value(kernel, "globalThis.x") == "41"
        except Exception as error:  # what was measured until then still counts
            engine.client.close()
            found["error"] = f"{type(error).__name__}: {error}"[:300]
    return {**summary(times), **counts, **found}


def measure_list_while_spinning(engine: Engine, count: int, rounds: int) -> dict:
    with engine.kernels("typescript", count) as kernels:
        for kernel in kernels:
            engine.submit(kernel, ENDLESS["loop"])
        time.sleep(1.0)
        times = [engine.timed("GET", "/api/kernels") for _ in range(rounds)]
        busy = engine.busy(kernels)
        for kernel in kernels:
            engine.act(kernel, "interrupt")
    return {**summary(times), "kernels": count, "busy": busy}


def measure_restart(engine: Engine, rounds: int) -> dict:
    times: list[float] = []
    usable = 0
    with engine.kernel("typescript") as kernel:
        for _ in range(rounds):
            times.append(engine.act(kernel, "restart"))
            usable += engine.value(kernel, "1+1") == "2"
    return {**summary(times), "usable": usable, "rounds": rounds}


def measure_throughput(engine: Engine, wrk: str, seconds: int, count: int) -> dict:
    script = str(Path(__file__).with_name("load.lua"))
    with engine.kernels("typescript", count) as kernels:
        for kernel in kernels:  # so that compiled code is measured
            for _ in range(20):
                engine.execute(kernel, "1+1")
        options = ["-t2", f"-c{count}", f"-d{seconds}s", "--timeout", "10s", "-s", script]
        run = subprocess.run(
            [wrk, *options, engine.client.base, "--", *kernels],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60)
    lines = [line for line in run.stdout.splitlines() if line.startswith("BENCH_JSON ")]
    if run.returncode != 0 or not lines:
        raise RuntimeError(f"wrk failed: {(run.stderr or run.stdout)[-300:]}")
    return {**json.loads(lines[-1].removeprefix("BENCH_JSON ")), "kernels": count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--server-log", type=Path, required=True)
    parser.add_argument("--wrk", default="", help="the wrk program; without it that row is left out")
    parser.add_argument("--seconds", type=int, default=5, help="how long wrk runs")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()

    measurements = {
        **{f"interrupt_{kind}": lambda engine, kind=kind: measure_interrupt(engine, kind, args.rounds) for kind in ENDLESS},
        "list_while_spinning": lambda engine: measure_list_while_spinning(engine, 10, 50),
        "restart": lambda engine: measure_restart(engine, args.rounds),
    }
    if args.wrk:
        measurements["wrk"] = lambda engine: measure_throughput(engine, args.wrk, args.seconds, 10)

    results: dict = {}
    # Without the pool, a restart and a kernel's death cost what they cost.
    with Server(args.binary, {"KERNEL_POOL_ENABLED": "false"}, log=args.server_log) as server:
        engine = Engine(Client(f"http://127.0.0.1:{server.port}", timeout=ANSWER_SECONDS))
        for name, measure in measurements.items():
            print(f"[{name}] ...", file=sys.stderr, flush=True)
            try:
                results[name] = measure(engine)
            except Exception as error:  # one row that fails must not cost the others
                engine.client.close()
                results[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(f"[{name}] {json.dumps(results[name])}", file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
