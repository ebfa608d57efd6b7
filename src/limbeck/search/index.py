"""An index that is open: finds the nearest proteins, and transfers their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from limbeck.encoders import Encoder
from limbeck.errors import InputError
from limbeck.search.engine import Engine, open_engine
from limbeck.search.exact import QUERIES_AT_ONCE, best_of, nearest
from limbeck.search.folder import CENTRE, PROTEINS, VECTORS, Manifest, read_manifest
from limbeck.search.labels import split_label
from limbeck.search.transfer import VOTERS, Annotation, Calibration, features_of, vote
from limbeck.search.vectors import Origin

__all__ = ["SAME", "Hit", "Index", "directions", "open_index"]

SAME = 0.999
"""Similarity from which a hit of the query's own id is the query itself."""
CANDIDATES = 3
"""As many times ``k`` candidates come from an engine, to be compared once more from the vectors themselves."""

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hit:
    """A protein of an index near a query."""

    id: str
    similarity: float
    """Cosine, -1 to 1, once the mean of the index is taken off."""
    label: str | None = None
    """That the index has for it; several are separated by ``;``."""
    reliability: float | None = None
    """Estimated probability that the query has a label of it, where the index is calibrated."""


class Index:
    """An open index; :func:`open_index` makes one. Nothing in it changes, so threads may share it."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.name = folder.name
        self.manifest = manifest
        self._vectors = _mapped(folder / VECTORS, manifest)
        self._centre: NDArray[np.float32] = np.load(folder / CENTRE, allow_pickle=False)
        table = pa.ipc.open_file(pa.memory_map(str(folder / PROTEINS))).read_all()
        self._ids = table["id"].combine_chunks()
        self._labels = table["label"].combine_chunks() if "label" in table.column_names else None
        self._engine: Engine | None = open_engine(folder, manifest)
        found = manifest.labels.get("calibration") or {}
        self._hits = Calibration(**found["hits"]) if found else None
        self._transfer = Calibration(**found["transfer"]) if found else None
        self._voters = int(found.get("voters", VOTERS[0]))
        self._several = bool(manifest.labels.get("several", False))

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def labelled(self) -> bool:
        """Whether its proteins have labels."""
        return self._labels is not None

    @property
    def calibrated(self) -> bool:
        """Whether it knows how reliable its labels are."""
        return self._transfer is not None

    def nearest(self, vectors: NDArray[np.floating], k: int) -> tuple[Rows, Floats]:
        """Rows and similarities of the nearest proteins, nearest first.

        Args:
            vectors: of the queries as the encoder gives them, (q, dimension).
            k: at most as many as the index has are found.

        Returns:
            Both (q, k'); a row is -1, of similarity -inf, where an engine has found fewer.
        """
        queries = directions(np.asarray(vectors, np.float32), self._centre)
        k = min(k, len(self))
        if self._engine is None:
            return nearest(self._vectors, queries, k)
        rows = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -np.inf)
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            part = queries[first : first + QUERIES_AT_ONCE]
            found = self._engine.candidates(part, min(CANDIDATES * k, len(self)))
            for number, (query, candidates) in enumerate(zip(part, found, strict=True), first):
                best, similar = best_of(self._vectors, query, candidates[candidates >= 0], k)
                rows[number, : len(best)], similarities[number, : len(best)] = best, similar
        return rows, similarities

    def search(
        self,
        vectors: NDArray[np.floating],
        k: int,
        *,
        without: Sequence[str] | None = None,
        least: float = -np.inf,
    ) -> list[list[Hit]]:
        """The nearest proteins of each query, nearest first.

        Args:
            vectors: (q, dimension), as the encoder gives them.
            k: most hits of one query.
            without: ids of the queries: a hit of the same id and a similarity of about 1 is left out.
            least: similarity below which nothing is a hit.
        """
        rows, similarities = self._others(vectors, k, without)
        results = []
        for line, values in zip(rows, similarities, strict=True):
            keep = (line >= 0) & (values >= least)
            results.append(self._as_hits(line[keep], values[keep]))
        return results

    def annotate(
        self, vectors: NDArray[np.floating], *, without: Sequence[str] | None = None, least: float = 0.0
    ) -> list[list[Annotation]]:
        """Labels of each query, transferred from its neighbours, most votes first.

        Args:
            vectors: (q, dimension), as the encoder gives them.
            without: as for :meth:`search`.
            least: reliability below which a label is left out.

        Returns:
            For each query one annotation, or none if no neighbour has a label; if proteins of the index have several
            labels, one for each label that a neighbour has.

        Raises:
            InputError: if the index has no labels.
        """
        if not self.labelled:
            raise InputError(f"{self.name} has no labels to transfer; build it with --labels and --label-column")
        rows, similarities = self._others(vectors, max(VOTERS), without)
        results = []
        for line, values in zip(rows, similarities, strict=True):
            labels = [split_label(self.label(row) or "") if row >= 0 else [] for row in line.tolist()]
            found = vote(labels, values, line, self._voters)
            results.append([a for a in self._judged(found) if (a.reliability or 0.0) >= least])
        return results

    def id(self, row: int) -> str:
        return str(self._ids[row].as_py())

    def label(self, row: int) -> str | None:
        """The label of one protein; ``None`` if it has none."""
        return None if self._labels is None else self._labels[row].as_py()

    def _others(self, vectors: NDArray[np.floating], k: int, without: Sequence[str] | None) -> tuple[Rows, Floats]:
        if without is None:
            return self.nearest(vectors, k)
        rows, similarities = self.nearest(vectors, k + 1)
        for line, values, id in zip(rows, similarities, without, strict=True):
            own = [place for place, row in enumerate(line) if values[place] >= SAME and self.id(row) == id]
            for place in own[:1]:
                line[place:-1], values[place:-1] = line[place + 1 :].copy(), values[place + 1 :].copy()
                line[-1], values[-1] = -1, -np.inf
        return rows[:, :k], similarities[:, :k]

    def _as_hits(self, rows: Rows, similarities: Floats) -> list[Hit]:
        reliability: list[float | None] = [None] * len(rows)
        if self._hits is not None:
            reliability = list(self._hits(similarities[:, None]).tolist())
        hits = []
        for row, similarity, trust in zip(rows.tolist(), similarities.tolist(), reliability, strict=True):
            label = self.label(row)
            hits.append(Hit(self.id(row), similarity, label, trust if label else None))
        return hits

    def _judged(self, annotations: list[Annotation]) -> list[Annotation]:
        kept = annotations if self._several else annotations[:1]
        if self._transfer is None or not kept:
            return kept
        chances = self._transfer(features_of(kept)).tolist()
        return [replace(a, reliability=chance) for a, chance in zip(kept, chances, strict=True)]


def open_index(folder: str | os.PathLike[str], encoder: Encoder | None = None, *, check: bool = False) -> Index:
    """Open the index of a folder.

    Args:
        folder: that :func:`limbeck.search.build_index` wrote.
        encoder: whose vectors will be searched; refused if the index is another's, or of another precision.
        check: look at the checksums of all files; otherwise those above 256 MB are held to their size alone.

    Raises:
        InputError: if there is no index, it is damaged, or it does not go with the encoder.
    """
    manifest = read_manifest(folder, check=check)
    if encoder is not None:
        manifest.origin.refuse_other(origin_of_encoder(encoder), f"the index {os.fspath(folder)}", "this encoder")
    return Index(Path(folder), manifest)


def origin_of_encoder(encoder: Encoder) -> Origin:
    return Origin(encoder.name, encoder.fingerprint, encoder.precision, encoder.pooling, encoder.dimension)


def directions(vectors: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors less the centre, at unit length (or zero): (n, dimension)."""
    moved = vectors.astype(np.float64) - centre
    length = np.sqrt(np.einsum("ij,ij->i", moved, moved))
    return (moved / np.maximum(length, 1e-12)[:, None]).astype(np.float32)


def _mapped(path: Path, manifest: Manifest) -> NDArray[Any]:
    vectors: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if vectors.shape != (manifest.count, manifest.origin.dimension) or vectors.dtype != manifest.dtype:
        raise InputError(f"{path} is damaged: {vectors.shape} of {vectors.dtype}; build the index again")
    return vectors
