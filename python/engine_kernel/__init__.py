"""The shell inside Python kernels: IPython, speaking a kernel server's events.

A host builds a `Kernel` (`engine_kernel._cpython.CPythonKernel` or
`engine_kernel._pyodide.PyodideKernel`), attaches itself, and awaits `execute` for every cell.
"""

from . import lean_import  # noqa: F401  (before anything imports IPython)
from .frontend import Host
from .kernel import Kernel

__all__ = ["Host", "Kernel"]
