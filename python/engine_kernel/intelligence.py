"""Code intelligence as Jupyter replies: completion, inspection, completeness."""

import importlib
import importlib.util
import json

from IPython.core import completer as completer_module
from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.utils.tokenutil import token_at_cursor

from .bundles import clean_bundle
from .shell import KernelShell
from .text import from_utf16, to_utf16, valid, without_ansi


def complete(shell: KernelShell, code: str, cursor: int) -> dict[str, object]:
    _use_jedi_if_installed(shell)
    index = from_utf16(code, cursor)
    with provisionalcompleter():
        found = list(
            rectify_completions(code, shell.Completer.completions(code, index))
        )
    start = found[0].start if found else index
    end = found[0].end if found else index
    return {
        "matches": [valid(completion.text) for completion in found],
        "cursor_start": to_utf16(code, start),
        "cursor_end": to_utf16(code, end),
        "metadata": {
            "_jupyter_types_experimental": [
                {
                    "start": to_utf16(code, completion.start),
                    "end": to_utf16(code, completion.end),
                    "text": valid(completion.text),
                    "type": completion.type or "",
                    "signature": valid(completion.signature or ""),
                }
                for completion in found
            ]
        },
        "status": "ok",
    }


def inspect(shell: KernelShell, code: str, cursor: int) -> dict[str, object]:
    name = token_at_cursor(code, from_utf16(code, cursor))
    try:
        bundle = shell.object_inspect_mime(name, detail_level=0)
    except KeyError:
        return {"found": False, "data": {}, "metadata": {}, "status": "ok"}
    data = {
        mime: without_ansi(value) if isinstance(value, str) else value
        for mime, value in bundle.items()
    }
    return {"found": True, "data": clean_bundle(data), "metadata": {}, "status": "ok"}


def is_complete(shell: KernelShell, code: str) -> dict[str, object]:
    status, indent = shell.check_complete(code)
    return {"status": status, "indent": indent} if status == "incomplete" else {"status": status}


def nothing_to_complete(code: str, cursor: int) -> dict[str, object]:
    position = to_utf16(code, from_utf16(code, cursor))
    return {
        "matches": [],
        "cursor_start": position,
        "cursor_end": position,
        "metadata": {},
        "status": "ok",
    }


def _use_jedi_if_installed(shell: KernelShell) -> None:
    """Jedi is imported with the first completion, by IPython itself where that knows how."""
    completer = shell.Completer
    if completer.use_jedi or importlib.util.find_spec("jedi") is None:
        return
    if not hasattr(completer_module, "_get_jedi"):
        for module in ("jedi.api.helpers", "jedi.api.classes"):
            importlib.import_module(module)
        completer_module.jedi = importlib.import_module("jedi")
        completer_module.jedi.settings.case_insensitive_completion = False
    completer.use_jedi = True


def encoded(reply: dict[str, object]) -> str:
    return json.dumps(reply, ensure_ascii=False)
