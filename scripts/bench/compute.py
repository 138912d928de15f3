"""Computing inside a kernel: is one that was forked as fast as one that was started?

Each loop runs in a forked kernel and in a started one of the same build in turns, and the faster of the runs of each
counts. Kernels time themselves.
"""

from __future__ import annotations

from contextlib import ExitStack

from client import Client, Engine
from report import Row
from rounds import Build, Values

RUNS = 3
GOAL = 1.03

# Each is a block of TypeScript.
LOOPS = {
    "hot": ("a hot loop", "let s = 0; for (let i = 0; i < 2e8; i++) s = (s + i * 3) | 0;"),
    "map": ("a Map of 1,000,000 entries", """
        const m = new Map();
        for (let i = 0; i < 1e6; i++) m.set("k" + i, i);
        let s = 0;
        for (const [, v] of m) s += v;
    """),
    "garbage": ("500 MB of garbage", """
        let kept;
        for (let i = 0; i < 5e5; i++) {
          const a = new Array(125).fill(i);
          if (i % 1000 === 0) kept = a;
        }
    """),
    "json": ("polymorphic objects and JSON", """
        let s = 0;
        for (let i = 0; i < 1e5; i++) {
          const o = i % 3 ? { a: i, b: "x" } : { b: i, c: [i], d: null };
          s += JSON.stringify(JSON.parse(JSON.stringify(o))).length;
        }
    """),
    "sort": ("a sort of 1,000,000 numbers", """
        let x = 1;
        const a = Array.from({ length: 1e6 }, () => (x = (x * 16807) % 2147483647));
        a.sort((p, q) => p - q);
    """),
}
PYTHON = ("a Python loop of 3,000,000", """
def spin():
    from time import perf_counter
    started = perf_counter()
    x = 0
    for i in range(3_000_000):
        x += i
    return (perf_counter() - started) * 1000
spin()
""")


def timed_block(block: str) -> str:
    return f"(() => {{ const started = performance.now(); {block} return performance.now() - started; }})()"


def kernels(build: Build, forks: bool, language: str, stack: ExitStack) -> tuple[Engine, str]:
    server = stack.enter_context(build.server({
        "KERNEL_ZYGOTE": str(forks).lower(), "ALLOWED_KERNEL_TYPES": f"worker-{language}"}))
    engine = Engine(Client(server.base))
    stack.callback(engine.client.close)
    return engine, engine.create(language)


def compare(build: Build, language: str, cells: dict[str, str]) -> Values:
    """For each cell the time in a forked kernel by that in a started one."""
    with ExitStack() as stack:
        sides = [kernels(build, forks, language, stack) for forks in (True, False)]
        found = {}
        for key, code in cells.items():
            best = [float("inf"), float("inf")]
            for run in range(RUNS):
                for side in (0, 1) if run % 2 else (1, 0):
                    engine, kernel = sides[side]
                    best[side] = min(best[side], float(engine.value(kernel, code)))
            found[f"compute.{key}"] = best[0] / best[1]
    return found


def measure(build: Build) -> Values:
    loops = {key: timed_block(block) for key, (_, block) in LOOPS.items()}
    return {**compare(build, "typescript", loops), **compare(build, "python", {"python": PYTHON[1]})}


ROWS = [
    *(Row(f"compute.{key}", f"{name}: forked / started", "×", GOAL) for key, (name, _) in LOOPS.items()),
    Row("compute.python", f"{PYTHON[0]}: forked / started", "×", GOAL),
]
