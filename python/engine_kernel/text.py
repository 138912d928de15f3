"""Text as the other side of the wire needs it."""

import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


def without_ansi(text: str) -> str:
    return _ANSI.sub("", text) if "\x1b" in text else text


def valid(text: str) -> str:
    """The text with lone surrogates replaced, since no JSON reader takes those."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def safe_str(value: object) -> str:
    """`str(value)`, for values whose own code may be broken."""
    try:
        return str(value)
    except Exception:
        return f"<unprintable {type(value).__name__} object>"


def from_utf16(text: str, offset: int) -> int:
    """The index in `text` of an offset counted in UTF-16 code units."""
    if text.isascii():
        return min(max(offset, 0), len(text))
    units = 0
    for index, character in enumerate(text):
        if units >= offset:
            return index
        units += 2 if ord(character) > 0xFFFF else 1
    return len(text)


def to_utf16(text: str, index: int) -> int:
    """An index in `text`, counted in UTF-16 code units."""
    return index + sum(ord(character) > 0xFFFF for character in text[:index])
