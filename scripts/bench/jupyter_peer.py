"""Kernels under jupyter_client, measured as those of the engine are: ipykernel, and the kernel that Deno brings.

Speech is over ZeroMQ, without HTTP. jupyter_client is imported when it is used, so that without it these peers are named as
not had.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from client import milliseconds
from languages import CELLS, ONE
from processes import pss_mib, tree
from report import percentile
from rounds import Values

ANSWER_SECONDS = 60
OUTPUTS = ("execute_result", "stream", "error", "display_data")
# Kernels that are there at once.
KERNELS = 5
EXECUTIONS = 200
SETTLE = 2.0


def deno_program() -> Path:
    """The one that the package `deno` puts beside the interpreter."""
    program = Path(sys.executable).with_name("deno")
    if not program.exists():
        raise ImportError(f"no {program}: the package deno is not installed")
    return program


class Kernel:
    """One kernel of a Jupyter kernel specification, and how many milliseconds it took until it was ready."""

    def __init__(self, name: str):
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name=name)
        started = milliseconds()
        self.manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=ANSWER_SECONDS)
        self.start = milliseconds() - started

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def end_of(self, message: str) -> list[tuple[float, dict]]:
        """The outputs of an execution, each with its time, once its reply and its last status are there."""
        outputs = []
        while True:
            found = self.client.get_iopub_msg(timeout=ANSWER_SECONDS)
            if found["parent_header"].get("msg_id") != message:
                continue
            if found["msg_type"] in OUTPUTS:
                outputs.append((milliseconds(), found))
            if found["msg_type"] == "status" and found["content"]["execution_state"] == "idle":
                break
        while self.client.get_shell_msg(timeout=ANSWER_SECONDS)["parent_header"].get("msg_id") != message:
            pass
        return outputs

    def execute(self, code: str) -> list[tuple[float, dict]]:
        return self.end_of(self.client.execute(code))

    def timed(self, code: str) -> float:
        started = milliseconds()
        self.execute(code)
        return milliseconds() - started

    def first_output(self, code: str) -> float:
        started = milliseconds()
        return self.execute(code)[0][0] - started

    def interrupt(self, code: str) -> float:
        message = self.client.execute(code)
        time.sleep(0.5)
        started = milliseconds()
        self.manager.interrupt_kernel()
        self.end_of(message)
        return milliseconds() - started

    def restart(self) -> float:
        started = milliseconds()
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready(timeout=ANSWER_SECONDS)
        return milliseconds() - started


def lifecycle(name: str) -> dict[str, float]:
    kernels: list[Kernel] = []
    try:
        kernels += (Kernel(name) for _ in range(KERNELS))
        cells = [kernel.timed(ONE) for kernel in kernels]
        time.sleep(SETTLE)
        memory = pss_mib([process for kernel in kernels for process in tree(kernel.manager.provisioner.pid)])
        restart = kernels[0].restart()
    finally:
        for kernel in kernels:
            kernel.close()
    starts = [kernel.start for kernel in kernels]
    return {
        "cold": statistics.median(starts), "cold95": percentile(starts, 95), "cell": statistics.median(cells),
        "pss": memory / KERNELS, "restart": restart,
    }


def cells(name: str, language: str, interrupts: bool) -> dict[str, float]:
    kernel = Kernel(name)
    try:
        for _ in range(20):
            kernel.execute(ONE)
        code = CELLS[language]
        times = [kernel.timed(ONE) for _ in range(EXECUTIONS)]
        found = {
            "one": statistics.median(times),
            "one95": percentile(times, 95),
            "stream": statistics.median(kernel.first_output(code["print"]) for _ in range(50)),
            "lines": statistics.median(kernel.timed(code["lines"]) for _ in range(5)),
        }
        if interrupts:
            found["loop"] = statistics.median(kernel.interrupt(code["endless"]["loop"]) for _ in range(5))
        return found
    finally:
        kernel.close()


def named(values: dict[str, float], language: str) -> Values:
    return {f"{language}.{key}": value for key, value in values.items()}


def ipykernel_lifecycle(language: str) -> Values:
    return named(lifecycle("python3"), language)


def ipykernel_cells(language: str) -> Values:
    return named(cells("python3", language, interrupts=True), language)


class DenoSpecification:
    """Makes the kernel of Deno known under the name `deno` while it lasts."""

    def __enter__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.before = os.environ.get("JUPYTER_PATH")
        folder = Path(self.folder.name) / "kernels" / "deno"
        folder.mkdir(parents=True)
        command = [str(deno_program()), "jupyter", "--kernel", "--conn", "{connection_file}"]
        (folder / "kernel.json").write_text(
            json.dumps({"argv": command, "display_name": "Deno", "language": "typescript", "env": {"DENO_NO_UPDATE_CHECK": "1"}}))
        os.environ["JUPYTER_PATH"] = self.folder.name

    def __exit__(self, *_exception) -> None:
        if self.before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = self.before
        self.folder.cleanup()


def deno_lifecycle(language: str) -> Values:
    with DenoSpecification():
        return named(lifecycle("deno"), language)


def deno_cells(language: str) -> Values:
    """Without interrupts: this kernel has none."""
    with DenoSpecification():
        return named(cells("deno", language, interrupts=False), language)
