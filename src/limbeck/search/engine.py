"""Approximate search: vectors in lists about k-means centres (IVF, Sivic and Zisserman 2003), by Faiss.

The lists hold each vector in 8 bits a number and only name candidates; how similar they are is computed from the
index's own vectors. How many lists a query looks into is chosen for each index, by its recall against exact search. Why
this engine: ``results/search/README.md``.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.progress import Progress
from limbeck.search.folder import Manifest

__all__ = ["EXACT_UP_TO", "PROBES", "Engine", "build_engine", "chosen_engine", "open_engine"]

EXACT_UP_TO = 100_000
"""Proteins up to which exact search is the default."""
PROBES = (8, 16, 32, 64, 128, 256)
"""Numbers of lists that a query may look into."""
NAME, LISTS = "faiss", "lists.faiss"
TRAIN_PER_LIST, ROUNDS = 40, 8
AT_ONCE = 8192
SEED = 0


class Engine(Protocol):
    """Names rows that may be the nearest."""

    probes: int
    """Lists that a query looks into; more find more, and take longer."""

    def candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """For directions (q, dimension) at most ``count`` rows each, (q, count); -1 where there are fewer."""
        ...


def chosen_engine(wanted: str, count: int) -> dict[str, Any]:
    """What a manifest says of the engine for so many proteins.

    Raises:
        InputError: if another than exact search is wanted and not installed, or there is no such choice.
    """
    if wanted not in ("auto", "exact", "approximate"):
        raise InputError(f"unknown engine {wanted!r}; choose auto, exact or approximate")
    installed = importlib.util.find_spec("faiss") is not None
    if wanted == "approximate" and not installed:
        raise InputError("approximate search needs Faiss; pip install 'limbeck[search]'")
    if wanted == "exact" or (wanted == "auto" and count <= EXACT_UP_TO):
        return {"name": "exact"}
    if not installed:
        return {"name": "exact", "note": "approximate search is faster: pip install 'limbeck[search]', index again"}
    faiss = _faiss()
    # About four times the square root, as powers of two; each centre needs vectors to be the mean of.
    lists = min(2 ** round(math.log2(4 * math.sqrt(count))), max(1, count // TRAIN_PER_LIST))
    return {"name": NAME, "version": str(faiss.__version__), "lists": lists, "bits": 8, "probes": min(PROBES[0], lists)}


def build_engine(folder: Path, engine: dict[str, Any], vectors: NDArray[np.floating], progress: bool) -> None:
    """Write the lists of the vectors, (n, dimension), unless search is exact."""
    if engine["name"] == "exact":
        return
    faiss = _faiss()
    index = faiss.index_factory(vectors.shape[1], f"IVF{engine['lists']},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = TRAIN_PER_LIST, 1
    index.cp.niter, index.cp.seed = ROUNDS, SEED
    size = min(len(vectors), TRAIN_PER_LIST * engine["lists"])
    sample = np.sort(np.random.default_rng(SEED).permutation(len(vectors))[:size])
    with Progress("building the lists", "proteins", len(vectors), progress) as bar:
        bar.note("finding centres")
        bar.update(0)
        index.train(np.asarray(vectors[sample], np.float32))
        bar.note("")
        for start in range(0, len(vectors), AT_ONCE):
            block = np.asarray(vectors[start : start + AT_ONCE], np.float32)
            index.add(block)
            bar.update(len(block))
    faiss.write_index(index, str(folder / LISTS))


def open_engine(folder: Path, manifest: Manifest) -> Engine | None:
    """The engine of an index; ``None`` if search is exact.

    Raises:
        InputError: if it is not installed, unknown, or damaged.
    """
    engine = manifest.engine
    if engine["name"] == "exact":
        return None
    if engine["name"] != NAME:
        raise InputError(f"{folder}: its engine {engine['name']!r} is unknown here; build the index again")
    if importlib.util.find_spec("faiss") is None:
        raise InputError(f"{folder} is searched with Faiss; pip install 'limbeck[search]', or build it with --exact")
    faiss = _faiss()
    try:
        index = faiss.read_index(str(folder / LISTS), faiss.IO_FLAG_MMAP)
    except RuntimeError:
        raise InputError(f"{folder / LISTS} is damaged; build the index again") from None
    return _Lists(index, engine["probes"])


@dataclass
class _Lists:
    _index: Any = field(repr=False)
    probes: int

    def candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        # Parameters of the call, not of the index, which other threads may be searching.
        parameters = _faiss().SearchParametersIVF(nprobe=self.probes)
        rows: NDArray[np.int64] = self._index.search(np.ascontiguousarray(queries), count, params=parameters)[1]
        return rows


def _faiss() -> Any:
    import faiss

    return faiss
