"""ipykernel under jupyter_client, measured as the Python kernels of the engine are."""

from __future__ import annotations

import statistics
import time

from client import milliseconds
from jupyter_client.manager import KernelManager
from processes import pss_mib, tree

ANSWER_SECONDS = 60
OUTPUTS = ("execute_result", "stream", "error", "display_data")


class Kernel:
    def __init__(self):
        self.manager = KernelManager(kernel_name="python3")
        started = milliseconds()
        self.manager.start_kernel()
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

    def value(self, code: str) -> str:
        return self.execute(code)[-1][1]["content"]["data"]["text/plain"]

    def timed(self, code: str) -> float:
        started = milliseconds()
        self.execute(code)
        return milliseconds() - started

    def first_output(self, code: str) -> float:
        started = milliseconds()
        return self.execute(code)[0][0] - started

    def interrupt(self) -> float:
        message = self.client.execute("while True: pass")
        time.sleep(0.5)
        started = milliseconds()
        self.manager.interrupt_kernel()
        self.end_of(message)
        return milliseconds() - started


def measure(executions: int = 200, starts: int = 5) -> dict[str, float]:
    """Medians, under the names of the rows in python.py. Every kernel of it starts cold."""
    started = []
    for _ in range(starts):
        kernel = Kernel()
        started.append(kernel.start)
        kernel.close()
    cold = statistics.median(started)
    kernel = Kernel()
    try:
        kernel.execute("x = 41")
        one = statistics.median(kernel.timed("1+1") for _ in range(executions))
        first = statistics.median(kernel.first_output("print('x')") for _ in range(50))
        memory = pss_mib(tree(kernel.manager.provisioner.pid))
        interrupt = statistics.median(kernel.interrupt() for _ in range(10))
        assert kernel.value("x") == "41", "the state is lost"
    finally:
        kernel.close()
    return {
        "cold": cold, "ready": cold, "one": one, "print": first, "interrupt": interrupt, "restart": cold, "pss": memory,
    }
