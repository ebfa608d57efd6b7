"""Scores of predictions, and their bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["METRICS", "OF_MARGINS", "interval", "ranks", "replicates", "spearman"]

Numbers = NDArray[Any]
Metric = Callable[[Numbers, Numbers, Numbers], float]

SMALLEST_STRATUM = 10


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


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "mcc": mcc,
    "auroc": auroc,
    "spearman": spearman,
    "spearman_within": spearman_within,
}
"""(predicted, truth, strata), each (n,), to a number. Classes are 0, 1, ..."""
OF_MARGINS = {"auroc"}
"""Metrics that take the score of class 1 less that of class 0 instead of the predicted class."""


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
        units: (n,) what is drawn with replacement, whole: a protein, or a cluster of proteins.
        seed: the same seed and units give the same samples, whatever is scored on them, so that differences of
            replicates of two encoders are paired.
    """
    random = np.random.default_rng(seed)
    names, members = np.unique(units, return_inverse=True)
    order = np.argsort(members, kind="stable")
    sizes = np.bincount(members)
    starts = np.cumsum(sizes) - sizes
    strata = strata if len(strata) else np.zeros(len(truth), np.int8)
    results = np.empty(count)
    for index in range(count):
        drawn = random.integers(0, len(names), len(names))
        lengths = sizes[drawn]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = order[np.repeat(starts[drawn], lengths) + within]
        results[index] = METRICS[metric](predicted[rows], truth[rows], strata[rows])
    return results


def interval(values: NDArray[np.float64]) -> list[float]:
    """95 % percentile interval of bootstrap replicates: [low, high]."""
    low, high = np.percentile(values, [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]
