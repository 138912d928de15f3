"""What Linux says of a server's processes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def read(path: Path) -> str:
    """Empty where there is nothing to read: a process may end at any moment."""
    try:
        return path.read_text()
    except OSError:
        return ""


def processes() -> Iterator[Path]:
    return (entry for entry in PROC.iterdir() if entry.name.isdigit())


def running(binary: str) -> list[int]:
    """Processes of this binary that may be looked at."""
    found = []
    for process in processes():
        try:
            if (process / "exe").samefile(binary):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def stat_fields(process: Path) -> list[str]:
    """What follows the name in `stat`, which may hold spaces and parentheses: the state is the first."""
    return read(process / "stat").rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = defaultdict(list)
    for process in processes():
        if fields := stat_fields(process):
            children[int(fields[1])].append(int(process.name))
    found = [pid]
    for process in found:
        found += children[process]
    return found


def pss_mib(pids: list[int], own: bool = False) -> float:
    """Memory of processes, where pages that they share count once (the proportional set size); of `own` pages only what is
    in no file, for the system keeps the code of a program in memory as long as it likes."""
    name = "Pss_Anon:" if own else "Pss:"
    kib = 0
    for pid in pids:
        for line in read(PROC / str(pid) / "smaps_rollup").splitlines():
            if line.startswith(name):
                kib += int(line.split()[1])
    return kib / 1024


def resident_mib(pid: int, most: bool = False, own: bool = False) -> float:
    """Memory of one process that is in RAM, now or at most since `forget_most`; or, now, of `own` pages, which are in no file."""
    name = "VmHWM:" if most else "RssAnon:" if own else "VmRSS:"
    lines = read(PROC / str(pid) / "status").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def forget_most(pid: int) -> None:
    """Lets `resident_mib` start its maximum anew. Needs the rights of the process, or root."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """How many files a process has open."""
    try:
        return len(list((PROC / str(pid) / "fd").iterdir()))
    except OSError:
        return 0


def available_mib() -> float:
    """Memory that the machine can give before it swaps or kills."""
    lines = read(PROC / "meminfo").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:"))


def cpu_seconds(pid: int) -> float:
    """Processor time that the live processes of a tree have taken, in user and system mode."""
    ticks = 0
    for process in tree(pid):
        if fields := stat_fields(PROC / str(process)):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
