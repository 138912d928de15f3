"""Peers that are no Jupyter kernels: workerd with its loader of workers, and Monty, an interpreter of a part of Python.

workerd is an HTTP server as the engine is, and wrk asks it in the same way. It runs modules and has no cells: a "cell" is a
request to a worker whose module computes `1 + 1`, "created cold" is a worker that was not there together with its first request. Monty
is a pool of processes without HTTP; "created cold" is a session of it together with its first cell.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import load
from client import milliseconds
from languages import ONE
from processes import pss_mib, tree
from report import percentile
from rounds import Values
from server import free_port, wait_for

ISOLATES = 50
SESSIONS = 30
KERNELS = 10
SEQUENTIAL = 2000
SETTLE = 2.0

CONFIGURATION = """
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:%d", http = (), service = "main")],
);
const main :Workerd.Worker = (
  modules = [(name = "main", esModule = embed "main.js")],
  compatibilityDate = "2026-01-01",
  bindings = [(name = "LOADER", workerLoader = ())],
);
"""
LOADER = """
export default {
  async fetch(request, env) {
    const id = new URL(request.url).searchParams.get("id");
    if (id === null) return new Response("up");
    const worker = env.LOADER.get(id, () => ({
      compatibilityDate: "2026-01-01",
      mainModule: "cell.js",
      modules: { "cell.js": "export default { fetch() { return new Response(String(1 + 1)); } }" },
      globalOutbound: null,
    }));
    return await worker.getEntrypoint().fetch(request);
  },
};
"""


class Workerd:
    """A server on a free port, and how many milliseconds its start took."""

    def __init__(self, folder: Path):
        program = os.environ.get("BENCH_WORKERD") or shutil.which("workerd")
        if not program:
            raise ImportError("no workerd: BENCH_WORKERD does not name one")
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        (folder / "config.capnp").write_text(CONFIGURATION % port)
        (folder / "main.js").write_text(LOADER)
        started = milliseconds()
        self.process = subprocess.Popen(
            [program, "serve", "--experimental", str(folder / "config.capnp")], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        wait_for(self.is_up, pause=0.0005)
        self.start = milliseconds() - started

    def is_up(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError("workerd did not come up")
        try:
            self.connection.request("GET", "/")
            return self.connection.getresponse().read() == b"up"
        except OSError:
            self.connection.close()
            return False

    def memory(self) -> float:
        return pss_mib(tree(self.process.pid))

    def close(self) -> None:
        self.connection.close()
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


@contextmanager
def workerd() -> Iterator[Workerd]:
    with tempfile.TemporaryDirectory() as folder:
        server = Workerd(Path(folder))
        try:
            yield server
        finally:
            server.close()


def isolates(server: Workerd, count: int) -> tuple[list[str], list[float]]:
    paths = [f"/?id=worker{number}" for number in range(count)]
    return paths, load.times(server.base, "GET", paths, expected="2")


def workerd_start() -> Values:
    with workerd() as server:
        time.sleep(SETTLE)
        return {"start": server.start, "idle": server.memory()}


def workerd_lifecycle(language: str) -> Values:
    with workerd() as server:
        alone = server.memory()
        _, created = isolates(server, ISOLATES)
        time.sleep(SETTLE)
        full = server.memory()
    return {
        f"{language}.cold": statistics.median(created),
        f"{language}.cold95": percentile(created, 95),
        f"{language}.pss": (full - alone) / ISOLATES,
        f"{language}.whole": full / ISOLATES,
    }


def workerd_cells(language: str) -> Values:
    with workerd() as server:
        paths, _ = isolates(server, KERNELS)
        load.times(server.base, "GET", paths, expected="2", count=SEQUENTIAL // 10)
        sequential = load.times(server.base, "GET", paths[:1], expected="2", count=SEQUENTIAL)
        rate = load.rate(server.base, "GET", paths, expected="2", connections=KERNELS)
    return {
        f"{language}.one": statistics.median(sequential),
        f"{language}.one95": percentile(sequential, 95),
        f"{language}.rate": rate,
    }


def monty_lifecycle(language: str) -> Values:
    from pydantic_monty import Monty

    with Monty(max_processes=SESSIONS + 1) as pool:
        with pool.checkout() as session:
            session.feed_run(ONE)
        alone = pss_mib(tree(os.getpid()))
        held, created = [], []
        try:
            for _ in range(SESSIONS):
                started = milliseconds()
                checkout = pool.checkout()
                session = checkout.__enter__()
                held.append(checkout)
                if session.feed_run(ONE) != 2:
                    raise RuntimeError("a wrong answer")
                created.append(milliseconds() - started)
            time.sleep(SETTLE)
            full = pss_mib(tree(os.getpid()))
        finally:
            for checkout in held:
                checkout.__exit__(None, None, None)
    return {
        f"{language}.cold": statistics.median(created),
        f"{language}.cold95": percentile(created, 95),
        f"{language}.pss": (full - alone) / SESSIONS,
    }


def monty_cells(language: str) -> Values:
    from pydantic_monty import Monty

    with Monty(max_processes=1) as pool, pool.checkout() as session:
        times = []
        for _ in range(SEQUENTIAL):
            started = milliseconds()
            session.feed_run(ONE)
            times.append(milliseconds() - started)
    times = times[SEQUENTIAL // 10:]
    return {f"{language}.one": statistics.median(times), f"{language}.one95": percentile(times, 95)}
