#!/usr/bin/env python3
"""Measure apps on a server that this starts and stops: starting, crashing, and requests through the engine.

Usage: scripts/bench_apps.py --binary PATH [--write docs/performance.md]

Prints a table; with --write it replaces what stands between the marks `apps:begin` and `apps:end`. All
traffic is on 127.0.0.1, every wait is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

APPS = 20
CONNECTIONS = 50
REQUESTS = 10_000
SEQUENTIAL = 2_000
PATIENCE = 60.0

SERVER = 'Deno.serve({{ port: {port} }}, () => new Response("ok"));'
UNNAMED_SERVER = 'Deno.serve(() => new Response("ok"));'
CRASHER = 'setTimeout(() => { throw new Error("again"); }, 20);'


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def call(port: int, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def apps(port: int) -> dict[str, dict]:
    return {app["id"]: app for app in json.loads(call(port, "GET", "/api/apps")[1])}


def wait_for(condition) -> float:
    """Seconds until `condition` holds."""
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE:
        try:
            if condition():
                return time.monotonic() - start
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.005)
    raise SystemExit("gave up waiting")


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


def measure(binary: str, folder: Path) -> list[tuple[str, str, str, bool]]:
    port, named = free_port(), free_port()
    sources = folder / "apps"
    sources.mkdir()
    for i in range(APPS):
        (sources / f"app{i:02}.ts").write_text(UNNAMED_SERVER)
    environment = {
        **os.environ,
        "KERNEL_POOL_ENABLED": "false",
        "KERNEL_PERMISSIONS_MAX": '{"net": true}',
    }
    command = [binary, "serve", "--port", str(port), "--data-dir", str(folder / "data"), "--apps-dir", str(sources)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        start = time.monotonic()
        wait_for(lambda: len(apps(port)) == APPS and all(app["ready"] for app in apps(port).values()))
        ready = time.monotonic() - start

        times = []
        for i in range(5):
            name = f"app{i:02}"
            old = apps(port)[name]
            start = time.monotonic()
            os.kill(old["pid"], signal.SIGKILL)
            wait_for(lambda: (now := apps(port)[name])["ready"] and now["instance"] > old["instance"])
            times.append(time.monotonic() - start)

        body = json.dumps({"id": "named", "lang": "ts", "startup_script": SERVER.format(port=named)})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("POST", "/api/apps", body)
        assert connection.getresponse().status == 201
        wait_for(lambda: apps(port)["named"]["ready"])
        direct = latencies(named, "/")
        through = latencies(port, "/apps/named/")
        more = statistics.median(through) - statistics.median(direct)

        body = json.dumps({"id": "crasher", "lang": "ts", "restart": "always", "startup_script": CRASHER})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("POST", "/api/apps", body)
        assert connection.getresponse().status == 201
        wait_for(lambda: apps(port)["crasher"]["restarts"] > 1)
        errors, rate = asyncio.run(load(port, "/apps/app11/"))
        crashes = apps(port)["crasher"]["restarts"]
        return [
            (f"{APPS} apps started at once, all ready", "≤ 3 s", f"{ready:.2f} s", ready <= 3),
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
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.binary, Path(folder))
    lines = [
        f"{datetime.date.today()}, load average {before:.2f} before.",
        "",
        "|  | must | measured | met |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {name} | {must} | {value} | {'yes' if met else '**no**'} |" for name, must, value, met in rows]
    table = "\n".join(lines)
    print(table)
    if arguments.write:
        text = arguments.write.read_text()
        begin, end = "<!-- apps:begin -->\n", "\n<!-- apps:end -->"
        head, rest = text.split(begin, 1)
        arguments.write.write_text(head + begin + table + end + rest.split(end, 1)[1])


if __name__ == "__main__":
    main()
