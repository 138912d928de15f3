#!/usr/bin/env python3
"""Measure one server with very many idle kernels: 1,000 of TypeScript and 300 of Pyodide at once.

    scripts/bench/density.py --binary PATH [--typescript 1000] [--pyodide 300] [--before PATH] [--write docs/performance.md]

In one run all kernels are made one after the other, each executes one cell, and all are left idle. Then it is measured how long the
listing, the status, an event and a cell in one of them take, and what the server holds; at last all are deleted. Requests are made by
wrk on one connection. Memory is PSS. There are no peers: none holds so many kernels on this machine.

A build that starts each kernel anew may not fit: the run stops making kernels while the machine has less than 2 GiB, and fails unless
--allow-fewer is given. All traffic is on 127.0.0.1.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from argparse import Namespace

sys.dont_write_bytecode = True

import load  # noqa: E402
import rounds  # noqa: E402
from languages import ONE, TWO  # noqa: E402
from lifecycle import boot, cell_paths, create, delete, use  # noqa: E402
from processes import available_mib, cpu_seconds, descriptors, resident_mib, tree  # noqa: E402
from report import Row, percentile  # noqa: E402
from rounds import Build, Section, Values  # noqa: E402
from server import PATIENCE, Server, wait_for  # noqa: E402

SETTLE = 5.0
# Seconds after the deletions by which the server has given memory back: it does so at leisure.
GIVEN_BACK = 15.0
# Kernels between two looks at the machine's memory, which it keeps.
BATCH = 50
RESERVE_MIB = 2048
LISTINGS = 300
EVENTS = 100
NAMES = {"typescript": "TypeScript", "python": "Pyodide"}


def make(server: Server, language: str, count: int, allow_fewer: bool) -> tuple[list[float], list[float]]:
    """Milliseconds of the creations, and of the first cells, of as many kernels as there is memory for."""
    created: list[float] = []
    cells: list[float] = []
    while len(created) < count:
        if available_mib() < RESERVE_MIB:
            text = f"no memory for more than {len(created)} of {count} kernels of {language}"
            if not allow_fewer:
                raise RuntimeError(text)
            rounds.progress(text)
            break
        known = set(server.kernels())
        created += create(server, language, min(BATCH, count - len(created)))
        cells += use(server, [kernel for kernel in server.kernels() if kernel not in known])
    return created, cells


def event_times(server: Server, kernel: str) -> list[float]:
    """Milliseconds from a request that executes a cell until `GET /api/events` says that the kernel is busy."""
    wanted = b'"type":"kernel_busy"'
    body = json.dumps({"code": ONE}).encode()
    request = (f"POST /api/kernels/{kernel}/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    times = []
    with (socket.create_connection(("127.0.0.1", server.port), PATIENCE) as events,
          socket.create_connection(("127.0.0.1", server.port), PATIENCE) as cells):
        cells.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        events.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = b""
        while b": open" not in seen:
            seen += events.recv(65536)
        for _ in range(EVENTS):
            seen, answer = b"", b""
            started = time.perf_counter()
            cells.sendall(request)
            while wanted not in seen:
                part = events.recv(65536)
                if not part:
                    raise RuntimeError("the events ended")
                seen += part
            times.append((time.perf_counter() - started) * 1e3)
            while b"stream_complete" not in answer:
                part = cells.recv(65536)
                if not part:
                    raise RuntimeError("the cell's answer ended early")
                answer += part
            time.sleep(0.005)
            # The other events of this cell.
            events.settimeout(0.001)
            try:
                while events.recv(65536):
                    pass
            except TimeoutError:
                pass
            events.settimeout(PATIENCE)
    return times


def both(name: str, times: list[float]) -> Values:
    return {name: statistics.median(times), f"{name}95": percentile(times, 95)}


def measure(build: Build, options: Namespace) -> Values:
    counts = {"typescript": options.typescript, "python": options.pyodide}
    settings = {
        "ALLOWED_KERNEL_TYPES": "worker-typescript,worker-python", "KERNEL_MAX_COUNT": str(sum(counts.values()) + 10)}
    found: Values = {}
    with build.server(settings) as server:
        pid = server.process.pid
        time.sleep(1)
        own, open_files = resident_mib(pid, own=True), descriptors(pid)
        memory, started = server.memory(), server.memory(own=True)
        bare, zygotes = started, 0.0
        for language, count in counts.items():
            if count == 0:
                continue
            before = descriptors(pid)
            boot(server, language)
            time.sleep(1)
            zygotes += server.memory(own=True) - bare
            open_files += descriptors(pid) - before
            created, cells = make(server, language, count, options.allow_fewer)
            if not created:
                continue
            time.sleep(SETTLE)
            used = server.memory()
            cpu = cpu_seconds(pid)
            time.sleep(options.idle)
            # Of the last language: then all are there.
            found["density.cpu"] = (cpu_seconds(pid) - cpu) / options.idle * 100
            idle = server.memory()
            found |= {
                **both(f"density.{language}.cold", created), **both(f"density.{language}.cell", cells),
                f"density.{language}.count": len(created),
                f"density.{language}.pss": (used - memory) / len(created),
                f"density.{language}.idle": (idle - memory) / len(created),
            }
            memory, bare = idle, server.memory(own=True)
        kernels = server.kernels()
        found["density.server"] = (resident_mib(pid, own=True) - own) * 1024 / len(kernels)
        found["density.files"] = (descriptors(pid) - open_files) / len(kernels)
        found["density.all files"] = sum(map(descriptors, tree(pid)))
        found |= both("density.list", load.times(server.base, "GET", ["/api/kernels"], count=LISTINGS))
        found |= both("density.status", load.times(server.base, "GET", ["/api/status"], count=LISTINGS))
        found |= both("density.event", event_times(server, kernels[0]))
        found |= both("density.one", load.times(server.base, "POST", cell_paths(kernels[:1]), {"code": ONE}, TWO, count=LISTINGS))
        found |= both("density.delete", delete(server, kernels))
        wait_for(lambda: descriptors(pid) <= open_files + 10)
        time.sleep(GIVEN_BACK)
        found["density.returned"] = (bare - server.memory(own=True)) / (bare - started - zygotes) * 100
        found["density.left files"] = descriptors(pid) - open_files
        found["density.left processes"] = len(tree(pid)) - 1
    return found


def rows(options: Namespace) -> list[Row]:
    def of(language: str, count: int, pss: float) -> list[Row]:
        key, name = f"density.{language}", NAMES[language]
        return [
            Row(f"{key}.count", f"{name} kernels at once", "", count, at_least=True),
            Row(f"{key}.cold", f"{name} kernel created: p50"),
            Row(f"{key}.cold95", f"{name} kernel created: p95"),
            Row(f"{key}.cell", "its first cell: p50"),
            Row(f"{key}.cell95", "its first cell: p95"),
            Row(f"{key}.pss", f"PSS per {name} kernel {SETTLE:g} s after its cell: growth of server, zygote and kernels", "MiB"),
            Row(f"{key}.idle", f"PSS per {name} kernel after {options.idle:g} s more, idle", "MiB", pss),
        ]

    return [
        *(of("typescript", options.typescript, 1.3) if options.typescript else []),
        *(of("python", options.pyodide, 11) if options.pyodide else []),
        Row("density.cpu", f"processor time of everything while all are idle for {options.idle:g} s, of one core", "%"),
        Row("density.server", "memory of the server itself per kernel", "KiB"),
        Row("density.files", "open files of the server per kernel", ""),
        Row("density.all files", "open files of the server and all its processes", ""),
        Row("density.list", "`GET /api/kernels`: p50", "ms", 5),
        Row("density.list95", "`GET /api/kernels`: p95"),
        Row("density.status", "`GET /api/status`: p50", "ms", 5),
        Row("density.status95", "`GET /api/status`: p95"),
        Row("density.event", "from a request to its event at `GET /api/events`: p50", "ms", 5),
        Row("density.event95", "from a request to its event at `GET /api/events`: p95"),
        Row("density.one", "`1+1` in one of them: p50"),
        Row("density.delete", "deletion: p50"),
        Row("density.delete95", "deletion: p95"),
        Row("density.returned", "memory that deleting all gives back, zygotes left out", "%", 95, at_least=True),
        Row("density.left files", "open files of the server after that, more than without kernels", "", 4),
        Row("density.left processes", "processes of the server after that: zygotes", "", 4),
    ]


def main() -> None:
    parser = rounds.parser(__doc__, rounds=3)
    parser.add_argument("--typescript", type=int, default=1000, metavar="N", help="TypeScript kernels (%(default)s)")
    parser.add_argument("--pyodide", type=int, default=300, metavar="N", help="Pyodide kernels (%(default)s)")
    parser.add_argument("--idle", type=float, default=60, metavar="SECONDS",
                        help="how long all are left idle; long enough for what kernels do late (%(default)g)")
    parser.add_argument("--allow-fewer", action="store_true", help="go on with as many kernels as there is memory for")
    options = parser.parse_args()
    section = Section("density", rows(options), lambda build: measure(build, options))
    rounds.main([section], options, "density")


if __name__ == "__main__":
    main()
