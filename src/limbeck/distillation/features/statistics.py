"""Mean and scale of each dimension, from a fixed sample, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["SAMPLED_PROTEINS", "SAMPLED_RESIDUES", "Moments", "moments", "spread"]

SAMPLED_RESIDUES = 65_536
SAMPLED_PROTEINS = 16_384
_NARROW = 1e-3
_ROWS = 4096

Moments = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Mean and scale, both (dimension,)."""


def spread(total: int, count: int, seed: int = 0) -> NDArray[np.int64]:
    """``min(count, total)`` different indices below ``total``, ascending: one drawn from each of as many equal parts.

    It needs no more memory than its result, whatever ``total``.
    """
    count = min(count, total)
    edges = np.arange(count + 1, dtype=np.int64) * total // max(1, count)
    widths = np.diff(edges)
    return edges[:-1] + (np.random.default_rng(seed).random(count) * widths).astype(np.int64)


def moments(blocks: Iterable[NDArray[np.floating]], dimension: int, resolution: float) -> Moments:
    """Mean and scale of the rows of all blocks, each (rows, dimension).

    The scale is the standard deviation. A dimension that hardly varies has nothing to teach and must not be blown
    up: if its deviation is below a thousandth of the median one, or below what the numbers resolve at its mean, its
    scale is the median deviation of the others (1 if there is none).

    Args:
        resolution: relative spacing of the numbers as they are stored.
    """
    rows, shift = 0, np.zeros(dimension)
    sums, squares = np.zeros(dimension), np.zeros(dimension)
    for block in blocks:
        for begin in range(0, len(block), _ROWS):
            values = block[begin : begin + _ROWS].astype(np.float64)
            if not rows:
                # Sums about a value that occurs stay exact where a dimension is constant.
                shift = values[0].copy()
            values -= shift
            sums += values.sum(0)
            squares += np.square(values, out=values).sum(0)
            rows += len(values)
    mean = sums / max(1, rows)
    deviation = np.sqrt(np.maximum(squares / max(1, rows) - mean**2, 0))
    mean += shift
    varying = deviation > resolution * np.abs(mean)
    typical = np.median(deviation[varying]) if varying.any() else 1.0
    scale = np.where(varying & (deviation > _NARROW * typical), deviation, typical)
    return mean.astype(np.float32), scale.astype(np.float32)
