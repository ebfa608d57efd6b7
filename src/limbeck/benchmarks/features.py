"""Features of a task's proteins, kept on disk under what determines them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.benchmarks.cache import kept_array
from limbeck.benchmarks.task import SEED
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError
from limbeck.residues import PAD_ID, RESIDUES, to_ids

__all__ = ["one_hot_windows", "pair_features", "protein_features", "residue_features", "residue_sample"]

Floats = NDArray[np.float32]

RESIDUES_AT_ONCE = 50_000
REACH = 7
"""Neighbours on each side that the one-hot baseline of residues sees: a window of 15."""


def protein_features(encoder: Encoder, sequences: list[str], cache: Path | None) -> Floats:
    """One vector a protein: (n, dimension) float32.

    Raises:
        InputError: if a vector holds what is no finite number.
    """
    return _kept(encoder, "proteins", sequences, cache, lambda: _finite(encoder, sequences, encoder.encode(sequences)))


def pair_features(known: Mapping[str, Floats], first: list[str], second: list[str], mean: Floats) -> Floats:
    """What two proteins' vectors say together, whichever stands first: (pairs, 2 * dimension) float32.

    Products of the centred numbers, which a linear probe cannot make by itself, and absolute differences.
    """
    a, b = (np.stack([known[s] for s in side]) - mean for side in (first, second))
    return np.concatenate([a * b, np.abs(a - b)], axis=1)


def _finite(encoder: Encoder, sequences: list[str], vectors: Floats) -> Floats:
    """The vectors, (n, dimension), if all their numbers are finite."""
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise _no_numbers(encoder, sequences[int(bad.argmax())], f"{int(bad.sum()):,} of {len(vectors):,} proteins")
    return vectors


def _no_numbers(encoder: Encoder, first: str, where: str) -> InputError:
    shown = first if len(first) <= 20 else f"{first[:20]}..."
    return InputError(
        f"{encoder.name} gives NaN or infinite numbers for {where}, the first is {shown}; see whether "
        "`limbeck embed --precision f32` gives numbers, or take another model"
    )


def residue_features(
    encoder: Encoder, sequences: list[str], rows: list[NDArray[np.intp]], cache: Path | None
) -> Floats:
    """Vectors of chosen residues, protein after protein: (chosen, dimension) float32.

    Args:
        rows: for each protein the positions that are wanted, from 0.

    Raises:
        InputError: if the encoder has no features of single residues, or one of them holds what is no finite number.
    """

    def compute() -> Floats:
        parts = []
        for chunk in _chunks(sequences):
            features = encoder.encode_residues(sequences[chunk])
            for sequence, f, r in zip(sequences[chunk], features, rows[chunk], strict=True):
                if not np.isfinite(f[r]).all():
                    raise _no_numbers(encoder, sequence, "residues of a protein")
                parts.append(f[r])
        return np.concatenate(parts)

    wanted = [" ".join(map(str, r)) for r in rows]
    return _kept(encoder, "residues", [*sequences, *wanted], cache, compute)


def residue_sample(sequence: str, known: NDArray[np.bool_], share: float) -> NDArray[np.intp]:
    """Positions of about ``share`` of the known residues; the sequence and the seed decide which."""
    positions = np.flatnonzero(known)
    digest = hashlib.sha256(f"{SEED} {sequence}".encode()).digest()
    random = np.random.default_rng(list(digest[:8]))
    return positions[random.random(len(positions)) < share]


def one_hot_windows(sequences: list[str], rows: list[NDArray[np.intp]]) -> Floats:
    """The floor for residues: which letter stands at each of 15 positions around, (chosen, 15 * 21) float32."""
    width = len(RESIDUES) + 1
    table = np.eye(PAD_ID + 1, width, dtype=np.float32)
    parts = []
    for sequence, positions in zip(sequences, rows, strict=True):
        padded = np.pad(to_ids(sequence), REACH, constant_values=PAD_ID)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1)[positions]
        parts.append(table[windows].reshape(len(positions), -1))
    return np.concatenate(parts)


def _chunks(sequences: list[str]) -> Iterator[slice]:
    ends = list(accumulate(map(len, sequences)))
    first = done = 0
    for index, end in enumerate(ends):
        if end - done >= RESIDUES_AT_ONCE or index + 1 == len(ends):
            yield slice(first, index + 1)
            first, done = index + 1, end


def _kept(encoder: Encoder, kind: str, texts: list[str], cache: Path | None, compute: Callable[[], Floats]) -> Floats:
    return kept_array(cache, "\n".join([kind, encoder.fingerprint, encoder.precision, *texts]), compute)
