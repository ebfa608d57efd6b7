"""Tables of embeddings with structure, as ``limbeck embed`` writes them, and labels for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.embedding.stores import format_of, write_table

METADATA = {
    "encoder": "fake",
    "encoder_fingerprint": "f" * 64,
    "precision": "f32",
    "pooling": "mean",
    "level": "proteins",
    "dtype": "float32",
}


@dataclass
class Memory:
    """A table that stands in memory."""

    names: Sequence[str]
    array: NDArray[np.floating]
    metadata: Mapping[str, str]
    per_residue: bool = False

    def __post_init__(self) -> None:
        self.dimension = self.array.shape[1]
        self.dtype = str(self.array.dtype)
        self.lengths = np.ones(len(self.array), np.int32)

    def ids(self) -> Iterator[str]:
        return iter(self.names)

    def vectors(self, start: int, stop: int) -> NDArray[np.floating]:
        return self.array[start:stop]


def table(path: Path, vectors: NDArray[np.floating], names: Sequence[str] | None = None, **metadata: str) -> Path:
    """Write vectors (n, dimension) as a table; its metadata are those of a made-up encoder."""
    names = names or [f"p{number}" for number in range(len(vectors))]
    known = {**METADATA, "dimension": str(vectors.shape[1]), **metadata}
    write_table(Memory(names, vectors, known), path, format_of(path))
    return path


def families(
    count: int, dimension: int = 16, groups: int = 8, spread: float = 0.6, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors about the centres of groups, far from the origin, and the group of each."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(groups, dimension))
    group = random.integers(0, groups, count)
    vectors = centres[group] + spread * random.normal(size=(count, dimension)) + 5
    return vectors.astype(np.float32), group
