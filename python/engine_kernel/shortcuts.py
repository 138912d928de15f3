"""What IPython does at length with cells and values that it then leaves as they are."""

import re
from typing import TYPE_CHECKING

from IPython.core.autocall import IPyAutocall
from IPython.core.macro import Macro

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# What may be no Python: magics, shell commands and help; calls without brackets; prompts that were copied along;
# a first line that is indented.
_OF_IPYTHON = re.compile(r"[%!?\r\f]|^[ \t]*(?:[/,;]|>>>|\.\.\.|In \[)|\A\s", re.MULTILINE)
_FIRST_WORD = re.compile(r"[^\W\d]\w*")
# Shown as their `repr`, and as nothing else.
_SCALARS = (int, float, str)
_PLAIN = "text/plain"


class Shortcuts:
    """Knows how a shell was set up, and takes no shortcut past what was added later."""

    def __init__(self, shell: "InteractiveShell") -> None:
        self._shell = shell
        self._transformers = self._current_transformers()
        formatter = shell.display_formatter
        self._plain = formatter.formatters[_PLAIN]
        self._printers = dict(self._plain.type_printers)
        others = [it for it in formatter.formatters.values() if it is not self._plain]
        others += [formatter.mimebundle_formatter, formatter.ipython_display_formatter]
        # These are filled, not replaced. To ask a trait for each of them takes longer than all else here.
        self._others = [(it.type_printers, it.deferred_printers) for it in others]

    def is_python(self, cell: str) -> bool:
        """Whether a cell is Python as it stands."""
        if not cell or _OF_IPYTHON.search(cell):
            return False
        if self._current_transformers() != self._transformers:
            return False
        if "\n" in cell.rstrip("\n"):
            return True
        # A line by itself may be a magic without its sign, a macro, or `exit`.
        word = _FIRST_WORD.match(cell)
        if word is None:
            return True
        name = word.group()
        return not (
            isinstance(self._shell.user_ns.get(name), (IPyAutocall, Macro))
            or self._shell.find_magic(name)
        )

    def text_of(self, value: object) -> str | None:
        """The text of a value that has no other representation; `None` where IPython has to be asked."""
        kind = type(value)
        if kind not in _SCALARS:
            return None
        plain = self._plain
        if not plain.enabled or plain.float_format != "%r":
            return None
        if plain.type_printers.get(kind) is not self._printers.get(kind):
            return None
        name = ("builtins", kind.__name__)
        for printers, deferred in self._others:
            if kind in printers or object in printers or name in deferred:
                return None
        try:
            return repr(value)
        except ValueError:
            return None

    def _current_transformers(self) -> tuple[list, ...]:
        manager = self._shell.input_transformer_manager
        prefilter = self._shell.prefilter_manager
        return (
            list(manager.cleanup_transforms),
            list(manager.line_transforms),
            list(manager.token_transformers),
            list(self._shell.input_transformers_post),
            list(prefilter.checkers),
            list(prefilter.transformers),
        )
