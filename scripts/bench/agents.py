#!/usr/bin/env python3
"""Measure agents on servers that this starts, stops and kills, with models that this plays.

Usage: scripts/bench/agents.py --binary PATH [--write docs/performance.md]

Prints a table; with --write it replaces what stands between the marks `agents:begin` and `agents:end`. All
traffic is on 127.0.0.1, every wait is bounded.

The endpoint of the models and the readers of chats are processes of their own (`--endpoint`, `--read PORT PATH...`), so that neither
waits for the other; their clocks are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True

from report import heading, must_table, percentile, write_between_marks  # noqa: E402
from server import PATIENCE, Server, free_port  # noqa: E402

AGENTS = 50
STEPS = 8
# Shortest and longest time, in seconds, that a model takes for an answer that is not there at once. Few are faster.
THINKING = 0.025, 0.075
CANCELS = 20
KILLS = 20


def chunk(delta: dict) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n".encode()


class Model:
    """An endpoint whose models do what their names say; it notes when each was asked and had answered."""

    def __init__(self) -> None:
        self.asked: dict[str, list[float]] = {}
        self.answered: dict[str, list[float]] = {}

    async def start(self) -> None:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 24)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    def notes(self) -> bytes:
        text = json.dumps([self.asked, self.answered]).encode()
        self.asked, self.answered = {}, {}
        return b"HTTP/1.0 200 OK\r\n\r\n" + text

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(self.notes())
                    return writer.close()
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                request = json.loads(await reader.readexactly(length))
                name = request["model"]
                self.asked.setdefault(name, []).append(time.perf_counter())
                await self.answer(name, request, writer)
                self.answered.setdefault(name, []).append(time.perf_counter())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(self, name: str, request: dict, writer: asyncio.StreamWriter) -> None:
        turns = sum(message["role"] == "assistant" for message in request["messages"])
        kind = name.split("-")[0]
        if kind == "thinking":
            await asyncio.sleep(random.uniform(*THINKING))
        end = b"data: [DONE]\n\n"
        if kind in ("steps", "thinking") and turns < STEPS:
            call = {"index": 0, "id": f"c{turns}", "function": {"name": "nothing", "arguments": f'{{"n":{turns}}}'}}
            body = chunk({"tool_calls": [call]}) + end
        elif kind == "loop":
            body = chunk({"content": "<t-script>while (true) {}</t-script>"}) + end
        elif kind == "count":
            body = chunk({"content": f"<t-script>{random.random()}</t-script>"}) + end
        elif kind == "hang":
            body = chunk({"content": "<thoughts>"})
        else:
            body = chunk({"content": "Done."}) + end
        size = b"" if kind == "hang" else b"Content-Length: %d\r\n" % len(body)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + size + b"\r\n" + body)
        await writer.drain()


class Stream:
    """Server-sent events of one request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str):
        self.reader, self.writer = reader, writer
        self.run = next(
            line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("x-run-id:")
        )
        self.text = b""

    async def event(self) -> dict | None:
        while True:
            line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
            if not line:
                return None
            if line.startswith(b"data: "):
                return json.loads(line[6:])

    async def until(self, kind: str) -> None:
        while (event := await self.event()) is not None and event["type"] != kind:
            pass


async def stream(port: int, method: str, path: str, body: object = None) -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    data = b"" if body is None else json.dumps(body).encode()
    writer.write(
        f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).decode()
    if " 200 " not in head.split("\r\n")[0]:
        raise SystemExit(f"{method} {path}: {head} {(await reader.read(500)).decode()}")
    return Stream(reader, writer, head)


async def call(port: int, method: str, path: str, body: object = None) -> object:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    data = b"" if body is None else json.dumps(body).encode()
    writer.write(
        f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    head, _, text = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise SystemExit(f"{method} {path}: {answer[:500].decode()}")
    return json.loads(text)


async def agent(port: int, url: str, model: str, **more: object) -> str:
    settings = {"baseURL": url, "model": model}
    made = await call(port, "POST", "/api/agents", {"kernelType": "typescript", "ModelSettings": settings, **more})
    return f"/api/agents/{made['id']}"


class Endpoint:
    """A process that plays the models."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--endpoint"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    async def notes(self) -> tuple[dict, dict]:
        """When each model was asked and had answered, since the last call."""
        return await call(self.port, "GET", "/notes")


async def read(port: int, paths: list[str]) -> None:
    """Chats with agents that all work at once, to the end of each."""

    async def one(path: str) -> None:
        events = await stream(port, "POST", f"{path}/chat", {"message": "go"})
        await events.until("complete")

    await asyncio.gather(*(one(path) for path in paths))


async def steps(port: int, endpoint: Endpoint, kind: str) -> tuple[list[float], float]:
    """Milliseconds from the end of one answer of the model to the next question, of agents that all work at once; and how many
    steps a second they did together."""
    names = [f"{kind}-{i}" for i in range(AGENTS)]
    paths = [await agent(port, endpoint.url, name) for name in names]
    await endpoint.notes()
    reading = await asyncio.create_subprocess_exec(sys.executable, __file__, "--read", str(port), *paths)
    assert await asyncio.wait_for(reading.wait(), PATIENCE) == 0, "the readers failed"
    times, moments = [], []
    asked_of, answered_of = await endpoint.notes()
    for name in names:
        asked, answered = asked_of[name], answered_of[name]
        assert len(asked) == STEPS + 1, f"{name} was asked {len(asked)} times"
        times += [(question - answer) * 1e3 for answer, question in zip(answered, asked[1:])]
        moments += [asked[0], answered[-1]]
    for path in paths:
        await call(port, "DELETE", path)
    return times, len(times) / (max(moments) - min(moments))


async def cancels(port: int, url: str) -> dict[str, list[float]]:
    """Milliseconds of requests that cancel a waiting model, a run that waits behind it, and a running cell."""
    times: dict[str, list[float]] = {"model": [], "queued": [], "cell": []}
    waiting = await agent(port, url, "hang")
    looping = await agent(port, url, "loop", autoAttachKernel=True)

    async def timed(kind: str, path: str, run: str) -> None:
        start = time.perf_counter()
        record = await call(port, "POST", f"{path}/runs/{run}/cancel")
        times[kind].append((time.perf_counter() - start) * 1e3)
        assert record["status"] == "cancelled", record

    for _ in range(CANCELS):
        first = await stream(port, "POST", f"{waiting}/chat", {"message": "one"})
        await first.until("text_chunk")
        second = await stream(port, "POST", f"{waiting}/chat", {"message": "two"})
        await timed("queued", waiting, second.run)
        await timed("model", waiting, first.run)
        third = await stream(port, "POST", f"{looping}/chat", {"message": "three"})
        await third.until("function_call")
        # The cell has begun.
        await asyncio.sleep(0.05)
        await timed("cell", looping, third.run)
        # The kernel takes the next cell once it was interrupted.
        await asyncio.sleep(0.1)
    return times


async def kills(binary: str, url: str) -> tuple[int, int]:
    """Kills a server at random moments of one run; returns how many events were seen, and how often it went on."""
    seen: list[dict] = []
    resumed = 0
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [binary, "serve", "--port", str(port), "--data-dir", folder, "--agent-max-steps-cap", "100000"]
        path = run = ""
        for number in range(KILLS + 1):
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    await call(port, "GET", "/api/status")
                    break
                except OSError:
                    assert time.monotonic() < deadline, "the server did not come up"
                    await asyncio.sleep(0.01)
            if number == 0:
                path = await agent(port, url, "count", autoAttachKernel=True, maxSteps=100000)
                events = await stream(port, "POST", f"{path}/chat", {"message": "count"})
                run, position = events.run, 0
            else:
                record = await call(port, "GET", f"{path}/runs/{run}")
                assert record["status"] == "interrupted", record
                events = await stream(port, "POST", f"{path}/runs/{run}/resume")
                resumed += 1
                position = 0

            async def read() -> None:
                nonlocal position
                while (event := await events.event()) is not None:
                    if position < len(seen):
                        assert event == seen[position], f"event {position} is another: {event}"
                    else:
                        seen.append(event)
                    position += 1

            reading = asyncio.create_task(read())
            await asyncio.sleep(0.15 + random.random() * 0.4)
            server.send_signal(signal.SIGKILL)
            server.wait(20)
            try:
                await asyncio.wait_for(reading, PATIENCE)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            except json.JSONDecodeError:
                # The connection was cut in the middle of an event, which nobody has got then.
                pass
            assert position >= len(seen), f"{len(seen) - position} events are lost"
    return len(seen), resumed


async def measure(binary: str) -> list[tuple[str, str, str, bool | None]]:
    endpoint = Endpoint()
    environment = {"KERNEL_POOL_ENABLED": "false"}
    try:
        server = await asyncio.to_thread(Server, binary, environment, ["--max-agents", "1000"])
        try:
            # Once for nothing: connections and code that is used for the first time.
            await cancels(server.port, endpoint.url)
            own, _ = await steps(server.port, endpoint, "thinking")
            at_once, rate = await steps(server.port, endpoint, "steps")
            cancelled = await cancels(server.port, endpoint.url)
        finally:
            await asyncio.to_thread(server.close)
        events, resumed = await kills(binary, endpoint.url)
    finally:
        endpoint.process.kill()
    slowest = max(statistics.median(times) for times in cancelled.values())
    rows = [
        (
            f"{AGENTS} agents at once, {STEPS} steps each without a kernel, a model that answers after "
            f"{THINKING[0] * 1e3:.0f} to {THINKING[1] * 1e3:.0f} ms: the engine's own time of a step, p50",
            "≤ 5 ms",
            f"{statistics.median(own):.2f} ms (p95 {percentile(own, 95):.2f} ms)",
            statistics.median(own) <= 5,
        ),
        (
            "the same with a model that answers at once, so that all wait for the cores, which endpoint and readers "
            "have too: steps a second, and the time of one, p50",
            "",
            f"{rate:,.0f}/s, {statistics.median(at_once):.1f} ms",
            None,
        ),
        (
            f"cancelling a running cell, a waiting model, a queued run, {CANCELS} times each: p50",
            "≤ 50 ms",
            ", ".join(f"{statistics.median(cancelled[kind]):.1f} ms" for kind in ("cell", "model", "queued")),
            slowest <= 50,
        ),
        (
            f"one run, its server killed {KILLS} times at random moments: events that were seen and are lost",
            "0",
            f"0 of {events:,}; resumed {resumed} times",
            resumed == KILLS,
        ),
    ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary")
    parser.add_argument("--endpoint", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.endpoint:
        return asyncio.run(Model().start())
    if arguments.read:
        return asyncio.run(read(int(arguments.read[0]), arguments.read[1:]))
    if not arguments.binary:
        parser.error("--binary is needed")
    before = os.getloadavg()[0]
    text = f"{heading(before)}\n\n{must_table(asyncio.run(measure(arguments.binary)))}"
    print(text)
    if arguments.write:
        write_between_marks(arguments.write, "agents", text)


if __name__ == "__main__":
    main()
