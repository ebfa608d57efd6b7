"""A line fitted to the order of the scores instead of to the scores: ridge regression's ranking sisters.

A landscape is asked which variants are best, not how good each is, and scores are often on a scale of their own: cut
off at both ends, or far apart where it does not matter. Two losses look at the order:

- ``pairwise``: the logistic loss of each pair's difference, ``log(1 + exp(-(f_i - f_j)))`` where i scores higher than j
  (Burges et al. 2005, RankNet);
- ``listwise``: the cross entropy between the softmax of the standardised scores and that of the predictions (Cao et
  al. 2007, ListNet).

Both are convex in the coefficients; Newton's method finds the one minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_softmax, softmax

from limbeck.errors import InputError
from limbeck.landscapes.models.base import Data, State, checked_data, hold_out, part
from limbeck.landscapes.models.on_features import FeatureModel
from limbeck.landscapes.models.ridge import ALPHAS, decompose

__all__ = ["LOSSES", "LinearRanker", "concordance", "listwise", "pairwise"]

FOLDS = 5
STEPS = 50
ENOUGH = 1e-8
"""Share of the loss below which a further step is not worth taking."""
TRIED = ALPHAS[::2]

Array = NDArray[np.float64]
Curve = tuple[float, Array, Array]
"""A loss, its gradient (n,) and its second derivatives (n, n) by the predictions."""


def pairwise(predicted: Array, scores: Array) -> Curve:
    """Logistic loss over all pairs of n rows that score differently, divided by n."""
    n = len(scores)
    order = np.sign(scores[:, None] - scores)
    margins = order * (predicted[:, None] - predicted)
    counted = order != 0
    loss = np.logaddexp(0.0, -margins, where=counted, out=np.zeros_like(margins)).sum() / 2
    wrong = expit(-margins) * counted
    weights = wrong * (1 - wrong)
    return float(loss) / n, -(order * wrong).sum(axis=1) / n, (np.diag(weights.sum(axis=1)) - weights) / n


def listwise(predicted: Array, scores: Array) -> Curve:
    """Cross entropy of the standardised scores' softmax and the predictions', times n."""
    n, spread = len(scores), float(scores.std()) or 1.0
    wanted, found = softmax((scores - scores.mean()) / spread), softmax(predicted)
    loss = -float(wanted @ log_softmax(predicted))
    return n * loss, n * (found - wanted), n * (np.diag(found) - np.outer(found, found))


LOSSES: dict[str, Callable[[Array, Array], Curve]] = {"pairwise": pairwise, "listwise": listwise}


def concordance(predicted: Array, scores: Array, held: NDArray[np.intp] | None = None) -> float:
    """Share of the pairs that score differently which are predicted in the right order; ties count half.

    Args:
        held: rows of which each pair must have at least one; ``None`` for all pairs.
    """
    order = np.sign(scores[:, None] - scores)
    counted = np.triu(order != 0)
    if held is not None:
        among = np.isin(np.arange(len(scores)), held)
        counted &= among[:, None] | among
    right = (order * np.sign(predicted[:, None] - predicted) + 1) / 2
    return float(right[counted].mean()) if counted.any() else 0.5


class LinearRanker(FeatureModel):
    """A linear model that minimises a ranking loss plus ``alpha / 2`` times the squared length of its coefficients.

    With ``alpha=None`` the penalty is chosen by the pairs it orders rightly: those of the validation data, or in
    five-fold cross-validation those with a row that was left out. Of equals the largest. Predictions are brought to
    the scores' units by a line through the training rows. Time grows with the cube of the rows.

    Args:
        features: one of :data:`limbeck.landscapes.models.features.SPECS`, or several, put side by side.
        loss: ``"pairwise"`` or ``"listwise"``.
        alpha: the penalty; ``None`` to choose it.
        most: rows to fit to; of more, so many are drawn by ``random_state``.
        encoder: for embeddings, as :func:`limbeck.load` takes it; ``None`` is the default student.
        layer: as :func:`limbeck.load` takes it.
        precision: as :func:`limbeck.load` takes it.
        wild_types: rows, for ``embedding:mutated`` and ``zero-label``.
        cache: folder that remembers embeddings; ``None`` remembers them in this process only.
        random_state: draws the rows and the folds.

    Attributes:
        alpha_: the penalty.
        coef_: (columns,) coefficients.
        intercept_: prediction where all columns are zero.
    """

    scaled = True
    zero_label_weight = 100.0

    def __init__(
        self,
        features: str | Sequence[str] = "one-hot",
        loss: str = "pairwise",
        alpha: float | None = None,
        most: int = 1000,
        *,
        encoder: str | None = None,
        layer: int | str | Sequence[int] | None = None,
        precision: str = "auto",
        wild_types: Sequence[str] = (),
        cache: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.loss = loss
        self.alpha = alpha
        self.most = most
        self.encoder = encoder
        self.layer = layer
        self.precision = precision
        self.wild_types = wild_types
        self.cache = cache
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        if self.loss not in LOSSES:
            raise InputError(f"there is no ranking loss {self.loss!r}; choose from: {', '.join(LOSSES)}")
        if self.alpha is not None and not self.alpha > 0:
            raise InputError(f"alpha must be above 0, not {self.alpha}")
        if self.most < 1:
            raise InputError(f"most must be at least 1, not {self.most}")
        rows, scores = checked_data(X, y)
        if len(rows) > self.most:
            _, chosen = hold_out(len(rows), self.most / len(rows), self.random_state)
            rows, scores = [rows[i] for i in chosen], scores[chosen]
        features = self._features()
        design = features.fit(rows)
        means = design.means()
        # The minimum lies in the span of the centred rows: at most as many directions as rows.
        _, directions = decompose(design, means, design.transposed_times(scores - scores.mean()))
        inputs = design.times(directions) - means @ directions
        if self.alpha is not None:
            alpha = self.alpha
        elif validation is None:
            alpha = self._cross_validated(inputs, scores)
        else:
            other_rows, other_scores = checked_data(*validation, width=len(rows[0]))
            other = features.transform(other_rows).times(directions) - means @ directions
            path = _path(LOSSES[self.loss], inputs, scores)
            alpha = _largest_of_best([concordance(other @ weights, other_scores) for weights in path])
        weights = _minimum(LOSSES[self.loss], inputs, scores, alpha)
        slope = _rising(inputs @ weights, scores)
        self.width_, self.features_, self.alpha_ = len(rows[0]), features, float(alpha)
        self.coef_ = slope * (directions @ weights)
        self.intercept_ = float(scores.mean() - means @ self.coef_)
        return self

    def _cross_validated(self, inputs: Array, scores: Array) -> float:
        folds = np.random.default_rng(self.random_state).permutation(len(scores)) % FOLDS
        right = np.zeros(len(TRIED))
        for fold in np.unique(folds):
            kept, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            if not len(kept):
                continue
            path = _path(LOSSES[self.loss], inputs[kept], scores[kept])
            right += [len(held) * concordance(inputs @ weights, scores, held) for weights in path]
        return _largest_of_best(right.tolist())

    def predict(self, X: Any, return_std: bool = False) -> Any:
        if return_std:
            raise InputError("a ranker has no standard deviation; use RidgeModel for one")
        rows = self.fitted_rows(X)
        predicted: Array = self.features_.transform(rows).times(self.coef_) + self.intercept_ if rows else np.empty(0)
        return predicted

    def state(self) -> State:
        fitted: State = {
            "width": np.array(self.width_),
            "alpha": np.array(self.alpha_),
            "coef": self.coef_,
            "intercept": np.array(self.intercept_),
        }
        return fitted | {f"features.{name}": value for name, value in self.features_.state().items()}

    def restore(self, state: State) -> Self:
        self.width_, self.coef_ = int(state["width"]), state["coef"]
        self.alpha_, self.intercept_ = float(state["alpha"]), float(state["intercept"])
        self.features_ = self._features().restore(part(state, "features."))
        return self


def _largest_of_best(right: Sequence[float]) -> float:
    """The largest of the tried penalties with the best score."""
    return max(zip(np.round(right, 9), TRIED, strict=True))[1]


def _rising(predicted: Array, scores: Array) -> float:
    """Slope of the scores by the predictions; 1 where it does not rise, so that the order stays."""
    centred = predicted - predicted.mean()
    slope = float(centred @ scores) / max(float(centred @ centred), 1e-300)
    return slope if slope > 0 else 1.0


def _path(loss: Callable[[Array, Array], Curve], inputs: Array, scores: Array) -> list[Array]:
    """The minimum for each of the tried penalties; each is started from that of the next larger one."""
    found: list[Array] = []
    for alpha in reversed(TRIED):
        found.append(_minimum(loss, inputs, scores, alpha, found[-1] if found else None))
    return found[::-1]


def _minimum(
    loss: Callable[[Array, Array], Curve], inputs: Array, scores: Array, alpha: float, start: Array | None = None
) -> Array:
    """(k,) weights, by Newton's method with steps halved until the loss falls."""

    def value(weights: Array) -> float:
        return loss(inputs @ weights, scores)[0] + alpha / 2 * float(weights @ weights)

    weights = np.zeros(inputs.shape[1]) if start is None else start
    now = value(weights)
    for _ in range(STEPS):
        _, slope, bend = loss(inputs @ weights, scores)
        gradient = inputs.T @ slope + alpha * weights
        hessian = inputs.T @ bend @ inputs
        hessian[np.diag_indices_from(hessian)] += alpha
        step = np.linalg.solve(hessian, gradient)
        share = 1.0
        while (then := value(weights - share * step)) > now and share > 1e-6:
            share /= 2
        if then > now:
            break
        weights, gained, now = weights - share * step, now - then, then
        if gained <= ENOUGH * abs(now):
            break
    return weights
