"""Other vector stores, each used as its documentation says, on vectors of length 1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# One query at a time has one thread, as in the engine; read when the libraries are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")

import numpy as np  # noqa: E402

# HNSW: links of a node, and candidates while building and searching.
LINKS, BUILDING, SEARCHING = 16, 128, 64
BUILDING_THREADS = 2


@dataclass
class Found:
    """Milliseconds of a query (p50), recall, seconds to build, and bytes a vector where known."""

    query: float
    recall: float
    build: float
    size: float | None


class SqliteVec:
    def __init__(self, vectors: np.ndarray, folder: Path):
        import apsw  # the sqlite3 of some Pythons loads no extensions
        import sqlite_vec

        self.file, self.count = folder / "vectors.db", len(vectors)
        self.database = apsw.Connection(str(self.file))
        self.database.enable_load_extension(True)
        self.database.load_extension(sqlite_vec.loadable_path())
        for setting in ("journal_mode = wal", "mmap_size = 2000000000", "cache_size = -400000"):
            self.database.execute(f"pragma {setting}")
        self.database.execute(
            f"create virtual table v using vec0(e float[{vectors.shape[1]}] distance_metric=cosine)")
        with self.database:
            rows = ((i, vector.tobytes()) for i, vector in enumerate(vectors))
            self.database.executemany("insert into v (rowid, e) values (?, ?)", rows)

    def nearest(self, query: np.ndarray, count: int) -> list[int]:
        rows = self.database.execute("select rowid from v where e match ? and k = ?", (query.tobytes(), count))
        return [row[0] for row in rows]

    def size(self) -> float:
        self.database.execute("pragma wal_checkpoint(truncate)")
        return self.file.stat().st_size / self.count


class Chroma:
    BATCH = 2_000

    def __init__(self, vectors: np.ndarray, folder: Path):
        import chromadb

        client = chromadb.PersistentClient(str(folder))
        self.collection = client.create_collection("vectors", metadata={"hnsw:space": "cosine"})
        for start in range(0, len(vectors), self.BATCH):
            part = vectors[start:start + self.BATCH]
            self.collection.add(ids=[str(start + i) for i in range(len(part))], embeddings=part)

    def nearest(self, query: np.ndarray, count: int) -> list[str]:
        answer = self.collection.query(query_embeddings=[query], n_results=count, include=["distances"])
        return answer["ids"][0]

    def size(self) -> None:
        return None


class Usearch:
    def __init__(self, vectors: np.ndarray, _folder: Path):
        from usearch.index import Index

        self.index = Index(
            ndim=vectors.shape[1], metric="cos", dtype="f32", connectivity=LINKS, expansion_add=BUILDING,
            expansion_search=SEARCHING)
        self.index.add(np.arange(len(vectors)), vectors, threads=BUILDING_THREADS)
        self.count = len(vectors)

    def nearest(self, query: np.ndarray, count: int) -> list[int]:
        return list(self.index.search(query, count, threads=1).keys)

    def size(self) -> float:
        return self.index.memory_usage / self.count


class Faiss:
    def __init__(self, vectors: np.ndarray, _folder: Path):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)

    def nearest(self, query: np.ndarray, count: int) -> list[int]:
        return list(self.index.search(query[None], count)[1][0])

    def size(self) -> None:
        return None


PEERS = {
    "sqlite-vec float32": SqliteVec,
    "chroma (persistent)": Chroma,
    "usearch HNSW f32": Usearch,
    "faiss flat": Faiss,
}
