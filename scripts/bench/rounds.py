"""Rounds in which builds and peers are measured in turns, and the options that all measuring scripts share.

The speed of a shared machine varies by a third from hour to hour. So every section is measured for the build, for the
build before and for the peers right after each other, in an order that turns round with each round, and what counts is the median of
the rounds; a ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import report
from processes import running
from report import Row
from server import Server

Values = dict[str, float]


@dataclass(frozen=True)
class Build:
    """A binary of the server, and settings that all its servers have."""

    name: str
    binary: str
    settings: dict[str, str]

    def server(self, settings: dict[str, str] | None = None, arguments: list[str] | None = None) -> Server:
        """One without a pool, unless `settings` say otherwise, so that what is made is made when it is asked for."""
        return Server(self.binary, {"KERNEL_POOL_ENABLED": "false", **self.settings, **(settings or {})}, arguments)


@dataclass(frozen=True)
class Section:
    """Rows that are measured together."""

    name: str
    rows: list[Row]
    measure: Callable[[Build], Values]
    # Each by its name.
    peers: dict[str, Callable[[], Values]] = field(default_factory=dict)


@dataclass
class Found:
    """What was measured: for each name of a build or a peer and each row, the value of each round that has one."""

    values: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    # By name and section: why something is missing.
    errors: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, name: str, round_: int, values: Values) -> None:
        for key, value in values.items():
            self.values.setdefault(name, {}).setdefault(key, {})[round_] = value

    def of(self, name: str, key: str) -> dict[int, float]:
        return self.values.get(name, {}).get(key, {})


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_section(section: Section, subjects: dict[str, Callable[[], Values]], round_: int, found: Found) -> None:
    """Measures one section of each subject, in this order."""
    for name, measure in subjects.items():
        title = f"round {round_ + 1}, {section.name}, {name}"
        try:
            values = measure()
        except (Exception, SystemExit) as error:  # what fails must not cost the others
            if not isinstance(error, ImportError):
                traceback.print_exc()
            text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            found.errors.setdefault(name, {})[section.name] = text
            progress(f"{title}: {text}")
            continue
        found.add(name, round_, values)
        progress(f"{title}: {', '.join(f'{key} {report.number(value)}' for key, value in values.items())}")


def run(sections: list[Section], builds: list[Build], options: argparse.Namespace) -> Found:
    found = Found()
    for round_ in range(options.rounds):
        for section in sections:
            subjects = {build.name: partial(section.measure, build) for build in builds}
            if not options.no_peers:
                subjects |= section.peers
            if round_ % 2:
                subjects = dict(reversed(subjects.items()))
            run_section(section, subjects, round_, found)
        if options.json:
            options.json.write_text(json.dumps({"values": found.values, "errors": found.errors}, indent=1))
    return found


def setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def parser(description: str, rounds: int = 10) -> argparse.ArgumentParser:
    """The options that all measuring scripts share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--binary", required=True, help="the build to measure")
    made.add_argument("--before", help="another build, measured in turns with it")
    made.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE",
                      help="a setting of the servers of --binary")
    made.add_argument("--set-before", type=setting, action="append", default=[], metavar="NAME=VALUE",
                      help="a setting of the servers of --before")
    made.add_argument("--rounds", type=int, default=rounds, help="how often everything is measured (%(default)s)")
    made.add_argument("--only", metavar="SECTIONS", help="names of sections, separated by commas (all)")
    made.add_argument("--no-peers", action="store_true", help="measure no peers")
    made.add_argument("--check", action="store_true", help="fail if a goal is not met")
    made.add_argument("--json", type=Path, metavar="FILE", help="takes every value, after each round")
    made.add_argument("--write", type=Path, metavar="FILE", help="document to put the tables into, between its marks")
    return made


def builds_of(options: argparse.Namespace) -> list[Build]:
    builds = [Build("ours", options.binary, dict(options.set))]
    if options.before:
        builds.insert(0, Build("before", options.before, dict(options.set_before)))
    return builds


def chosen(sections: list[Section], options: argparse.Namespace) -> list[Section]:
    if options.only is None:
        return sections
    names = options.only.split(",")
    unknown = set(names) - {section.name for section in sections}
    if unknown:
        raise SystemExit(f"--only: there is no section {', '.join(sorted(unknown))}; "
                         f"choose from {', '.join(section.name for section in sections)}")
    return [section for section in sections if section.name in names]


def read_through(path: str) -> None:
    """Brings a binary into the page cache, whole: starts then do not wait for the disk, and always map the same pages of it,
    since Linux maps what is cached around a page that is touched."""
    with open(path, "rb") as file:
        while file.read(1 << 22):
            pass


def main(sections: list[Section], options: argparse.Namespace, mark: str) -> None:
    """Measures, prints the tables, and writes them where the options say."""
    load = os.getloadavg()[0]
    if options.write and options.only:
        raise SystemExit("--write needs all sections, and --only leaves some out")
    sections = chosen(sections, options)
    builds = builds_of(options)
    for build in builds:
        if others := running(build.binary):
            raise SystemExit(f"{build.binary} runs already (process {others[0]}): a second one would share its memory, and weigh half")
        read_through(build.binary)
    found = run(sections, builds, options)
    parts = [report.run_line(load, options.rounds)]
    for section in sections:
        if len(sections) > 1:
            parts.append(f"**{section.name}**")
        parts += report.section(section.name, section.rows, found, list(section.peers), before=options.before is not None)
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        report.write_between_marks(options.write, mark, text)
    if "ours" not in found.values:
        raise SystemExit("nothing was measured")
    if options.check and (missed := report.missed([row for section in sections for row in section.rows], found)):
        raise SystemExit(f"goals that are not met: {', '.join(missed)}")
