"""IPython's shell without files, terminals and colours, its output going to the frontend."""

import sys

from traitlets import Any, Type, default
from traitlets.config import Config
from IPython.core import interactiveshell
from IPython.core.autocall import ExitAutocall
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.profiledir import ProfileDir

from . import errors
from .display import EventDisplayHook, EventDisplayPublisher
from .frontend import ErrorReport, Frontend
from .interrupts import Cell, interruptible, interruptible_await
from .magics import KernelMagics
from .shortcuts import Shortcuts


class _MemoryStore(dict):
    """What magics remember between sessions; here it ends with the kernel."""

    def __init__(self, _location: object = None) -> None:
        super().__init__()


if hasattr(interactiveshell, "PickleShareDB"):
    interactiveshell.PickleShareDB = _MemoryStore


class _Exit(ExitAutocall):
    """`exit` and `quit`: a SystemExit, as everywhere in Python."""

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


class KernelShell(InteractiveShell):
    """The shell of one kernel."""

    frontend = Any()
    shortcuts = Any()
    displayhook_class = Type(EventDisplayHook)
    display_pub_class = Type(EventDisplayPublisher)

    def __init__(self, frontend: Frontend, **options: object) -> None:
        self.cell: Cell | None = None
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryManager.hist_file = ":memory:"
        config.IPCompleter.use_jedi = False
        super().__init__(
            frontend=frontend,
            config=config,
            colors="nocolor",
            display_page=True,
            **options,
        )
        self.db = _MemoryStore()
        self.shortcuts = Shortcuts(self)

    @default("exiter")
    def _exiter_default(self) -> ExitAutocall:
        return _Exit(self)

    def init_ipython_dir(self, ipython_dir: object) -> None:
        """Leaves the folder unset: a kernel reads and writes nothing of the user's IPython."""

    def init_profile_dir(self, profile_dir: object) -> None:
        self.profile_dir = ProfileDir()

    def init_virtualenv(self) -> None:
        """The interpreter's own paths hold: a VIRTUAL_ENV of the server is none of the kernel's."""

    def init_magics(self) -> None:
        super().init_magics()
        self.register_magics(KernelMagics)

    def enable_gui(self, gui: object = None) -> None:
        """There is no window system to integrate with."""

    def rehearse(self) -> None:
        """Remembers what cells change, for `forget`."""
        self._before = (dict(self.user_ns), dict(self.user_ns_hidden))

    def forget(self) -> None:
        """Makes the shell as it was before it rehearsed."""
        names, hidden = self._before
        del self._before
        self.user_ns.clear()
        self.user_ns.update(names)
        self.user_ns_hidden.clear()
        self.user_ns_hidden.update(hidden)
        history = self.history_manager
        history.reset(new_session=True)
        history._i00 = history._i = history._ii = history._iii = ""
        hook = self.displayhook
        hook._ = hook.__ = hook.___ = ""
        self.execution_count = 1
        self.last_execution_result = None
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(name, None)

    def transform_cell(self, raw_cell: str) -> str:
        if self.shortcuts.is_python(raw_cell):
            return raw_cell if raw_cell.endswith("\n") else f"{raw_cell}\n"
        return super().transform_cell(raw_cell)

    async def run(self, code: str, cell: Cell) -> ErrorReport | None:
        """Runs a cell with all that IPython does around it. Returns how it failed."""
        self.cell = cell
        failed_transform = None
        try:
            transformed = interruptible(self.transform_cell, code)
        except Exception:
            transformed, failed_transform = code, sys.exc_info()
        try:
            result = await self.run_cell_async(
                code,
                store_history=True,
                transformed_cell=transformed,
                preprocessing_exc_tuple=failed_transform,
            )
        finally:
            interruptible(self.events.trigger, "post_execute")
        interruptible(self.events.trigger, "post_run_cell", result)
        return self._verdict(cell, result.error_before_exec or result.error_in_exec)

    async def run_code(self, code_obj, result=None, *, async_=False):
        """Runs one compiled statement. Everything that can come out of it is caught."""
        __tracebackhide__ = "__ipython_bottom__"
        self.sys_excepthook, sys.excepthook = sys.excepthook, self.excepthook
        try:
            if self.cell is not None:
                self.cell.raise_if_due()
            if async_:
                await interruptible_await(eval(code_obj, self.user_global_ns, self.user_ns))
            else:
                interruptible(exec, code_obj, self.user_global_ns, self.user_ns)
        except self.custom_exceptions as error:
            if result is not None:
                result.error_in_exec = error
            self.CustomTB(type(error), error, error.__traceback__)
        except GeneratorExit:
            raise
        except BaseException as error:
            if result is not None:
                result.error_in_exec = error
            self.showtraceback((type(error), error, error.__traceback__))
        else:
            return False
        finally:
            sys.excepthook = self.sys_excepthook
        return True

    def showtraceback(
        self,
        exc_tuple=None,
        filename=None,
        tb_offset=None,
        exception_only=False,
        running_compiled_code=False,
    ):
        """Keeps the report for the end of the cell; outside of cells it is for stderr."""
        try:
            _, error, _ = self._get_exc_info(exc_tuple)
        except ValueError:
            sys.stderr.write("No traceback available to show.\n")
            return
        cell = self.cell
        if cell is None:
            self._write_report(self.report(error))
        else:
            cell.errors.append((error, self.report(error)))

    def showsyntaxerror(self, filename=None, running_compiled_code=False):
        self.showtraceback()

    def report(self, error: BaseException) -> ErrorReport:
        """Describes an error, or the interrupt that it stands for."""
        try:
            if self.cell is not None and self.cell.stopped(error):
                return interruptible(errors.interruption, self, error.__traceback__)
            return interruptible(errors.report, self, error)
        except KeyboardInterrupt:
            return errors.bare_interruption()
        except BaseException:
            return errors.bare(error)

    def _verdict(self, cell: Cell, error: BaseException | None) -> ErrorReport | None:
        """The one report that stands for the cell: of the error that ended it, if any did."""
        shown = cell.errors
        if error is not None and all(error is not other for other, _ in shown):
            shown.append((error, self.report(error)))
        if not shown:
            return None
        verdict = next((entry for entry in shown if entry[0] is error), shown[-1])
        for entry in shown:
            if entry is not verdict:
                self._write_report(entry[1])
        return verdict[1]

    @staticmethod
    def _write_report(report: ErrorReport) -> None:
        sys.stderr.write("\n".join(report["traceback"]).rstrip("\n") + "\n")

    def _format_exception_for_storage(
        self, exception, filename=None, running_compiled_code=False
    ):
        """IPython 9 would render every traceback a second time for its history."""
        reports = self.cell.errors if self.cell is not None else []
        return next((report for error, report in reports if error is exception), {})
