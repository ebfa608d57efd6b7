"""Ridge regression with its penalty chosen on validation data: one decomposition serves every penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.stats import rankdata

from limbeck.errors import InputError
from limbeck.landscapes.models.base import Data, State, checked_data, hold_out, part, spread
from limbeck.landscapes.models.features import Design
from limbeck.landscapes.models.on_features import FeatureModel
from limbeck.landscapes.models.posterior import Posterior

__all__ = ["ALPHAS", "RidgeModel", "decompose"]

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-3, 5, 17))
HELD_OUT = 0.2
"""Share of the training rows that chooses the penalty if there are no validation data."""
LARGEST = 2500
"""Columns or rows, whichever are fewer, up to which the decomposition is complete."""
STEPS = 400
"""Lanczos steps beyond that."""
FEW = 1000
"""Rows up to which each is left out in turn for that, instead of a fifth of them."""
NOISE_ROWS = 2000
ROWS_AT_ONCE = 4096

Array = NDArray[np.float64]


class RidgeModel(FeatureModel):
    """Linear regression, ``|y - Xb - c|^2 + alpha |b|^2``, with an unpenalised intercept ``c``.

    With ``alpha=None`` the penalty is one of ``ALPHAS`` (1e-3 to 1e5 in half decades): the one with the highest
    Spearman correlation on validation data, to two decimals, and among these the one with the lowest squared error.
    Finer differences of rank correlation are noise on validation sets of the usual size, and ranks alone leave the
    penalty undetermined where predictions only shrink.

    The standard deviation is that of Bayesian ridge regression: the coefficients' prior is ``N(0, noise / alpha)``, and
    ``noise``, the variance of a measurement around the line, is what the validation residuals say (without validation
    data, leave-one-out residuals of the training rows). So a variant with letters that training has not seen gets a
    larger one.

    Args:
        features: one of :data:`limbeck.landscapes.models.features.SPECS`, or several, put side by side.
        alpha: the penalty; ``None`` to choose it.
        encoder: for embeddings, as :func:`limbeck.load` takes it; ``None`` is the default student.
        layer: as :func:`limbeck.load` takes it.
        precision: as :func:`limbeck.load` takes it.
        wild_types: rows, for ``embedding:mutated``.
        cache: folder that remembers embeddings; ``None`` remembers them in this process only.
        random_state: draws the rows that choose the penalty if no validation data are given.

    Attributes:
        alpha_: the penalty.
        coef_: (columns,) coefficients.
        intercept_: prediction where all columns are zero.
        noise_: variance of a measurement around the line.
    """

    zero_label_weight = 100.0

    def __init__(
        self,
        features: str | Sequence[str] = "one-hot",
        alpha: float | None = None,
        *,
        encoder: str | None = None,
        layer: int | str | Sequence[int] | None = None,
        precision: str = "auto",
        wild_types: Sequence[str] = (),
        cache: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.alpha = alpha
        self.encoder = encoder
        self.layer = layer
        self.precision = precision
        self.wild_types = wild_types
        self.cache = cache
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        """Fit to n rows and their scores.

        Without validation data the penalty is the one with the least squared error on rows left out one by one: of up
        to 1,000 rows each has its say, where a fifth of 40 would be 8. Of more rows a fifth, drawn by
        ``random_state``, chooses as validation data do. Then the model is fitted to all rows.
        """
        if self.alpha is not None and not self.alpha > 0:
            raise InputError(f"alpha must be above 0, not {self.alpha}")
        rows, scores = checked_data(X, y)
        features = self._features()
        design = features.fit(rows)
        if validation is None:
            line = _Line(design, scores)
            alpha = self.alpha or self._choice(line, design, scores)
            noise = line.leave_one_out_noise(design, scores, alpha)
        else:
            other_rows, other_scores = checked_data(*validation, width=len(rows[0]))
            other = features.transform(other_rows)
            line = _Line(design, scores)
            alpha = self.alpha or _choose(line, other, other_scores)
            noise = line.noise(other, other_scores, alpha)
        self.width_, self.features_ = len(rows[0]), features
        self.alpha_, self.noise_ = float(alpha), noise
        self.coef_, self.intercept_ = line.coefficients([alpha])[:, 0].copy(), line.intercept(alpha)
        self.posterior_ = line.posterior(alpha)
        return self

    def _choice(self, line: _Line, design: Design, scores: Array) -> float:
        """The penalty, from the training rows alone."""
        if len(design) <= FEW:
            # Of equals the largest: rows that say nothing speak for no slope.
            errors = np.mean(line.leave_one_out(design, scores, ALPHAS) ** 2, axis=0)
            return ALPHAS[len(ALPHAS) - 1 - int(np.argmin(errors[::-1]))]
        kept, held = hold_out(len(design), HELD_OUT, self.random_state)
        return _choose(_Line(design.take(kept), scores[kept]), design.take(held), scores[held])

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        predicted, variance = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            chosen = slice(start, start + ROWS_AT_ONCE)
            design = self.features_.transform(rows[chosen])
            predicted[chosen] = design.times(self.coef_) + self.intercept_
            if return_std:
                variance[chosen] = self.noise_ * (1 + self.posterior_.leverage(design))
        return (predicted, np.sqrt(variance)) if return_std else predicted

    def posterior(self, X: Any) -> Posterior:
        rows = self.fitted_rows(X)
        design = self.features_.transform(rows)
        return Posterior(
            mean=design.times(self.coef_) + self.intercept_,
            covariance=self.noise_ * self.posterior_.products(design, self.features_.unseen(rows)),
            noise=self.noise_,
        )

    def state(self) -> State:
        fitted: State = {
            "width": np.array(self.width_),
            "alpha": np.array(self.alpha_),
            "noise": np.array(self.noise_),
            "coef": self.coef_,
            "intercept": np.array(self.intercept_),
        }
        fitted |= {f"posterior.{name}": value for name, value in self.posterior_.state().items()}
        return fitted | {f"features.{name}": value for name, value in self.features_.state().items()}

    def restore(self, state: State) -> Self:
        self.width_, self.coef_ = int(state["width"]), state["coef"]
        self.alpha_, self.noise_, self.intercept_ = (float(state[name]) for name in ("alpha", "noise", "intercept"))
        self.posterior_ = _Coefficients.of_state(part(state, "posterior."))
        self.features_ = self._features().restore(part(state, "features."))
        return self


@dataclass(frozen=True)
class _Coefficients:
    """What is left to know about the coefficients, in units of the noise.

    Attributes:
        rows: how many the line was fitted to.
        centre: (directions,) the mean row in the directions found.
        means: (columns,) the mean row; empty if the directions span all columns.
        directions: (columns, k) orthonormal, float32.
        weights: (k,) variance of the coefficient in each direction.
        prior: its variance in all others.
    """

    rows: int
    centre: Array
    means: Array
    directions: NDArray[np.float32]
    weights: Array
    prior: float

    def leverage(self, design: Design) -> Array:
        """(n,) variance of the line at each row."""
        found = (design.times(self.directions) - self.centre) ** 2
        rest = design.outside
        if len(self.means):
            lengths = design.squared_lengths() - 2 * design.times(self.means) + self.means @ self.means
            rest = rest + np.maximum(0.0, lengths - found.sum(axis=1))
        return 1 / self.rows + found @ self.weights + rest * self.prior

    def products(self, design: Design, unseen: Array) -> Array:
        """(n, n) covariance of the line at the rows; ``unseen``, (n, n), are their products in letters that have no
        column. Its diagonal is :meth:`leverage`."""
        found = design.times(self.directions) - self.centre
        rest = unseen
        if len(self.means):
            along = design.times(self.means)
            rest = rest + design.kernel() - along[:, None] - along + self.means @ self.means - found @ found.T
        return 1 / self.rows + (found * self.weights) @ found.T + rest * self.prior

    def state(self) -> State:
        numbers: State = {"rows": np.array(self.rows), "prior": np.array(self.prior)}
        arrays: State = {name: getattr(self, name) for name in ("centre", "means", "directions", "weights")}
        return numbers | arrays

    @classmethod
    def of_state(cls, state: State) -> _Coefficients:
        arrays = {name: state[name] for name in ("centre", "means", "directions", "weights")}
        return cls(rows=int(state["rows"]), prior=float(state["prior"]), **arrays)


class _Line:
    """The regression of scores on a design, for every penalty at once."""

    def __init__(self, design: Design, scores: Array) -> None:
        self._rows = len(design)
        self._means, self._mean = design.means(), float(scores.mean())
        centred = scores - self._mean
        self._products = design.transposed_times(centred) - self._means * centred.sum()
        self._values, self._directions = decompose(design, self._means, self._products)
        self._loads = self._directions.T @ self._products

    def coefficients(self, alphas: Sequence[float]) -> Array:
        """(columns, alphas)."""
        return self._directions @ (self._loads[:, None] / (self._values[:, None] + np.asarray(alphas)))

    def intercept(self, alpha: float) -> float:
        return self._mean - float(self._means @ self.coefficients([alpha])[:, 0])

    def predict(self, design: Design, alphas: Sequence[float]) -> Array:
        """(n, alphas)."""
        coefficients = self.coefficients(alphas)
        return design.times(coefficients) - self._means @ coefficients + self._mean

    def posterior(self, alpha: float) -> _Coefficients:
        # Row order, as it comes back from a file: the same layout gives the same bits.
        directions = np.ascontiguousarray(self._directions, dtype=np.float32)
        complete = directions.shape[0] == directions.shape[1]
        return _Coefficients(
            rows=self._rows,
            centre=self._means @ directions,
            means=np.empty(0) if complete else self._means,
            directions=directions,
            weights=1 / (self._values + alpha),
            prior=1 / alpha,
        )

    def noise(self, design: Design, scores: Array, alpha: float) -> float:
        """Variance of a measurement around the line, from rows that it was not fitted to."""
        design, scores = _sample(design, scores)
        residuals = scores - self.predict(design, [alpha])[:, 0]
        return float(np.mean(residuals**2 / (1 + self.posterior(alpha).leverage(design))))

    def leave_one_out(self, design: Design, scores: Array, alphas: Sequence[float]) -> Array:
        """(n, alphas) by how much each training row's score would be missed had the row been left out."""
        centred = design.times(self._directions) - self._means @ self._directions
        leverages = 1 / self._rows + centred**2 @ (1 / (self._values[:, None] + np.asarray(alphas)))
        residuals = scores[:, None] - self.predict(design, alphas)
        missed: Array = residuals / np.maximum(1e-6, 1 - leverages)
        return missed

    def leave_one_out_noise(self, design: Design, scores: Array, alpha: float) -> float:
        """The same from the training rows: each one's residual had it been left out, ``r / (1 - h)``, which then has
        the variance ``noise / (1 - h)``."""
        design, scores = _sample(design, scores)
        residuals = scores - self.predict(design, [alpha])[:, 0]
        free = np.maximum(1e-6, 1 - self.posterior(alpha).leverage(design))
        return float(np.mean(residuals**2 / free))


def _sample(design: Design, scores: Array) -> tuple[Design, Array]:
    """At most ``NOISE_ROWS`` rows, evenly spaced: one variance needs no more."""
    rows = spread(len(design), NOISE_ROWS)
    return design.take(rows), scores[rows]


def decompose(design: Design, means: Array, start: Array) -> tuple[Array, Array]:
    """Eigenvalues (k,) and orthonormal eigenvectors (columns, k) of the centred columns' products.

    Of all columns where they are few; of as many directions as there are rows where those are fewer; else of the
    Krylov space of ``start``, (columns,), in which the ridge solutions of all penalties lie.
    """
    n, p = len(design), design.width
    if p <= n and p <= LARGEST:
        values, vectors = eigh(design.gram() - n * np.outer(means, means), driver="evd", check_finite=False)
        return np.maximum(0.0, values), vectors
    if n <= LARGEST:
        kernel = design.kernel()
        centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()
        values, vectors = eigh(centred, driver="evd", check_finite=False)
        kept = values > max(values.max(initial=0.0), 1e-300) * 1e-10
        values, vectors = values[kept], vectors[:, kept]
        directions = design.transposed_times(vectors) - np.outer(means, vectors.sum(axis=0))
        return values, directions / np.sqrt(values)
    return _lanczos(design, means, start)


def _lanczos(design: Design, means: Array, start: Array) -> tuple[Array, Array]:
    """Ritz values and vectors of the centred columns' products after ``STEPS`` steps, orthogonalised in full."""
    basis = np.zeros((STEPS, len(start)))
    products = np.zeros_like(basis)
    vector, size, steps = start, np.linalg.norm(start), 0
    floor = 0.0
    while steps < STEPS and size > floor:
        basis[steps] = vector / size
        image = design.times(basis[steps]) - means @ basis[steps]
        products[steps] = design.transposed_times(image) - means * image.sum()
        steps += 1
        vector = products[steps - 1]
        floor = 1e-10 * float(np.linalg.norm(vector))
        for _ in range(2):
            vector = vector - basis[:steps].T @ (basis[:steps] @ vector)
        size = np.linalg.norm(vector)
    basis, products = basis[:steps], products[:steps]
    small = basis @ products.T
    values, vectors = eigh((small + small.T) / 2)
    return np.maximum(0.0, values), basis.T @ vectors


def _choose(line: _Line, design: Design, scores: Array) -> float:
    """The penalty that ranks these rows best, to two decimals; then the one with the lowest squared error."""
    predicted = line.predict(design, ALPHAS)
    errors = np.mean((predicted - scores[:, None]) ** 2, axis=0)
    ranked = [round(_spearman(scores, column), 2) for column in predicted.T]
    return ALPHAS[max(range(len(ALPHAS)), key=lambda i: (ranked[i], -errors[i]))]


def _spearman(a: Array, b: Array) -> float:
    """Rank correlation; -1 if one of them is constant."""
    first, second = (rankdata(values) - (len(values) + 1) / 2 for values in (a, b))
    size = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / size) if size > 0 else -1.0
