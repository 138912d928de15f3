"""Programs that cells start, their output streamed while they run."""

import codecs
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import IO, TextIO

_CHUNK_BYTES = 65536
_GRACE_SECONDS = 2.0
_LEFTOVER_SECONDS = 0.5


def run(command: str | Sequence[str], stdout: TextIO, stderr: TextIO) -> int:
    """Runs a shell command or a program, and returns its exit code (negative for a signal).

    An interrupt of the cell interrupts the program and everything it started.
    """
    process = subprocess.Popen(
        command,
        shell=isinstance(command, str),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    pumps = [_pump(process.stdout, stdout), _pump(process.stderr, stderr)]
    try:
        process.wait()
    except BaseException:
        _stop(process)
        raise
    finally:
        for pump in pumps:
            pump.join(_LEFTOVER_SECONDS)
    return process.returncode


def _pump(source: IO[bytes], target: TextIO) -> threading.Thread:
    """Copies a pipe to a stream. A background process may keep it open after the command."""

    def copy() -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with source:
            while chunk := source.read(_CHUNK_BYTES):
                target.write(decoder.decode(chunk))
        target.write(decoder.decode(b"", final=True))

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _stop(process: subprocess.Popen) -> None:
    _signal_group(process, signal.SIGINT)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
