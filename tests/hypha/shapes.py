"""Shapes that answers are compared with.

A shape is a type (`int` is no `bool`; `float` is any number), a value that is meant literally, a list of one shape (any
number of such items, but not none), a tuple of shapes (an item each), a dict of shapes (these members and no others) or
one of the classes below.
"""

import re


class Time:
    """Of ISO 8601 in UTC, with milliseconds."""

    pattern = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Has(str):
    """A text that has these words."""


class AnyOf(tuple):
    """One of several shapes."""


class Maybe:
    """A member that may be left out or null."""

    def __init__(self, shape):
        self.shape = shape


class More(Maybe):
    """A member that the service of the original does not have. Clients read by names, so it hurts nobody."""


class Each:
    """Any number of items of this shape in a row, but not none; in a tuple."""

    def __init__(self, shape):
        self.shape = shape


class Mapping:
    """A dict whose names are not known before."""

    def __init__(self, shape):
        self.shape = shape


class Many:
    """A list of any number of such items, and of none."""

    def __init__(self, shape):
        self.shape = shape


def different(value, shape, path="it") -> str | None:
    """What is not as in the shape."""
    match shape:
        case Maybe():
            return None if value is None else different(value, shape.shape, path)
        case AnyOf():
            found = [different(value, one, path) for one in shape]
            return None if None in found else "; ".join(found)
        case Has():
            return None if isinstance(value, str) and shape in value else f"{path} is {value!r}, not a text with {shape!r}"
        case Mapping():
            if not isinstance(value, dict):
                return f"{path} is {value!r}, not a dict"
            return first(different(item, shape.shape, f"{path}.{name}") for name, item in value.items())
        case Many():
            if not isinstance(value, list):
                return f"{path} is {value!r}, not a list"
            return first(different(item, shape.shape, f"{path}[{i}]") for i, item in enumerate(value))
        case dict():
            return different_members(value, shape, path)
        case list():
            if not isinstance(value, list) or not value:
                return f"{path} is {value!r}, not a list with something in it"
            return first(different(item, shape[0], f"{path}[{i}]") for i, item in enumerate(value))
        case tuple():
            return different_items(value, list(shape), path)
        case type():
            return different_type(value, shape, path)
        case _:
            return None if type(value) is type(shape) and value == shape else f"{path} is {value!r}, not {shape!r}"


def different_type(value, shape, path) -> str | None:
    if shape is Time:
        so = isinstance(value, str) and Time.pattern.fullmatch(value)
    elif shape is float:
        so = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        so = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    return None if so else f"{path} is {value!r}, not {shape.__name__}"


def different_members(value, shape, path) -> str | None:
    if not isinstance(value, dict):
        return f"{path} is {value!r}, not a dict"
    unknown = set(value) - set(shape)
    if unknown:
        return f"{path} has {sorted(unknown)} too: {dict(value)}"
    missing = [name for name, of in shape.items() if name not in value and not isinstance(of, Maybe)]
    if missing:
        return f"{path} lacks {missing}: {dict(value)}"
    return first(different(item, shape[name], f"{path}.{name}") for name, item in value.items())


def different_items(value, shapes, path) -> str | None:
    if not isinstance(value, list):
        return f"{path} is {value!r}, not a list"
    at = 0
    for shape in shapes:
        if isinstance(shape, Each):
            begun = at
            while at < len(value) and different(value[at], shape.shape) is None:
                at += 1
            if at == begun:
                return f"{path}[{at}] is not as it should be, or missing: {value}"
            continue
        if at == len(value):
            return f"{path} ends early: {value}"
        wrong = different(value[at], shape, f"{path}[{at}]")
        if wrong:
            return wrong
        at += 1
    return None if at == len(value) else f"{path} goes on: {value[at:]}"


def first(found) -> str | None:
    return next((it for it in found if it), None)
