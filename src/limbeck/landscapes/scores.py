"""How well predictions fit what was measured, and how sure that is: scores and their bootstrap.

Scores are computed on *weighted* rows throughout. A bootstrap sample is the same rows with other weights (how often
each was drawn), so the rows are sorted once and every sample needs only running sums over that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

__all__ = ["FEWEST_UNITS", "METRICS", "TOP", "Bootstrap", "bootstrap", "score"]

METRICS = ("spearman", "pearson", "mse", "ndcg", "recall")
"""``mse`` is better when smaller, the others when larger."""
TOP = 0.1
"""Share of the variants that ``ndcg`` and ``recall`` look at."""
FEWEST_UNITS = 8
"""With fewer units of resampling, an interval cannot be trusted."""
NOTHING = 1e-13
"""A variance, in units of half the range squared, that is only rounding."""

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def score(measured: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Every metric of n predictions.

    - ``spearman``: correlation of ranks, mean ranks for ties; ``pearson``: of values. Both are 0 where one side is
      constant.
    - ``mse``: mean squared error.
    - ``ndcg``: of the top 10 %, as ProteinGym has it: gains are the measured scores, scaled to run from 0 to 1, and
      the variant predicted at rank r counts its gain / log2(r + 1) for r up to a tenth of the variants (rounded up);
      the sum is divided by that of the best possible order. 0 where all measured scores are equal.
    - ``recall``: which share of the tenth measured highest is in the tenth predicted highest.

    Ties of predictions count as the mean over all orders of the tied variants, in ``recall`` so do ties of measured
    scores: the order of the rows never matters.

    Raises:
        ValueError: if the two are not of one length, empty, or not finite.
    """
    rows = _Rows(measured, {"": predicted}, METRICS)
    values = rows.score(np.ones(rows.count, np.intp), rows.moments.sum(axis=0))
    return dict(zip(METRICS, values[0].tolist(), strict=True))


@dataclass(frozen=True)
class Bootstrap:
    """Scores of several models on the same resampled test variants.

    Attributes:
        models: names.
        metrics: names.
        values: scores on the test variants themselves, (models, metrics).
        samples: scores on each sample, (samples, models, metrics).
        units: how many units were resampled.
        effective: how many units of one size they are worth: (sum of sizes) squared / sum of squared sizes (Kish).
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Floats
    samples: Floats
    units: int
    effective: float

    @property
    def trusted(self) -> bool:
        """Whether there are units enough for an interval to hold what it promises."""
        return self.effective >= FEWEST_UNITS

    def value(self, model: str, metric: str) -> float:
        """The score on the test variants themselves."""
        return float(self.values[self.models.index(model), self.metrics.index(metric)])

    def interval(self, model: str, metric: str) -> tuple[float, float]:
        """95 % interval of a score: (low, high); NaN if there is but one unit."""
        return self._percentiles(self.samples[:, self.models.index(model), self.metrics.index(metric)])

    def difference(self, a: str, b: str, metric: str) -> tuple[float, float, float]:
        """Score of model ``a`` less that of ``b`` on the same variants: (value, low, high), 95 % interval."""
        column = self.metrics.index(metric)
        first, second = self.models.index(a), self.models.index(b)
        paired = self.samples[:, first, column] - self.samples[:, second, column]
        return (float(self.values[first, column] - self.values[second, column]), *self._percentiles(paired))

    def _percentiles(self, samples: Floats) -> tuple[float, float]:
        """Percentile interval, expanded for few units (Hesterberg 2015, arXiv 1411.5279, section 5.3): the plain one is
        too narrow by what distinguishes Student's t and the divisors n and n - 1."""
        if self.units < 2:
            return float("nan"), float("nan")
        n = max(self.effective, 1.5)
        tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
        low, high = np.quantile(samples, [tail, 1 - tail])
        return float(low), float(high)


def bootstrap(
    measured: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    units: ArrayLike,
    count: int = 1000,
    seed: int = 0,
    metrics: Sequence[str] = METRICS,
) -> Bootstrap:
    """Score all models on ``count`` samples of whole units, drawn with replacement.

    Equal to scoring the drawn rows with :func:`score`, only faster.

    Args:
        measured: (n,) scores.
        predictions: (n,) of each model, by name.
        units: (n,) what is drawn whole: a variant, or all variants of a position, parent or family.
        count: samples.
        seed: the same seed and units give the same samples, whichever models are scored on them.
        metrics: some of :data:`METRICS`.

    Raises:
        ValueError: if lengths differ, or values are not finite.
    """
    labels, unit = np.unique(np.asarray(units), return_inverse=True)
    rows = _Rows(measured, predictions, metrics)
    if unit.shape != (rows.count,):
        raise ValueError(f"{rows.count} variants but units of shape {unit.shape}")
    sizes = np.bincount(unit)
    moments = _sums_by(unit, rows.moments)
    samples = np.empty((count, len(rows.models), len(metrics)))
    random = np.random.default_rng(seed)
    for index in range(count):
        drawn = np.bincount(random.integers(0, len(labels), len(labels)), minlength=len(labels))
        samples[index] = rows.score(drawn[unit], drawn @ moments)
    values = rows.score(np.ones(rows.count, np.intp), rows.moments.sum(axis=0))
    effective = float(sizes.sum() ** 2 / (sizes.astype(float) ** 2).sum())
    return Bootstrap(rows.models, tuple(metrics), values, samples, len(labels), effective)


class _Rows:
    """Measured scores and predictions of the same rows, prepared for scoring under any weights.

    Attributes:
        moments: (n, 5 models + 2) what Pearson and MSE need summed over the rows.
    """

    def __init__(self, measured: ArrayLike, predictions: Mapping[str, ArrayLike], metrics: Sequence[str]) -> None:
        self.models = tuple(predictions)
        self.metrics = tuple(metrics)
        table = [np.asarray(column, np.float64) for column in (measured, *predictions.values())]
        self.count = len(table[0])
        if not self.count or any(column.shape != (self.count,) for column in table):
            raise ValueError("measured and predicted must be of one length, and not empty")
        values = np.stack(table)
        if not np.isfinite(values).all():
            raise ValueError("measured and predicted must be finite")
        if unknown := set(metrics) - set(METRICS):
            raise ValueError(f"unknown metrics: {', '.join(sorted(unknown))}")
        self.moments = _moments(values)
        self._measured = values[0]
        if {"spearman", "ndcg", "recall"} & set(metrics):
            self._order, self._first, self._last = _ties(values)

    def score(self, weights: Ints, moments: Floats) -> Floats:
        """The metrics under integer weights of the rows: (models, metrics).

        Args:
            weights: (n,).
            moments: weighted sum of the rows' moments.
        """
        found = _of_moments(moments, int(weights.sum())) if {"pearson", "mse"} & set(self.metrics) else {}
        if hasattr(self, "_order"):
            found |= self._of_order(weights)
        return np.stack([found[metric] for metric in self.metrics], axis=1)

    def _of_order(self, weights: Ints) -> dict[str, Floats]:
        """Spearman, NDCG and recall from how many copies stand above and up to each row, measured and predicted."""
        running = np.zeros((len(self._order), self.count + 1), np.intp)
        np.cumsum(weights[self._order], axis=1, out=running[:, 1:])
        above, upto = running.take(self._first), running.take(self._last)
        found = {}
        if "spearman" in self.metrics:
            found["spearman"] = _spearman(above + upto - weights.sum(), weights)
        if {"ndcg", "recall"} & set(self.metrics):
            found["ndcg"], found["recall"] = self._of_top(weights, above, upto)
        return found

    def _of_top(self, weights: Ints, above: Ints, upto: Ints) -> tuple[Floats, Floats]:
        """NDCG and recall: each copy of tied rows gets the mean over the ranks that the ties share."""
        size = int(np.ceil(TOP * weights.sum()))
        discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, size + 2)))])
        ranking, row = np.nonzero((above < size) & (weights > 0))
        first, last = above[ranking, row], upto[ranking, row]
        inside = np.minimum(last, size)
        copies = weights[row] / (last - first)
        gains = self._measured[row] - self._measured[weights > 0].min()
        summed = np.bincount(ranking, copies * gains * (discounts[inside] - discounts[first]), len(above))
        share = copies * (inside - first)
        truly = np.zeros(self.count)
        truly[row[ranking == 0]] = ((inside - first) / (last - first))[ranking == 0]
        found = np.bincount(ranking, share * truly[row], len(above))
        return (summed[1:] / summed[0] if summed[0] > 0 else np.zeros(len(above) - 1)), found[1:] / size


def _ties(values: Floats) -> tuple[Ints, Ints, Ints]:
    """Descending order of each of k rankings, (k, n), and where each row's ties start and end in it, as indices into
    the flattened (k, n + 1) running sums, by row: (k, n)."""
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    changes = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(values), 1), bool)
    position = np.arange(values.shape[1])
    starts = np.maximum.accumulate(np.where(np.hstack([edge, changes]), position, 0), axis=1)
    ends = np.where(np.hstack([changes, edge]), position + 1, values.shape[1])
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    first, last = np.empty_like(order), np.empty_like(order)
    np.put_along_axis(first, order, starts, axis=1)
    np.put_along_axis(last, order, ends, axis=1)
    offset = np.arange(len(values))[:, None] * (values.shape[1] + 1)
    return order, first + offset, last + offset


def _spearman(centred: Ints, weights: Ints) -> Floats:
    """Correlation of every ranking with the first: (k - 1,), from twice the ranks' distance from their mean, (k, n)."""
    ranks = centred.astype(np.float64)
    weighted = ranks * weights
    spread = np.einsum("kn,kn->k", weighted, ranks)
    shared = ranks[1:] @ weighted[0]
    scale = np.sqrt(spread[1:] * spread[0])
    return np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)


def _moments(values: Floats) -> Floats:
    """By row: measured y and y squared; by model p, p squared, p y; (p - y) squared. Centred and scaled but for the
    last, so that a constant is exactly zero and sums lose nothing."""
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    half = (high - low) / 2
    scaled = np.divide(values - (low + half), half, out=np.zeros_like(values), where=half > 0)
    y, p = scaled[0], scaled[1:]
    squares = (values[1:] - values[0]) ** 2
    return np.ascontiguousarray(np.vstack([y, y**2, p, p**2, p * y, squares]).T)


def _of_moments(sums: Floats, count: int) -> dict[str, Floats]:
    """Pearson and MSE from the sums of :func:`_moments` over ``count`` rows."""
    means = sums / count
    y, yy = means[:2]
    p, pp, py, error = means[2:].reshape(4, -1)
    spread_p, spread_y = pp - p**2, yy - y**2
    known = (spread_p > NOTHING) & (spread_y > NOTHING)
    scale = np.sqrt(np.where(known, spread_p * spread_y, 1.0))
    return {"pearson": np.where(known, (py - p * y) / scale, 0.0), "mse": error}


def _sums_by(unit: Ints, rows: Floats) -> Floats:
    """Sums of rows by unit: (units, columns)."""
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)
