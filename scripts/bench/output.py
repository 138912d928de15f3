"""A cell with much output: how fast it reaches a reader, and what the server holds of it."""

from __future__ import annotations

import json
import socket
import time

from client import Client
from processes import forget_most, resident_mib
from rounds import Build, Values
from server import PATIENCE, Server

LINE = 10_000
MIB = 2**20
# Seconds after a deletion by which the server has given memory back: it does so at leisure.
GIVEN_BACK = 15


def code_of(size: int) -> str:
    """TypeScript that prints so many bytes, in lines of at most 10,000 with their ends."""
    width = min(LINE, size)
    return f'const line = "x".repeat({width - 1}); for (let i = 0; i < {size // width}; i++) console.log(line)'


def read_all(server: Server, kernel: str, code: str) -> tuple[float, int]:
    """Seconds until the end of a cell's answer, and its bytes."""
    body = json.dumps({"code": code}).encode()
    head = f"POST /api/kernels/{kernel}/execute HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    buffer, size, end = bytearray(MIB), 0, b""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        started = time.perf_counter()
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while got := connection.recv_into(buffer):
            size += got
            end = (end + bytes(buffer[max(0, got - 400):got]))[-400:]
        took = time.perf_counter() - started
    if b"stream_complete" not in end:
        raise RuntimeError(f"the answer ended early: {end!r}")
    return took, size


def roomy_server(build: Build, size: int) -> Server:
    """One that keeps all of such an output."""
    room = str(size * 2 + 32 * MIB)
    return build.server({
        "ALLOWED_KERNEL_TYPES": "worker-typescript",
        "KERNEL_MAX_OUTPUT_BYTES": room,
        "LOGS_MEMORY_BYTES": str(size * 4 + 256 * MIB),
        "LOGS_MEMORY_BYTES_PER_NAMESPACE": str(size * 4 + 256 * MIB),
    })


def measure(build: Build, size: int) -> dict[str, float]:
    """Megabytes a second and milliseconds; MiB of the server over the output, which it keeps, at most; and MiB that it still
    has of its own after the kernel was deleted. The server's memory is what it has in RAM, for its maximum is known of that."""
    with roomy_server(build, size) as server:
        client = Client(server.base)
        limits = {"outputBytes": size * 2 + 32 * MIB}
        kernel = client.json("POST", "/api/kernels", {"lang": "typescript", "limits": limits})["id"]
        read_all(server, kernel, code_of(1_000_000))
        time.sleep(0.5)
        pid = server.process.pid
        forget_most(pid)
        before, own = resident_mib(pid), resident_mib(pid, own=True)
        took, received = read_all(server, kernel, code_of(size))
        if received < size:
            raise RuntimeError(f"{received} bytes of an output of {size}")
        most = resident_mib(pid, most=True)
        client.json("DELETE", f"/api/kernels/{kernel}")
        time.sleep(GIVEN_BACK)
        after = resident_mib(pid, own=True)
    return {
        "rate": size / took / 1e6, "milliseconds": took * 1e3, "over": most - before - size / MIB, "left": after - own}


def hundred_megabytes(build: Build) -> Values:
    found = measure(build, 100_000_000)
    return {f"output.{key}": found[key] for key in ("rate", "over", "left")}
