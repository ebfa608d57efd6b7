"""Scores of predictions, and their bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["METRICS", "OF_MARGINS", "OF_SCORES", "OF_TWO", "THRESHOLDS", "interval", "ranks", "replicates", "spearman"]

Numbers = NDArray[Any]
Metric = Callable[[Numbers, Numbers, Numbers], float]

SMALLEST_STRATUM = 10
THRESHOLDS = np.arange(101) / 100


def accuracy(predicted: Numbers, truth: Numbers, strata: Numbers) -> float:
    return float((predicted == truth).mean())


def macro_f1(predicted: Numbers, truth: Numbers, strata: Numbers) -> float:
    """Unweighted mean, over the classes that occur in ``truth``, of 2 tp / (predicted + true)."""
    count = int(max(predicted.max(), truth.max())) + 1
    true = np.bincount(truth, minlength=count)
    hits = np.bincount(truth[predicted == truth], minlength=count)
    total = true + np.bincount(predicted, minlength=count)
    return float((2 * hits[true > 0] / total[true > 0]).mean())


def mcc(predicted: Numbers, truth: Numbers, strata: Numbers) -> float:
    """Matthews correlation of two classes, 0 and 1; 0 where one of them is never predicted or never true."""
    spread = predicted.std() * truth.std()
    if spread == 0:
        return 0.0
    return float(((predicted - predicted.mean()) * (truth - truth.mean())).mean() / spread)


def auroc(margins: Numbers, truth: Numbers, strata: Numbers) -> float:
    """Chance that a protein of class 1 has a larger margin than one of class 0; ties count a half."""
    positive = truth == 1
    n1 = int(positive.sum())
    n0 = len(truth) - n1
    if not n0 or not n1:
        return 0.5
    return float((ranks(margins)[positive].sum() - n1 * (n1 + 1) / 2) / (n0 * n1))


def spearman(predicted: Numbers, truth: Numbers, strata: Numbers | None = None) -> float:
    """Rank correlation, with mean ranks for ties; 0 where one side is constant."""
    a, b = ranks(predicted), ranks(truth)
    a -= a.mean()
    b -= b.mean()
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else 0.0


def spearman_within(predicted: Numbers, truth: Numbers, strata: Numbers) -> float:
    """Mean of the rank correlations within each stratum of at least ten proteins, weighted by size."""
    total = weight = 0.0
    for stratum in np.unique(strata):
        rows = strata == stratum
        if (count := int(rows.sum())) >= SMALLEST_STRATUM:
            total += count * spearman(predicted[rows], truth[rows])
            weight += count
    return total / weight if weight else 0.0


def average_precision(margins: Numbers, truth: Numbers, strata: Numbers) -> float:
    """Area under the curve of precision against recall, as the sum of steps; 0 without a protein of class 1."""
    return float(_LabelPrecision(margins[:, None], truth[:, None])(np.arange(len(truth))))


def fmax(scores: Numbers, truth: Numbers, strata: Numbers) -> float:
    """The protein-centric Fmax of CAFA (Radivojac et al. 2013): the best F-measure over thresholds 0, 0.01, ... 1.

    Precision is the mean over proteins with a prediction at the threshold, recall that over all proteins with a label.
    ``scores`` (n, labels) are cut to 0 ... 1; a ridge regression of 0 and 1 estimates a probability.
    """
    return float(_Fmax(scores, truth)(np.arange(len(truth))))


def mean_aupr(scores: Numbers, truth: Numbers, strata: Numbers) -> float:
    """Average precision of a label over the proteins, mean over the labels that any protein has: (n, labels) each."""
    return float(_LabelPrecision(scores, truth)(np.arange(len(truth))))


class _Fmax:
    """Fmax on any rows: what each row contributes at each threshold is counted once."""

    def __init__(self, scores: Numbers, truth: Numbers) -> None:
        cut = np.clip(scores, 0, 1)
        labels = truth.sum(axis=1)
        self._precision, self._recall, self._any = (np.zeros((len(cut), len(THRESHOLDS))) for _ in range(3))
        for column, threshold in enumerate(THRESHOLDS):
            predicted = cut >= threshold
            hits, count = (predicted * truth).sum(axis=1), predicted.sum(axis=1)
            self._precision[:, column] = hits / np.maximum(count, 1)
            self._recall[:, column] = hits / np.maximum(labels, 1)
            self._any[:, column] = count > 0
        self._labelled = labels > 0

    def __call__(self, rows: NDArray[np.intp]) -> float:
        precision = self._precision[rows].sum(axis=0) / np.maximum(self._any[rows].sum(axis=0), 1)
        recall = self._recall[rows].sum(axis=0) / max(1, int(self._labelled[rows].sum()))
        return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


class _LabelPrecision:
    """Mean average precision on any rows: each label's ranking is made once, and rows weigh as often as they occur."""

    def __init__(self, scores: Numbers, truth: Numbers) -> None:
        # Equal scores are one step of the curve, so rows behind count with the last of their equals.
        self._order = np.argsort(-scores, axis=0, kind="stable")
        ranked = np.take_along_axis(scores, self._order, axis=0)
        self._truth = np.take_along_axis(truth, self._order, axis=0) > 0
        ends = np.ones(ranked.shape, bool)
        ends[:-1] = ranked[1:] != ranked[:-1]
        last = np.where(ends, np.arange(len(ranked))[:, None], len(ranked))
        self._last = np.minimum.accumulate(last[::-1], axis=0)[::-1]

    def __call__(self, rows: NDArray[np.intp]) -> float:
        weight = np.bincount(rows, minlength=len(self._order))[self._order]
        hits = weight * self._truth
        total, found = (np.take_along_axis(np.cumsum(v, axis=0), self._last, axis=0) for v in (weight, hits))
        positives = hits.sum(axis=0)
        areas = (hits * found / np.maximum(total, 1)).sum(axis=0)[positives > 0] / positives[positives > 0]
        return float(areas.mean()) if len(areas) else 0.0


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "mcc": mcc,
    "auroc": auroc,
    "spearman": spearman,
    "spearman_within": spearman_within,
    "average_precision": average_precision,
    "fmax": fmax,
    "mean_aupr": mean_aupr,
}
"""(predicted, truth, strata), each (n,) or of labels (n, labels), to a number. Classes are 0, 1, ..."""
OF_MARGINS = {"auroc", "average_precision"}
"""Metrics that take the score of class 1 less that of class 0 instead of the predicted class."""
OF_TWO = {*OF_MARGINS, "mcc"}
"""Metrics of two classes."""
OF_SCORES = {"fmax", "mean_aupr"}
"""Metrics that take the scores of all labels."""
_PREPARED: dict[str, Callable[[Numbers, Numbers], Callable[[NDArray[np.intp]], float]]] = {
    "fmax": _Fmax,
    "mean_aupr": _LabelPrecision,
}
"""Metrics of which most of the work can be done once for all samples of a bootstrap."""


def ranks(values: Numbers) -> NDArray[np.float64]:
    """Ranks from 1, the mean rank for ties: (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def replicates(
    metric: str, predicted: Numbers, truth: Numbers, strata: Numbers, units: Numbers, count: int, seed: int
) -> NDArray[np.float64]:
    """The metric on ``count`` bootstrap samples: (count,).

    Args:
        units: (n,) what is drawn with replacement, whole: a protein, or a cluster of proteins; (n, 2) for pairs, whose
            proteins are drawn: a pair comes as often as the product of the times that its two come (Owen 2007,
            arXiv:0712.1111).
        seed: the same seed and units give the same samples, whatever is scored on them, so that differences of
            replicates of two encoders are paired.
    """
    random = np.random.default_rng(seed)
    names, members = np.unique(units, return_inverse=True)
    members = members.reshape(units.shape)
    strata = strata if len(strata) else np.zeros(len(truth), np.int8)
    prepared = _PREPARED[metric](predicted, truth) if metric in _PREPARED else None

    def value(rows: NDArray[np.intp]) -> float:
        if not len(rows):
            return float("nan")  # no pair had both of its proteins drawn
        return prepared(rows) if prepared else METRICS[metric](predicted[rows], truth[rows], strata[rows])

    if units.ndim == 2:
        drawn_often = (
            np.bincount(random.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(count)
        )
        return np.array([value(np.repeat(np.arange(len(units)), times[members].prod(axis=1))) for times in drawn_often])
    order = np.argsort(members, kind="stable")
    sizes = np.bincount(members)
    starts = np.cumsum(sizes) - sizes
    results = np.empty(count)
    for index in range(count):
        drawn = random.integers(0, len(names), len(names))
        lengths = sizes[drawn]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = order[np.repeat(starts[drawn], lengths) + within]
        results[index] = value(rows)
    return results


def interval(values: NDArray[np.float64]) -> list[float]:
    """95 % percentile interval of bootstrap replicates: [low, high]."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]
