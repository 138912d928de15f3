#!/usr/bin/env python3
"""Measure servers and kernels over HTTP beside their peers, in rounds, and print goal, ours, best peer and ratio.

    scripts/bench/kernels.py --binary PATH [--before PATH] [--rounds N] [--only SECTIONS] [--write docs/performance.md]

Sections: server, TypeScript kernels, Pyodide kernels, CPython kernels (creation, memory, restart, pool); TypeScript cells and so on
(round trips, streams, interrupts); output; compute. Requests are made by wrk, one after the other on one connection unless a
row says otherwise; only the first event of a stream and large outputs are read by a socket of this program. Memory is PSS of the
server, its zygotes and its kernels. Servers have no pool unless the row says so.

Peers: ipykernel and Deno's kernel under jupyter_client (packages of this interpreter), workerd (the program BENCH_WORKERD, or in
PATH), Monty (package pydantic-monty). What is missing is named under its table. All traffic is on 127.0.0.1.
"""

from __future__ import annotations

import sys
from functools import partial

sys.dont_write_bytecode = True

import cells  # noqa: E402
import compute  # noqa: E402
import isolate_peers as isolates  # noqa: E402
import jupyter_peer as jupyter  # noqa: E402
import lifecycle  # noqa: E402
import output  # noqa: E402
import rounds  # noqa: E402
import start  # noqa: E402
from report import Row  # noqa: E402
from rounds import Section  # noqa: E402

# What `GET /api/kernels` may take while kernels spin.
LISTING = {"listing": 5}


def peers(language: str, **measures) -> dict:
    """Peers as sections want them; `_` in a name stands for a space."""
    return {name.replace("_", " "): partial(measure, language) for name, measure in measures.items()}


def sections() -> list[Section]:
    return [
        Section("server", [
            Row("start", "start to the first 200", "ms", 15),
            Row("idle", "idle server alone, PSS", "MiB", 24),
            Row("idle.typescript", "idle server and the zygote of TypeScript, PSS", "MiB", 60),
            Row("idle.both", "idle server and the zygotes of TypeScript and Pyodide, PSS", "MiB", 130),
        ], start.measure, {"workerd": isolates.workerd_start}),
        lifecycle.section(
            "typescript", 50, {"cold": 4, "cold95": 8, "pss": 2, "restart": 5.5, "pool": 3, "returned": 95},
            peers("typescript", deno_jupyter=jupyter.deno_lifecycle, workerd=isolates.workerd_lifecycle)),
        cells.section(
            "typescript", {"one": 0.30, "rate": 8000, "stream": 0.4, "lines": 5, "loop": 20, "microtasks": 20, "regex": 20, **LISTING},
            peers("typescript", deno_jupyter=jupyter.deno_cells, workerd=isolates.workerd_cells)),
        cells.section(
            "javascript", {"one": 0.28, **LISTING},
            peers("javascript", deno_jupyter=jupyter.deno_cells, workerd=isolates.workerd_cells)),
        lifecycle.section(
            "python", 30, {"cold": 12, "cell": 9, "pss": 11, "restart": 14, "pool": 3, "returned": 95},
            peers("python", ipykernel=jupyter.ipykernel_lifecycle, Monty=isolates.monty_lifecycle)),
        cells.section(
            "python", {"one": 1.0, "rate": 1500, "loop": 50, **LISTING},
            peers("python", ipykernel=jupyter.ipykernel_cells, Monty=isolates.monty_cells)),
        lifecycle.section(
            "cpython", 30, {"cold": 7, "pss": 5.5, "returned": 95},
            peers("cpython", ipykernel=jupyter.ipykernel_lifecycle, Monty=isolates.monty_lifecycle)),
        cells.section(
            "cpython", {"one": 0.45, "loop": 50, **LISTING},
            peers("cpython", ipykernel=jupyter.ipykernel_cells, Monty=isolates.monty_cells)),
        Section("output", [
            Row("output.rate", "100 MB of output in lines of 10,000 bytes, to a reader", "MB/s", 150, at_least=True),
            Row("output.over", "memory of the server over what it keeps of that, at most", "MiB", 16),
            Row("output.left", f"memory of the server {output.GIVEN_BACK} s after the kernel's deletion, more than before", "MiB", 16),
        ], output.hundred_megabytes),
        Section("compute", compute.ROWS, compute.measure),
    ]


def main() -> None:
    options = rounds.parser(__doc__).parse_args()
    rounds.main(sections(), options, "kernels")


if __name__ == "__main__":
    main()
