"""Numbers and tables as docs/performance.md shows them."""

from __future__ import annotations

import datetime
import statistics
from pathlib import Path


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[round(percent / 100 * (len(values) - 1))]


def summary(values: list[float]) -> dict:
    if not values:
        return {"n": 0}
    found = {
        "mean": statistics.fmean(values),
        "min": min(values),
        **{f"p{percent}": percentile(values, percent) for percent in (50, 95, 99)},
        "max": max(values),
    }
    return {"n": len(values), **{name: round(value, 3) for name, value in found.items()}}


def table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def must_table(rows: list[tuple[str, str, str, bool | None]]) -> str:
    """Rows of a name, what must be, what was measured, and whether that is enough; None where nothing must be."""
    words = {True: "yes", False: "**no**", None: ""}
    cells = [[name, must, value, words[met]] for name, must, value, met in rows]
    return table(["", "must", "measured", "met"], cells)


def heading(load_before: float) -> str:
    return f"{datetime.date.today()}, load average {load_before:.2f} before."


def write_between_marks(path: Path, mark: str, text: str) -> None:
    """Puts `text` where `path` has the marks `<!-- mark:begin -->` and `<!-- mark:end -->`."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    head, rest = path.read_text("utf-8").split(begin, 1)
    path.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}", "utf-8")
