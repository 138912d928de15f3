"""The kernel in an embedded CPython: processes, pip and forks."""

import contextlib
import importlib
import io
import os
import shlex
import subprocess
import sys

from IPython.utils.text import LSString, SList

from . import processes
from .frontend import Host, OrphanHost
from .interrupts import Cell
from .kernel import Kernel
from .shell import KernelShell


class CPythonShell(KernelShell):
    def system(self, cmd: str) -> None:
        command = self.var_expand(cmd, depth=1)
        self._finish(command, processes.run(command, sys.stdout, sys.stderr))

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> SList | LSString:
        command = self.var_expand(cmd, depth=depth + 1)
        output = io.StringIO()
        self._finish(command, processes.run(command, output, output))
        text = output.getvalue()
        return SList(text.splitlines()) if split else LSString(text)

    def pip(self, line: str) -> None:
        command = [sys.executable, "-m", "pip", *shlex.split(line)]
        self._finish(shlex.join(command), processes.run(command, sys.stdout, sys.stderr))
        importlib.invalidate_caches()

    def _finish(self, command: str, code: int) -> None:
        self.user_ns["_exit_code"] = code
        if code and self.system_raise_on_error:
            raise subprocess.CalledProcessError(code, command)


# Cells that do what most kernels do.
_REHEARSAL = ("1 + 1\n", "{'a': [1, 'a'], 'b': 1.5}\n", "1 / 0\n")


class CPythonKernel(Kernel):
    shell_class = CPythonShell
    descriptors = (1, 2)

    def warm_up(self) -> None:
        """Runs cells that touch what most cells do, so that kernels which are forked find it done and share its memory."""
        self.rehearse()
        for code in _REHEARSAL:
            # None of them waits for anything.
            with contextlib.suppress(StopIteration):
                self._shell.run(code, Cell()).send(None)
        self._shell.cell = None
        self.forget()

    def attach(self, host: Host) -> None:
        super().attach(host)
        os.register_at_fork(after_in_child=lambda: self._frontend.connect(OrphanHost()))
