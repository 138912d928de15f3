#!/usr/bin/env python3
"""Turn the measurements of scripts/bench.sh into the tables of docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

from report import table, write_between_marks  # noqa: E402

# The calls of conformance.py that belong to parts this version does not have.
OTHER_PARTS = ("agent",)


def dig(data, *path):
    """The value at a path of keys, or None where anything on the way is missing."""
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return None
        data = data[key]
    return data


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Row:
    """One line: what it is, the bound, and what was measured against it."""

    def __init__(self, name: str, must: float, unit: str, value: float | None, note: str = "", at_least: bool = False,
                 holds: bool = True):
        self.name, self.must, self.unit, self.value, self.note = name, must, unit, value, note
        self.at_least, self.holds = at_least, holds

    def cells(self) -> list[str]:
        must = f"{'≥' if self.at_least else '≤'} {self.must:,g}{self.unit}"
        if self.value is None:
            return [self.name, must, f"not measured{self.note and ': ' + self.note}", "–"]
        met = self.holds and (self.value >= self.must if self.at_least else self.value <= self.must)
        measured = f"{number(self.value)}{self.unit}" + (f" ({self.note})" if self.note else "")
        return [self.name, must, measured, "yes" if met else "**no**"]


def error_of(section) -> str:
    return (dig(section, "error") or "").replace("\n", " ")[:120]


def density_rows(cold: dict) -> list[Row]:
    density = dig(cold, "density", "typescript") or {}
    last = max(density.get("rows") or [{}], key=lambda row: row.get("kernels", 0))
    before, full, after = density.get("before_mib"), last.get("mib"), density.get("after_delete_mib")
    kernels = last.get("kernels", 50)
    each = returned = None
    if None not in (before, after, full) and full > before:
        each = (full - before) / kernels
        returned = (full - after) / (full - before) * 100
    note = f"{number(before)} → {number(full)} → {number(after)} MiB" if returned is not None else error_of(dig(cold, "density"))
    return [
        Row(f"PSS per idle kernel at {kernels} kernels", 16, " MiB", each),
        Row("memory returned after deleting them", 95, " %", returned, note, at_least=True),
    ]


def interrupt_row(more: dict, kind: str, name: str) -> Row:
    result = more.get(f"interrupt_{kind}") or {}
    rounds, kept = result.get("rounds", 0), result.get("state_kept", 0)
    note = error_of(result)
    if result.get("p50") is not None:
        note = f"max {number(result['max'])} ms; state kept {kept} of {rounds}" + (f"; {note}" if note else "")
        if result.get("was_busy", rounds) < result.get("n", rounds):
            note += f"; listed as busy {result['was_busy']} of {result['n']}"
    return Row(f"{name} interrupted, state kept: p50", 20, " ms", result.get("p50"), note, holds=kept == rounds)


def throughput_row(more: dict) -> Row:
    wrk = more.get("wrk") or {}
    if "answers" not in wrk:
        return Row("10 kernels: executions a second (wrk)", 3000, "/s", None, error_of(wrk) or "wrk is not installed", at_least=True)
    bad = wrk["wrong"] + wrk["socket_errors"]
    note = f"p50 {number(wrk['p50_ms'])} ms, p95 {number(wrk['p95_ms'])} ms, {wrk['answers']:,} answers, {wrk['wrong']} wrong"
    if wrk["socket_errors"]:
        note += f", {wrk['socket_errors']} socket errors"
    if wrk["wrong"]:
        note += f", the first: {' '.join(wrk['first_wrong'].split())[:80]}"
    return Row("10 kernels: executions a second (wrk)", 3000, "/s", wrk["per_second"], note, at_least=True, holds=bad == 0)


def must_rows(cold: dict, pool: dict, more: dict) -> list[Row]:
    execution = dig(cold, "exec", "typescript", "exec_1plus1_ms") or {}
    spinning = more.get("list_while_spinning") or {}
    restart = more.get("restart") or {}
    spin_note = error_of(spinning)
    if spinning.get("p50") is not None:
        spin_note = f"p95 {number(spinning['p95'])} ms; {spinning['busy']} of {spinning['kernels']} busy"
    restart_note = error_of(restart)
    if restart.get("p50") is not None:
        restart_note = f"max {number(restart['max'])} ms; usable after {restart['usable']} of {restart['rounds']}"
    return [
        Row("start of the server to the first 200", 100, " ms", dig(cold, "start", "start_to_first_200_ms"), error_of(dig(cold, "start"))),
        Row("idle server, PSS", 30, " MiB", dig(cold, "start", "idle_mib")),
        Row("TypeScript kernel created cold: p50", 60, " ms", dig(cold, "create", "typescript", "then_ms", "p50"), error_of(dig(cold, "create"))),
        Row("TypeScript kernel from the pool: p50", 3, " ms", dig(pool, "create", "typescript", "then_ms", "p50"), error_of(dig(pool, "create"))),
        Row("`1+1` over HTTP: p50", 1.5, " ms", execution.get("p50"), error_of(dig(cold, "exec"))),
        Row("`1+1` over HTTP: p95", 4, " ms", execution.get("p95")),
        Row("first stream event: p50", 2, " ms", dig(cold, "stream", "typescript", "first_event_ms", "p50"), error_of(dig(cold, "stream"))),
        throughput_row(more),
        *density_rows(cold),
        interrupt_row(more, "loop", "endless loop"),
        interrupt_row(more, "microtasks", "endless microtasks"),
        interrupt_row(more, "regex", "catastrophic regex"),
        Row("`GET /api/kernels` while every kernel spins: p50", 5, " ms", spinning.get("p50"), spin_note,
            holds=spinning.get("busy") == spinning.get("kernels")),
        Row("restart: p50", 60, " ms", restart.get("p50"), restart_note, holds=restart.get("usable") == restart.get("rounds")),
    ]


def spread(summary) -> str | None:
    if dig(summary, "p50") is None:
        return None
    return f"{number(summary['p50'])} ms (p95 {number(summary['p95'])} ms, n={summary['n']})"


def further_rows(cold: dict, pool: dict) -> list[list[str]]:
    def measured(value, unit: str) -> str | None:
        return None if value is None else f"{number(value)}{unit}"

    execution = dig(cold, "exec", "typescript") or {}
    throughput = dig(cold, "throughput", "typescript") or {}
    density = dig(cold, "density", "typescript") or {}
    rows = [
        ("`GET /api/kernels`, nothing running", spread(dig(cold, "http", "list_kernels_ms"))),
        ("first kernel after the start, cold", measured(dig(cold, "create", "typescript", "first_ms"), " ms")),
        ("first `1+1` of a kernel", measured(execution.get("first_exec_ms"), " ms")),
        ("submit and wait for the result", spread(execution.get("submit_plus_result_ms"))),
        ("a cell that prints 1,000 lines", measured(execution.get("print_1000_lines_ms"), " ms")),
        ("delete a kernel", spread(dig(cold, "create", "typescript", "delete_ms"))),
        ("10 kernels under the measuring script's own client (its limit, not the server's)", measured(throughput.get("exec_per_s"), "/s")),
        ("CPU of the server and its kernels per execution there", measured(throughput.get("server_cpu_ms_per_exec"), " ms")),
        ("CPU of the server and its idle kernels, of one core", measured(density.get("idle_cpu_percent"), " %")),
        ("start of the server with a pool of 16, to the first 200", measured(dig(pool, "start", "start_to_first_200_ms"), " ms")),
        ("create from the pool: p95", measured(dig(pool, "create", "typescript", "then_ms", "p95"), " ms")),
    ]
    return [[name, value] for name, value in rows if value is not None]


def api_line(cold: dict) -> str:
    api = cold.get("api") or {}
    if "total" not in api:
        return f"API conformance check: not run. {error_of(api)}".strip()
    calls = [row["call"] for row in api["failed"]]
    ours = [call for call in calls if not any(part in call for part in OTHER_PARTS)]
    line = f"API conformance check: {api['pass']} of {api['total']} calls pass"
    if ours:
        return f"{line}. **Calls that fail: {', '.join(ours)}.**"
    return f"{line}; the others are those of agents, which this version does not have." if calls else f"{line}."


def git(root: Path, *args: str) -> str:
    run = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""


def commit(root: Path) -> str:
    name = git(root, "rev-parse", "--short", "HEAD")
    if not name:
        return "no commit"
    changed = git(root, "status", "--porcelain", "--", ".", ":!docs/performance.md")
    return f"commit {name}" + (" with changes on top" if changed else "")


def machine_line(root: Path, load_before: str) -> str:
    cpu = next((line.split(":", 1)[1].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")), platform.machine())
    memory = next((int(line.split()[1]) / 1048576 for line in read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), 0)
    load_after = f"{os.getloadavg()[0]:.2f}"
    return (f"{time.strftime('%Y-%m-%d')}, {commit(root)}. Machine: {os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, "
            f"load average {load_before} before and {load_after} after (the bench itself makes load).")


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("cold", "pool", "more"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="JSON of that run")
    parser.add_argument("--root", type=Path, required=True, help="the repository, for its commit")
    parser.add_argument("--load-before", default="?")
    parser.add_argument("--write", type=Path, help="file to put the tables into, between its marks")
    args = parser.parse_args()

    def load(path: Path) -> dict:
        return json.loads(path.read_text()) if path.exists() else {}

    cold, pool, more = load(args.cold), load(args.pool), load(args.more)
    further = further_rows(cold, pool)
    text = "\n\n".join([
        machine_line(args.root, args.load_before),
        table(["", "must", "measured", "met"], [row.cells() for row in must_rows(cold, pool, more)]),
        *(["Also measured:", table(["", "measured"], further)] if further else []),
        api_line(cold),
    ])
    print(text)
    if args.write:
        write_between_marks(args.write, "bench", text)


if __name__ == "__main__":
    main()
