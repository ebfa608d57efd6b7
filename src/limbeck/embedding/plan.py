"""Which proteins are computed together, and where each vector comes to lie.

Rows are taken in *chunks*, stretches of the input small enough to hold their sequences in memory. A chunk is
sorted by length, so that batches hold proteins of like length, and cut into *pieces*: what is computed and
saved at once, so a killed run loses one piece at most. All of it follows from the lengths and the recorded
limits alone, so a resumed run forms the same batches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder

__all__ = ["Chunk", "Limits", "Piece", "chunks"]

# 2 M residues sort into batches with little padding and take 2 MB.
CHUNK_PROTEINS = 2**16
CHUNK_RESIDUES = 2**21
# A piece should take tens of seconds on a CPU: 4 TFLOP at two operations a parameter and residue.
PIECE_PARAMETER_RESIDUES = 4e12
PIECE_BYTES = 2**26


@dataclass(frozen=True)
class Limits:
    """Bounds of chunks, pieces and batches; recorded with a run and reused when it resumes."""

    token_budget: int
    chunk_proteins: int
    chunk_residues: int
    piece_proteins: int
    piece_residues: int

    @classmethod
    def choose(cls, encoder: Encoder, token_budget: int, per_residue: bool) -> Limits:
        """Limits for an encoder: pieces of several batches, that hold at most about 64 MB of vectors."""
        residues = max(4 * token_budget, int(PIECE_PARAMETER_RESIDUES / max(1, encoder.parameters)))
        # Pooled sums are float64, features of residues float32.
        fitting = max(1, PIECE_BYTES // ((4 if per_residue else 8) * encoder.dimension))
        return cls(
            token_budget=token_budget,
            chunk_proteins=CHUNK_PROTEINS,
            chunk_residues=CHUNK_RESIDUES,
            piece_proteins=min(CHUNK_PROTEINS, CHUNK_PROTEINS if per_residue else fitting),
            piece_residues=min(CHUNK_RESIDUES, residues, *([fitting] if per_residue else [])),
        )

    def as_dict(self) -> dict[str, int]:
        """For a manifest; ``Limits(**limits.as_dict())`` gives it back."""
        return asdict(self)


@dataclass(frozen=True)
class Piece:
    """Proteins that are computed and saved together."""

    number: int
    rows: NDArray[np.int64]
    """(proteins,), longest protein first."""
    start: int
    """Vectors in all pieces before it."""
    vectors: int
    residues: int


@dataclass(frozen=True)
class Chunk:
    """A stretch of the input, ``start`` to ``stop`` (half open), and what is to be computed of it."""

    start: int
    stop: int
    pieces: list[Piece]


def chunks(
    lengths: NDArray[np.int32],
    firsts: NDArray[np.int64],
    places: NDArray[np.int64],
    limits: Limits,
    per_residue: bool,
) -> Iterator[Chunk]:
    """Divide a run, and note where each protein's first vector will lie in the concatenation of all pieces.

    Args:
        lengths: residues of each row, (n,).
        firsts: the first row with the same sequence, (n,); only that one is computed.
        places: (n,), filled from chunk to chunk.
        limits: bounds of chunks and pieces.
        per_residue: whether a protein has one vector for each residue, or one.
    """
    start = place = number = 0
    while start < len(lengths):
        rows = np.arange(start, min(start + limits.chunk_proteins, len(lengths)))
        new = firsts[rows] == rows
        total = np.cumsum(np.where(new, lengths[rows], 0), dtype=np.int64)
        size = max(1, int(np.searchsorted(total, limits.chunk_residues, side="right")))
        rows, new = rows[:size], new[:size]

        computed = rows[new]
        computed = computed[np.argsort(-lengths[computed], kind="stable")]
        pieces = []
        for part in _cut(computed, lengths, limits):
            vectors = lengths[part].astype(np.int64) if per_residue else np.ones(len(part), dtype=np.int64)
            places[part] = place + np.cumsum(vectors) - vectors
            residues = int(lengths[part].sum(dtype=np.int64))
            pieces.append(Piece(number, part, place, int(vectors.sum()), residues))
            place += pieces[-1].vectors
            number += 1
        places[rows[~new]] = places[firsts[rows[~new]]]
        yield Chunk(start, start + size, pieces)
        start += size


def _cut(rows: NDArray[np.int64], lengths: NDArray[np.int32], limits: Limits) -> Iterator[NDArray[np.int64]]:
    start = residues = 0
    for stop, length in enumerate(lengths[rows].tolist()):
        if stop > start and (residues + length > limits.piece_residues or stop - start == limits.piece_proteins):
            yield rows[start:stop]
            start, residues = stop, 0
        residues += length
    if start < len(rows):
        yield rows[start:]
