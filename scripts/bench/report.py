"""Numbers and tables as docs/performance.md shows them."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rounds import Found

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    key: str
    name: str
    unit: str = "ms"
    # What must be reached, and whether more is better.
    goal: float | None = None
    at_least: bool = False

    def meets(self, value: float) -> bool | None:
        if self.goal is None:
            return None
        return value >= self.goal if self.at_least else value <= self.goal

    def goal_text(self) -> str:
        return "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self.goal:,g}{spaced(self.unit)}"

    def text(self, value: float) -> str:
        """A whole number without a unit is a count."""
        return f"{value:,.0f}" if not self.unit and value == int(value) else f"{number(value)}{spaced(self.unit)}"


def spaced(unit: str) -> str:
    """A unit behind a number: "/s" follows at once, others after a space."""
    return unit if not unit or unit.startswith("/") else f" {unit}"


def number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 or value == 0 else 3
    return f"{value:.{digits}f}"


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[round(percent / 100 * (len(values) - 1))]


def table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


MET = {True: "yes", False: "**no**", None: ""}


def must_table(rows: list[tuple[str, str, str, bool | None]]) -> str:
    """Rows of a name, the goal, what was measured, and whether that is enough; `None` where there is no goal."""
    return table(["", "goal", "ours", "met"], [[name, must, value, MET[met]] for name, must, value, met in rows])


def ratio(ours: dict[int, float], others: dict[int, float]) -> str:
    """The median of the ratios of the rounds that have both. Differences below 0 have none."""
    pairs = [(ours[round_], others[round_]) for round_ in ours if round_ in others]
    if not pairs or any(one < 0 or other <= 0 for one, other in pairs):
        return ""
    return f"{number(statistics.median(one / other for one, other in pairs))} ×"


def best_peer(row: Row, found: Found, peers: list[str]) -> str | None:
    """The name of the peer with the best median."""
    medians = {peer: statistics.median(found.of(peer, row.key).values()) for peer in peers if found.of(peer, row.key)}
    if not medians:
        return None
    return (max if row.at_least else min)(medians, key=medians.__getitem__)


def missed(rows: list[Row], found: Found) -> list[str]:
    """The names of the rows whose goal is not met, or that were not measured."""
    def met(row: Row) -> bool:
        ours = found.of("ours", row.key)
        return bool(ours) and row.meets(statistics.median(ours.values())) is not False

    return [row.name for row in rows if not met(row)]


def section(name: str, rows: list[Row], found: Found, peers: list[str], before: bool) -> list[str]:
    """The table of a section, and below it what failed or could not be had."""
    headings = ["", "goal", "ours", "met", "best peer", "ours / peer"]
    if before:
        headings += ["before", "ours / before"]
    lines = []
    for row in rows:
        ours = found.of("ours", row.key)
        if not ours:
            lines.append([row.name, row.goal_text(), "not measured", "–", *[""] * (len(headings) - 4)])
            continue
        value = statistics.median(ours.values())
        cells = [row.name, row.goal_text(), row.text(value), MET[row.meets(value)]]
        if peer := best_peer(row, found, peers):
            theirs = found.of(peer, row.key)
            cells += [f"{row.text(statistics.median(theirs.values()))} ({peer})", ratio(ours, theirs)]
        else:
            cells += ["", ""]
        if before:
            earlier = found.of("before", row.key)
            cells += [row.text(statistics.median(earlier.values())), ratio(ours, earlier)] if earlier else ["not measured", ""]
        lines.append(cells)
    parts = [table(headings, lines)]
    had = [peer for peer in peers if any(found.of(peer, row.key) for row in rows)]
    for subject in ("ours", "before", *had):
        if error := found.errors.get(subject, {}).get(name):
            parts.append(f"Failed at least once ({subject}): {error}")
    absent = [f"{peer} ({found.errors[peer][name]})" for peer in peers if peer not in had and name in found.errors.get(peer, {})]
    if absent:
        parts.append(f"Not had here: {', '.join(absent)}.")
    return parts


def heading(load_before: float) -> str:
    return f"{datetime.date.today()}, load average {load_before:.2f} before."


def run_line(load_before: float, rounds: int) -> str:
    """When, what and where was measured."""
    how_often = "One round" if rounds == 1 else f"Medians of {rounds} rounds"
    return (f"{datetime.date.today()}, {commit()}. {machine()}. {how_often}. Load average {load_before:.2f} before and "
            f"{os.getloadavg()[0]:.2f} after (the bench itself makes load).")


def git(*arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""


def commit() -> str:
    name = git("rev-parse", "--short", "HEAD")
    if not name:
        return "no commit"
    changed = git("status", "--porcelain", "--", ".", ":!docs/performance.md")
    return f"commit {name}" + (" with changes on top" if changed else "")


def machine() -> str:
    def after(path: str, start: str) -> str | None:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            return None
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(start)), None)

    memory = int((after("/proc/meminfo", "MemTotal") or "0").split()[0]) / 2**20
    return f"{os.cpu_count()} cores ({after('/proc/cpuinfo', 'model name') or platform.machine()}), {memory:.0f} GiB"


def write_between_marks(path: Path, mark: str, text: str) -> None:
    """Puts `text` where `path` has the marks `<!-- mark:begin -->` and `<!-- mark:end -->`."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    head, rest = path.read_text("utf-8").split(begin, 1)
    path.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}", "utf-8")
