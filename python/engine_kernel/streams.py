"""`sys.stdout`, `sys.stderr` and `print` as events, one for every write."""

import builtins
import codecs
import functools
import io
import sys
import threading
from collections.abc import Callable, Iterable

from .frontend import Frontend


class OutputStream(io.TextIOBase):
    """A text stream that holds nothing back; what follows at once leaves together."""

    encoding = "utf-8"
    errors = "replace"
    line_buffering = True
    write_through = True
    mode = "w"

    def __init__(self, frontend: Frontend, name: str, descriptor: int | None) -> None:
        self._frontend = frontend
        self._name = name
        self._descriptor = descriptor
        self.buffer = _ByteStream(self)

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    def write(self, text: str) -> None:  # type: ignore[override]
        """Returns nothing, so that a cell ending in a write has no result."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._frontend.stream(self._name, text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        self.write("".join(lines))

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def flush(self) -> None:
        self._frontend.flush()

    def close(self) -> None:
        """Stays open: the kernel outlives the code that closes its streams."""

    def reconfigure(self, **_options: object) -> None:
        """Programs call it to get the encoding that this stream has anyway."""

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor


class _ByteStream(io.BufferedIOBase):
    """The `buffer` of a text stream; characters may be split over writes."""

    def __init__(self, text_stream: OutputStream) -> None:
        self._text_stream = text_stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        chunk = bytes(data)
        with self._lock:
            text = self._decoder.decode(chunk)
        self._text_stream.write(text)
        return len(chunk)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text_stream.fileno()

    def close(self) -> None:
        """Stays open, as its text stream does."""


def whole_print(original: Callable[..., None] = builtins.print) -> Callable[..., None]:
    """A `print` that writes all of its text at once where that becomes an event."""

    @functools.wraps(original)
    def print(*values, sep=" ", end="\n", file=None, flush=False):  # noqa: A001
        target = sys.stdout if file is None else file
        if not isinstance(target, OutputStream):
            original(*values, sep=sep, end=end, file=file, flush=flush)
            return
        text = io.StringIO()
        original(*values, sep=sep, end=end, file=text)
        target.write(text.getvalue())
        if flush:
            target.flush()

    return print
