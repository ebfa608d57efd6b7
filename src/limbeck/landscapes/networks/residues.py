"""Rows as numbers, for the networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.landscapes.assay import GAP, STOP
from limbeck.landscapes.models.base import letters

__all__ = ["CATEGORIES", "PADDING", "UNKNOWN", "encode"]

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
UNKNOWN = 0
"""Code of ``X``, and of what lies outside a row: a vector of zeros. ``X`` is pooled like every residue."""
PADDING = len(RESIDUES) + 1
"""Code of ``-`` and ``*``, the paper's twenty-first category: filters see it, but it is never pooled."""
CATEGORIES = len(RESIDUES) + 1
"""Numbers in the one-hot vector of a residue or of padding, whose codes are 1 to ``CATEGORIES``."""


def encode(rows: Sequence[str]) -> NDArray[np.uint8]:
    """Codes of n rows of one width, (n, width).

    A stop codon ends the protein as padding does; assays have nothing but gaps behind it.

    Raises:
        InputError: if a row holds another letter than the 20 standard ones, ``X``, ``-`` and ``*``.
    """
    codes = np.zeros(256, np.uint8)
    codes[ord("X")] = UNKNOWN
    codes[[ord(GAP), ord(STOP)]] = PADDING
    codes[np.frombuffer(RESIDUES.encode(), np.uint8)] = np.arange(1, len(RESIDUES) + 1)
    return codes[letters(rows)]
