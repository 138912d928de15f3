#!/usr/bin/env python3
"""Print the licences of everything that is linked into the binary.

Reads `cargo metadata --format-version 1` from standard input, follows the normal dependencies (no
build or test tools) and prints a list of the packages, then each distinct licence text once, with
the packages it comes from.

    cargo metadata --locked --format-version 1 --filter-platform TARGET |
      third_party_licenses.py [extra text file ...]
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

LICENSE_FILE = re.compile(r"^(un)?licen[cs]e|^copying|^notice", re.IGNORECASE)
# Programs that happen to be called license.something.
SOURCE_SUFFIXES = {".rs", ".c", ".h", ".cc", ".py", ".js", ".ts", ".toml", ".json", ".yml", ".yaml", ".sh"}
# Not part of what is linked.
SKIPPED_FOLDERS = {"test", "tests", "testdata", "testing", "fuzz", "bench", "benches", "examples", "doc", "docs", ".git"}
RULE = "=" * 78


def linked_packages(metadata: dict) -> list[dict]:
    """The root package's normal dependencies, all the way down, without the root itself."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = metadata["resolve"]["root"]
    seen, todo = set(), [root]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        for dependency in nodes[current]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    # A procedural macro runs in the compiler: nothing of it, or of what only it needs, is linked. It is
    # kept all the same, since what it generates may carry its author's text.
    linked = [packages[package_id] for package_id in seen if package_id != root]
    return sorted(linked, key=lambda package: (package["name"], package["version"]))


def license_texts(package: dict) -> list[str]:
    """Every licence text in the package's source folder, vendored libraries included."""
    folder = Path(package["manifest_path"]).parent
    files = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name.lower() not in SKIPPED_FOLDERS)
        in_license_folder = re.fullmatch(r"licen[cs]es?", Path(here).name, re.IGNORECASE)
        for name in sorted(names):
            path = Path(here) / name
            if path.suffix.lower() not in SOURCE_SUFFIXES and (LICENSE_FILE.match(name) or in_license_folder):
                files.append(path)
    if package.get("license_file"):
        files.append(folder / package["license_file"])
    texts = (path.read_text("utf-8", "replace") for path in files if path.is_file())
    return [text for text in texts if text.strip()]


def normalised(text: str) -> str:
    """The same words count as the same text, however they are wrapped."""
    return " ".join(text.split())


def report(packages: list[dict], extra: list[Path]) -> str:
    texts: dict[str, tuple[str, list[str]]] = {}
    without = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        found = license_texts(package)
        if not found:
            without.append(package)
        for text in found:
            owners = texts.setdefault(normalised(text), (text.strip("\n"), []))[1]
            if name not in owners:
                owners.append(name)

    out = ["This program contains the following packages. Their licence texts follow the list.", ""]
    for package in packages:
        source = package.get("repository") or package.get("homepage") or "crates.io"
        out.append(f"{package['name']} {package['version']}: {package.get('license') or 'see its text'} ({source})")
    out.append("The Rust standard library: MIT OR Apache-2.0 (https://github.com/rust-lang/rust)")
    if without:
        out += ["", "These packages ship no licence text of their own:", ""]
        for package in without:
            authors = ", ".join(package.get("authors") or []) or "its authors"
            out.append(f"{package['name']} {package['version']}, by {authors}: {package.get('license') or 'unknown'}")
    for path in extra:
        # A licence as its authors ship it does not say of what.
        title = [f"From {path.parent.name}", RULE, ""] if LICENSE_FILE.match(path.name) else []
        out += ["", RULE, *title, path.read_text("utf-8").strip("\n")]
    for text, owners in sorted(texts.values(), key=lambda entry: entry[1]):
        out += ["", RULE, "From " + ", ".join(owners), RULE, "", text]
    return "\n".join(out) + "\n"


def main() -> None:
    sys.stdout.reconfigure(encoding="utf-8")
    packages = linked_packages(json.load(sys.stdin))
    print(report(packages, [Path(name) for name in sys.argv[1:]]), end="")
    print(f"{len(packages)} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
