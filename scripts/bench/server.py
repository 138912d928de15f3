"""A server of the engine that a measuring script starts and stops."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from processes import pss_mib, tree

PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, pause: float = 0.005) -> float:
    """Seconds until `condition` holds."""
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE:
        try:
            if condition():
                return time.monotonic() - start
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(pause)
    raise SystemExit("gave up waiting")


class Server:
    """A server of its own, on a free port of 127.0.0.1 and with a data folder that goes with it."""

    def __init__(
        self, binary: str, environment: dict[str, str] | None = None, arguments: list[str] | None = None,
        log: Path | None = None,
    ):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        self.data = Path(self.folder.name) / "data"
        command = [binary, "serve", "--host", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.data)]
        log = log or Path(self.folder.name) / "server.log"
        started = time.perf_counter()
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, *(arguments or [])], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, **(environment or {})}, start_new_session=True)
        self.base = f"http://127.0.0.1:{self.port}"
        self.connection = self.connect()
        wait_for(lambda: self.is_up() or self.process.poll() is not None, pause=0.0005)
        # Milliseconds to the first 200.
        self.start = (time.perf_counter() - started) * 1e3
        if self.process.poll() is not None:
            raise SystemExit(f"the server did not come up:\n{log.read_text()[-2000:]}")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def is_up(self) -> bool:
        try:
            self.call("GET", "/api/kernels")
            return True
        except OSError:
            self.connection.close()
            return False

    def text(self, method: str, path: str, body=None) -> str:
        """The text of an answer, which must be a success."""
        self.connection.request(method, path, body=None if body is None else json.dumps(body))
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {text[:500]}")
        return text

    def call(self, method: str, path: str, body=None):
        """The JSON of an answer, which must be a success."""
        return json.loads(self.text(method, path, body))

    def memory(self, own: bool = False) -> float:
        """PSS of the server and all its processes, or of their own pages, in MiB."""
        return pss_mib(tree(self.process.pid), own)

    def kernels(self) -> list[str]:
        return [kernel["id"] for kernel in self.call("GET", "/api/kernels")]

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        self.folder.cleanup()
