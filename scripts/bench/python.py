#!/usr/bin/env python3
"""Measure Python kernels of both kinds, and ipykernel under jupyter_client as the peer, in one run.

Writes the table between the python marks of docs/performance.md. scripts/bench.sh runs it, with a
Python that has jupyter_client and ipykernel. All traffic is on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

import jupyter_peer  # noqa: E402
from processes import pss_mib, tree  # noqa: E402
from report import heading, write_between_marks  # noqa: E402
from server import Server  # noqa: E402

# Milliseconds and MiB that the two kinds must keep to.
MUST = {
    "python": {"cold": 400, "ready": 3, "one": 2, "print": 3, "interrupt": 50, "restart": 400, "pss": 70},
    "cpython": {"cold": 300, "ready": 30, "one": 2, "print": 3, "interrupt": 50, "restart": 300, "pss": 25},
}
ROWS = [
    ("cold", "created cold, p50", "ms"),
    ("ready", "from the pool (Pyodide) or the zygote (CPython), p50", "ms"),
    ("one", "`1+1`, p50", "ms"),
    ("print", "first event of a printed line, p50", "ms"),
    ("interrupt", "interrupt of `while True: pass`, state kept, p50", "ms"),
    ("restart", "restart, p50", "ms"),
    ("pss", "PSS per idle kernel", "MiB"),
]


def milliseconds(action) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def median(times: list[float]) -> float:
    return statistics.median(times)


class Engine(Server):
    """A server with both kinds of Python kernels, and the calls that the measurements are made of."""

    def __init__(self, binary: str, pool: bool):
        super().__init__(binary, {
            "ALLOWED_KERNEL_TYPES": "worker-python,worker-cpython",
            "CPYTHON_EXECUTABLE": sys.executable,
            "KERNEL_POOL_ENABLED": str(pool).lower(),
            "KERNEL_POOL_SIZE": "4",
        })

    def create(self, language: str) -> str:
        return self.call("POST", "/api/kernels", {"lang": language})["id"]

    def execute(self, kernel: str, code: str) -> str:
        return self.text("POST", f"/api/kernels/{kernel}/execute", {"code": code})

    def first_event(self, kernel: str, code: str) -> float:
        started = time.perf_counter()
        self.connection.request("POST", f"/api/kernels/{kernel}/execute/stream", body=json.dumps({"code": code}))
        response = self.connection.getresponse()
        while not response.readline().startswith(b"data: {\"type\":\"stream\""):
            pass
        elapsed = (time.perf_counter() - started) * 1000
        response.read()
        return elapsed

    def available(self) -> int:
        return self.call("GET", "/api/status")["pool"]["available"]


def measure(binary: str, language: str) -> dict:
    result = {}
    engine = Engine(binary, pool=False)
    try:
        engine.create(language)  # unpacks, probes, starts the zygote
        if language == "python":
            result["cold"] = median([milliseconds(lambda: engine.create(language)) for _ in range(5)])
        else:
            result["cold"] = cold_cpython(binary)
            result["ready"] = median([milliseconds(lambda: engine.create(language)) for _ in range(10)])
        kernel = engine.create(language)
        time.sleep(3)  # until kernels have given back what they booted with
        # Of the processes that the server has started, without itself.
        children = tree(engine.process.pid)[1:]
        result["pss"] = pss_mib(children) / len(engine.call("GET", "/api/kernels"))
        for _ in range(100):
            engine.execute(kernel, "1+1")
        result["one"] = median([milliseconds(lambda: engine.execute(kernel, "1+1")) for _ in range(300)])
        result["print"] = median([engine.first_event(kernel, "print('x')") for _ in range(50)])
        engine.execute(kernel, "x = 41")
        times = []
        for _ in range(10):
            engine.call("POST", f"/api/kernels/{kernel}/execute/submit", {"code": "while True: pass"})
            time.sleep(0.2)
            times.append(milliseconds(lambda: engine.call("POST", f"/api/kernels/{kernel}/interrupt")))
            assert '"41"' in engine.execute(kernel, "x"), "the state is lost"
        result["interrupt"] = median(times)
        result["restart"] = median([milliseconds(lambda: engine.call("POST", f"/api/kernels/{kernel}/restart")) for _ in range(5)])
    finally:
        engine.close()
    if language == "python":
        engine = Engine(binary, pool=True)
        try:
            while engine.available() < 4:
                time.sleep(0.1)
            time.sleep(3)
            result["ready"] = median([milliseconds(lambda: engine.create(language)) for _ in range(4)])
        finally:
            engine.close()
    return result


def cold_cpython(binary: str) -> float:
    """The first kernel of a server: probe, zygote, fork."""
    times = []
    for _ in range(5):
        engine = Engine(binary, pool=False)
        try:
            times.append(milliseconds(lambda: engine.create("cpython")))
        finally:
            engine.close()
    return median(times)


def cell(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def table(python: dict, cpython: dict, ipykernel: dict) -> str:
    lines = ["|  | Pyodide | must | CPython | must | ipykernel |", "| --- | --- | --- | --- | --- | --- |"]
    for key, name, unit in ROWS:
        lines.append(
            f"| {name} | {cell(python[key], unit)} | ≤ {MUST['python'][key]} | {cell(cpython[key], unit)} "
            f"| ≤ {MUST['cpython'][key]} | {cell(ipykernel[key], unit)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    measured = [measure(options.binary, language) for language in ("python", "cpython")]
    text = table(*measured, jupyter_peer.measure())
    text = f"{heading(load)}\n\n{text}"
    print(text)
    if options.write:
        write_between_marks(Path(options.write), "python", text)


if __name__ == "__main__":
    main()
