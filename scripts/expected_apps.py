#!/usr/bin/env python3
"""Ask Deno itself what the apps of tests/apps do, and write it to tests/apps/expected.

Usage: scripts/expected_apps.py DENO [NAME ...]

DENO is the binary of Deno 2.9.6 (`npm install deno@2.9.6`). Without names, all apps are run. One
runs alone in a network of its own (Linux, with unprivileged user namespaces or as root), so that
every port is free and none of them reaches anything. It sees an empty environment, may use the
network and its own folder, and has 64 MB of heap.

An expectation is
  stdout           all of it
  stderr_contains  fragments of stderr, without what differs from machine to machine
  exit_code        128 + N for signal N; null: it still ran when it was ended here
  answers          only of apps that serve: what `GET /` answers, by port
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "tests" / "apps"
EXPECTED = APPS / "expected"
ABSENT = "https://deno.land/std@0.208.0/http/absent.ts"
# Apps that do not end by themselves: when to end them, in seconds.
ENDLESS = {"endless-loop": 2, "explicit-port": 2, "slow-start": 4, "two-servers": 2}
PORTS = {"explicit-port": [8123], "slow-start": [8000], "two-servers": [8123, 8124]}
# Longest anything may take that ends by itself.
PATIENCE = 60


def enter_empty_network() -> None:
    """Run this script again where there is nothing but a loopback interface, and set that up."""
    if os.environ.get("EMPTY_NETWORK") != "1":
        namespaces = ["--net"] if os.geteuid() == 0 else ["--net", "--map-root-user"]
        command = ["unshare", *namespaces, sys.executable, *sys.argv]
        os.execvpe("unshare", command, os.environ | {"EMPTY_NETWORK": "1"})
    SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
    with socket.socket() as s:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def names() -> list[str]:
    files = [p.stem for p in APPS.glob("*.ts")]
    return sorted(files + [p.parent.name for p in APPS.glob("*/main.ts")])


def get(port: int, deadline: float) -> str:
    """What `GET /` answers, once somebody listens."""
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def fragments(stderr: str, folder: Path) -> list[str]:
    """The lines of stderr that are the same everywhere, cut where they name this folder."""
    if "Fatal JavaScript out of memory" in stderr:
        return ["Fatal JavaScript out of memory: Reached heap limit"]
    kept = []
    for line in stderr.splitlines():
        if re.match(r"\s+at .*\((ext:|node:)", line):
            continue  # Deno's own stack, which changes with every version
        parts = [part.strip() for part in line.split(f"{folder}/")]
        # Neither the marks below a line of source nor the beginning of a frame says anything.
        kept += [part for part in parts if re.search(r"\w", part) and part != "at file://"]
    return kept


def fill_not_found(deno_dir: Path, url: str) -> None:
    """Let Deno know a URL as one that its server answers with 404. tests/it/support/deno_dir.rs does the same."""
    address = urlsplit(url)
    folder = deno_dir / "remote" / address.scheme / address.netloc
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"headers": {"x-deno-not-found": "404"}, "url": url, "time": int(time.time())}
    entry = f"\n// denoCacheMetadata={json.dumps(metadata)}"
    (folder / sha256(address.path.encode()).hexdigest()).write_text(entry)


def run(deno: Path, name: str, scratch: Path) -> dict:
    apps = scratch / name
    shutil.copytree(APPS, apps, ignore=shutil.ignore_patterns("expected", "data"))
    folder, entry = (apps / name, "main.ts") if (apps / name).is_dir() else (apps, f"{name}.ts")
    deno_dir = scratch / "deno"
    fill_not_found(deno_dir, ABSENT)
    command = [deno, "run", "--no-prompt", "--allow-net", "--allow-read=.", "--allow-write=."]
    command += ["--v8-flags=--max-old-space-size=64", entry]
    environment = {"DENO_DIR": deno_dir, "HOME": scratch, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    answers = {str(port): get(port, deadline) for port in PORTS.get(name, [])}
    exit_code = None
    try:
        stdout, stderr = process.communicate(timeout=ENDLESS.get(name, PATIENCE))
        code = process.returncode
        exit_code = code if code >= 0 else 128 - code
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        stdout, stderr = process.communicate()
        if name not in ENDLESS:
            raise SystemExit(f"{name} did not end: is it meant to? Then name it in ENDLESS.")
    expected = {"stdout": stdout, "stderr_contains": fragments(stderr, folder), "exit_code": exit_code}
    return expected | ({"answers": answers} if answers else {})


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    deno = Path(sys.argv[1]).resolve()
    enter_empty_network()
    EXPECTED.mkdir(exist_ok=True)
    for name in sys.argv[2:] or names():
        with tempfile.TemporaryDirectory() as scratch:
            expected = run(deno, name, Path(scratch).resolve())
        file = EXPECTED / f"{name}.json"
        file.write_text(json.dumps(expected, indent=2, ensure_ascii=False) + "\n")
        print(f"{name}: exit code {expected['exit_code']}")


if __name__ == "__main__":
    main()
