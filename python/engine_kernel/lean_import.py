"""Imports IPython without jedi. Whatever of this package comes first must import this."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _jedi_left_out() -> Iterator[None]:
    """Older IPythons import jedi with the completer, which costs every kernel 10 MB."""
    hidden = "jedi" not in sys.modules
    if hidden:
        sys.modules["jedi"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["jedi"]


with _jedi_left_out():
    import IPython.core.interactiveshell  # noqa: F401
