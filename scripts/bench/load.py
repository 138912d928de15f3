"""Requests by wrk, a compiled load generator, where a client in Python would be what is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
# Seconds that a counted run may take.
PATIENCE = 600


def wrk(base: str, method: str, paths: list[str], body: object, expected: str, count: int, options: list[str], seconds: int) -> dict:
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is missing (Debian: apt-get install wrk)")
    text = "" if body is None else json.dumps(body)
    run = subprocess.run(
        [program, "-t1", *options, f"-d{seconds}s", "--timeout", "60s", "-s", str(SCRIPT), base,
         "--", method, text, expected, str(count), *paths],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60)
    lines = [line for line in run.stdout.splitlines() if line.startswith("BENCH_JSON ")]
    if run.returncode != 0 or not lines:
        raise RuntimeError(f"wrk failed: {(run.stderr or run.stdout)[-300:]}")
    found = json.loads(lines[-1].removeprefix("BENCH_JSON "))
    if found["wrong"] or found.get("socket_errors"):
        raise RuntimeError(f"{method} {paths[0]}: {found['wrong']} of {found['answers']} answers are wrong, "
                           f"{found.get('socket_errors', 0)} had no answer; the first: {found['first_wrong']}")
    return found


def times(
    base: str, method: str, paths: list[str], body: object = None, expected: str = "", count: int | None = None,
) -> list[float]:
    """Milliseconds of each of `count` requests (otherwise one for each path), one after the other on one connection."""
    count = count or len(paths)
    found = wrk(base, method, paths, body, expected, count, ["-c1"], PATIENCE)
    if found["answers"] != count:
        raise RuntimeError(f"{method} {paths[0]}: {found['answers']} answers to {count} requests")
    return [time / 1000 for time in found["microseconds"]]


def rate(base: str, method: str, paths: list[str], body: object = None, expected: str = "", connections: int = 10,
         seconds: int = 3) -> float:
    """Right answers a second on so many connections at once."""
    found = wrk(base, method, paths, body, expected, 0, [f"-c{connections}"], seconds)
    return found["answers"] / found["seconds"]
