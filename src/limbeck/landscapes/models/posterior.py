"""What a fitted model believes of several variants at once: where they rise and fall together, one tells of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky

from limbeck.errors import InputError

__all__ = ["Conditioned", "Posterior"]

Array = NDArray[np.float64]

_JITTERS = (1e-10, 1e-8, 1e-6, 1e-4)
"""Added to the covariance's diagonal, in units of its mean: the first with which it can be factored, as rounding can
leave the covariance of many like variants a little short of positive."""


@dataclass(frozen=True)
class Posterior:
    """The joint normal distribution of what n variants truly score.

    Attributes:
        mean: (n,).
        covariance: (n, n), without the noise of measurements.
        noise: variance of a measurement around the true score.
    """

    mean: Array
    covariance: Array
    noise: float

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def variance(self) -> Array:
        """(n,) of the true scores."""
        return np.maximum(0.0, np.diag(self.covariance))

    def draws(self, count: int, rng: np.random.Generator) -> Array:
        """(count, n) joint draws of the true scores.

        Raises:
            InputError: if the covariance is none.
        """
        size = float(self.variance.mean()) or 1.0
        normal = rng.standard_normal((count, len(self)))
        for jitter in _JITTERS:
            try:
                factor = cholesky(self.covariance + jitter * size * np.eye(len(self)), lower=True)
            except np.linalg.LinAlgError:
                continue
            return self.mean + normal @ factor.T
        raise InputError("what the model believes of these variants is no covariance; fit it again")


class Conditioned:
    """The variances of a posterior as more and more of its variants are measured.

    A measurement of a normal variable changes the variances of all others by the covariance with it alone, whatever
    comes out; so a plate can be planned one well after the other (Desautels, Krause and Burdick 2014).

    Args:
        posterior: before the first measurement.

    Attributes:
        variance: (n,) of the true scores by now.
    """

    def __init__(self, posterior: Posterior) -> None:
        self._covariance, self._noise = posterior.covariance, posterior.noise
        self.variance = posterior.variance
        self._roots: list[Array] = []

    def measure(self, index: int) -> None:
        """Go on as if this variant had been measured."""
        column = self._covariance[:, index] - sum((root * root[index] for root in self._roots), np.zeros(()))
        total = max(float(self.variance[index]), 0.0) + self._noise
        if total <= 0:
            return
        root = column / np.sqrt(total)
        self._roots.append(root)
        self.variance = np.maximum(0.0, self.variance - root**2)
