#!/usr/bin/env python3
"""Measure the vector database over HTTP, and other vector stores beside it on the same vectors.

Usage: scripts/bench/vectors.py --binary PATH [--write docs/performance.md]

Prints tables; with --write they replace what stands between the marks `vectors:begin` and
`vectors:end`. Needs numpy and orjson; sqlite-vec, apsw, chromadb, usearch and faiss-cpu are the peers,
which run in this process, without HTTP.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import orjson

sys.dont_write_bytecode = True

from report import MET, Row, heading, number, table, write_between_marks  # noqa: E402
from server import Server, wait_for  # noqa: E402
from vector_peers import PEERS, Found  # noqa: E402

DIMENSION = 384
QUERIES = 200
K = 10
BATCH = 1_000
# That insert at once.
CLIENTS = 2
# A filter for one of them keeps 0.1 %.
GROUPS = 1_000


def milliseconds(action):
    start = time.perf_counter()
    result = action()
    return (time.perf_counter() - start) * 1e3, result


def clustered(count: int) -> np.ndarray:
    """Like embeddings: points around 200 centres of a space of 32 dimensions, laid into more, with noise."""
    random = np.random.default_rng(7)
    axes = random.standard_normal((32, DIMENSION), dtype=np.float32)
    centres = random.standard_normal((200, 32), dtype=np.float32) * 1.5
    points = centres[random.integers(0, len(centres), count)] + random.standard_normal((count, 32), dtype=np.float32)
    return points @ axes + 0.5 * random.standard_normal((count, DIMENSION), dtype=np.float32)


def noise(count: int) -> np.ndarray:
    """The same in every direction: the worst case for indices that approximate."""
    return np.random.default_rng(7).standard_normal((count, DIMENSION), dtype=np.float32)


# Of vectors: how many, and of which kind.
SETS = {
    "clustered 10,000": (10_000, clustered),
    "clustered 100,000": (100_000, clustered),
    "noise 100,000": (100_000, noise),
}


def split(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many to store and the others to ask for, all of length 1, so that every metric ranks them alike."""
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors[:count]), np.ascontiguousarray(vectors[count:])


def nearest(vectors: np.ndarray, query: np.ndarray, ids: np.ndarray) -> set[str]:
    best = np.argpartition(-(vectors[ids] @ query), K - 1)[:K]
    return {str(i) for i in ids[best]}


def batches(vectors: np.ndarray, double: bool) -> list[bytes]:
    """Bodies with numbers as embedding services write them, or with the digits of a double."""
    found = []
    for start in range(0, len(vectors), BATCH):
        part = vectors[start:start + BATCH]
        part = part.astype(np.float64) if double else part
        documents = [
            {"id": str(start + i), "vector": vector, "metadata": {"group": (start + i) % GROUPS}}
            for i, vector in enumerate(part)
        ]
        found.append(orjson.dumps({"documents": documents}, option=orjson.OPT_SERIALIZE_NUMPY))
    return found


class Index:
    """An index of the server under measurement."""

    def __init__(self, server: Server, name: str):
        self.server = server
        self.path = f"/api/vectordb/indices/default:{name}"
        self.connection = server.connect()
        server.call("POST", "/api/vectordb/indices", {"id": name, "dimension": DIMENSION})

    def post(self, action: str, body: bytes, connection=None):
        connection = connection or self.connection
        connection.request("POST", f"{self.path}/{action}", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{action}: {answer.status} {text[:500]!r}")
        return json.loads(text)

    def insert(self, bodies: list[bytes], clients: int) -> float:
        """Documents a second, by so many clients at once."""
        connections = [self.server.connect() for _ in range(clients)]

        def send(number: int) -> None:
            for body in bodies[number::clients]:
                self.post("documents", body, connections[number])

        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            list(pool.map(send, range(clients)))
        return len(bodies) * BATCH / (time.perf_counter() - start)

    def query(self, vector: np.ndarray, connection=None, **more) -> set[str]:
        request = {"query": vector, "k": K, **more}
        answer = self.post("query", orjson.dumps(request, option=orjson.OPT_SERIALIZE_NUMPY), connection)
        return {result["id"] for result in answer["results"]}

    def remove(self, condition: dict) -> None:
        self.server.call("DELETE", f"{self.path}/documents", {"filter": condition})

    def bytes_on_disk(self) -> int:
        self.server.call("POST", f"{self.path}/save")
        return sum(f.stat().st_size for f in (self.server.data / "vectordb").rglob("*") if f.is_file())


def measure(server: Server, name: str, vectors: np.ndarray, queries: np.ndarray, truth: list[set[str]]) -> dict:
    everyone = np.arange(len(vectors))
    index = Index(server, name)
    bodies = batches(vectors, double=False)
    result = {"insertions": index.insert(bodies, CLIENTS)}
    result["bytes"] = index.bytes_on_disk() / vectors.nbytes

    def recall(found: list[set[str]], expected: list[set[str]]) -> float:
        return sum(len(a & b) for a, b in zip(found, expected)) / sum(len(b) for b in expected)

    # The copy in memory is made meanwhile.
    wait_for(lambda: statistics.median(milliseconds(lambda: index.query(queries[0]))[0] for _ in range(5)) < 50)
    times, found = zip(*(milliseconds(lambda: index.query(query)) for query in queries))
    result["query"], result["recall"] = statistics.median(times), recall(found, truth)

    groups = [i * 7 % GROUPS for i in range(len(queries))]
    times, found = zip(*(
        milliseconds(lambda: index.query(query, filter={"group": group})) for query, group in zip(queries, groups)))
    expected = [
        nearest(vectors, query, everyone[group::GROUPS]) if len(vectors) >= K * GROUPS
        else {str(i) for i in everyone[group::GROUPS]}
        for query, group in zip(queries, groups)
    ]
    result["filtered"], result["filtered recall"] = statistics.median(times), recall(found, expected)

    half = [milliseconds(lambda: index.query(query, filter={"group": {"$lt": GROUPS // 2}})) for query in queries[:50]]
    result["half"] = statistics.median(time for time, _ in half)

    def ask(i: int) -> bool:
        connection = server.connect()
        right = index.query(queries[i], connection) == truth[i]
        connection.close()
        return right

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        result["concurrent"], right = milliseconds(lambda: sum(pool.map(ask, range(64))))
    result["right"] = right

    times = []
    for query in queries[:5]:
        server.call("POST", f"{index.path}/offload")
        times.append(milliseconds(lambda: index.query(query))[0])
    result["resumed"] = statistics.median(times)

    times = []
    for i in range(5):
        # Ten of the thousand groups.
        condition = {"group": {"$gte": i * 10, "$lt": i * 10 + 10}}
        times.append(milliseconds(lambda: index.remove(condition))[0])
    result["deleted"] = statistics.median(times)
    server.call("DELETE", index.path)
    return result


def other_insertions(server: Server, vectors: np.ndarray) -> dict[str, float]:
    rates = {}
    for name, double, clients in (("one", False, 1), ("doubles", True, CLIENTS)):
        index = Index(server, name)
        rates[name] = index.insert(batches(vectors, double), clients)
        server.call("DELETE", index.path)
    return rates


def peer(name: str, vectors: np.ndarray, queries: np.ndarray, truth: list[set[str]]) -> Found | str:
    """What a peer does with these vectors, or why it does nothing."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            store = PEERS[name](vectors, Path(folder))
            build = time.perf_counter() - start
            for query in queries[:3]:
                store.nearest(query, K)
            times, found = zip(*(milliseconds(lambda: store.nearest(query, K)) for query in queries))
            size = store.size()
            hits = sum(len({str(i) for i in ids} & right) for ids, right in zip(found, truth))
            result = Found(statistics.median(times), hits / (K * len(queries)), build, size)
    except Exception as error:  # a peer that fails, or is not installed, must not cost the others
        return f"{type(error).__name__}: {error}"[:60]
    print(name, result, file=sys.stderr, flush=True)
    return result


def peer_row(found: Found | str) -> str:
    if isinstance(found, str):
        return found
    return cell(found.query, found.recall, found.build, found.size)


def own_row(result: dict, count: int) -> str:
    return cell(result["query"], result["recall"], count / result["insertions"], result["bytes"] * 4 * DIMENSION)


def cell(query: float, recall: float, build: float, size: float | None) -> str:
    text = f"{query:.2f} ms, recall {recall:.3f}, built in {build:.1f} s"
    return f"{text}, {size:,.0f} bytes a vector" if size else text


# Peers that keep what is inserted when the process ends.
DURABLE = ("sqlite-vec float32", "chroma (persistent)")

Beside = dict[str, Found | str]


def best(beside: Beside, value: Callable[[Found], float | None], recall: float = 0, more: bool = False,
         names: Iterable[str] | None = None) -> tuple[str, float] | None:
    """The peer with the best value among those that find enough, and the value."""
    values = {
        name: of for name, found in beside.items()
        if (names is None or name in names) and not isinstance(found, str) and found.recall >= recall
        and (of := value(found)) is not None
    }
    name = (max if more else min)(values, key=values.__getitem__, default=None)
    return None if name is None else (name, values[name])


def line(name: str, goal: float, value: float, unit: str, peer: tuple[str, float] | None = None, more: bool = False,
         note: str = "") -> list[str]:
    row = Row("", name, unit, goal, more)
    cells = [name, row.goal_text(), row.text(value) + note, MET[row.meets(value)]]
    if peer is None:
        return [*cells, "", ""]
    return [*cells, f"{row.text(peer[1])} ({peer[0]})", f"{number(value / peer[1])} ×" if peer[1] else ""]


def goal_rows(own: dict[str, dict], beside: dict[str, Beside]) -> list[list[str]]:
    rows = []
    for title, query, recall in (
        ("clustered 10,000", 2.5, 1.0), ("clustered 100,000", 8, 0.99), ("noise 100,000", 8, 0.95),
    ):
        peers, result = beside.get(title, {}), own[title]
        rows += [
            line(f"{title}: query, p50", query, result["query"], "ms",
                 best(peers, lambda found: found.query, recall)),
            line(f"{title}: recall@{K}", recall, result["recall"], "", best(peers, lambda found: found.recall, more=True), more=True),
        ]
    small, large = own["clustered 10,000"], own["clustered 100,000"]
    for title, result in (("clustered 10,000", small), ("clustered 100,000", large)):
        peers, count = beside.get(title, {}), SETS[title][0]
        rows += [
            line(f"{title}: durable insertions in batches of 1,000, {CLIENTS} clients", 20_000, result["insertions"], "/s",
                 best(peers, lambda found: count / found.build, more=True, names=DURABLE), more=True),
            line(f"{title}: 64 queries at once, right answers", 64, result["right"], "", more=True,
                 note=f" (all in {result['concurrent']:.0f} ms)"),
            line(f"{title}: recall@{K} with a filter that keeps 0.1 %", 1, result["filtered recall"], "", more=True),
            line(f"{title}: bytes on disk, of the raw vectors", 1.2, result["bytes"], "×",
                 best(peers, lambda found: found.size and found.size / (4 * DIMENSION), names=DURABLE)),
        ]
    return [
        *rows,
        line("clustered 10,000: delete 1 % by filter, p50", 50, small["deleted"], "ms"),
        line("clustered 10,000: first query after off-load, p50", 30, small["resumed"], "ms"),
    ]


def further_rows(small: dict, large: dict, rates: dict[str, float]) -> list[list[str]]:
    def both(key: str) -> list[str]:
        return [f"{result[key]:.2f} ms" for result in (small, large)]

    return [
        ["query with a filter that keeps 0.1 %, p50", *both("filtered")],
        ["query with a filter that keeps half, p50", *both("half")],
        ["first query after off-load, p50", *both("resumed")],
        ["delete 1 % by filter, p50", *both("deleted")],
        [f"insertions by {CLIENTS} clients", *(f"{result['insertions']:,.0f}/s" for result in (small, large))],
        ["insertions by one client", f"{rates['one']:,.0f}/s", ""],
        [f"insertions by {CLIENTS} clients, numbers with the digits of doubles", f"{rates['doubles']:,.0f}/s", ""],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only-own", action="store_true", help="leave out the peers")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    own, beside = {}, {}
    for title, (count, kind) in SETS.items():
        vectors, queries = split(kind(count + QUERIES), count)
        truth = [nearest(vectors, query, np.arange(count)) for query in queries]
        with Server(arguments.binary, {"KERNEL_POOL_ENABLED": "false"}) as server:
            own[title] = measure(server, title.replace(" ", "-").replace(",", ""), vectors, queries, truth)
            if title == "clustered 10,000":
                rates = other_insertions(server, vectors)
        print(title, own[title], file=sys.stderr, flush=True)
        if not arguments.only_own:
            beside[title] = {name: peer(name, vectors, queries, truth) for name in PEERS}
    small, large, _ = own.values()
    headings = ["", "goal", "ours", "met", "best peer", "ours / peer"]
    parts = [heading(before), table(headings, goal_rows(own, beside))]
    parts += ["Also measured:", table(["", "10,000", "100,000"], further_rows(small, large, rates))]
    if beside:
        rows = [["**this server, over HTTP**", *(own_row(own[t], SETS[t][0]) for t in SETS)]]
        rows += [[name, *(peer_row(beside[t][name]) for t in SETS)] for name in PEERS]
        parts += ["Beside others, which run in the measuring process, without HTTP: query p50, recall@10, building, and "
                  "bytes a vector on disk (usearch: in memory) where known.",
                  table(["", *SETS], rows)]
    text = "\n\n".join(parts)
    print(text)
    if arguments.write:
        write_between_marks(arguments.write, "vectors", text)


if __name__ == "__main__":
    main()
