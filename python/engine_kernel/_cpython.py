"""The kernel in an embedded CPython: processes, pip and forks."""

import importlib
import os
import shlex
import subprocess
import sys

from . import processes
from .frontend import Host, OrphanHost
from .kernel import Kernel
from .shell import KernelShell


class CPythonShell(KernelShell):
    def system(self, cmd: str) -> None:
        command = self.var_expand(cmd, depth=1)
        code = processes.run(command)
        self.user_ns["_exit_code"] = code
        if code and self.system_raise_on_error:
            raise subprocess.CalledProcessError(code, command)

    def pip(self, line: str) -> None:
        processes.run([sys.executable, "-m", "pip", *shlex.split(line)])
        importlib.invalidate_caches()


class CPythonKernel(Kernel):
    shell_class = CPythonShell
    descriptors = (1, 2)

    def attach(self, host: Host) -> None:
        super().attach(host)
        os.register_at_fork(after_in_child=lambda: self._frontend.connect(OrphanHost()))
