"""The kernel in Pyodide: packages from the distribution, pip through micropip.

Nothing here may touch JavaScript before `attach`: a memory snapshot is taken of the built kernel.
"""

import asyncio
import functools
import importlib
import importlib.util
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Awaitable
from collections.abc import Callable
from typing import Protocol

import IPython
from IPython.utils import PyColorize

from . import distribution
from . import pip_arguments
from .frontend import Host
from .kernel import Kernel
from .shell import KernelShell

_POLLING_STEPS = 1000
_PIP_CALL = re.compile(r"^([ \t]*)(get_ipython\(\)\.run_line_magic\(['\"]pip['\"],)", re.MULTILINE)


class PyodideShell(KernelShell):
    def transform_cell(self, raw_cell: str) -> str:
        """Lets `%pip` wait for downloads, which no magic can do by itself."""
        return _PIP_CALL.sub(r"\1await \2", super().transform_cell(raw_cell))

    def system(self, cmd: str) -> None:
        raise OSError(f"WebAssembly has no processes, so this cannot run: {cmd.strip()}")

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> None:
        self.system(cmd)

    async def pip(self, line: str) -> None:
        wanted = pip_arguments.parse(line)
        if not wanted.requirements:
            sys.stderr.write("%pip install: nothing to install\n")
            return
        before = _installed()
        await distribution.install(
            wanted.requirements,
            keep_going=True,
            deps=wanted.dependencies,
            pre=wanted.pre,
            reinstall=wanted.upgrade,
            verbose=1 if wanted.verbose else None,
        )
        importlib.invalidate_caches()
        if not wanted.quiet:
            news = sorted(_installed() - before)
            done = f"Successfully installed {' '.join(news)}" if news else "Nothing new to install"
            sys.stdout.write(f"{done}\n")


class PyodideKernel(Kernel):
    shell_class = PyodideShell

    def __init__(self) -> None:
        PyColorize.Theme.from_file = classmethod(_theme_from_zip)
        super().__init__()
        _warm_up(self._shell)

    def attach(self, host: "PyodideHost") -> None:
        super().attach(host)
        loop = asyncio.get_event_loop()
        loop._keyboard_interrupt_handler = lambda: None
        loop._system_exit_handler = lambda _code: None
        time.sleep = _interruptible_sleep(host)

    def begin(self, code: str) -> "str | asyncio.Task[str]":
        """Runs a cell until it ends or waits: how it ended, or the task that will tell. A turn of the event loop
        takes longer than a short cell."""
        loop = asyncio.get_running_loop()
        task = asyncio.Task(self.execute(code), loop=loop, eager_start=True)
        return task.result() if task.done() else task

    def begin_program(self, source: str, path: str, arguments: list[str]) -> asyncio.Task[int]:
        """Runs a main program until it ends or waits. A cell that comes right after finds what it has defined."""
        loop = asyncio.get_running_loop()
        program = self.run_program(source, path, arguments)
        return asyncio.Task(program, loop=loop, eager_start=True)

    async def _prepare(self, code: str) -> None:
        """Loads what the cell imports from the Pyodide distribution."""
        if "import" not in code:
            return
        missing = _missing_imports(self._shell.transform_cell(code))
        if missing:
            await _load_packages(missing)


@functools.cache
def kernel() -> PyodideKernel:
    """The kernel of this interpreter. A memory snapshot made after the first call has it built."""
    return PyodideKernel()


class PyodideHost(Host, Protocol):
    """What the JavaScript around Pyodide offers besides."""

    def sleep(self, seconds: float) -> bool:
        """Blocks the thread; `True` when an interrupt ended it early."""


def _interruptible_sleep(host: PyodideHost) -> Callable[[float], None]:
    """Pyodide's own lets the event loop run meanwhile, where an interrupt cannot reach the sleeper."""

    @functools.wraps(time.sleep)
    def sleep(seconds: float, /) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if host.sleep(float(seconds)):
            # Pyodide looks for interrupts only every so many bytecodes.
            for _ in range(_POLLING_STEPS):
                pass

    return sleep


def _installed() -> set[str]:
    import micropip

    return {f"{name}-{package.version}" for name, package in micropip.list().items()}


def _missing_imports(code: str) -> list[str]:
    from pyodide.code import find_imports

    return [name for name in find_imports(code) if not _importable(name)]


def _importable(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


async def _load_packages(modules: list[str]) -> None:
    """Failures are told and no more: the import that follows raises the error of the cell."""
    import pyodide_js

    complaints: list[str] = []

    async def attempt(loading: Awaitable[object]) -> list[str]:
        try:
            await loading
        except Exception as error:
            complaints.append(traceback.format_exception_only(error)[-1].strip())
        importlib.invalidate_caches()
        return [module for module in modules if not _importable(module)]

    lost = await attempt(
        pyodide_js.loadPackagesFromImports(
            "\n".join(f"import {module}" for module in modules),
            messageCallback=lambda _message: None,
            errorCallback=complaints.append,
        )
    )
    if lost and complaints:
        lost = await attempt(distribution.install_from_index(distribution.packages_of(lost)))
    if lost and complaints:
        sys.stderr.write(f"Could not load {', '.join(lost)}: {'; '.join(complaints)}\n")


def _theme_from_zip(
    theme: type[PyColorize.Theme], path: os.PathLike[str]
) -> PyColorize.Theme:
    """Reads one of IPython's themes, which may be in a zip as all of IPython is."""
    return theme.from_dict(json.loads(IPython.__loader__.get_data(os.fspath(path))))


def _warm_up(shell: KernelShell) -> None:
    """Imports what first cells need, so that the snapshot has it."""
    for module in (
        "IPython.core.magics",
        "pyodide.code",
    ):
        importlib.import_module(module)
    load_magics = getattr(shell.magics_manager, "load_all_lazy_magics", None)
    if load_magics is not None:
        load_magics()
    shell.transform_cell("%time 1")
    shell.display_formatter.format([1])
    try:
        exec(compile("1 / 0", "<warm-up>", "exec"), {})
    except ZeroDivisionError as error:
        shell.report(error)
