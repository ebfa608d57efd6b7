"""Relatives by shared words: how many scored proteins have one that was fitted on, and families for a split."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from limbeck.residues import RESIDUES, to_ids

__all__ = ["families", "near_duplicates"]

WORD = 5
SHARED = 0.05
LEAST_SHARED = 4
MOST_OWNERS = 25
"""A word of more proteins than this is a motif or a repeat, and makes no family."""


def near_duplicates(train: list[str], queries: list[str]) -> int:
    """Number of queries of which at least half of the different 5-mers stand in one single train protein."""
    if not train:
        return 0
    flat, owners = _owned([_words(sequence) for sequence in train])
    return sum(_is_near(_words(query), flat, owners) for query in queries)


def families(sequences: list[str]) -> NDArray[np.intp]:
    """A family's number for each of the different proteins: (n,), single linkage over shared words of five residues.

    Two proteins are linked if they share at least four words, and one in twenty of the shorter's: unrelated proteins
    share fewer, those with half of their residues in common mostly more. Words of one or two letters (repeats) and
    those of many proteins don't count. A search with an aligner finds more distant relatives; this needs none.
    """
    words = [_telling(_words(sequence)) for sequence in sequences]
    flat, owners = _owned(words)
    ends = np.flatnonzero(np.diff(flat)) + 1
    shared: Counter[tuple[int, int]] = Counter()
    for group in np.split(owners, ends):
        if 1 < len(group) <= MOST_OWNERS:
            shared.update(combinations(group.tolist(), 2))
    parent = list(range(len(words)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for (a, b), count in shared.items():
        if count >= max(LEAST_SHARED, SHARED * min(len(words[a]), len(words[b]))):
            low, high = sorted((root(a), root(b)))
            parent[high] = low
    return np.array([root(index) for index in range(len(words))], np.intp)


def _owned(words: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """All words in ascending order, and whose each is."""
    flat = np.concatenate([np.empty(0, np.int64), *words])
    owners = np.repeat(np.arange(len(words)), [len(w) for w in words])
    order = np.argsort(flat, kind="stable")
    return flat[order], owners[order]


def _telling(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of at least three different letters."""
    letters = np.sort(words[:, None] // len(RESIDUES) ** np.arange(WORD) % len(RESIDUES), axis=1)
    return words[(np.diff(letters, axis=1) > 0).sum(axis=1) >= 2]


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
