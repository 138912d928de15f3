"""What kernels cost: made cold, their first cell, memory, restart, deletion; and made from the pool."""

from __future__ import annotations

import statistics
import sys
import time

import load
from languages import NAMES, ONE, TWO
from report import Row, percentile
from rounds import Build, Section, Values
from server import Server, wait_for

# Seconds until new kernels have given back what they booted with.
SETTLE = 3.0
RESTARTS = 10
POOL = 4


def kernel_server(build: Build, settings: dict[str, str] | None = None) -> Server:
    """One on which every language may be used, with CPython kernels of the interpreter that runs this."""
    return build.server({
        "ALLOWED_KERNEL_TYPES": "worker-typescript,worker-javascript,worker-python,worker-cpython",
        "CPYTHON_EXECUTABLE": sys.executable,
        "KERNEL_MAX_COUNT": "2000",
        **(settings or {}),
    })


def cell_paths(kernels: list[str]) -> list[str]:
    return [f"/api/kernels/{kernel}/execute" for kernel in kernels]


def create(server: Server, language: str, count: int = 1) -> list[float]:
    """Milliseconds of each of so many kernels, made one after the other."""
    return load.times(server.base, "POST", ["/api/kernels"], {"lang": language}, count=count)


def use(server: Server, kernels: list[str]) -> list[float]:
    """Milliseconds of a cell in each."""
    return load.times(server.base, "POST", cell_paths(kernels), {"code": ONE}, TWO)


def delete(server: Server, kernels: list[str]) -> list[float]:
    return load.times(server.base, "DELETE", [f"/api/kernels/{kernel}" for kernel in kernels])


def boot(server: Server, language: str) -> float:
    """Makes, uses and deletes a kernel, so that what all of a language share is there: its files and its zygote.
    Milliseconds of the creation."""
    others = set(server.kernels())
    (took,) = create(server, language)
    kernels = [kernel for kernel in server.kernels() if kernel not in others]
    use(server, kernels)
    delete(server, kernels)
    return took


def measure(build: Build, language: str, count: int) -> Values:
    with kernel_server(build) as server:
        time.sleep(0.5)
        alone = server.memory()
        first = boot(server, language)
        time.sleep(1)
        empty = server.memory(own=True)
        created = create(server, language, count)
        kernels = server.kernels()
        cells = use(server, kernels)
        time.sleep(SETTLE)
        full, held = server.memory(), server.memory(own=True)
        restarts = load.times(
            server.base, "POST", [f"/api/kernels/{kernels[0]}/restart"], {}, count=RESTARTS)
        use(server, kernels[:1])
        deleted = delete(server, kernels)
        time.sleep(1)
        after = server.memory(own=True)
    return {
        f"{language}.first": first,
        f"{language}.cold": statistics.median(created),
        f"{language}.cold95": percentile(created, 95),
        f"{language}.cell": statistics.median(cells),
        f"{language}.pss": (full - alone) / count,
        f"{language}.whole": full / count,
        f"{language}.restart": statistics.median(restarts),
        f"{language}.delete": statistics.median(deleted),
        f"{language}.returned": (held - after) / (held - empty) * 100,
    }


def measure_pool(build: Build, language: str) -> Values:
    """Creation while the pool holds blank kernels."""
    settings = {"KERNEL_POOL_ENABLED": "true", "KERNEL_POOL_SIZE": str(POOL), "KERNEL_POOL_PRELOAD_CONFIGS": f"worker-{language}"}
    with kernel_server(build, settings) as server:
        wait_for(lambda: server.call("GET", "/api/status")["pool"]["available"] == POOL)
        time.sleep(SETTLE)
        return {f"{language}.pool": statistics.median(create(server, language, POOL))}


def measure_both(build: Build, language: str, count: int) -> Values:
    return {**measure(build, language, count), **measure_pool(build, language)}


def section(language: str, count: int, goals: dict[str, float], peers: dict) -> Section:
    """`goals` are by the ends of the rows' keys."""
    def row(key: str, name: str, unit: str = "ms", at_least: bool = False) -> Row:
        return Row(f"{language}.{key}", name, unit, goals.get(key), at_least)

    rows = [
        row("cold", "created cold: p50"),
        row("cold95", "created cold: p95"),
        row("first", "the first of a server, with what all share"),
        row("cell", "first cell of a kernel: p50"),
        row("pss", f"PSS per kernel at {count} after a cell: growth of server, zygote and kernels", "MiB"),
        row("whole", "the same with the idle server in it", "MiB"),
        row("restart", "restart: p50"),
        row("delete", "deletion: p50"),
        row("returned", "memory that deletion gives back", "%", at_least=True),
    ]
    # CPython kernels have no pool, for their zygote is always there.
    pooled = language != "cpython"
    if pooled:
        rows.append(row("pool", f"created from a pool of {POOL}: p50"))
    return Section(f"{NAMES[language]} kernels", rows, lambda build: (measure_both if pooled else measure)(build, language, count), peers)
