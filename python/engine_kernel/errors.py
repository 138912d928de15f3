"""Exceptions as error reports: IPython's traceback of the user's part of the stack."""

import os
import traceback
from types import TracebackType
from typing import TYPE_CHECKING

import IPython
from IPython.core.error import UsageError

from .frontend import ErrorReport
from .text import safe_str, without_ansi

if TYPE_CHECKING:
    from .shell import KernelShell

INTERRUPTED = "Execution interrupted by user"
_OWN = os.path.join(os.path.dirname(__file__), "")
_PLUMBING = (_OWN, os.path.join(os.path.dirname(IPython.__file__), ""))


def report(shell: "KernelShell", error: BaseException) -> ErrorReport:
    """Describes an error that user code raised. Never raises an Exception."""
    try:
        lines = _render(shell, error, _users_part(error.__traceback__))
    except Exception:
        lines = _fallback(error)
    return {
        "ename": type(error).__name__,
        "evalue": without_ansi(_value(error)),
        "traceback": [without_ansi(safe_str(line)) for line in lines],
    }


def interruption(shell: "KernelShell", tb: TracebackType | None) -> ErrorReport:
    """Describes an interrupt that hit the code of `tb`."""
    return report(shell, KeyboardInterrupt(INTERRUPTED).with_traceback(tb))


def bare(error: BaseException, value: str = "") -> ErrorReport:
    """Names an error without running any code of its class."""
    name = type(error).__name__
    return {"ename": name, "evalue": value, "traceback": [f"{name}: {value}" if value else name]}


def bare_interruption() -> ErrorReport:
    """An interrupt of code that has no place to show."""
    return bare(KeyboardInterrupt(), INTERRUPTED)


def _value(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return safe_str(0 if error.code is None else error.code)
    return safe_str(error)


def _users_part(tb: TracebackType | None) -> TracebackType | None:
    """The stack from the first frame of the cell on, without the frames of this package."""
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_PLUMBING):
        tb = tb.tb_next
    kept = []
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(_OWN):
            kept.append(tb)
        tb = tb.tb_next
    part = None
    for entry in reversed(kept):
        part = TracebackType(part, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return part


def _render(
    shell: "KernelShell", error: BaseException, tb: TracebackType | None
) -> list[str]:
    kind = type(error)
    if isinstance(error, (UsageError, SystemExit)):
        return [f"{kind.__name__}: {_value(error)}"]
    if isinstance(error, SyntaxError):
        return shell.SyntaxTB.structured_traceback(kind, error, traceback.extract_tb(tb))
    if hasattr(error, "_render_traceback_"):
        return error._render_traceback_()
    if _has_group(error):
        return traceback.format_exception(kind, error, tb)
    if tb is None:
        return traceback.format_exception_only(kind, error)
    return shell.InteractiveTB.structured_traceback(kind, error, tb, tb_offset=0)


def _has_group(error: BaseException | None) -> bool:
    """IPython cannot render exception groups, at whatever place of the chain."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BaseExceptionGroup):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _fallback(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(
            type(error), error, _users_part(error.__traceback__)
        )
    except Exception:
        return [type(error).__name__]
