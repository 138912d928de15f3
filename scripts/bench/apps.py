#!/usr/bin/env python3
"""Measure apps: starting, crashing, and requests through the engine, in rounds.

    scripts/bench/apps.py --binary PATH [--before PATH] [--rounds N] [--write docs/performance.md]

Requests are made by wrk: "more than direct" compares them with requests to the app's own port on the same server, each one after the
other on one connection; throughput is on 50 connections, beside an app that crashes in a loop, and a wrong answer or a dropped
connection fails the run. All traffic is on 127.0.0.1, every wait is bounded.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.dont_write_bytecode = True

import load  # noqa: E402
import rounds  # noqa: E402
from report import Row  # noqa: E402
from rounds import Build, Section, Values  # noqa: E402
from server import Server, free_port, wait_for  # noqa: E402

APPS = 20
CONNECTIONS = 50
SEQUENTIAL = 2000
KILLS = 5
# Tried one after the other.
PORTS = 5

SERVER = 'Deno.serve({{ port: {port} }}, () => new Response("ok"));'
UNNAMED_SERVER = 'Deno.serve(() => new Response("ok"));'
CRASHER = 'setTimeout(() => { throw new Error("again"); }, 20);'


def name(number: int) -> str:
    return f"app{number:03}"


def apps(server: Server) -> dict[str, dict]:
    return {app["id"]: app for app in server.call("GET", "/api/apps")}


@contextmanager
def serving(build: Build, folder: Path, count: int) -> Iterator[tuple[Server, float]]:
    """A server with so many apps from `folder`, and the seconds from its start until all were ready."""
    for number in range(count):
        (folder / f"{name(number)}.ts").write_text(UNNAMED_SERVER)
    started = time.monotonic()
    with build.server({"KERNEL_PERMISSIONS_MAX": '{"net": true}'}, ["--apps-dir", str(folder)]) as server:
        wait_for(lambda: len(found := apps(server)) == count and all(app["ready"] for app in found.values()))
        yield server, time.monotonic() - started


def start(server: Server, app: dict, condition: Callable[[dict], bool]) -> None:
    """Creates an app, and waits until what the server says of it meets the condition."""
    server.call("POST", "/api/apps", {"lang": "ts", **app})
    try:
        wait_for(lambda: condition(apps(server)[app["id"]]))
    except SystemExit as error:
        raise RuntimeError(f"{app['id']} did not come to be: {apps(server).get(app['id'])}") from error


def start_with_port(server: Server) -> tuple[str, int]:
    """Creates an app that listens on a port of its own; its id and the port. Another program may take a port that was free."""
    for attempt in range(PORTS):
        port, app = free_port(), f"named{attempt}"
        start(server, {"id": app, "startup_script": SERVER.format(port=port)}, lambda state: state["ready"] or state["restarts"] > 0)
        if apps(server)[app]["ready"]:
            return app, port
    raise RuntimeError(f"{PORTS} ports were taken one after the other")


def recovery(server: Server) -> float:
    """Seconds until an app that was killed is ready again: the slowest."""
    times = []
    for number in range(KILLS):
        app = name(number)
        old = apps(server)[app]
        started = time.monotonic()
        os.kill(old["pid"], signal.SIGKILL)
        wait_for(lambda: (now := apps(server)[app])["ready"] and now["instance"] > old["instance"])
        times.append(time.monotonic() - started)
    return max(times)


def latency(base: str, path: str) -> float:
    load.times(base, "GET", [path], expected="ok", count=SEQUENTIAL // 10)
    return statistics.median(load.times(base, "GET", [path], expected="ok", count=SEQUENTIAL))


def measure(build: Build) -> Values:
    with tempfile.TemporaryDirectory() as folder, serving(build, Path(folder), APPS) as (server, ready):
        found = {"apps.ready": ready, "apps.recovery": recovery(server)}
        app, port = start_with_port(server)
        direct = latency(f"http://127.0.0.1:{port}", "/")
        through = latency(server.base, f"/apps/{app}/")
        found |= {"apps.direct": direct, "apps.through": through, "apps.more": through - direct}
        crasher = {"id": "crasher", "restart": "always", "startup_script": CRASHER}
        start(server, crasher, lambda app: app["restarts"] > 1)
        found["apps.rate"] = load.rate(server.base, "GET", [f"/apps/{name(11)}/"], expected="ok", connections=CONNECTIONS)
        return found


ROWS = [
    Row("apps.ready", f"{APPS} apps started with the server, all ready", "s", 0.4),
    Row("apps.recovery", f"an app killed with -9 is ready again: slowest of {KILLS}", "s", 1),
    Row("apps.direct", "a request to an app's own port: p50"),
    Row("apps.through", "a request through `/apps/{id}/`: p50"),
    Row("apps.more", "the latter, more than the former: p50", "ms", 0.1),
    Row("apps.rate", f"requests through `/apps/{{id}}/` on {CONNECTIONS} connections, beside an app that crashes in a loop", "/s", 12_000,
        at_least=True),
]


def main() -> None:
    options = rounds.parser(__doc__).parse_args()
    rounds.main([Section("apps", ROWS, measure)], options, "apps")


if __name__ == "__main__":
    main()
