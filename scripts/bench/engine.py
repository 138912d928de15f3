#!/usr/bin/env python3
"""Measure a server with this HTTP API, and check that it answers every call of it.

    scripts/bench/engine.py --base http://127.0.0.1:8000
    scripts/bench/engine.py --base http://127.0.0.1:8100 --start './engine serve --port 8100' --only start,exec

Prints one JSON object with a member for each section. A section that fails is an error there, and the
others still run. Every wait is bounded, and everything that is created is deleted. Times are wall-clock
milliseconds. Memory is PSS (proportional set size) of all processes of the server. Standard library only.

scripts/bench.sh runs it for docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

sys.dont_write_bytecode = True

import conformance  # noqa: E402
from client import Client, Engine, milliseconds, printed_text, result_text  # noqa: E402
from processes import cpu_seconds, listener, pss_mib, tree  # noqa: E402
from report import summary  # noqa: E402

START_SECONDS = 120
STOP_SECONDS = 10

JAVASCRIPT = {
    "set": "globalThis.x = 40; globalThis.x",
    "get": "globalThis.x + 2",
    "two_lines": 'console.log("first"); await new Promise((done) => setTimeout(done, 400)); console.log("second")',
    "many_lines": 'for (let i = 0; i < 1000; i++) console.log("line " + i)',
    "throw": 'throw new Error("boom")',
    "spin": "while (true) {}",
}
PYTHON = {
    "set": "x = 40\nx",
    "get": "x + 2",
    "two_lines": 'import asyncio\nprint("first")\nawait asyncio.sleep(0.4)\nprint("second")',
    "many_lines": 'for i in range(1000):\n    print("line", i)',
    "throw": 'raise ValueError("boom")',
    "spin": "while True:\n    pass",
}
CELLS = {"typescript": JAVASCRIPT, "javascript": JAVASCRIPT, "python": PYTHON, "cpython": PYTHON}


class Run:
    """What the sections share: the server, its process, and the options."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.engine = Engine(Client(options.base, dict(options.header)), options.mode)
        self.client = self.engine.client
        self.started: subprocess.Popen | None = None
        self.pid: int | None = options.pid

    def memory(self) -> float | None:
        """PSS of the server and all its processes."""
        return pss_mib(tree(self.pid)) if self.pid else None

    def cpu(self) -> float | None:
        return cpu_seconds(self.pid) if self.pid else None

    def stop(self) -> None:
        if self.started is None or self.started.poll() is not None:
            return
        os.killpg(self.started.pid, signal.SIGTERM)
        try:
            self.started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.started.pid, signal.SIGKILL)
            self.started.wait()


def started_server(run: Run) -> float:
    """Starts the server; milliseconds to its first 200."""
    options = run.options
    log = open(options.server_log, "wb") if options.server_log else subprocess.DEVNULL
    started = milliseconds()
    run.started = subprocess.Popen(
        shlex.split(options.start), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    while run.started.poll() is None and milliseconds() - started < START_SECONDS * 1000:
        try:
            status, _ = run.client.raw("GET", "/api/kernels", timeout=2)
            if status == 200:
                return milliseconds() - started
        except OSError:
            pass
        time.sleep(0.002)
    raise RuntimeError("the server did not come up")


def start(run: Run) -> dict:
    """Time to the first 200, if this starts the server, and memory at rest."""
    found = {}
    if run.options.start:
        found["start_to_first_200_ms"] = round(started_server(run), 1)
        run.pid = run.pid or run.started.pid
    else:
        run.client.json("GET", "/api/kernels")
    run.pid = run.pid or listener(urlsplit(run.options.base).port or 80)
    time.sleep(0.5)
    return {**found, "pid": run.pid, "idle_mib": run.memory()}


def http(run: Run) -> dict:
    return {"list_kernels_ms": summary([run.engine.timed("GET", "/api/kernels") for _ in range(300)])}


def density(run: Run, language: str) -> dict:
    """Memory of idle kernels, each of which has executed a cell."""
    engine = run.engine
    before = run.memory()
    rows = []
    kernels: list[str] = []
    try:
        for count in run.options.density:
            while len(kernels) < count:
                kernels.append(engine.create(language)[0])
                engine.execute(kernels[-1], "1+1")
            time.sleep(1)
            rows.append({"kernels": count, "mib": run.memory()})
        cpu = run.cpu()
        time.sleep(2)
        idle = None if cpu is None else round((run.cpu() - cpu) / 2 * 100, 2)
    finally:
        for kernel in kernels:
            engine.delete(kernel)
    time.sleep(1)
    return {"before_mib": before, "rows": rows, "idle_cpu_percent": idle, "after_delete_mib": run.memory()}


def create(run: Run, language: str) -> dict:
    kernels, times, deletions = [], [], []
    try:
        for _ in range(run.options.creates):
            kernel, took = run.engine.create(language)
            kernels.append(kernel)
            times.append(took)
    finally:
        for kernel in kernels:
            deletions.append(run.engine.delete(kernel))
    return {"first_ms": round(times[0], 1), "then_ms": summary(times[1:]), "delete_ms": summary(deletions)}


def execution(run: Run, language: str) -> dict:
    engine, cells = run.engine, CELLS[language]
    with engine.kernel(language) as kernel:

        def timed(code: str) -> tuple[float, list[dict]]:
            started = milliseconds()
            events = engine.execute(kernel, code)
            return milliseconds() - started, events

        first, events = timed("1+1")
        if result_text(events) != "2":
            raise RuntimeError(f"1+1 came to {events}")
        times = [timed("1+1")[0] for _ in range(run.options.n)]
        engine.execute(kernel, cells["set"])
        kept = engine.value(kernel, cells["get"]) == "42"
        printing, events = timed(cells["many_lines"])
        lines = printed_text(events).count("\n")
        failing, events = timed(cells["throw"])
        reported = any("error" in event["type"] and "boom" in json.dumps(event) for event in events)
        background = []
        for _ in range(min(50, run.options.n)):
            started = milliseconds()
            engine.result(kernel, engine.submit(kernel, "1+1"))
            background.append(milliseconds() - started)
    return {
        "first_exec_ms": round(first, 2),
        "exec_1plus1_ms": summary(times),
        "state_kept": kept,
        "submit_plus_result_ms": summary(background),
        "print_1000_lines_ms": round(printing, 1),
        "print_1000_lines_seen": lines,
        "error_reported": reported,
        "error_ms": round(failing, 1),
    }


def stream(run: Run, language: str) -> dict:
    """When the first output arrives, and whether output arrives while it is made."""
    outputs = ("execute_result", "stream", "display_data")
    with run.engine.kernel(language) as kernel:

        def times_of_outputs(code: str) -> list[float]:
            events = run.client.events("POST", f"/api/kernels/{kernel}/execute/stream", {"code": code}, 30)
            return [time for time, event in events if event["type"] in outputs]

        rounds = [times_of_outputs("1+1") for _ in range(max(3, min(20, run.options.n // 10)))]
        lines = times_of_outputs(CELLS[language]["two_lines"])
    return {
        "first_event_ms": summary([times[0] for times in rounds if times]),
        "events_missing": sum(not times for times in rounds),
        "incremental": bool(lines) and lines[-1] - lines[0] > 200,
    }


def throughput(run: Run, language: str) -> dict:
    """`1+1` in a loop by one client for each kernel. This program is what bounds it."""
    with run.engine.kernels(language, run.options.throughput_kernels) as kernels:
        end = time.monotonic() + run.options.seconds

        def work(kernel: str) -> tuple[list[float], int]:
            client, times, wrong = run.client.another(), [], 0
            while time.monotonic() < end:
                started = milliseconds()
                wrong += run.engine.value(kernel, "1+1", client) != "2"
                times.append(milliseconds() - started)
            client.close()
            return times, wrong

        cpu, started = run.cpu(), time.monotonic()
        with ThreadPoolExecutor(len(kernels)) as pool:
            answers = list(pool.map(work, kernels))
        took = time.monotonic() - started
        spent = None if cpu is None else run.cpu() - cpu
    times = [time for times, _ in answers for time in times]
    return {
        "kernels": len(kernels),
        "exec_per_s": round(len(times) / took, 1),
        "latency_ms": summary(times),
        "wrong_answers": sum(wrong for _, wrong in answers),
        "server_cpu_ms_per_exec": None if spent is None else round(spent * 1000 / len(times), 3),
    }


def interrupt(run: Run, language: str) -> dict:
    """An endless loop is interrupted; then the kernel must have its state and be restartable."""
    engine, cells = run.engine, CELLS[language]
    with engine.kernel(language) as kernel:
        engine.execute(kernel, cells["set"])
        ended = threading.Event()

        def spin() -> None:
            try:
                engine.execute(kernel, cells["spin"], run.client.another(25))
            except Exception:  # what the loop ends with is not looked at
                pass
            ended.set()

        threading.Thread(target=spin, daemon=True).start()
        time.sleep(0.7)
        listing = engine.timed("GET", "/api/kernels")
        interrupting = engine.act(kernel, "interrupt")
        found = {
            "list_while_spinning_ms": round(listing, 2),
            "interrupt_call_ms": round(interrupting, 1),
            "loop_ended": ended.wait(8),
            "state_kept_after": engine.value(kernel, cells["get"]) == "42",
            "restart_ms": round(engine.act(kernel, "restart"), 1),
        }
        return {**found, "usable_after_restart": engine.value(kernel, "1+1") == "2"}


def api(run: Run) -> dict:
    return conformance.check(run.client, run.options.langs[0], run.engine.tag)


def for_each_language(section: Callable[[Run, str], dict]) -> Callable[[Run], dict]:
    return lambda run: {language: section(run, language) for language in run.options.langs}


SECTIONS: dict[str, Callable[[Run], dict]] = {
    "start": start,
    "http": http,
    "density": for_each_language(density),
    "create": for_each_language(create),
    "exec": for_each_language(execution),
    "stream": for_each_language(stream),
    "throughput": for_each_language(throughput),
    "interrupt": for_each_language(interrupt),
    "api": api,
}


def measure(run: Run) -> dict:
    found: dict = {"base": run.options.base, "cores": os.cpu_count(), "load_before": os.getloadavg()}
    for name, section in SECTIONS.items():
        if name != "start" and name not in run.options.only:
            continue
        print(f"[{name}] ...", file=sys.stderr, flush=True)
        try:
            found[name] = section(run)
        except Exception as error:  # a section that fails must not cost the others
            run.client.close()
            found[name] = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(f"[{name}] {json.dumps(found[name])[:400]}", file=sys.stderr, flush=True)
        if name == "start" and "error" in found[name]:
            break
    return {**found, "load_after": os.getloadavg()}


def comma_separated(kind: type = str, allowed: tuple[str, ...] = ()) -> Callable[[str], list]:
    def parse(text: str) -> list:
        parts = [kind(part) for part in text.split(",") if part]
        unknown = [part for part in parts if allowed and part not in allowed]
        if unknown or not parts:
            raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(allowed)}" if allowed else f"{text!r} is empty")
        return parts

    return parse


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:VALUE")
    return name.strip(), value.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="http://127.0.0.1:8000", help="address of the server (%(default)s)")
    parser.add_argument("--start", metavar="COMMAND", help="starts the server, which is stopped at the end")
    parser.add_argument("--server-log", metavar="FILE", help="takes what the started server prints")
    parser.add_argument("--pid", type=int, help="process of the server (otherwise found by its port)")
    parser.add_argument("--header", type=header, action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument("--mode", default="worker", help="mode of the kernels (%(default)s)")
    parser.add_argument("--langs", type=comma_separated(allowed=tuple(CELLS)), default=["typescript"],
                        help=f"of {', '.join(CELLS)} (typescript)")
    parser.add_argument("--only", type=comma_separated(allowed=tuple(SECTIONS)), default=list(SECTIONS),
                        help=f"sections, of {', '.join(SECTIONS)} (all); `start` always runs")
    parser.add_argument("--n", type=int, default=200, help="executions (%(default)s)")
    parser.add_argument("--creates", type=int, default=10, help="kernels to create one after the other (%(default)s)")
    parser.add_argument("--density", type=comma_separated(int), default=[10, 50], help="numbers of idle kernels (10,50)")
    parser.add_argument("--throughput-kernels", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="how long throughput is measured (%(default)s)")
    run = Run(parser.parse_args())

    try:
        found = measure(run)
    finally:
        run.stop()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
