"""A server without kernels: how soon it answers, and what it weighs."""

from __future__ import annotations

import time

from lifecycle import boot
from rounds import Build, Values

# Seconds until zygotes and the server have given back what they booted with.
SETTLE = 3.0


def idle(build: Build, languages: list[str]) -> float:
    """MiB of the server and the zygotes of these languages, whose kernels came and went."""
    types = ",".join(f"worker-{language}" for language in languages) or "worker-typescript"
    # Without languages no zygote may be there, even if the server starts one by itself.
    settings = {} if languages else {"KERNEL_ZYGOTE": "false"}
    with build.server({"ALLOWED_KERNEL_TYPES": types, **settings}) as server:
        for language in languages:
            boot(server, language)
        time.sleep(SETTLE)
        return server.memory()


def start(build: Build) -> float:
    with build.server() as server:
        return server.start


def measure(build: Build) -> Values:
    return {
        "start": start(build),
        "idle": idle(build, []),
        "idle.typescript": idle(build, ["typescript"]),
        "idle.both": idle(build, ["typescript", "python"]),
    }
