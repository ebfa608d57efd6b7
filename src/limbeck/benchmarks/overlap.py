"""How many scored proteins have a near relative among those that were fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.residues import RESIDUES, to_ids

__all__ = ["near_duplicates"]

WORD = 5


def near_duplicates(train: list[str], queries: list[str]) -> int:
    """Number of queries of which at least half of the different 5-mers stand in one single train protein."""
    if not train:
        return 0
    words = [_words(sequence) for sequence in train]
    owners = np.repeat(np.arange(len(train)), [len(w) for w in words])
    flat = np.concatenate(words)
    order = np.argsort(flat, kind="stable")
    flat, owners = flat[order], owners[order]
    return sum(_is_near(_words(query), flat, owners) for query in queries)


def _is_near(words: NDArray[np.int64], flat: NDArray[np.int64], owners: NDArray[np.intp]) -> bool:
    low, high = np.searchsorted(flat, words, "left"), np.searchsorted(flat, words, "right")
    lengths = high - low
    if not lengths.any():
        return False
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    hits = owners[np.repeat(low, lengths) + within]
    return bool(2 * np.bincount(hits).max() >= len(words))


def _words(sequence: str) -> NDArray[np.int64]:
    """The different 5-mers of standard residues, as numbers."""
    ids = to_ids(sequence).astype(np.int64)
    if len(ids) < WORD:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(ids, WORD)
    known = windows[(windows < len(RESIDUES)).all(axis=1)]
    return np.unique(known @ len(RESIDUES) ** np.arange(WORD))
