"""The languages of kernels, and the cells that measurements are made of."""

from __future__ import annotations

ONE = "1+1"
# What every answer to it holds, in each language's own spacing.
TWO = '"2"}'

JAVASCRIPT = {
    "print": 'console.log("x")',
    "lines": 'for (let i = 0; i < 1000; i++) console.log("line " + i)',
    "set": "globalThis.x = 41",
    "get": "globalThis.x",
    "endless": {
        "loop": "while (true) {}",
        "microtasks": "await (async () => { while (true) await null })()",
        "regex": '/^(a+)+$/.test("a".repeat(40) + "b")',
    },
}
PYTHON = {
    "print": 'print("x")',
    "lines": 'for i in range(1000):\n    print("line", i)',
    "set": "x = 41",
    "get": "x",
    "endless": {"loop": "while True: pass"},
}
CELLS = {"typescript": JAVASCRIPT, "javascript": JAVASCRIPT, "python": PYTHON, "cpython": PYTHON}
NAMES = {"typescript": "TypeScript", "javascript": "JavaScript", "python": "Pyodide", "cpython": "CPython"}
