"""Runs a kernel's cells, and what they leave behind, on one event loop."""

import asyncio
import selectors
import signal
import socket
import sys
import time

# How long background work may go on before jobs that wait get their turn, in seconds.
SLICE = 0.01


class Selector(selectors.DefaultSelector):
    """Waits while a cell runs. Between cells it stops the loop where that would wait, and keeps
    for how long: the host waits then, for the next job as well."""

    stop = None
    slice_end = None
    wait = 0.0

    def select(self, timeout=None):
        if self.slice_end is None:
            return super().select(timeout)
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.wait = timeout
            self.stop()
        elif time.monotonic() >= self.slice_end:
            self.wait = 0.0
            self.stop()
        return ready


class Runner:
    def __init__(self, kernel, host):
        self._kernel = kernel
        self._selector = Selector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._selector.stop = self._loop.stop
        asyncio.set_event_loop(self._loop)
        # A signal ends the wait between cells too, so that its handler runs.
        self._wakeup = ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._loop.add_reader(ours.fileno(), ours.recv, 4096)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        kernel.attach(host)

    def fileno(self):
        return self._selector.fileno()

    def execute(self, code):
        return self._finish(self._kernel.execute(code))

    def comm(self, kind, body):
        return self._finish(self._kernel.comm(kind, body))

    def _finish(self, work):
        cell = self._loop.create_task(work)
        while not cell.done():
            try:
                self._loop.run_until_complete(cell)
            except BaseException as error:
                # What runs beside the cell ends neither the cell nor the kernel: `sys.exit()` is
                # told, `loop.stop()` has no meaning here.
                if self._loop.is_closed():
                    raise
                if not cell.done() and not isinstance(error, RuntimeError):
                    sys.excepthook(type(error), error, error.__traceback__)
        return cell.result()

    def run_program(self, source, path, arguments, ended):
        """Starts the main program of an app; `ended` is called with its exit code."""
        program = self._loop.create_task(self._kernel.run_program(source, path, arguments))
        program.add_done_callback(lambda program: ended(program.result()))

    def step(self):
        """Lets background work go on for a moment. Returns after how many seconds there will be
        more of it; `None` when only an event can bring some."""
        if self._loop.is_closed():
            return None
        selector = self._selector
        selector.slice_end = time.monotonic() + SLICE
        try:
            self._loop.run_forever()
        except KeyboardInterrupt:
            # Of a SIGINT handler that is not the kernel's. There is no cell to end.
            selector.wait = 0.0
        except BaseException as error:
            selector.wait = 0.0
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            selector.slice_end = None
        return selector.wait
