"""What clients see of a kernel: the events, and the one place they leave through."""

import base64
import json
import os
from collections.abc import Iterable, Mapping
from typing import Protocol, TypedDict

from .bundles import clean, clean_bundle
from .text import valid


# Made once: `json.dumps` would make one for each event.
_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


class Host(Protocol):
    """The process around the kernel. All methods may be called from any thread."""

    def emit(self, kind: str, data: str) -> None:
        """Sends one event; `data` is the JSON text of its data member."""

    def input(self, prompt: str, password: bool) -> str | None:
        """Asks the user and blocks; `None` is a cancelled prompt."""

    def flush(self) -> None:
        """Sends what waits a moment for more to follow."""


class ErrorReport(TypedDict):
    """What an error is reported with."""

    ename: str
    evalue: str
    traceback: list[str]


class Frontend:
    """Turns output into the host's events. Says nothing until a host is there."""

    def __init__(self) -> None:
        self._host: Host | None = None

    def connect(self, host: Host) -> None:
        self._host = host

    def stream(self, name: str, text: str) -> None:
        if text:
            self._emit("stream", {"name": name, "text": valid(text)})

    def result(
        self, count: int, data: Mapping[str, object], metadata: Mapping[str, object] | None
    ) -> None:
        self._emit(
            "execute_result",
            {
                "execution_count": count,
                "data": clean_bundle(data),
                "metadata": clean_bundle(metadata),
            },
        )

    def display(
        self,
        data: Mapping[str, object],
        metadata: Mapping[str, object] | None,
        transient: Mapping[str, object] | None,
        update: bool,
    ) -> None:
        event: dict[str, object] = {
            "data": clean_bundle(data),
            "metadata": clean_bundle(metadata),
        }
        if transient:
            event["transient"] = clean_bundle(transient)
        self._emit("update_display_data" if update else "display_data", event)

    def clear(self, wait: bool) -> None:
        self._emit("clear_output", {"wait": bool(wait)})

    def error(self, report: ErrorReport) -> None:
        self._emit(
            "error",
            {
                "status": "error",
                "ename": valid(report["ename"]),
                "evalue": valid(report["evalue"]),
                "traceback": [valid(line) for line in report["traceback"]],
            },
        )

    def comm(
        self,
        kind: str,
        content: Mapping[str, object],
        metadata: Mapping[str, object] | None,
        buffers: Iterable[bytes | bytearray | memoryview] | None,
    ) -> None:
        self._emit(
            kind,
            {
                "content": clean(content),
                "metadata": clean(metadata or {}),
                "buffers": [
                    base64.b64encode(memoryview(buffer).tobytes()).decode("ascii")
                    for buffer in buffers or ()
                ],
            },
        )

    def ask(self, prompt: str, password: bool) -> str | None:
        return self._host.input(valid(prompt), password) if self._host else None

    def flush(self) -> None:
        if self._host is not None:
            self._host.flush()

    def _emit(self, kind: str, data: Mapping[str, object]) -> None:
        if self._host is not None:
            self._host.emit(kind, _json(data))


class OrphanHost:
    """The host of a process that user code forked.

    The real host's socket belongs to the parent: a second writer would corrupt its frames.
    """

    def emit(self, kind: str, data: str) -> None:
        if kind == "stream":
            stream = json.loads(data)
            descriptor = 2 if stream["name"] == "stderr" else 1
            os.write(descriptor, stream["text"].encode())

    def input(self, prompt: str, password: bool) -> str | None:
        return None

    def flush(self) -> None:
        pass
