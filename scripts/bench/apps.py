#!/usr/bin/env python3
"""Measure apps on a server that this starts and stops: starting, crashing, and requests through the engine.

Usage: scripts/bench/apps.py --binary PATH [--write docs/performance.md]

Prints a table; with --write it replaces what stands between the marks `apps:begin` and `apps:end`. All
traffic is on 127.0.0.1, every wait is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from report import heading, must_table, write_between_marks  # noqa: E402
from server import PATIENCE, Server, free_port, wait_for  # noqa: E402

APPS = 20
CONNECTIONS = 50
REQUESTS = 10_000
SEQUENTIAL = 2_000

SERVER = 'Deno.serve({{ port: {port} }}, () => new Response("ok"));'
UNNAMED_SERVER = 'Deno.serve(() => new Response("ok"));'
CRASHER = 'setTimeout(() => { throw new Error("again"); }, 20);'


def apps(server: Server) -> dict[str, dict]:
    return {app["id"]: app for app in server.call("GET", "/api/apps")}


def latencies(port: int, path: str) -> list[float]:
    """Milliseconds of requests one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    times = []
    for i in range(SEQUENTIAL + 200):
        start = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if i >= 200:
            times.append((time.perf_counter() - start) * 1e3)
        assert answer.status == 200 and body == b"ok", (answer.status, body)
    connection.close()
    return times


async def load(port: int, path: str) -> tuple[int, float]:
    """Errors among REQUESTS on CONNECTIONS, and requests a second."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    errors = 0

    async def one() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(REQUESTS // CONNECTIONS):
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            body = await asyncio.wait_for(reader.readexactly(2), PATIENCE)
            errors += not (head.startswith(b"HTTP/1.1 200") and body == b"ok")
        writer.close()

    start = time.monotonic()
    results = await asyncio.gather(*(one() for _ in range(CONNECTIONS)), return_exceptions=True)
    errors += sum(isinstance(result, BaseException) for result in results)
    return errors, REQUESTS / (time.monotonic() - start)


def measure(binary: str, sources: Path) -> list[tuple[str, str, str, bool]]:
    for i in range(APPS):
        (sources / f"app{i:02}.ts").write_text(UNNAMED_SERVER)
    environment = {"KERNEL_POOL_ENABLED": "false", "KERNEL_PERMISSIONS_MAX": '{"net": true}'}
    start = time.monotonic()
    with Server(binary, environment, ["--apps-dir", str(sources)]) as server:
        wait_for(lambda: len(apps(server)) == APPS and all(app["ready"] for app in apps(server).values()))
        ready = time.monotonic() - start

        times = []
        for i in range(5):
            name = f"app{i:02}"
            old = apps(server)[name]
            start = time.monotonic()
            os.kill(old["pid"], signal.SIGKILL)
            wait_for(lambda: (now := apps(server)[name])["ready"] and now["instance"] > old["instance"])
            times.append(time.monotonic() - start)

        port = free_port()
        server.call("POST", "/api/apps", {"id": "named", "lang": "ts", "startup_script": SERVER.format(port=port)})
        wait_for(lambda: apps(server)["named"]["ready"])
        direct = latencies(port, "/")
        through = latencies(server.port, "/apps/named/")
        more = statistics.median(through) - statistics.median(direct)

        crasher = {"id": "crasher", "lang": "ts", "restart": "always", "startup_script": CRASHER}
        server.call("POST", "/api/apps", crasher)
        wait_for(lambda: apps(server)["crasher"]["restarts"] > 1)
        errors, rate = asyncio.run(load(server.port, "/apps/app11/"))
        crashes = apps(server)["crasher"]["restarts"]
    return [
        (f"{APPS} apps started at once with the server, all ready", "≤ 3 s", f"{ready:.2f} s", ready <= 3),
        ("an app killed with -9 is ready again: slowest of 5", "≤ 1 s", f"{max(times):.2f} s", max(times) <= 1),
        (
            "a request through `/apps/{id}/`, more than direct: p50",
            "≤ 1 ms",
            f"{more:.3f} ms ({statistics.median(direct):.3f} → {statistics.median(through):.3f} ms)",
            more <= 1,
        ),
        (
            f"{REQUESTS:,} requests at {CONNECTIONS} connections beside an app that crashes in a loop: errors",
            "0",
            f"{errors} ({rate:,.0f} requests/s, {crashes} crashes by then)",
            errors == 0,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.binary, Path(folder))
    text = f"{heading(before)}\n\n{must_table(rows)}"
    print(text)
    if arguments.write:
        write_between_marks(arguments.write, "apps", text)


if __name__ == "__main__":
    main()
