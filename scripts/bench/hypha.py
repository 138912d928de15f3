#!/usr/bin/env python3
"""Measure the engine's Hypha service beside an echo service in Python, on a Hypha server that this starts and stops.

Usage: scripts/bench/hypha.py --binary PATH [--write docs/performance.md]

Run it with the Python of the tests' Hypha server (scripts/test.sh makes it; tests/hypha/requirements.txt). Prints a
table; with --write it replaces what stands between the marks `hypha:begin` and `hypha:end`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
logging.disable(logging.CRITICAL)

from hypha_rpc import connect_to_server  # noqa: E402

from report import heading, must_table, write_between_marks  # noqa: E402
from server import Server  # noqa: E402

ROUNDS = 60
# Hypha cuts connections with more than 200 messages a second.
PAUSE = 0.05
RESTARTS = 10
CLIENT = "measured-engine"
SERVER_SH = Path(__file__).parents[2] / "tests/hypha/server.sh"


class Hypha:
    def __init__(self, folder: str):
        self.folder = folder
        self.environment = self.start()

    def start(self) -> dict[str, str]:
        command = [SERVER_SH, "start", self.folder, str(os.getpid())]
        environment = {**os.environ, "HYPHA_TEST_PYTHON": sys.executable}
        lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)

    def kill(self) -> None:
        pid = int((Path(self.folder) / "hypha.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        subprocess.run([SERVER_SH, "stop", self.folder], env={**os.environ, "HYPHA_TEST_PYTHON": sys.executable})

    async def connect(self):
        config = {"server_url": self.environment["HYPHA_SERVER_URL"], "token": self.environment["HYPHA_TOKEN"]}
        return await connect_to_server(config)


def engine(binary: str, hypha: Hypha) -> Server:
    variables = {name: hypha.environment[name] for name in ("HYPHA_SERVER_URL", "HYPHA_TOKEN")}
    return Server(binary, {**variables, "HYPHA_SERVICE": "true", "HYPHA_CLIENT_ID": CLIENT})


async def service(hypha: Hypha, patience: float = 60):
    """The engine's service, as soon as it answers; and the seconds until then."""
    begun = time.monotonic()
    while True:
        server = None
        try:
            server = await asyncio.wait_for(hypha.connect(), 5)
            found = await server.get_service(f"{server.config.workspace}/{CLIENT}:deno-app-engine")
            await asyncio.wait_for(found.health(), 5)
            return server, found, time.monotonic() - begun
        except Exception:
            if server is not None:
                await server.disconnect()
            if time.monotonic() - begun > patience:
                raise
            await asyncio.sleep(0.1)


async def median_ms(call) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await call()
        times.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(PAUSE)
    return statistics.median(times)


async def measure(binary: str) -> list[tuple[str, str, str, bool]]:
    with tempfile.TemporaryDirectory() as folder:
        hypha = Hypha(folder)
        try:
            return await measured(binary, hypha)
        finally:
            hypha.stop()


async def measured(binary: str, hypha: Hypha) -> list[tuple[str, str, str, bool]]:
    with engine(binary, hypha) as running:
        server, found, _ = await service(hypha)
        other = await hypha.connect()
        echo = await other.register_service({"id": "echo", "config": {"visibility": "public"}, "echo": lambda x: x})
        echo = await server.get_service(echo.id)
        kernel = (await found.createKernel({"mode": "worker-typescript"}))["id"]

        async def two_echoes() -> None:
            await echo.echo({"kernelId": kernel, "code": "1+1"})
            await echo.echo({"kernelId": kernel, "executionId": "x"})

        async def cell() -> None:
            started = await found.executeCode({"kernelId": kernel, "code": "1+1"})
            asked = {"kernelId": kernel, "executionId": started["execution_id"]}
            while True:
                try:
                    await found.getExecutionResult(asked)
                    return
                except Exception as error:
                    assert "Execution not found" in str(error), error

        async def stream() -> None:
            events = await found.streamExecution({"kernelId": kernel, "code": "1+1"})
            assert [event["type"] async for event in events] == ["execute_result", "complete"]

        async def one_echo() -> None:
            await echo.echo({"kernelId": kernel, "code": "1+1"})

        # A stream of one result is as many: the call, the result, the completion and the end, each pulled by the client.
        async def four_loads() -> None:
            for _ in range(4):
                await found.getEngineLoad()

        async def four_echoes() -> None:
            for _ in range(4):
                await echo.echo({"kernelId": kernel, "code": "1+1"})

        sequences = (two_echoes, cell, one_echo, stream, four_loads, four_echoes)
        for warm in sequences:
            for _ in range(5):
                await warm()
        # In turns, so that a busy moment meets both.
        rounds = [[await median_ms(it) for it in sequences] for _ in range(3)]
        two, run, one, streamed, loads, echoes = (statistics.median(column) for column in zip(*rounds))

        await other.disconnect()
        await server.disconnect()
        back = []
        for _ in range(RESTARTS):
            hypha.kill()
            hypha.start()
            client, again, seconds = await service(hypha)
            back.append(seconds)
            started = await again.executeCode({"kernelId": kernel, "code": "globalThis.kept = 1"})
            assert started["execution_id"]
            await client.disconnect()
        os.killpg(running.process.pid, signal.SIGKILL)
    replaced = engine(binary, hypha)
    with replaced:
        client, _, seconds = await service(hypha)
        await client.disconnect()
    return [
        ("`1+1` by executeCode and getExecutionResult, beside two calls of an echo service in Python, p50", "≤ 1.5 ×",
         f"{run / two:.2f} × ({run:.1f} ms, {two:.1f} ms)", run <= 1.5 * two),
        ("`1+1` by streamExecution, beside one call of it, p50", "≤ 2 ×",
         f"{streamed / one:.2f} × ({streamed:.1f} ms, {one:.1f} ms)", streamed <= 2 * one),
        ("what the protocol alone costs such a stream: four calls of getEngineLoad, beside four of it, p50", "≤ 1 ×",
         f"{loads / echoes:.2f} × ({loads:.1f} ms, {echoes:.1f} ms); the stream is {streamed / loads:.2f} × the former",
         loads <= echoes),
        (f"Hypha killed and started again, {RESTARTS} times: slowest until the service answers", "≤ 10 s",
         f"{max(back):.1f} s", max(back) <= 10),
        ("engine killed and started again: the service answers, from its start", "≤ 5 s", f"{seconds:.1f} s",
         seconds <= 5),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    text = f"{heading(load)}\n\n{must_table(asyncio.run(measure(options.binary)))}"
    print(text)
    if options.write:
        write_between_marks(Path(options.write), "hypha", text)


if __name__ == "__main__":
    main()
