"""The main program of an app: a script that runs as `__main__`, beside cells."""

import ast
import asyncio
import inspect
import linecache
import sys
import traceback
from types import CodeType, TracebackType

from .interrupts import interruptible
from .shell import KernelShell


async def run(shell: KernelShell, source: str, path: str, arguments: list[str]) -> int:
    """Runs a script to its end, and what it leaves to do on the event loop. Returns its exit code."""
    sys.argv[:] = [path, *arguments]
    shell.user_ns["__file__"] = path
    # Tracebacks show lines of a script that this interpreter has no file of.
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    before = asyncio.all_tasks()
    try:
        code = _compiled(source, path)
        result = interruptible(eval, code, shell.user_global_ns, shell.user_ns)
        if inspect.iscoroutine(result):
            await result
        while tasks := _running(before):
            await asyncio.wait(tasks)
    except SystemExit as end:
        return _exit_code(end)
    except BaseException as error:
        traceback.print_exception(type(error), error, _scripts_part(error.__traceback__, path))
        return 1
    return 0


def check(name: str, source: str) -> dict[str, str]:
    """Whether a script can be compiled, and else where it cannot."""
    try:
        _compiled(source, name)
    except SyntaxError as error:
        place = f"{name}:{error.lineno or 1}:{error.offset or 1}"
        return {"status": "error", "message": f"{place}: {error.msg}"}
    except ValueError as error:
        return {"status": "error", "message": f"{name}: {error}"}
    return {"status": "ok"}


def _compiled(source: str, path: str) -> CodeType:
    return compile(source, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _running(before: set[asyncio.Task]) -> set[asyncio.Task]:
    return {task for task in asyncio.all_tasks() - before if not task.done()}


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    sys.stderr.write(f"{end.code}\n")
    return 1


def _scripts_part(tb: TracebackType | None, path: str) -> TracebackType | None:
    """The stack from the first frame of the script on; all of a syntax error's is ours."""
    while tb is not None and tb.tb_frame.f_code.co_filename != path:
        tb = tb.tb_next
    return tb
