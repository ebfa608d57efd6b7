"""Vectors whose leading numbers serve alone.

Three ways to them:

- A student's projection is fitted by principal components (:mod:`limbeck.distillation.projection`), so its numbers come
  in the order of their variance, and any prefix is the best linear summary of its size of what is projected.
- :class:`MatryoshkaDimensions` lets an objective score several prefixes at once (Kusupati et al. 2022,
  arXiv:2205.13147): what is trained as a prefix serves as one.
- :func:`reverse_distilled` makes a nested vector from two encoders in closed form, without training (Catrina et al.
  2026, arXiv:2603.07710).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError

__all__ = ["DIMENSIONS", "MatryoshkaDimensions", "ReverseDistilled", "prefixes", "reverse_distilled"]

DIMENSIONS = (64, 128, 256)
"""Prefixes of a protein vector that a student's folder promises, where it is wider."""

_Floats = NDArray[np.floating]


@dataclass(frozen=True)
class MatryoshkaDimensions:
    """Which prefixes of a vector an objective scores, all of equal weight, as in the paper.

    Raises:
        InputError: unless the dimensions are positive and ascending.
    """

    dimensions: tuple[int, ...]

    def __post_init__(self) -> None:
        positive = bool(self.dimensions) and self.dimensions[0] > 0
        if not positive or any(a >= b for a, b in zip(self.dimensions, self.dimensions[1:], strict=False)):
            raise InputError(f"nested dimensions must be positive and ascending, not {self.dimensions}")

    def mean(self, score: Callable[[int], Any]) -> Any:
        """The mean over the prefixes of ``score(dimension)``: a number, an array or a tensor.

        ``nested.mean(lambda d: loss(vectors[:, :d], targets))`` is a loss of (rows,) where ``loss`` is.
        """
        first, *others = (score(dimension) for dimension in self.dimensions)
        return sum(others, first) / len(self.dimensions)


@dataclass(frozen=True)
class ReverseDistilled:
    """A fitted map from the representations of two encoders to one nested vector."""

    small_mean: _Floats
    """(k,)"""
    large_mean: _Floats
    """(d,)"""
    regression: _Floats
    """(k, d): what the small representation says of the large one, both centred."""
    components: _Floats
    """(m, d): orthonormal directions of what it does not say, the one of largest variance first."""

    @property
    def dimension(self) -> int:
        return len(self.small_mean) + len(self.components)

    def transform(self, small: _Floats, large: _Floats, dimension: int | None = None) -> _Floats:
        """Nested vectors (n, dimension): the small representation as it is, then what the large one adds to it.

        Args:
            small: (n, k).
            large: (n, d), of the same proteins or residues.
            dimension: how many leading numbers, all by default.

        Raises:
            InputError: if shapes do not fit what was fitted.
        """
        if small.shape[1:] != self.small_mean.shape or large.shape[1:] != self.large_mean.shape:
            expected = f"(n, {len(self.small_mean)}) and (n, {len(self.large_mean)})"
            raise InputError(f"expected representations of shapes {expected}, got {small.shape} and {large.shape}")
        _same_rows(small, large)
        if dimension is not None and not 1 <= dimension <= self.dimension:
            raise InputError(f"dimension must be between 1 and {self.dimension}, not {dimension}")
        residual = (large - self.large_mean) - (small - self.small_mean) @ self.regression
        return np.concatenate([small, residual @ self.components.T], axis=1)[:, :dimension]

    def reconstruct(self, vectors: _Floats) -> _Floats:
        """The large representation (n, d) as far as nested vectors (n, k to dimension) tell it.

        Raises:
            InputError: if the vectors are shorter than the small representation, or longer than they can be.
        """
        width = len(self.small_mean)
        if not width <= vectors.shape[1] <= self.dimension:
            raise InputError(f"expected between {width} and {self.dimension} numbers a row, got {vectors.shape[1]}")
        added = vectors[:, width:]
        predicted = (vectors[:, :width] - self.small_mean) @ self.regression
        return self.large_mean + predicted + added @ self.components[: added.shape[1]]


def reverse_distilled(
    small: _Floats, large: _Floats, dimension: int | None = None, *, tolerance: float = 1e-6
) -> ReverseDistilled:
    """Fit a nested vector: its first k numbers are the small representation, the rest what the large one adds.

    The large representation is regressed on the principal components of the small one; the residuals, which no linear
    map of the small representation explains, are turned to their own principal components and the first of them are
    appended (Catrina et al. 2026). Feed the result back as ``small`` to append a third encoder.

    Args:
        small: (n, k) representations of n proteins or residues.
        large: (n, d) of the same.
        dimension: numbers in the nested vector, at least k; by default the larger of k and d, as in the paper. Where
            the residuals have no further direction, the vector is shorter.
        tolerance: components whose standard deviation is below this share of the largest are left out; they are
            rounding errors, which a regression would blow up.

    Raises:
        InputError: if the two have different numbers of rows, fewer than two rows, or ``dimension`` is below k.
    """
    _same_rows(small, large)
    if len(small) < 2:
        raise InputError("reverse distillation needs representations of at least two proteins or residues")
    width = small.shape[1]
    dimension = max(width, large.shape[1]) if dimension is None else dimension
    if dimension < width:
        raise InputError(f"dimension must be at least {width}, that of the small representation, not {dimension}")
    x, y = np.asarray(small, dtype=np.float64), np.asarray(large, dtype=np.float64)
    small_mean, large_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - small_mean, y - large_mean
    scores, scale, axes = _svd(x, tolerance)
    regression = axes.T @ ((scores.T @ y) / scale[:, None])
    residual = y - x @ regression
    # Rounding errors of a perfect regression are no directions either: measure against the whole, not against them.
    floor = tolerance * float(np.linalg.norm(y, axis=0).max(initial=0.0))
    _, spread, components = np.linalg.svd(residual, full_matrices=False)
    kept = min(dimension - width, int((spread > floor).sum()))
    return ReverseDistilled(small_mean, large_mean, regression, components[:kept])


def prefixes(width: int, dimensions: Sequence[int] = DIMENSIONS) -> MatryoshkaDimensions:
    """The promised prefixes of vectors of ``width`` numbers, the whole vector last."""
    return MatryoshkaDimensions((*sorted(d for d in dimensions if d < width), width))


def _svd(centered: _Floats, tolerance: float) -> tuple[_Floats, _Floats, _Floats]:
    """Left vectors (n, r), singular values (r,) and right vectors (r, k), without the negligible ones."""
    left, values, right = np.linalg.svd(centered, full_matrices=False)
    kept = values > tolerance * values.max(initial=0.0)
    return left[:, kept], values[kept], right[kept]


def _same_rows(small: _Floats, large: _Floats) -> None:
    if small.ndim != 2 or large.ndim != 2 or len(small) != len(large):
        raise InputError(f"expected two tables with a row for each protein, got shapes {small.shape} and {large.shape}")
