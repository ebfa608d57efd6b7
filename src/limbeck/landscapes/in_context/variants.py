"""Numbers that describe a variant: the residues that are mutated, as a frozen encoder sees the wild type, and to what.

The paper gives the network every residue of every variant. Here the encoder reads the wild type alone, once for a
protein, so a variant costs nothing: its *place* is the mean over its mutated positions of the wild type's residue
features and of the residues expected there, its *change* the sum over them of the residue that was, the one that is,
and how much less it is expected.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders import Encoder
from limbeck.encoders.base import ResidueEncoder
from limbeck.errors import InputError
from limbeck.landscapes.assay import GAP, STOP, expressed
from limbeck.landscapes.models.base import letters
from limbeck.landscapes.vectors import nearest_wild_types
from limbeck.residues import RESIDUES

__all__ = ["CHANGE", "Describer"]

LETTERS = RESIDUES + GAP + STOP
CHANGE = 2 * len(LETTERS) + 2
"""Numbers of a change: one-hot of both letters, log ratio of their probabilities, logarithm of 1 + their count."""

Array = NDArray[np.float32]


class Describer:
    """Describes rows of one frame.

    Args:
        encoder: with features of single residues; those of an encoder with ``log_probabilities`` are used, too.
        wild_types: rows in the frame.

    Raises:
        InputError: if there are no wild types, or the encoder has no features of single residues.
    """

    def __init__(self, encoder: Encoder, wild_types: Sequence[str]) -> None:
        if not wild_types:
            raise InputError("the in-context predictor needs the wild type that variants differ from; give wild_types")
        if isinstance(encoder, ResidueEncoder):
            encoder.check_residues()
        self._wild_types = list(wild_types)
        codes = letters(self._wild_types)
        residues, expected = _seen(encoder, [expressed(row) for row in self._wild_types])
        # A column without a residue is stood for by the residue before it.
        columns = [np.maximum(np.cumsum(row != ord(GAP)) - 1, 0) for row in codes]
        self._codes, self._residues = codes, [f[c] for f, c in zip(residues, columns, strict=True)]
        self._expected = [f[c] for f, c in zip(expected, columns, strict=True)]
        self.place = self._residues[0].shape[1] + len(RESIDUES)

    def __call__(self, rows: Sequence[str]) -> Array:
        """(n, place + :data:`CHANGE`) of n rows; where nothing is mutated, the place is the mean of all."""
        result = np.zeros((len(rows), self.place + CHANGE), np.float32)
        if not rows:
            return result
        codes = letters(rows)
        stops = codes == ord(STOP)
        visible = stops | ~np.logical_or.accumulate(stops, axis=1)
        for row, parent in enumerate(nearest_wild_types(rows, self._wild_types)):
            wild = self._codes[parent]
            positions = np.flatnonzero((codes[row] != wild) & visible[row])
            result[row] = self._described(parent, positions, wild[positions], codes[row, positions])
        return result

    def _described(
        self, parent: int, positions: NDArray[np.intp], old: NDArray[np.uint8], new: NDArray[np.uint8]
    ) -> Array:
        where: NDArray[np.intp] | slice = positions if len(positions) else slice(None)
        expected = self._expected[parent]
        ratios = _of(expected[positions], new) - _of(expected[positions], old)
        return np.concatenate(
            [
                self._residues[parent][where].mean(axis=0),
                expected[where].mean(axis=0),
                _one_hot(old),
                _one_hot(new),
                [ratios.sum(), np.log1p(len(positions))],
            ]
        ).astype(np.float32)

    def log_ratios(self, described: Array) -> Array:
        """(n,) log ratio of the probabilities of the new and the old residues, summed: a score without labels."""
        return described[:, -2]


def _seen(encoder: Encoder, sequences: list[str]) -> tuple[list[Array], list[Array]]:
    """Features (length, dimension) and natural log probabilities (length, 20), zeros from encoders without them."""
    features = encoder.encode_residues(sequences)
    if hasattr(encoder, "log_probabilities"):
        return features, encoder.log_probabilities(sequences)
    return features, [np.zeros((len(f), len(RESIDUES)), np.float32) for f in features]


def _of(expected: Array, codes: NDArray[np.uint8]) -> Array:
    """(n,) entries of (n, 20) for letters; the least likely residue stands for a gap or stop, the mean for X."""
    index = _INDEX[codes]
    values = np.take_along_axis(expected, np.minimum(index, len(RESIDUES) - 1)[:, None], axis=1)[:, 0]
    if len(values):
        values = np.where(index >= len(RESIDUES), expected.min(axis=1), values)
        values = np.where(index < 0, expected.mean(axis=1), values)
    return values


def _one_hot(codes: NDArray[np.uint8]) -> Array:
    """(22,) counts of letters; X is none."""
    index = _INDEX[codes]
    return np.bincount(index[index >= 0], minlength=len(LETTERS)).astype(np.float32)


_INDEX = np.full(256, -1)
_INDEX[np.frombuffer(LETTERS.encode(), np.uint8)] = np.arange(len(LETTERS))
