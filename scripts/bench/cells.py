"""What a cell costs in a kernel that is there: round trips, streams, throughput, interrupts."""

from __future__ import annotations

import json
import socket
import statistics
import time

import load
from client import Client, Engine
from languages import CELLS, NAMES, ONE, TWO
from lifecycle import cell_paths, create, kernel_server
from report import Row, percentile
from rounds import Build, Section, Values
from server import PATIENCE, Server

WARM = 200
SEQUENTIAL = 2000
KERNELS = 10
STREAMS = 100
INTERRUPTS = 5
LISTINGS = 200
# Seconds until an endless cell is under way.
SETTLE = 0.2


def first_event(server: Server, kernel: str, code: str) -> float:
    """Milliseconds from a request to the first event of its stream, on a connection that is there."""
    body = json.dumps({"code": code}).encode()
    head = f"POST /api/kernels/{kernel}/execute/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        time.sleep(0.002)
        started = time.perf_counter()
        connection.sendall(request)
        seen = b""
        while b'data: {"type"' not in seen:
            part = connection.recv(65536)
            if not part:
                raise RuntimeError(f"the stream ended without an event: {seen[:300]!r}")
            seen += part
        return (time.perf_counter() - started) * 1e3


def interrupts(engine: Engine, kernel: str, language: str, kind: str) -> float:
    """Milliseconds of a call that interrupts an endless cell, after which the kernel must have its state: the median."""
    cells, times = CELLS[language], []
    engine.execute(kernel, cells["set"])
    for _ in range(INTERRUPTS):
        session = engine.submit(kernel, cells["endless"][kind])
        time.sleep(SETTLE)
        times.append(engine.act(kernel, "interrupt"))
        engine.result(kernel, session)
        if engine.value(kernel, cells["get"]) != "41":
            raise RuntimeError(f"{kind}: the state is lost")
    return statistics.median(times)


def busy_listing(server: Server, engine: Engine, kernels: list[str], language: str) -> list[float]:
    """Milliseconds of the listing while every kernel runs an endless cell."""
    for kernel in kernels:
        engine.submit(kernel, CELLS[language]["endless"]["loop"])
    time.sleep(1)
    times = load.times(server.base, "GET", ["/api/kernels"], count=LISTINGS)
    if engine.busy(kernels) != len(kernels):
        raise RuntimeError("not all kernels were busy")
    for kernel in kernels:
        engine.act(kernel, "interrupt")
    return times


def measure(build: Build, language: str) -> Values:
    with kernel_server(build) as server:
        create(server, language, KERNELS)
        kernels = server.kernels()
        engine = Engine(Client(server.base))
        one = cell_paths(kernels[:1])

        def timed(code: str, count: int, expected: str) -> list[float]:
            load.times(server.base, "POST", one, {"code": code}, expected, count=max(1, count // 10))
            return load.times(server.base, "POST", one, {"code": code}, expected, count=count)

        load.times(server.base, "POST", cell_paths(kernels), {"code": ONE}, TWO, count=WARM * KERNELS)
        sequential = timed(ONE, SEQUENTIAL, TWO)
        rate = load.rate(server.base, "POST", cell_paths(kernels), {"code": ONE}, TWO, connections=KERNELS)
        streams = [first_event(server, kernels[0], CELLS[language]["print"]) for _ in range(STREAMS)]
        found = {
            "one": statistics.median(sequential),
            "one95": percentile(sequential, 95),
            "rate": rate,
            "stream": statistics.median(streams),
            "lines": statistics.median(timed(CELLS[language]["lines"], 30, "line")),
            **{kind: interrupts(engine, kernels[0], language, kind) for kind in CELLS[language]["endless"]},
        }
        listing = busy_listing(server, engine, kernels, language)
        found["listing"] = statistics.median(listing)
        found["listing95"] = percentile(listing, 95)
        engine.client.close()
    return {f"{language}.{key}": value for key, value in found.items()}


ENDLESS = {"loop": "endless loop", "microtasks": "endless microtasks", "regex": "catastrophic regex"}


def section(language: str, goals: dict[str, float], peers: dict) -> Section:
    """`goals` are by the ends of the rows' keys."""
    def row(key: str, name: str, unit: str = "ms", at_least: bool = False) -> Row:
        return Row(f"{language}.{key}", name, unit, goals.get(key), at_least)

    rows = [
        row("one", "`1+1`: p50"),
        row("one95", "`1+1`: p95"),
        row("rate", f"`1+1` in {KERNELS} kernels on {KERNELS} connections", "/s", at_least=True),
        row("stream", "first event of the stream of a printed line: p50"),
        row("lines", "a cell that prints 1,000 lines: p50"),
        *(row(kind, f"{ENDLESS[kind]} interrupted, state kept: p50") for kind in CELLS[language]["endless"]),
        row("listing", f"`GET /api/kernels` while {KERNELS} kernels spin: p50"),
        row("listing95", f"`GET /api/kernels` while {KERNELS} kernels spin: p95"),
    ]
    return Section(f"{NAMES[language]} cells", rows, lambda build: measure(build, language), peers)
