"""The part of pip's command line that can be carried out without pip."""

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from IPython.core.error import UsageError

_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass
class Installation:
    """What `pip install` was asked for."""

    requirements: list[str] = field(default_factory=list)
    pre: bool = False
    dependencies: bool = True
    verbose: bool = False
    quiet: bool = False
    upgrade: bool = False


def parse(line: str) -> Installation:
    """Reads the arguments of `%pip`. What cannot be done here is a UsageError."""
    command, *arguments = shlex.split(line) or [""]
    if command != "install":
        raise UsageError(f"%pip {command}: only `%pip install` works in this kernel")
    installation = Installation()
    _read(installation, arguments, Path())
    return installation


def _read(installation: Installation, arguments: list[str], folder: Path) -> None:
    """Adds arguments; files named in them are relative to `folder`."""
    rest = iter(arguments)
    for argument in rest:
        option, has_value, value = argument.partition("=")
        if argument in ("-v", "-vv", "-vvv", "--verbose"):
            installation.verbose = True
        elif argument in ("-q", "-qq", "-qqq", "--quiet"):
            installation.quiet = True
        elif argument == "--pre":
            installation.pre = True
        elif argument == "--no-deps":
            installation.dependencies = False
        elif argument in ("-U", "--upgrade"):
            installation.upgrade = True
        elif option in ("-r", "--requirement", "--requirements"):
            file = value if has_value else next(rest, "")
            _read_file(installation, folder, file)
        elif argument.startswith("-r") and not argument.startswith("--"):
            _read_file(installation, folder, argument[2:])
        elif argument.startswith("-"):
            raise UsageError(f"%pip install: unknown option {argument}")
        else:
            installation.requirements.append(_local(argument, folder))


def _read_file(installation: Installation, folder: Path, name: str) -> None:
    if not name:
        raise UsageError("%pip install: -r needs the name of a file")
    path = folder / name
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"%pip install: cannot read {path}: {error.strerror}") from None
    for line in text.replace("\\\n", " ").splitlines():
        requirement = _COMMENT.sub("", line).strip()
        if requirement.startswith("-"):
            _read(installation, shlex.split(requirement), path.parent)
        elif requirement:
            installation.requirements.append(_local(requirement, path.parent))


def _local(requirement: str, folder: Path) -> str:
    """A wheel in the file system as the URL that micropip takes."""
    if requirement.endswith(".whl") and "://" not in requirement:
        return f"emfs:{os.path.abspath(folder / requirement)}"
    return requirement
