"""Interrupts: where a SIGINT may raise, and what it stops where it may not.

Python raises KeyboardInterrupt wherever the main thread happens to be. In the event loop or in the
kernel's own code nobody could catch it, so the handler looks at the stack first.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from types import CodeType, FrameType
from typing import ParamSpec, TypeVar

from .frontend import ErrorReport

P = ParamSpec("P")
R = TypeVar("R")

_LOOP_CALLBACK: CodeType = asyncio.Handle._run.__code__
_LOOP_MODULES = frozenset({"asyncio", "pyodide", "selectors"})


class Cell:
    """One execution: its task, whether it was told to stop, and the errors shown in it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[str] | None = None
        self.interrupted = False
        self.interrupt_due = False
        self.errors: list[tuple[BaseException, ErrorReport]] = []

    def cancel(self) -> None:
        """Wakes the cell up from what it awaits. Any thread may ask."""
        self.interrupted = True
        if self.task is None:
            self.interrupt_due = True
        else:
            self.task.get_loop().call_soon_threadsafe(self.task.cancel)

    def raise_if_due(self) -> None:
        """Delivers an interrupt that came when it could not be raised."""
        if self.interrupt_due:
            self.interrupt_due = False
            raise KeyboardInterrupt

    def stopped(self, error: BaseException) -> bool:
        """Whether an error is the interrupt of this cell and no failure of its own."""
        return isinstance(error, KeyboardInterrupt) or (
            self.interrupted and isinstance(error, asyncio.CancelledError)
        )


def interruptible(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function that a SIGINT may end; the caller catches the KeyboardInterrupt."""
    return function(*args, **kwargs)


async def interruptible_await(awaitable: Awaitable[R], /) -> R:
    """Awaits what a SIGINT may end while it runs; the caller catches the KeyboardInterrupt."""
    return await awaitable


_ENTRY_POINTS = frozenset({interruptible.__code__, interruptible_await.__code__})


class Interrupts:
    """The SIGINT handler of a kernel."""

    def __init__(self) -> None:
        self._cell: Cell | None = None
        self._host_task: asyncio.Task | None = None

    def watch(self, cell: Cell, host_task: asyncio.Task | None) -> None:
        """Directs interrupts to a cell until the next. `host_task` is never disturbed."""
        self._cell = cell
        self._host_task = host_task
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._on_sigint)

    def _on_sigint(self, _signal: int, frame: FrameType | None) -> None:
        place = _enclosing(frame)
        if place in _ENTRY_POINTS:
            raise KeyboardInterrupt
        cell, task = self._cell, _current_task()
        if cell is not None:
            if task is not None and task is cell.task:
                cell.interrupt_due = True
                return
            cell.cancel()
            if cell.task is None:
                return
        if place is _LOOP_CALLBACK and task is not self._host_task and _may_cancel(task, frame):
            raise asyncio.CancelledError


def _enclosing(frame: FrameType | None) -> CodeType | None:
    """The innermost code around `frame` that would catch what is raised there."""
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code in _ENTRY_POINTS or frame.f_code is _LOOP_CALLBACK:
            return frame.f_code
    return None


def _current_task() -> asyncio.Task | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _may_cancel(task: asyncio.Task | None, frame: FrameType | None) -> bool:
    """A task takes a cancellation anywhere, a plain callback only in code that is not the loop's."""
    if task is not None:
        return True
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    return str(module).partition(".")[0] not in _LOOP_MODULES
