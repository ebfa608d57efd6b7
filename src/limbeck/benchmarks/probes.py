"""Linear probes that are solved, not trained, and the nearest neighbour.

Values are predicted by ridge regression (Hoerl and Kennard 1970), classes by linear discriminant analysis with a
regularised common covariance (Friedman 1989). Both come down to one linear system for each strength of the
penalty, so there is no optimiser, no stopping and no seed. Of the logistic regression they replace, discriminant
analysis shares the form (a softmax of linear scores); it takes a class's prior into account, and it handles
hundreds of classes with few proteins each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["STRENGTHS", "Linear", "discriminants", "nearest", "ridges"]

Floats = NDArray[np.float32]
Integers = NDArray[np.intp]

STRENGTHS = tuple(10.0**k for k in range(3, -4, -1))
"""Penalty in units of the mean variance of a dimension, strongest first: of equal scores the strongest wins."""
SMALLEST_VARIANCE = 1e-6
"""Of the mean: a dimension is never penalised less than this share, so that near-constant ones cannot explode."""


@dataclass(frozen=True)
class Linear:
    """``(x - mean) @ weight + bias``: scores (n, outputs) from vectors (n, dimension)."""

    mean: Floats
    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        return ((x - self.mean) @ self.weight + self.bias).astype(np.float32, copy=False)


def ridges(x: Floats, y: NDArray[np.float64], scaling: str) -> Iterator[tuple[float, Linear]]:
    """Ridge regression of values ``y``, (n,) or several (n, outputs), for each of :data:`STRENGTHS`.

    Args:
        x: (n, dimension) train vectors.
        scaling: ``"each"``: as if every dimension had been divided by its own standard deviation on train;
            ``"common"``: all by one number.
    """
    mean = x.mean(axis=0)
    x = x - mean
    y = y if y.ndim == 2 else y[:, None]
    offset = y.mean(axis=0).astype(np.float32)
    target = (x.T @ (y - offset) / len(x)).astype(np.float32)
    for strength, weight in _solutions(x, target, _penalty(x, scaling)):
        yield strength, Linear(mean, weight, offset)


def discriminants(x: Floats, y: Integers, classes: int, scaling: str) -> Iterator[tuple[float, Linear]]:
    """Regularised linear discriminant analysis of classes ``y`` (n,) of 0 ... for each of :data:`STRENGTHS`.

    A class without a train protein is never predicted. Arguments as for :func:`ridges`.
    """
    mean = x.mean(axis=0)
    x = x - mean
    counts = np.bincount(y, minlength=classes)
    centres = np.zeros((classes, x.shape[1]), np.float32)
    np.add.at(centres, y, x)
    centres /= np.maximum(counts, 1)[:, None]
    penalty = _penalty(x, scaling)
    with np.errstate(divide="ignore"):
        prior = np.log(counts / len(y))
    for strength, weight in _solutions(x - centres[y], centres.T, penalty):
        bias = prior - 0.5 * (centres.T * weight).sum(axis=0)
        yield strength, Linear(mean, weight, bias.astype(np.float32))


def nearest(train: Floats, y: Integers, queries: Floats) -> Integers:
    """Class of the nearest train protein by cosine, once the train mean is taken off; the first of equals."""
    mean = train.mean(axis=0)
    return y[(_directions(queries - mean) @ _directions(train - mean).T).argmax(axis=1)]


def _directions(x: Floats) -> Floats:
    result: Floats = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return result


def _penalty(x: Floats, scaling: str) -> NDArray[np.float64]:
    """Diagonal of the penalty, (dimension,), of centred vectors."""
    variance = np.einsum("ij,ij->j", x, x, dtype=np.float64) / len(x)
    mean = max(float(variance.mean()), 1e-30)
    return np.maximum(variance, SMALLEST_VARIANCE * mean) if scaling == "each" else np.full_like(variance, mean)


def _solutions(a: Floats, b: Floats, penalty: NDArray[np.float64]) -> Iterator[tuple[float, Floats]]:
    """For each strength s the solution w of (a'a / n + s diag(penalty)) w = b: (dimension, outputs).

    Of a (n, dimension) and b (dimension, outputs). Where there are more dimensions than rows the system is the
    n x n one of the Woodbury identity. One LU per strength takes less time than an eigendecomposition for all of
    them, as long as there are fewer than about ten.
    """
    n, dimension = a.shape
    if dimension <= n:
        gram = (a.T @ a).astype(np.float64) / n
        for strength in STRENGTHS:
            system = gram.copy()
            system[np.diag_indices(dimension)] += strength * penalty
            yield strength, np.linalg.solve(system, b.astype(np.float64)).astype(np.float32)
        return
    scaled = (a / penalty).astype(np.float32)
    kernel = (scaled @ a.T).astype(np.float64)
    projected = (scaled @ b).astype(np.float64)
    base = b / penalty[:, None]
    for strength in STRENGTHS:
        system = kernel.copy()
        system[np.diag_indices(n)] += n * strength
        inner = np.linalg.solve(system, projected).astype(np.float32)
        yield strength, ((base - scaled.T @ inner) / strength).astype(np.float32)
