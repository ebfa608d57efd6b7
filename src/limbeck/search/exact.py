"""Exact nearest neighbours: matrix products over blocks of vectors, and the best few of each query."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUERIES_AT_ONCE", "best_of", "nearest"]

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]

QUERIES_AT_ONCE = 512
ROWS_AT_ONCE = 16_384
ROUNDING = 2e-5
"""More than float32 products of unit vectors differ from exact ones: candidates are kept this far below the k-th best,
so that the final choice, in float64, is that of exact numbers."""


def nearest(
    vectors: Floats,
    queries: NDArray[np.float32],
    k: int,
    *,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> tuple[Rows, NDArray[np.float64]]:
    """The ``k`` rows with the largest dot product with each query; of equals the first rows.

    Args:
        vectors: (n, dimension), of at most unit length; may be mapped from disk, and is read block by block.
        queries: (q, dimension), of at most unit length.
        k: at most n are found.
        groups: of the queries (q,) and of the vectors (n,): a query finds no vector of its own group. Places that stay
            free then have the row -1 and the similarity -inf.
        rows_at_once: vectors in a block. It changes memory and speed, never the result.

    Returns:
        rows (q, k') and similarities (q, k') in float64, best first; k' is the smaller of k and n.
    """
    k = min(k, len(vectors))
    rows = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf)
    for first in range(0, len(queries), QUERIES_AT_ONCE):
        part = slice(first, first + QUERIES_AT_ONCE)
        of_part = None if groups is None else (groups[0][part], groups[1])
        for query, found in _candidates(vectors, queries[part], k, of_part, rows_at_once):
            best, similar = best_of(vectors, queries[first + query], found, k)
            rows[first + query, : len(best)] = best
            similarities[first + query, : len(best)] = similar
    return rows, similarities


def best_of(vectors: Floats, query: NDArray[np.float32], rows: Rows, k: int) -> tuple[Rows, NDArray[np.float64]]:
    """Of some rows the ``k`` most similar to a query (dimension,), best first, of equals the first; in float64.

    A vector's similarity depends on nothing but itself and the query, so equal vectors are exactly equally similar.
    """
    rows = np.unique(rows)
    similar = np.multiply(vectors[rows], query, dtype=np.float64).sum(axis=1)
    order = np.argsort(-similar, kind="stable")[:k]
    return rows[order], similar[order]


def _candidates(
    vectors: Floats,
    queries: NDArray[np.float32],
    k: int,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    rows_at_once: int,
) -> Iterator[tuple[int, Rows]]:
    """For each query all rows that may be among its ``k`` best."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    kept: list[tuple[NDArray[np.intp], Rows, NDArray[np.float32]]] = []
    for start in range(0, len(vectors), rows_at_once):
        block = np.asarray(vectors[start : start + rows_at_once], np.float32)
        similar = queries @ block.T
        if groups is not None:
            similar[groups[0][:, None] == groups[1][None, start : start + rows_at_once]] = -np.inf
        best = _merged(best, similar, k)
        # Where fewer than k were found yet, the bound is -inf, and what a group excludes is not above it.
        query, column = np.nonzero((similar >= best[:, :1] - ROUNDING) & (similar > -np.inf))
        kept.append((query, column + start, similar[query, column]))
        if sum(len(part[0]) for part in kept) > 64 * best.size:
            kept = [_pruned(kept, best)]
    query, row, _ = _pruned(kept, best)
    order = np.argsort(query, kind="stable")
    ends = np.searchsorted(query[order], np.arange(len(queries) + 1))
    for number in range(len(queries)):
        yield number, row[order[ends[number] : ends[number + 1]]]


def _merged(best: NDArray[np.float32], similar: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """The k best values so far, (q, k), the smallest of them first."""
    above = similar > best[:, :1]
    counts = above.sum(axis=1)
    if (most := int(counts.max(initial=0))) == 0:
        return best
    if most < similar.shape[1] // 8:
        # After the first blocks few are better; only those are sorted.
        query, column = np.nonzero(above)
        place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        values = np.full((len(best), most), -np.inf, np.float32)
        values[query, place] = similar[query, column]
    else:
        values = similar
    both = np.concatenate([best, values], axis=1)
    return np.partition(both, both.shape[1] - k, axis=1)[:, -k:]


def _pruned(
    kept: list[tuple[NDArray[np.intp], Rows, NDArray[np.float32]]], best: NDArray[np.float32]
) -> tuple[NDArray[np.intp], Rows, NDArray[np.float32]]:
    """What is still near enough, now that more is known."""
    query, row, similar = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    near = similar >= best[query, 0] - ROUNDING
    return query[near], row[near], similar[near]
