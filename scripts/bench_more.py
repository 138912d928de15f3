#!/usr/bin/env python3
"""Measure what measure_engine.py does not, on a server that this starts and stops.

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

from bench_server import Server  # noqa: E402

ENDLESS = {
    "loop": "while (true) {}",
    "microtasks": "await (async () => { while (true) await null })()",
    "regex": '/^(a+)+$/.test("a".repeat(40) + "b")',
}
SETTLE_SECONDS = 0.3
ANSWER_SECONDS = 15.0


class Api:
    """The few calls that the measurements are made of, over one connection."""

    def __init__(self, engine, base: str):
        self.engine = engine
        self.base = base
        self.client = engine.Client(base, timeout=ANSWER_SECONDS)

    def create(self, name: str) -> str:
        body = {"id": name, "mode": "worker", "lang": "typescript"}
        return self.client.json("POST", "/api/kernels", body, 60)["id"]

    def delete(self, kernel: str) -> None:
        try:
            self.client.raw("DELETE", f"/api/kernels/{kernel}")
        except OSError:
            self.client.close()

    def value(self, kernel: str, code: str) -> str | None:
        """What the cell's last expression came to."""
        events = [event for _, event in self.client.events("POST", f"/api/kernels/{kernel}/execute", {"code": code})]
        return self.engine.Bench.result_text(events)

    def submit(self, kernel: str, code: str) -> str:
        return self.client.json("POST", f"/api/kernels/{kernel}/execute/submit", {"code": code})["session_id"]

    def busy(self, kernels: list[str]) -> int:
        return sum(row["id"] in kernels and row["status"] == "busy" for row in self.client.json("GET", "/api/kernels"))

    def timed(self, method: str, path: str, body=None) -> float:
        started = time.perf_counter()
        status, answer = self.client.raw(method, path, body)
        elapsed = (time.perf_counter() - started) * 1000
        if status != 200:
            raise RuntimeError(f"{method} {path} answered {status}: {answer[:200]!r}")
        return elapsed

    def summary(self, times: list[float]) -> dict:
        return self.engine.summary(times)


def measure_interrupt(api: Api, kind: str, rounds: int) -> dict:
    """An endless cell, interrupted: how long until the answer, and is the kernel still what it was?"""
    times: list[float] = []
    counts = {"state_kept": 0, "ended": 0, "was_busy": 0}
    kernel = api.create(f"bench-interrupt-{kind}")
    try:
        api.value(kernel, "globalThis.x = 41")
        for _ in range(rounds):
            session = api.submit(kernel, ENDLESS[kind])
            time.sleep(SETTLE_SECONDS)
            counts["was_busy"] += api.busy([kernel])
            times.append(api.timed("POST", f"/api/kernels/{kernel}/interrupt", {}))
            api.timed("GET", f"/api/kernels/{kernel}/execute/result/{session}")
            counts["ended"] += 1
            counts["state_kept"] += api.value(kernel, "globalThis.x") == "41"
    except Exception as error:  # what was measured until then still counts
        api.client.close()
        return {**api.summary(times), **counts, "rounds": rounds, "error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        api.delete(kernel)
    return {**api.summary(times), **counts, "rounds": rounds}


def measure_list_while_spinning(api: Api, kernels: int, rounds: int) -> dict:
    names: list[str] = []
    try:
        for number in range(kernels):
            names.append(api.create(f"bench-spin-{number}"))
        for name in names:
            api.submit(name, ENDLESS["loop"])
        time.sleep(1.0)
        times = [api.timed("GET", "/api/kernels") for _ in range(rounds)]
        busy = api.busy(names)
        for name in names:
            api.timed("POST", f"/api/kernels/{name}/interrupt", {})
    finally:
        for name in names:
            api.delete(name)
    return {**api.summary(times), "kernels": kernels, "busy": busy}


def measure_restart(api: Api, rounds: int) -> dict:
    times: list[float] = []
    kernel = api.create("bench-restart")
    usable = 0
    try:
        for _ in range(rounds):
            times.append(api.timed("POST", f"/api/kernels/{kernel}/restart", {}))
            usable += api.value(kernel, "1+1") == "2"
    finally:
        api.delete(kernel)
    return {**api.summary(times), "usable": usable, "rounds": rounds}


def measure_throughput(api: Api, wrk: str, seconds: int, kernels: int) -> dict:
    script = str(Path(__file__).with_name("bench.lua"))
    names: list[str] = []
    try:
        for number in range(kernels):
            names.append(api.create(f"bench-{number}"))
        for name in names:  # so that compiled code is measured
            for _ in range(20):
                api.value(name, "1+1")
        run = subprocess.run(
            [wrk, "-t2", f"-c{kernels}", f"-d{seconds}s", "--timeout", "10s", "-s", script, api.base, "--", str(kernels)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60)
    finally:
        for name in names:
            api.delete(name)
    lines = [line for line in run.stdout.splitlines() if line.startswith("BENCH_JSON ")]
    if run.returncode != 0 or not lines:
        raise RuntimeError(f"wrk failed: {(run.stderr or run.stdout)[-300:]}")
    return {**json.loads(lines[-1].removeprefix("BENCH_JSON ")), "kernels": kernels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench-dir", required=True, help="folder of measure_engine.py")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--server-log", type=Path, required=True)
    parser.add_argument("--wrk", default="", help="the wrk program; without it that row is left out")
    parser.add_argument("--seconds", type=int, default=5, help="how long wrk runs")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()

    sys.path.insert(0, args.bench_dir)
    import measure_engine  # its client is the one that the other rows are measured with

    measurements = {
        **{f"interrupt_{kind}": lambda api, kind=kind: measure_interrupt(api, kind, args.rounds) for kind in ENDLESS},
        "list_while_spinning": lambda api: measure_list_while_spinning(api, 10, 50),
        "restart": lambda api: measure_restart(api, args.rounds),
    }
    if args.wrk:
        measurements["wrk"] = lambda api: measure_throughput(api, args.wrk, args.seconds, 10)

    results: dict = {}
    # Without the pool, a restart and a kernel's death cost what they cost.
    with Server(args.binary, {"KERNEL_POOL_ENABLED": "false"}, log=args.server_log) as server:
        api = Api(measure_engine, f"http://127.0.0.1:{server.port}")
        for name, measure in measurements.items():
            print(f"[{name}] ...", file=sys.stderr, flush=True)
            try:
                results[name] = measure(api)
            except Exception as error:  # one row that fails must not cost the others
                api.client.close()
                results[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
            print(f"[{name}] {json.dumps(results[name])}", file=sys.stderr, flush=True)
    args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
