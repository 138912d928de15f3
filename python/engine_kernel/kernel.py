"""The kernel that a host drives."""

import asyncio
import builtins
import contextvars
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

from . import errors, intelligence, program, prompts
from .comms import Comms
from .frontend import ErrorReport, Frontend, Host
from .interrupts import Cell, Interrupts, interruptible
from .shell import KernelShell
from .streams import OutputStream, whole_print

_INLINE_BACKEND = "module://matplotlib_inline.backend_inline"


class Kernel:
    """A Python kernel. What a platform does in its own way is left to subclasses."""

    shell_class: type[KernelShell] = KernelShell
    descriptors: tuple[int | None, int | None] = (None, None)

    def __init__(self) -> None:
        self._frontend = Frontend()
        self._shell = self.shell_class.instance(frontend=self._frontend)
        self._interrupts = Interrupts()
        self._context = contextvars.copy_context()
        self._cell: Cell | None = None
        self._comms = Comms(self._frontend)

    def attach(self, host: Host) -> None:
        """Connects the kernel with its host and takes over the process's input and output."""
        self._frontend.connect(host)
        stdout, stderr = self.descriptors
        sys.stdout = OutputStream(self._frontend, "stdout", stdout)
        sys.stderr = OutputStream(self._frontend, "stderr", stderr)
        builtins.print = whole_print()
        prompts.install(self._frontend)

    def configure(self, env: Mapping[str, str], cwd: str) -> None:
        """Makes a blank kernel somebody's: their environment, folder and random numbers."""
        os.environ.clear()
        os.environ.update(env)
        os.environ.setdefault("MPLBACKEND", _INLINE_BACKEND)
        if hasattr(time, "tzset"):
            time.tzset()
        os.chdir(cwd)
        self._shell.history_manager.dir_hist[:] = [os.getcwd()]
        if sys.path[:1] != [""]:
            sys.path.insert(0, "")
        random.seed()
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()

    def rehearse(self) -> None:
        """The cells that follow are none of the user's, until `forget`."""
        self._shell.rehearse()

    def forget(self) -> None:
        self._shell.forget()

    def set_environment(self, variables: Mapping[str, str]) -> None:
        """Sets variables, and leaves others: some are made anew while the kernel runs."""
        os.environ.update(variables)

    async def execute(self, code: str) -> str:
        """Runs a cell; its events are out when this returns. Never raises."""

        async def run(cell: Cell) -> ErrorReport | None:
            await self._prepare(code)
            return await self._shell.run(code, cell)

        return await self._as_cell(run)

    async def comm(self, kind: str, body: str) -> str:
        """Hands a comm message to those who listen for it. Never raises."""

        async def deliver(cell: Cell) -> None:
            self._shell.cell = cell
            interruptible(self._comms.deliver, kind, body)

        return await self._as_cell(deliver)

    async def _as_cell(self, work: "Callable[[Cell], Awaitable[ErrorReport | None]]") -> str:
        """Does what an interrupt may end. Returns how it ended."""
        cell = Cell()
        options = {"eager_start": True} if sys.version_info >= (3, 12) else {}
        self._interrupts.watch(cell, asyncio.current_task())
        return await asyncio.Task(
            self._run(work, cell),
            loop=asyncio.get_running_loop(),
            context=self._context,
            **options,
        )

    async def run_program(self, source: str, path: str, arguments: list[str]) -> int:
        """Runs the main program of an app, beside cells. Returns its exit code. Never raises."""
        await self._prepare(source)
        return await program.run(self._shell, source, path, list(arguments))

    def cancel(self) -> bool:
        """Interrupts the cell that is parked in an await."""
        if self._cell is None:
            return False
        self._cell.cancel()
        return True

    def complete(self, code: str, cursor: int) -> str:
        try:
            reply = interruptible(intelligence.complete, self._shell, code, cursor)
        except BaseException:
            reply = intelligence.nothing_to_complete(code, cursor)
        return intelligence.encoded(reply)

    def inspect(self, code: str, cursor: int) -> str:
        try:
            reply = interruptible(intelligence.inspect, self._shell, code, cursor)
        except BaseException:
            reply = {"found": False, "data": {}, "metadata": {}, "status": "ok"}
        return intelligence.encoded(reply)

    def is_complete(self, code: str) -> str:
        try:
            reply = interruptible(intelligence.is_complete, self._shell, code)
        except BaseException:
            reply = {"status": "unknown"}
        return intelligence.encoded(reply)

    def check(self, name: str, code: str) -> str:
        try:
            reply = interruptible(program.check, name, code)
        except BaseException as error:
            reply = {"status": "error", "message": f"{name}: {error!r}"}
        return intelligence.encoded(reply)

    def comm_info(self, target_name: str | None) -> str:
        return intelligence.encoded({"status": "ok", "comms": self._comms.open(target_name)})

    async def _prepare(self, code: str) -> None:
        """What a platform does before a cell runs."""

    async def _run(
        self, work: "Callable[[Cell], Awaitable[ErrorReport | None]]", cell: Cell
    ) -> str:
        cell.task = asyncio.current_task()
        self._cell = cell
        try:
            report = await work(cell)
        except BaseException as error:
            report = self._last_report(error, cell)
        self._cell = self._shell.cell = None
        cell.errors.clear()
        if report is None:
            return "ok"
        self._frontend.error(report)
        return "interrupted" if report["ename"] == "KeyboardInterrupt" else "error"

    def _last_report(self, error: BaseException, cell: Cell) -> ErrorReport:
        """An error that got past the shell: an interrupt of our own code, or a defect of it."""
        if cell.stopped(error):
            return errors.bare_interruption()
        try:
            return interruptible(errors.report, self._shell, error)
        except BaseException:
            return errors.bare(error)
