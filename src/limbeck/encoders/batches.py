"""Windows over long proteins, and batches of windows of like length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Piece", "Window", "pack", "split"]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one protein that is encoded in one go.

    The encoder sees residues ``start`` to ``stop``; the features of ``own_start`` to ``own_stop`` are kept.
    Where two windows overlap the seam lies in the middle, so every kept residue has at least half the
    overlap as context on either side. All four are 0-based and half open, in the protein's coordinates.
    """

    protein: int
    start: int
    stop: int
    own_start: int
    own_stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def owned(self) -> slice:
        """The kept residues, relative to the window."""
        return slice(self.own_start - self.start, self.own_stop - self.start)


@dataclass(frozen=True, slots=True)
class Piece:
    """What counts of a window, and where in its protein it lies."""

    owned: slice
    """The kept residues, relative to the window."""
    start: int
    """The window's first residue, 0-based, in the protein."""
    length: int
    """Residues of the whole protein."""


def split(protein: int, length: int, size: int | None, overlap: int) -> list[Window]:
    """Cover a protein with windows of at most ``size`` residues; ``None`` means one window whatever the length.

    Every residue is owned by exactly one window. The last window is moved back so that it is full.
    """
    if size is None or length <= size:
        return [Window(protein, 0, length, 0, length)]
    if not 0 <= overlap < size:
        raise ValueError(f"overlap {overlap} must be at least 0 and below the window size {size}")
    starts = [*range(0, length - size, size - overlap), length - size]
    seams = [0, *((a + size + b) // 2 for a, b in pairwise(starts)), length]
    return [Window(protein, start, start + size, seams[i], seams[i + 1]) for i, start in enumerate(starts)]


def pack(lengths: Sequence[int], budget: int, padding: float = 0.03) -> list[list[int]]:
    """Group items of like length into batches.

    Args:
        lengths: tokens of each item.
        budget: the most tokens, padding included, that a batch may hold; an item longer than it gets
            a batch of its own.
        padding: the largest share of a batch's tokens that may be padding. A batch is closed early rather than
            filled up with items that are too short for it.

    Returns:
        Batches of indices into ``lengths``, longest first, so that a machine without enough memory
        shows it at once.
    """
    batches: list[list[int]] = []
    widest = filled = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = (len(batches[-1]) + 1) * widest if batches else 0
        if not batches or size > budget or size - filled - lengths[index] > padding * size:
            batches.append([])
            widest, filled = max(1, lengths[index]), 0
        batches[-1].append(index)
        filled += lengths[index]
    return batches
