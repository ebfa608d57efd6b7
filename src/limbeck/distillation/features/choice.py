"""Which residues of a corpus a store holds: a seeded draw over the whole corpus, kept as one bit a residue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["KnownResidues", "choose"]

_BLOCK = 2**22
"""Residues handled at once; a multiple of 8, so that blocks meet at whole bytes."""


def choose(residues: int, share: float, seed: int) -> NDArray[np.uint8]:
    """Choose each residue of a corpus by itself with probability ``share``.

    Single residues rather than stretches, because neighbours resemble each other and so teach less. All draws are made
    in corpus order before anything is computed, so the choice depends on ``residues``, ``share`` and ``seed`` alone.

    Returns:
        (ceil(residues / 8),) bits, the first residue highest (``numpy.packbits``), zero beyond the end.
    """
    rng = np.random.default_rng(seed)
    sizes = [min(_BLOCK, residues - first) for first in range(0, residues, _BLOCK)]
    return np.concatenate([np.packbits(rng.random(size) < share) for size in sizes])


class KnownResidues:
    """The residues held, and where each protein's begin among them.

    Args:
        bits: what :func:`choose` gave.
        offsets: (proteins + 1,) first residue of each protein in the corpus.
    """

    def __init__(self, bits: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self._bits, self._offsets = bits, offsets
        self.first = self._count()
        """(proteins + 1,) first held residue of each protein, counted in held residues."""

    def of(self, protein: int, stop: int) -> NDArray[np.bool_]:
        """(stop,) whether each of the first ``stop`` residues of a protein is held."""
        begin = int(self._offsets[protein])
        return self._between(begin, begin + stop)

    def _between(self, begin: int, end: int) -> NDArray[np.bool_]:
        unpacked = np.unpackbits(self._bits[begin // 8 : -(-end // 8)])
        return unpacked[begin % 8 :][: end - begin].view(np.bool_)

    def _count(self) -> NDArray[np.int64]:
        """Held residues before each offset, by running totals over blocks of bounded size."""
        result = np.zeros(len(self._offsets), dtype=np.int64)
        before = 0
        for begin in range(0, int(self._offsets[-1]), _BLOCK):
            end = min(begin + _BLOCK, int(self._offsets[-1]))
            totals = before + np.cumsum(self._between(begin, end), dtype=np.int64)
            # The running total up to and without residue o is that of residue o - 1.
            inside = slice(*np.searchsorted(self._offsets, [begin + 1, end + 1]))
            result[inside] = totals[self._offsets[inside] - begin - 1]
            before = int(totals[-1])
        return result
