"""MIME bundles as JSON: whatever user code put into one, the result can be encoded."""

import base64
import math
from collections.abc import Mapping
from numbers import Integral, Real

from .text import safe_str, valid

_INTEGERS = range(-(2**63), 2**64)
_DEEPEST = 200


def clean(value: object, depth: int = 0) -> object:
    """A copy made only of what JSON has. Bytes become base64, what JSON lacks becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return valid(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Integral):
        number = int(value)
        return number if number in _INTEGERS else safe_str(number)
    if isinstance(value, Real):
        real = float(value)
        return real if math.isfinite(real) else None
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {
                valid(safe_str(key)): clean(item, depth + 1) for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [clean(item, depth + 1) for item in value]
    return valid(safe_str(value))


def clean_bundle(bundle: Mapping[str, object] | None) -> dict[str, object]:
    """A bundle without the types that have no value."""
    return {
        valid(safe_str(mime)): clean(value)
        for mime, value in (bundle or {}).items()
        if value is not None
    }
