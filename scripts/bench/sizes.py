#!/usr/bin/env python3
"""Measure what things cost over their size: kernels 1 to 1,000, cell output 1 KB to 100 MB, apps 1 to 100.

    scripts/bench/sizes.py --binary PATH [--kernels 1,10,100,1000] [--bytes 1000,…] [--apps 1,10,100] [--write docs/performance.md]

What costs the same at every size stays level. Kernels are TypeScript ones on one server that holds more and more of them: at each
size the next kernel, a cell in one of them, the listing, and their memory. Outputs are those of one cell, in lines of at most
10,000 bytes, with a server for each size; ipykernel and Deno's kernel print as much under jupyter_client, up to 10 MB. Apps are one-line
servers that are started with the engine. All traffic is on 127.0.0.1.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from argparse import ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path

sys.dont_write_bytecode = True

import apps  # noqa: E402
import jupyter_peer as jupyter  # noqa: E402
import load  # noqa: E402
import output  # noqa: E402
import rounds  # noqa: E402
from languages import ONE, TWO  # noqa: E402
from lifecycle import boot, cell_paths, create, use  # noqa: E402
from processes import available_mib, resident_mib  # noqa: E402
from report import Row  # noqa: E402
from rounds import Build, Section, Values  # noqa: E402

SETTLE = 3.0
PROBES = 200
# Kernels that are made at each size, so that a median can be told.
NEXT = 10
RESERVE_MIB = 2048
# The most that peers are asked to print.
PEER_BYTES = 10_000_000


def kernels(build: Build, counts: list[int]) -> Values:
    settings = {"ALLOWED_KERNEL_TYPES": "worker-typescript", "KERNEL_MAX_COUNT": str(max(counts) + NEXT + 10)}
    found: Values = {}
    with build.server(settings) as server:
        pid = server.process.pid
        time.sleep(0.5)
        alone, own = server.memory(), resident_mib(pid)
        boot(server, "typescript")
        made: list[str] = []
        for count in counts:
            if available_mib() < RESERVE_MIB:
                raise RuntimeError(f"no memory for {count} kernels")
            create(server, "typescript", count - len(made))
            added = [kernel for kernel in server.kernels() if kernel not in set(made)]
            use(server, added)
            made += added
            time.sleep(SETTLE)
            found |= {
                f"kernels.{count}.pss": (server.memory() - alone) / count,
                f"kernels.{count}.server": (resident_mib(pid) - own) * 1024 / count,
                f"kernels.{count}.list": statistics.median(load.times(server.base, "GET", ["/api/kernels"], count=PROBES)),
                f"kernels.{count}.one": statistics.median(
                    load.times(server.base, "POST", cell_paths(made[:1]), {"code": ONE}, TWO, count=PROBES)),
                f"kernels.{count}.create": statistics.median(create(server, "typescript", NEXT)),
            }
            extra = [kernel for kernel in server.kernels() if kernel not in set(made)]
            load.times(server.base, "DELETE", [f"/api/kernels/{kernel}" for kernel in extra])
    return found


def plural(count: int, name: str) -> str:
    return f"{count:,} {name}" + ("" if count == 1 else "s")


def kernel_rows(counts: list[int]) -> list[Row]:
    return [row for count in counts for row in (
        Row(f"kernels.{count}.create", f"{plural(count, 'kernel')}: the next one created, p50"),
        Row(f"kernels.{count}.one", f"{plural(count, 'kernel')}: `1+1` in one, p50"),
        Row(f"kernels.{count}.list", f"{plural(count, 'kernel')}: `GET /api/kernels`, p50"),
        Row(f"kernels.{count}.pss", f"{plural(count, 'kernel')}: PSS per kernel, growth of server, zygote and kernels", "MiB"),
        Row(f"kernels.{count}.server", f"{plural(count, 'kernel')}: memory of the server itself per kernel", "KiB"),
    )]


def outputs(build: Build, sizes: list[int]) -> Values:
    found: Values = {}
    for size in sizes:
        values = output.measure(build, size)
        found |= {f"output.{size}.{key}": values[key] for key in ("milliseconds", "over", "left")}
    return found


def peer_outputs(name: str, language: str, sizes: list[int]) -> Values:
    kernel = jupyter.Kernel(name)
    try:
        kernel.execute(ONE)
        found: Values = {}
        for size in sizes:
            if size <= PEER_BYTES:
                width = min(output.LINE, size)
                code = output.code_of(size) if language == "typescript" else (
                    f"for i in range({size // width}): print('x' * {width - 1})")
                found[f"output.{size}.milliseconds"] = kernel.timed(code)
        return found
    finally:
        kernel.close()


def deno_outputs(sizes: list[int]) -> Values:
    with jupyter.DenoSpecification():
        return peer_outputs("deno", "typescript", sizes)


def bytes_text(size: int) -> str:
    for limit, unit in ((1_000_000, "MB"), (1000, "KB")):
        if size >= limit:
            return f"{size / limit:g} {unit}"
    return f"{size} bytes"


def output_rows(sizes: list[int]) -> list[Row]:
    rows = []
    for size in sizes:
        key, name = f"output.{size}", f"{bytes_text(size)} of output"
        rows += [
            Row(f"{key}.milliseconds", f"{name}: until its end has reached the reader"),
            Row(f"{key}.over", f"{name}: memory of the server over the output, at most", "MiB", 16),
            Row(f"{key}.left", f"{name}: memory of the server {output.GIVEN_BACK} s after the deletion, more than before", "MiB", 16),
        ]
    return rows


def many_apps(build: Build, counts: list[int]) -> Values:
    found: Values = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            with apps.serving(build, Path(folder), count) as (server, ready):
                time.sleep(SETTLE)
                last = f"/apps/{apps.name(count - 1)}/"
                load.times(server.base, "GET", [last], expected="ok", count=PROBES)
                found |= {
                    f"apps.{count}.ready": ready,
                    f"apps.{count}.pss": server.memory() / count,
                    f"apps.{count}.request": statistics.median(load.times(server.base, "GET", [last], expected="ok", count=PROBES)),
                    f"apps.{count}.list": statistics.median(load.times(server.base, "GET", ["/api/apps"], count=PROBES)),
                }
    return found


def app_rows(counts: list[int]) -> list[Row]:
    return [row for count in counts for row in (
        Row(f"apps.{count}.ready", f"{plural(count, 'app')}: all ready, from the start of the server", "s"),
        Row(f"apps.{count}.pss", f"{plural(count, 'app')}: PSS of everything per app", "MiB"),
        Row(f"apps.{count}.request", f"{plural(count, 'app')}: a request to one through `/apps/{{id}}/`, p50"),
        Row(f"apps.{count}.list", f"{plural(count, 'app')}: `GET /api/apps`, p50"),
    )]


def numbers(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise ArgumentTypeError(f"{text!r} is not a list of numbers above 0, with commas between them")
    return found


def sections(options: Namespace) -> list[Section]:
    return [
        Section("kernels", kernel_rows(options.kernels), partial(kernels, counts=options.kernels)),
        Section("output", output_rows(options.bytes), partial(outputs, sizes=options.bytes), {
            "ipykernel": partial(peer_outputs, "python3", "python", options.bytes),
            "deno jupyter": partial(deno_outputs, options.bytes),
        }),
        Section("apps", app_rows(options.apps), partial(many_apps, counts=options.apps)),
    ]


def main() -> None:
    parser = rounds.parser(__doc__, rounds=3)
    parser.add_argument("--kernels", type=numbers, default=[1, 10, 100, 1000], metavar="NUMBERS", help="(1,10,100,1000)")
    parser.add_argument("--bytes", type=numbers, default=[10**power for power in (3, 4, 5, 6, 7, 8)], metavar="NUMBERS",
                        help="bytes that a cell prints (1000 to 100000000)")
    parser.add_argument("--apps", type=numbers, default=[1, 10, 100], metavar="NUMBERS", help="(1,10,100)")
    options = parser.parse_args()
    rounds.main(sections(options), options, "sizes")


if __name__ == "__main__":
    main()
