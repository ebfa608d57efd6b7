"""What a student pools over a protein: the parts that its vector is projected from, in NumPy.

:class:`limbeck.distillation.network.Student` has the same in PyTorch; ``docs/student.md`` says why these parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.batches import Piece
from limbeck.residues import PAD_ID, RESIDUES, to_ids

__all__ = ["ENDS", "GAPS", "SHORTEST_SIGHT", "counted", "counted_rows", "part_sizes", "parts", "shares_of"]

ENDS = 20
"""Residues at either end whose mean is told apart: signal peptides and anchors lie there."""
GAPS = (1, 2)
"""Pairs of residues so many places apart are counted."""
SHORTEST_SIGHT = max(GAPS)
"""How far a residue's counts see."""
_LETTERS = len(RESIDUES)
_IDS = PAD_ID + 1
_SMALLEST = 1e-12


def part_sizes(width: int, states: int) -> tuple[int, ...]:
    """Numbers of each part: contexts, residue vectors, composition, first residues, last residues, pairs, length."""
    return states, width, _LETTERS, width, width, len(GAPS) * _LETTERS**2, 1


def shares_of(pieces: Sequence[Piece], length: int) -> NDArray[np.float32]:
    """Which positions of windows count: (n, 3, length), 1 where a residue is owned, is owned and one of the protein's
    first :data:`ENDS`, is owned and one of its last."""
    shares = np.zeros((len(pieces), 3, length), np.float32)
    for row, piece in enumerate(pieces):
        first, stop = piece.owned.start, piece.owned.stop
        shares[row, 0, first:stop] = 1.0
        shares[row, 1, first : max(first, min(stop, ENDS - piece.start))] = 1.0
        shares[row, 2, max(first, piece.length - ENDS - piece.start) : stop] = 1.0
    return shares


def counted(window: str, owned: slice) -> NDArray[np.float32]:
    """How often each residue, and each pair that starts with it, is among those owned: (20 + pairs,). Pairs are in the
    order of their first residue; an unknown residue is none of the 20."""
    ids = to_ids(window).astype(np.intp)
    found = [np.bincount(ids[owned], minlength=_IDS)[:_LETTERS]]
    for gap in GAPS:
        second = ids[owned.start + gap : owned.stop + gap]
        codes = ids[owned.start : owned.start + len(second)] * _IDS + second
        found.append(np.bincount(codes, minlength=_IDS**2).reshape(_IDS, _IDS)[:_LETTERS, :_LETTERS].ravel())
    return np.concatenate(found).astype(np.float32)


def counted_rows(window: str) -> NDArray[np.float32]:
    """What :func:`counted` adds up, residue by residue: (length, 20 + pairs)."""
    ids = to_ids(window).astype(np.intp)
    letters = np.eye(_IDS, _LETTERS, dtype=np.float32)
    rows = [letters[ids]]
    for gap in GAPS:
        second = np.concatenate([ids[gap:], np.full(min(gap, len(ids)), PAD_ID)])
        rows.append((letters[ids][:, :, None] * letters[second][:, None]).reshape(len(ids), -1))
    return np.concatenate(rows, axis=1)


def parts(sums: NDArray[np.float64], lengths: NDArray[np.float64], width: int, states: int) -> NDArray[np.float64]:
    """What vectors are projected from, (n, numbers), the parts of :func:`part_sizes` side by side.

    Args:
        sums: (n, states + 3 width + 20 + pairs): over the residues of each of n proteins, of context assignments and
            residue vectors, of the first and of the last residues' vectors, and what is counted.
        lengths: (n,) residues of each.
    """
    whole = lengths[:, None]
    end = np.minimum(whole, ENDS)
    places = np.cumsum([states, width, width, width, _LETTERS])
    contexts, residues, first, last, letters, pairs = np.split(sums, places, axis=1)
    mean = residues / whole
    # Rounding can leave a mean of probabilities a hair below zero.
    roots = [np.sqrt(np.maximum(part / whole, _SMALLEST)) for part in (contexts, letters, pairs)]
    found = [roots[0], mean, roots[1], first / end - mean, last / end - mean, roots[2], np.log(whole)]
    return np.concatenate(found, axis=1)
