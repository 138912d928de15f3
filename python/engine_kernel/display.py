"""IPython's two ways of showing values, as events."""

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher


class EventDisplayHook(DisplayHook):
    """Shows the value of a cell's last expression."""

    def write_output_prompt(self):
        pass

    def quiet(self):
        parsed = self.shell.history_manager.input_hist_parsed
        # Nearly no cell has one, and to look whether it ends with it costs several passes over the cell.
        return bool(parsed) and ";" in parsed[-1] and super().quiet()

    def compute_format_data(self, result):
        text = self.shell.shortcuts.text_of(result)
        return super().compute_format_data(result) if text is None else ({"text/plain": text}, {})

    def write_format_data(self, format_dict, md_dict=None):
        self.shell.frontend.result(self.prompt_count, format_dict, md_dict)

    def finish_displayhook(self):
        self._is_active = False


class EventDisplayPublisher(DisplayPublisher):
    """Shows what code passes to `display`, and keeps no copy of it."""

    def publish(
        self, data, metadata=None, source=None, *, transient=None, update=False, **_options
    ):
        self._validate_data(data, metadata)
        self.shell.frontend.display(data, metadata, transient, update)

    def clear_output(self, wait=False):
        self.shell.frontend.clear(wait)
