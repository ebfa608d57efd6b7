"""In-context linear regression: the one step that a layer of linear attention learns to take (arXiv 2310.08391).

Wu et al. 2023 study one layer of linear attention that reads n labelled examples and predicts the next. Pretrained on
many regression tasks it computes one step of gradient descent with a learned preconditioner G::

    prediction(x) = x' G (1/n) X'y

For rows x ~ N(0, H), coefficients ~ N(0, psi^2 I) and noise of variance sigma^2 the best G is known
(:func:`optimal`), so that nothing needs to be trained. Bayes-optimal is ridge regression with penalty sigma^2 /
psi^2, which inverts the examples' own X'X; the step inverts what X'X is expected to be. It comes close where n is
large, or H known well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import InputError
from limbeck.landscapes.models.base import Data, State, checked_data, checked_rows, part
from limbeck.landscapes.models.features import Design
from limbeck.landscapes.models.on_features import FeatureModel
from limbeck.landscapes.models.ridge import ALPHAS, decompose

__all__ = ["InContextLinearModel", "optimal", "risk"]

ROWS_AT_ONCE = 4096

Array = NDArray[np.float64]


def optimal(spectrum: Array, count: int, ratio: float, trace: float | None = None) -> Array:
    """Eigenvalues of the best preconditioner, which has the eigenvectors of H: (k,).

    ``G = ((trace(H) + sigma^2 / psi^2) / n  I + (n + 1) / n  H)^-1`` has the least mean squared error for a new row
    over all tasks. It solves ``psi^2 H = G (psi^2 E[S S] + sigma^2 / n H)``, where the sample covariance S of n
    normal rows has ``E[S S] = (n + 1) / n H H + trace(H) / n H``.

    Args:
        spectrum: (k,) eigenvalues of H, the covariance of rows.
        count: n, the examples.
        ratio: sigma^2 / psi^2.
        trace: of H, if it has more eigenvalues than those given.
    """
    total = float(spectrum.sum()) if trace is None else trace
    result: Array = 1 / ((total + ratio) / count + (count + 1) / count * spectrum)
    return result


def risk(spectrum: Array, count: int, ratio: float) -> float:
    """Mean squared error for a new row, in units of psi^2 and without its noise, of the step with the best G.

    ``trace(H) - trace(H G H)``: what is left of the variance of a new row's score.
    """
    return float(spectrum.sum() - spectrum**2 @ optimal(spectrum, count, ratio))


class InContextLinearModel(FeatureModel):
    """The closed form of what a layer of linear attention learns, as a regressor.

    H is the covariance of unlabelled rows: those of ``context``, or the training rows. ``ratio``, if not given, is
    the one of ``limbeck.landscapes.models.ridge.ALPHAS`` with the least squared error on validation data, or else
    on training rows left out one by one. Features are scaled by the rows that give H; features and scores are
    centred by the training rows.

    Args:
        features: one of :data:`limbeck.landscapes.models.features.SPECS`, or several, put side by side.
        ratio: variance of the noise over that of a coefficient; ``None`` to choose it.
        context: rows whose covariance is H; no score of theirs is needed.
        encoder: for embeddings, as :func:`limbeck.load` takes it; ``None`` is the default student.
        layer: as :func:`limbeck.load` takes it.
        precision: as :func:`limbeck.load` takes it.
        wild_types: rows, for ``embedding:mutated`` and ``zero-label``.
        cache: folder that remembers embeddings; ``None`` remembers them in this process only.

    Attributes:
        ratio_: of the variances.
        coef_: (columns,) coefficients.
        intercept_: prediction where all columns are zero.
        noise_: mean squared error of the rows that chose the ratio, each left out: the variance of a new measurement.
    """

    scaled = True

    def __init__(
        self,
        features: str | Sequence[str] = "embedding:mean",
        ratio: float | None = None,
        context: Sequence[str] = (),
        *,
        encoder: str | None = None,
        layer: int | str | Sequence[int] | None = None,
        precision: str = "auto",
        wild_types: Sequence[str] = (),
        cache: str | None = None,
    ) -> None:
        self.features = features
        self.ratio = ratio
        self.context = context
        self.encoder = encoder
        self.layer = layer
        self.precision = precision
        self.wild_types = wild_types
        self.cache = cache

    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        if self.ratio is not None and not self.ratio >= 0:
            raise InputError(f"ratio must be 0 or more, not {self.ratio}")
        rows, scores = checked_data(X, y)
        features = self._features()
        if len(self.context):
            unlabelled = features.fit(checked_rows(self.context, len(rows[0])))
            design = features.transform(rows)
        else:
            unlabelled = design = features.fit(rows)
        step = _Step(design, scores, unlabelled)
        other = None if validation is None else checked_data(*validation, width=len(rows[0]))
        held = None if other is None else (features.transform(other[0]), other[1])
        tried = ALPHAS if self.ratio is None else (self.ratio,)
        self.noise_, ratio = min((step.error(each, held), each) for each in tried)
        self.width_, self.features_, self.ratio_ = len(rows[0]), features, float(ratio)
        self.coef_ = step.coefficients(ratio)
        self.intercept_ = step.mean - float(step.means @ self.coef_)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        predicted = np.empty(len(rows))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            chosen = slice(start, start + ROWS_AT_ONCE)
            predicted[chosen] = self.features_.transform(rows[chosen]).times(self.coef_) + self.intercept_
        return (predicted, np.full(len(rows), np.sqrt(self.noise_))) if return_std else predicted

    def state(self) -> State:
        fitted: State = {
            "width": np.array(self.width_),
            "ratio": np.array(self.ratio_),
            "noise": np.array(self.noise_),
            "coef": self.coef_,
            "intercept": np.array(self.intercept_),
        }
        return fitted | {f"features.{name}": value for name, value in self.features_.state().items()}

    def restore(self, state: State) -> Self:
        self.width_, self.coef_ = int(state["width"]), state["coef"]
        self.ratio_, self.noise_, self.intercept_ = (float(state[name]) for name in ("ratio", "noise", "intercept"))
        self.features_ = self._features().restore(part(state, "features."))
        return self


class _Step:
    """The step from n examples, for every ratio at once."""

    def __init__(self, design: Design, scores: Array, unlabelled: Design) -> None:
        self._count, self._design, self._scores = len(design), design, scores
        self.means, self.mean = design.means(), float(scores.mean())
        self._centred = scores - self.mean
        gradient = design.transposed_times(self._centred) - self.means * self._centred.sum()
        own = unlabelled.means()
        values, self._directions = decompose(unlabelled, own, gradient)
        self._spectrum = values / len(unlabelled)
        self._trace = float(unlabelled.squared_lengths().mean() - own @ own)
        self._gradient = gradient
        self._along = self._directions.T @ gradient

    def coefficients(self, ratio: float) -> Array:
        """(columns,) G (1/n) X'y."""
        inside, outside = self._scales(ratio)
        result: Array = self._directions @ ((inside - outside) * self._along) + outside * self._gradient
        return result

    def error(self, ratio: float, held: tuple[Design, Array] | None) -> float:
        """Mean squared error on validation data, or on examples left out one by one."""
        if held is not None:
            coefficients = self.coefficients(ratio)
            predicted = held[0].times(coefficients) - self.means @ coefficients + self.mean
            return float(np.mean((predicted - held[1]) ** 2))
        return float(np.mean(self._left_out(ratio) ** 2))

    def _left_out(self, ratio: float) -> Array:
        """(n,) by how much each example is missed by the step of the others, centred by their own means."""
        n = self._count
        if n < 2:
            return self._centred
        inside, outside = self._scales(ratio, n - 1)
        rows = self._design.times(self._directions) - self.means @ self._directions
        # x_i' G x_i, of rows centred by all: without row i its distance from the mean is n / (n - 1) as large.
        lengths = self._design.squared_lengths() - 2 * self._design.times(self.means) + self.means @ self.means
        own = rows**2 @ (inside - outside) + outside * lengths
        shared = rows @ ((inside - outside) * self._along)
        shared = shared + outside * (self._design.times(self._gradient) - self.means @ self._gradient)
        without = (shared - n / (n - 1) * own * self._centred) * n / (n - 1)
        return n / (n - 1) * self._centred - without

    def _scales(self, ratio: float, count: int | None = None) -> tuple[Array, float]:
        """Eigenvalues of G / n in the directions found, and in all others."""
        n = count or self._count
        inside = optimal(self._spectrum, n, ratio, self._trace) / n
        return inside, float(optimal(np.zeros(1), n, ratio, self._trace)[0]) / n
