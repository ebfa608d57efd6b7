"""Which engine should hold an index: build time, speed, recall, size and memory of each, on the same vectors.

The vectors are synthetic, made from real ones. A table of embeddings gives points and their 10 nearest; a new vector
lies between a point and one of those (at a uniform place), plus Gaussian noise with the covariance of the differences
between neighbours, scaled by a half. Points are drawn by Zipf's law (exponent 0.7), as families differ in size. All are
centred and of unit length, as in an index of limbeck. Queries come from the same law and are not in the index.

Each engine builds in a process of its own, and searches in another. It names 30 candidates, whose similarities are then
computed from the vectors themselves, as an index of limbeck does it; recall and time are of both steps together. Times
are of one thread, as wall time and as time of the processor, which a busy machine lengthens less.

    python engines.py table.npz [table.npz ...] --work FOLDER --count 1000000 --output engines.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"
# With one of each LanceDB gave no result in seven minutes. Run this script on one core.
for variable in ("LANCE_CPU_THREADS", "LANCE_IO_THREADS"):
    os.environ[variable] = "4"

import numpy as np  # noqa: E402

QUERIES, K, CANDIDATES, BLOCK = 500, 10, 30, 20_000
SETTINGS: dict[str, dict[str, object]] = {
    "exact-f32": {"engine": "exact", "search": [0]},
    "faiss-ivf-sq8": {"engine": "faiss", "factory": "IVF{lists},SQ8", "search": [8, 16, 32, 64]},
    "faiss-ivf-fp16": {"engine": "faiss", "factory": "IVF{lists},SQfp16", "search": [8, 16, 32, 64]},
    "faiss-ivf-flat": {"engine": "faiss", "factory": "IVF{lists},Flat", "search": [8, 16, 32, 64]},
    "faiss-hnsw-sq8": {"engine": "faiss", "factory": "HNSW16_SQ8", "search": [32, 64, 128, 256]},
    "usearch-i8": {"engine": "usearch", "dtype": "i8", "search": [32, 64, 128, 256]},
    "usearch-f16": {"engine": "usearch", "dtype": "f16", "search": [32, 64, 128, 256]},
    "usearch-bf16": {"engine": "usearch", "dtype": "bf16", "search": [32, 64, 128, 256]},
    "usearch-f32": {"engine": "usearch", "dtype": "f32", "search": [32, 64, 128, 256]},
    "lancedb-ivf-pq": {"engine": "lancedb", "kind": "IVF_PQ", "search": [16, 64]},
    "lancedb-ivf-sq": {"engine": "lancedb", "kind": "IVF_SQ", "search": [8, 16, 32, 64]},
    "lancedb-ivf-hnsw-sq": {"engine": "lancedb", "kind": "IVF_HNSW_SQ", "search": [8, 16, 32, 64]},
}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def make(tables: list[str], folder: Path, count: int) -> None:
    """Vectors, queries and their exact neighbours, unless they are there."""
    if (folder / "truth.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    real = np.concatenate([np.load(table)["embeddings"] for table in tables]).astype(np.float32)
    real -= real.mean(axis=0)
    directions = unit(real)
    near = np.argsort(-(directions @ directions.T), axis=1)[:, 1:11]
    random = np.random.default_rng(0)
    differences = real[near[:, 0]] - real
    factor = 0.5 * np.linalg.cholesky(np.cov(differences.T) + 1e-6 * np.eye(real.shape[1])).astype(np.float32)
    shares = (1.0 + random.permutation(len(real))) ** -0.7
    shares /= shares.sum()

    def draw(size: int) -> np.ndarray:
        start = random.choice(len(real), size, p=shares)
        end = near[start, random.integers(0, near.shape[1], size)]
        between = random.random((size, 1), np.float32)
        noise = random.standard_normal((size, real.shape[1]), np.float32) @ factor.T
        return unit(real[start] + between * (real[end] - real[start]) + noise)

    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(count, real.shape[1])
    )
    for first in range(0, count, BLOCK):
        vectors[first : first + BLOCK] = draw(min(BLOCK, count - first))
    queries = draw(QUERIES)
    np.save(folder / "queries.npy", queries)
    rows, _ = exact(vectors, queries)
    np.save(folder / "truth.npy", rows)


def exact(vectors: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    best = np.full((len(queries), K), -2, np.float32)
    rows = np.zeros((len(queries), K), np.int64)
    for first in range(0, len(vectors), BLOCK):
        found = queries @ np.asarray(vectors[first : first + BLOCK]).T
        place = np.argpartition(-found, K, axis=1)[:, :K]
        all_best = np.concatenate([best, np.take_along_axis(found, place, axis=1)], axis=1)
        all_rows = np.concatenate([rows, place + first], axis=1)
        order = np.argsort(-all_best, axis=1)[:, :K]
        best, rows = np.take_along_axis(all_best, order, axis=1), np.take_along_axis(all_rows, order, axis=1)
    return rows, best


def lists_of(count: int) -> int:
    """A power of two near 4 sqrt(count)."""
    return 2 ** round(np.log2(4 * np.sqrt(count)))


def build(name: str, vectors: np.ndarray, path: Path) -> None:
    setting = SETTINGS[name]
    if setting["engine"] == "faiss":
        import faiss

        faiss.omp_set_num_threads(1)
        lists = lists_of(len(vectors))
        factory = str(setting["factory"]).format(lists=lists)
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if "IVF" in factory:
            index.cp.max_points_per_centroid = 40
            index.cp.niter = 8
        sample = np.random.default_rng(0).permutation(len(vectors))[: 40 * lists]
        index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
        for first in range(0, len(vectors), BLOCK):
            index.add(np.ascontiguousarray(vectors[first : first + BLOCK]))
        faiss.write_index(index, str(path))
    elif setting["engine"] == "usearch":
        from usearch.index import Index

        index = Index(
            ndim=vectors.shape[1], metric="cos", dtype=str(setting["dtype"]), connectivity=16, expansion_add=64
        )
        for first in range(0, len(vectors), BLOCK):
            block = np.ascontiguousarray(vectors[first : first + BLOCK])
            index.add(np.arange(first, first + len(block)), block, threads=1)
        index.save(str(path))
    elif setting["engine"] == "lancedb":
        import lancedb
        import pyarrow as pa

        def batches():
            for first in range(0, len(vectors), BLOCK):
                block = np.ascontiguousarray(vectors[first : first + BLOCK])
                flat = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), vectors.shape[1])
                yield pa.record_batch([pa.array(np.arange(first, first + len(block))), flat], names=["row", "vector"])

        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), vectors.shape[1]))])
        table = lancedb.connect(str(path)).create_table("t", data=batches(), schema=schema)
        table.create_index(metric="cosine", index_type=str(setting["kind"]), num_partitions=lists_of(len(vectors)) // 4)


def rescored(vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The K best of the candidates (n, CANDIDATES) of each query."""
    best = []
    for query, candidates in zip(queries, rows, strict=True):
        candidates = np.unique(candidates[candidates >= 0])
        best.append(candidates[np.argsort(-(vectors[candidates] @ query))[:K]])
    return np.array(best)


def opened(name: str, vectors: np.ndarray, path: Path, effort: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from queries (n, dimension) to rows (n, K)."""
    setting = SETTINGS[name]
    if setting["engine"] == "faiss":
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.read_index(str(path))
        if "hnsw" in name:
            index.hnsw.efSearch = effort
        else:
            index.nprobe = effort
        return lambda queries: rescored(vectors, queries, index.search(queries, CANDIDATES)[1])
    if setting["engine"] == "usearch":
        from usearch.index import Index

        index = Index.restore(str(path), view=True)
        index.expansion_search = effort

        def found(queries: np.ndarray) -> np.ndarray:
            keys = index.search(queries, CANDIDATES, threads=1).keys
            return rescored(vectors, queries, keys.reshape(-1, CANDIDATES).astype(np.int64))

        return found
    if setting["engine"] == "lancedb":
        import lancedb

        table = lancedb.connect(str(path)).open_table("t")

        def one(query: np.ndarray) -> list[int]:
            search = table.search(query).metric("cosine").nprobes(effort).limit(K)
            return search.refine_factor(CANDIDATES // K).select(["row"]).to_arrow()["row"].to_pylist()

        return lambda queries: np.array([one(query) for query in queries])
    return lambda queries: exact(vectors, queries)[0]


def peak() -> int:
    """MB that this process held at most; unlike getrusage's, this number doesn't begin with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


def size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) if path.exists() else 0


def child(step: str, name: str, folder: Path, effort: int) -> dict[str, float]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    path = folder / name
    wall, processor = time.perf_counter(), time.process_time()
    if step == "build":
        if path.is_dir():
            shutil.rmtree(path)
        build(name, vectors, path)
        found = {"build_s": time.perf_counter() - wall, "build_cpu_s": time.process_time() - processor}
        return {**found, "build_peak_mb": peak(), "index_mb": size(path) / 1e6}
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    search = opened(name, vectors, path, effort)
    search(queries[:1])
    opening = time.perf_counter() - wall
    search(queries)  # maps the pages that are needed
    result = {"open_s": opening, "effort": effort}
    wall, processor = time.perf_counter(), time.process_time()
    rows = search(queries)
    result["ms_per_query"] = 1000 * (time.perf_counter() - wall) / len(queries)
    result["cpu_ms_per_query"] = 1000 * (time.process_time() - processor) / len(queries)
    wall = time.perf_counter()
    for query in queries[:50]:
        search(query[None])
    result["ms_alone"] = 1000 * (time.perf_counter() - wall) / 50
    result["recall_at_10"] = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(rows, truth, strict=True)]))
    return {**result, "search_peak_mb": peak()}


def run(step: str, name: str, folder: Path, effort: int = 0) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", step, name, str(effort), "--work", str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="npz files of limbeck embed")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--engines", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.child:
        step, name, effort = options.child
        print(json.dumps(child(step, name, options.work, int(effort))))
        return
    folder = options.work / str(options.count)
    make(options.tables, folder, options.count)
    known = json.loads(options.output.read_text()) if options.output.exists() else {"runs": []}
    packages = ("faiss-cpu", "usearch", "lancedb", "numpy")
    known["versions"] = {name: importlib.metadata.version(name) for name in packages}
    known["python"], known["machine"] = platform.python_version(), platform.machine()
    for name in options.engines:
        entry: dict[str, object] = {"name": name, "vectors": options.count}
        entry.update(run("build", name, folder) if SETTINGS[name]["engine"] != "exact" else {})
        efforts = SETTINGS[name]["search"]
        entry["searches"] = [run("search", name, folder, effort) for effort in efforts]  # type: ignore[attr-defined]
        runs = [r for r in known["runs"] if (r["name"], r["vectors"]) != (name, options.count)]
        known["runs"] = [*runs, json.loads(json.dumps(entry), parse_float=lambda text: float(f"{float(text):.4g}"))]
        options.output.write_text(json.dumps(known, indent=1) + "\n")
        print(json.dumps(entry), flush=True)


if __name__ == "__main__":
    main()
