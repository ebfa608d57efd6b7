"""Gaussian process regression with a smooth and a linear part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from limbeck.errors import InputError
from limbeck.landscapes.models.base import Data, State, checked_data, hold_out, part, spread
from limbeck.landscapes.models.features import Design
from limbeck.landscapes.models.on_features import FeatureModel
from limbeck.landscapes.models.posterior import Posterior

__all__ = ["GaussianProcessModel"]

ITERATIONS = 40
TUNED = 700
"""Rows that choose the hyperparameters: four numbers need no more, and each of fifty tries takes the cube of it."""
ROWS_AT_ONCE = 2048
BOUNDS = (-12.0, 8.0)
"""Natural logarithms of each hyperparameter, relative to the scores' variance and to the typical distance."""

Array = NDArray[np.float64]


class GaussianProcessModel(FeatureModel):
    """Exact Gaussian process on standardised features (Rasmussen and Williams 2006, chapters 2 and 5).

    The covariance of two rows is ``s * exp(-d^2 / (2 l^2)) + t * (x . x')``, and ``noise`` is added to each
    measurement; ``d`` is their distance. The four hyperparameters maximise the marginal likelihood of the training
    rows (of 700 of them, if there are more), from one start, so ``validation`` is not looked at. Scores are
    standardised first.

    Args:
        features: one of :data:`limbeck.landscapes.models.features.SPECS`, or several, put side by side.
        most: rows to fit to; of more, so many are drawn by ``random_state``. Time grows with the cube of it.
        encoder: for embeddings, as :func:`limbeck.load` takes it; ``None`` is the default student.
        layer: as :func:`limbeck.load` takes it.
        precision: as :func:`limbeck.load` takes it.
        wild_types: rows, for ``embedding:mutated``.
        cache: folder that remembers embeddings; ``None`` remembers them in this process only.
        random_state: draws the rows.

    Attributes:
        rows_: (m,) which of the rows it was fitted to.
        hyperparameters_: (4,) s, l^2, t and noise; of standardised scores.
    """

    scaled = True

    def __init__(
        self,
        features: str | Sequence[str] = "embedding:mean",
        most: int = 2000,
        *,
        encoder: str | None = None,
        layer: int | str | Sequence[int] | None = None,
        precision: str = "auto",
        wild_types: Sequence[str] = (),
        cache: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.most = most
        self.encoder = encoder
        self.layer = layer
        self.precision = precision
        self.wild_types = wild_types
        self.cache = cache
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        if self.most < 1:
            raise InputError(f"most must be at least 1, not {self.most}")
        rows, scores = checked_data(X, y)
        chosen = np.arange(len(rows))
        if len(rows) > self.most:
            _, chosen = hold_out(len(rows), self.most / len(rows), self.random_state)
        features = self._features()
        design = features.fit([rows[i] for i in chosen])
        self.width_, self.rows_, self.features_, self.design_ = len(rows[0]), chosen, features, design
        self.mean_ = float(scores[chosen].mean())
        self.spread_ = float(scores[chosen].std()) or 1.0
        targets = (scores[chosen] - self.mean_) / self.spread_
        pairs = _Pairs.of(design, design)
        tuned = spread(len(chosen), TUNED)
        self.hyperparameters_ = _most_likely(pairs.among(tuned), targets[tuned])
        covariance = _covariance(pairs, self.hyperparameters_)
        covariance[np.diag_indices_from(covariance)] += self.hyperparameters_[3]
        self.factor_ = np.tril(cho_factor(covariance, lower=True)[0])
        self.weights_ = cho_solve((self.factor_, True), targets)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        predicted, variance = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            chosen = slice(start, start + ROWS_AT_ONCE)
            design = self.features_.transform(rows[chosen])
            covariance = _covariance(_Pairs.of(design, self.design_), self.hyperparameters_)
            predicted[chosen] = covariance @ self.weights_
            if return_std:
                known = solve_triangular(self.factor_, covariance.T, lower=True, check_finite=False)
                variance[chosen] = _prior_variance(design, self.hyperparameters_) - (known**2).sum(axis=0)
        mean = predicted * self.spread_ + self.mean_
        if not return_std:
            return mean
        return mean, self.spread_ * np.sqrt(np.maximum(0.0, variance) + self.hyperparameters_[3])

    def posterior(self, X: Any) -> Posterior:
        rows = self.fitted_rows(X)
        design = self.features_.transform(rows)
        known = _covariance(_Pairs.of(design, self.design_), self.hyperparameters_)
        told = solve_triangular(self.factor_, known.T, lower=True, check_finite=False)
        own = _covariance(_Pairs.within(design, self.features_.unseen(rows)), self.hyperparameters_)
        size = self.spread_**2
        return Posterior(
            mean=known @ self.weights_ * self.spread_ + self.mean_,
            covariance=size * (own - told.T @ told),
            noise=size * float(self.hyperparameters_[3]),
        )

    def state(self) -> State:
        below = np.tril_indices(len(self.factor_))
        fitted: State = {
            "width": np.array(self.width_),
            "rows": self.rows_,
            "mean": np.array(self.mean_),
            "spread": np.array(self.spread_),
            "hyperparameters": self.hyperparameters_,
            "factor": self.factor_[below],
            "weights": self.weights_,
        }
        fitted |= {f"design.{name}": value for name, value in self.design_.state().items()}
        return fitted | {f"features.{name}": value for name, value in self.features_.state().items()}

    def restore(self, state: State) -> Self:
        self.width_, self.mean_, self.spread_ = int(state["width"]), float(state["mean"]), float(state["spread"])
        self.rows_, self.hyperparameters_, self.weights_ = state["rows"], state["hyperparameters"], state["weights"]
        # Column order, as LAPACK left it: the same layout gives the same bits.
        self.factor_ = np.zeros((len(self.weights_), len(self.weights_)), order="F")
        self.factor_[np.tril_indices(len(self.factor_))] = state["factor"]
        self.design_ = Design.of_state(part(state, "design."))
        self.features_ = self._features().restore(part(state, "features."))
        return self


@dataclass(frozen=True)
class _Pairs:
    """Squared distances and products of the rows of two designs: (n, m) each."""

    distances: Array
    products: Array

    def among(self, rows: NDArray[np.intp]) -> _Pairs:
        """Those of some rows of a design with each other."""
        return _Pairs(self.distances[np.ix_(rows, rows)], self.products[np.ix_(rows, rows)])

    @classmethod
    def within(cls, design: Design, unseen: Array) -> _Pairs:
        """Those of a design's rows with each other, which may share letters that have no column: (n, n) ``unseen``
        are the products of these."""
        products = design.kernel() + unseen
        lengths = np.diag(products)
        return cls(np.maximum(0.0, lengths[:, None] + lengths - 2 * products), products)

    @classmethod
    def of(cls, left: Design, right: Design) -> _Pairs:
        products = left.kernel(right)
        # In place: with many candidates most of the time goes into moving such arrays.
        distances = -2 * products
        distances += left.squared_lengths()[:, None]
        distances += right.squared_lengths()
        np.maximum(0.0, distances, out=distances)
        distances += left.outside[:, None]
        distances += right.outside
        return cls(distances, products)


def _covariance(pairs: _Pairs, hyperparameters: Array) -> Array:
    smooth, squared_scale, linear, _ = hyperparameters
    covariance = pairs.distances / (-2 * squared_scale)
    np.exp(covariance, out=covariance)
    covariance *= smooth
    covariance += linear * pairs.products
    return covariance


def _prior_variance(design: Design, hyperparameters: Array) -> Array:
    """(n,) variance of the function at each row before any measurement."""
    smooth, _, linear, _ = hyperparameters
    return smooth + linear * (design.squared_lengths() + design.outside)


def _most_likely(pairs: _Pairs, targets: Array) -> Array:
    """The hyperparameters that maximise the marginal likelihood."""
    apart = pairs.distances[pairs.distances > 0]
    typical = float(np.median(apart)) if apart.size else 1.0
    size = float(np.mean(np.diag(pairs.products))) or 1.0
    units = np.array([1.0, typical, 1 / size, 1.0])
    start = np.log([0.5, 1.0, 0.3, 0.2])
    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS}
    bounds = [BOUNDS] * 4
    found = minimize(
        _loss, start, (pairs, targets, units), method="L-BFGS-B", jac=True, bounds=bounds, options=options, tol=1e-5
    )
    return units * np.exp(found.x)


def _loss(logs: Array, pairs: _Pairs, targets: Array, units: Array) -> tuple[float, Array]:
    """Negative log marginal likelihood for each row, and its gradient by the logarithms of the hyperparameters."""
    smooth, squared_scale, linear, noise = units * np.exp(logs)
    bell = smooth * np.exp(pairs.distances / (-2 * squared_scale))
    covariance = bell + linear * pairs.products
    covariance[np.diag_indices_from(covariance)] += noise
    try:
        factor, _ = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros(4)
    weights = cho_solve((factor, True), targets, check_finite=False)
    count = len(targets)
    likelihood = -0.5 * targets @ weights - np.log(np.diag(factor)).sum() - 0.5 * count * np.log(2 * np.pi)
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(inverse)
    # A symmetric matrix times a symmetric one: below the diagonal twice, the diagonal once.
    trace = np.diag(inverse).sum()
    inverse = 2 * inverse
    inverse[np.diag_indices_from(inverse)] /= 2

    def slope(derivative: Array) -> float:
        return 0.5 * float(weights @ derivative @ weights - np.vdot(inverse, derivative))

    gradient = [
        slope(bell),
        slope(bell * pairs.distances / (2 * squared_scale)),
        slope(linear * pairs.products),
        0.5 * noise * (float(weights @ weights) - trace),
    ]
    return float(-likelihood / count), -np.array(gradient) / count
