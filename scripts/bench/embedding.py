#!/usr/bin/env python3
"""Measure the local embedding model over HTTP, in rounds.

    scripts/bench/embedding.py --binary PATH [--before PATH] [--rounds N] [--write docs/performance.md]

Texts are the questions and passages of tests/retrieval, each with a number, so that no two are the same. All traffic is on 127.0.0.1.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True

import rounds  # noqa: E402
from report import Row, percentile  # noqa: E402
from rounds import Build, Section, Values  # noqa: E402
from server import Server  # noqa: E402

DOCUMENTS = 10_000
BATCH = 1000
QUERIES = 300
ONE_BATCH = 100_000
PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "tests/retrieval/pairs.jsonl").read_text("utf-8").splitlines()
]


def texts(member: str, count: int) -> list[str]:
    found = itertools.cycle(pair[member] for pair in PAIRS)
    return [f"{text} {i}" for i, text in zip(range(count), found)]


class Index:
    """An index of a server, which names no provider."""

    def __init__(self, server: Server, name: str):
        self.server, self.path = server, f"/api/vectordb/indices/default:{name}"
        server.call("POST", "/api/vectordb/indices", {"id": name})

    def add(self, texts: list[str], first: int = 0) -> None:
        documents = [{"id": str(first + i), "text": text} for i, text in enumerate(texts)]
        connection = self.server.connect()
        connection.request("POST", f"{self.path}/documents", json.dumps({"documents": documents}))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()[:300]
        answer.read()

    def query(self, text: str, mode: str = "semantic") -> float:
        begun = time.perf_counter()
        found = self.server.call("POST", f"{self.path}/query", {"query": text, "mode": mode})
        assert len(found["results"]) == 10, found
        return (time.perf_counter() - begun) * 1e3


def measure(build: Build) -> Values:
    with build.server() as server:
        first = Index(server, "first")
        begun = time.perf_counter()
        first.add(["the first text of a server"])
        load = (time.perf_counter() - begun) * 1e3

        index = Index(server, "many")
        passages = texts("passage", DOCUMENTS)
        batches = [(i, passages[i : i + BATCH]) for i in range(0, DOCUMENTS, BATCH)]
        begun = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda batch: index.add(batch[1], batch[0]), batches))
        added = DOCUMENTS / (time.perf_counter() - begun)
        questions = texts("question", QUERIES)
        for question in questions[:20]:
            index.query(question)
        queries = [index.query(question) for question in questions]
        hybrid = [index.query(question, "hybrid") for question in questions]

        large = Index(server, "large")
        short = texts("question", ONE_BATCH)
        begun = time.perf_counter()
        large.add(short)
        one_batch = time.perf_counter() - begun
    return {
        "query": statistics.median(queries), "query95": percentile(queries, 95), "hybrid": statistics.median(hybrid),
        "added": added, "batch": one_batch, "load": load,
    }


ROWS = [
    Row("query", f"{DOCUMENTS:,} documents: query by text, p50", "ms", 2),
    Row("query95", f"{DOCUMENTS:,} documents: query by text, p95"),
    Row("hybrid", f"{DOCUMENTS:,} documents: hybrid query by text, p50"),
    Row("added", "passages of 40 words embedded, indexed and stored, 2 clients", "/s", at_least=True),
    Row("batch", f"{ONE_BATCH:,} questions in one request", "s"),
    Row("load", "the first text of a server, which loads the model"),
]


def main() -> None:
    options = rounds.parser(__doc__, rounds=3).parse_args()
    rounds.main([Section("embedding", ROWS, measure)], options, "embedding")


if __name__ == "__main__":
    main()
