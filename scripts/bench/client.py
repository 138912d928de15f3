"""A client of the engine's HTTP API: one connection that is kept, and streams of events."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote, urlsplit

# Seconds that an answer may take. Python kernels that start cold on a busy machine need the longer time.
PATIENCE = 60.0
PATIENCE_OF_STARTS = 240.0

# The server has closed the connection while it was idle.
DROPPED = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


def milliseconds() -> float:
    return time.perf_counter() * 1000


class ApiError(Exception):
    def __init__(self, status: int, body: bytes):
        super().__init__(f"HTTP {status}: {body[:300].decode('utf-8', 'replace')}")
        self.status = status


class Client:
    """One connection to a server, for one thread."""

    def __init__(self, base: str, headers: dict[str, str] | None = None, timeout: float = PATIENCE):
        address = urlsplit(base)
        self.prefix = address.path.rstrip("/")
        self.headers = {"Content-Type": "application/json", **(headers or {})}
        self.timeout = timeout
        self.connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port or 80)

    def close(self) -> None:
        self.connection.close()

    def _send(self, method: str, path: str, body, timeout: float | None) -> http.client.HTTPResponse:
        self.connection.timeout = timeout or self.timeout
        if self.connection.sock is not None:
            self.connection.sock.settimeout(self.connection.timeout)
        data = None if body is None else json.dumps(body).encode()
        try:
            self.connection.request(method, self.prefix + path, body=data, headers=self.headers)
            return self.connection.getresponse()
        except BaseException:
            self.close()
            raise

    def open(self, method: str, path: str, body=None, timeout: float | None = None) -> http.client.HTTPResponse:
        """Sends a request, and returns the response once its head is there."""
        try:
            return self._send(method, path, body, timeout)
        except DROPPED:
            return self._send(method, path, body, timeout)

    def raw(self, method: str, path: str, body=None, timeout: float | None = None) -> tuple[int, bytes]:
        """Status and body."""
        response = self.open(method, path, body, timeout)
        try:
            return response.status, response.read()
        except BaseException:
            self.close()
            raise

    def json(self, method: str, path: str, body=None, timeout: float | None = None):
        """The body of a success, parsed."""
        status, data = self.raw(method, path, body, timeout)
        if status >= 400:
            raise ApiError(status, data)
        return json.loads(data) if data.strip() else None

    def events(self, method: str, path: str, body=None, timeout: float | None = None) -> Iterator[tuple[float, dict]]:
        """Each event of an NDJSON or SSE body, with the milliseconds since the request was sent."""
        started = milliseconds()
        response = self.open(method, path, body, timeout)
        if response.status >= 400:
            raise ApiError(response.status, response.read())
        try:
            for line in response:
                line = line.strip().removeprefix(b"data:").strip()
                if line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                    yield milliseconds() - started, json.loads(line)
        finally:
            # The rest of a stream that was given up must not be taken for the next answer.
            if not response.isclosed():
                self.close()


def result_text(events: list[dict]) -> str | None:
    """The plain text of the result, if there is one."""
    results = (event for event in events if event.get("type") == "execute_result")
    return next((event["data"]["data"].get("text/plain") for event in results), None)


class Engine:
    """The calls that measurements are made of."""

    def __init__(self, client: Client):
        self.client = client

    def create(self, language: str) -> str:
        """A kernel's id."""
        return self.client.json("POST", "/api/kernels", {"lang": language}, PATIENCE_OF_STARTS)["id"]

    def execute(self, kernel: str, code: str) -> list[dict]:
        """The events of a cell."""
        stream = self.client.events("POST", f"/api/kernels/{quote(kernel)}/execute", {"code": code})
        with closing(stream):
            return [event for _, event in stream]

    def value(self, kernel: str, code: str) -> str | None:
        return result_text(self.execute(kernel, code))

    def submit(self, kernel: str, code: str) -> str:
        """The session of a cell that runs in the background."""
        path = f"/api/kernels/{quote(kernel)}/execute/submit"
        return self.client.json("POST", path, {"code": code})["session_id"]

    def result(self, kernel: str, session: str) -> list[dict]:
        return self.client.json("GET", f"/api/kernels/{quote(kernel)}/execute/result/{session}")

    def act(self, kernel: str, action: str) -> float:
        """How many milliseconds a `POST` such as `interrupt` took, which must be a success."""
        started = milliseconds()
        self.client.json("POST", f"/api/kernels/{quote(kernel)}/{action}", {})
        return milliseconds() - started

    def busy(self, kernels: list[str]) -> int:
        """How many of these kernels are listed as busy."""
        return sum(row["id"] in kernels and row["status"] == "busy" for row in self.client.json("GET", "/api/kernels"))
