"""Labels transferred from neighbours, with a probability that they are right.

A query's neighbours vote for their labels, the nearer the more. How often such a vote is right is learnt from the index
itself: each protein of a sample is searched among the others (leave-one-out, or leave-one-group-out), and the outcome,
right or wrong, is regressed on the similarity of the nearest voter and the share of the votes (logistic regression),
then on that regression's score by isotonic means of bins (Zadrozny and Elkan 2002), which mends the logistic shape
where it does not fit. The expected calibration error is that of Naeini et al. 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.search.labels import split_label

__all__ = ["SMALLEST_SAMPLE", "Annotation", "Calibration", "calibrate", "calibration_error", "fit", "vote"]

Floats = NDArray[np.float64]

SHARPNESS = 0.05
"""A neighbour so much less similar than the nearest has 1/e of its vote."""
VOTERS = (1, 3, 5, 10)
"""Numbers of neighbours that may vote; calibration picks one."""
SMALLEST_SAMPLE = 50
"""Labelled proteins below which nothing is calibrated."""
BINS, SMALLEST_BIN = 40, 25
ERROR_BINS = 10
RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class Annotation:
    """A label for a query."""

    label: str
    reliability: float | None
    """Estimated probability that the label is right; ``None`` where the index is not calibrated."""
    share: float
    """Of the votes, 0 to 1."""
    similarity: float
    """Of the nearest voter for it."""
    row: int
    """That voter's in the index."""


@dataclass(frozen=True)
class Calibration:
    """From features of an outcome to the probability that it is right; small enough for a manifest."""

    weights: list[float]
    """Of the logistic regression: intercept, then one a feature."""
    scores: list[float]
    """Knots: scores of the regression, rising."""
    probabilities: list[float]
    """At the knots, not falling; in between linear, outside constant."""

    def __call__(self, features: Floats) -> Floats:
        """Probabilities (n,) from features (n, f)."""
        return np.interp(_score(np.array(self.weights), features), self.scores, self.probabilities)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def vote(
    labels: Sequence[Sequence[str]], similarities: Floats, rows: NDArray[np.int64], voters: int
) -> list[Annotation]:
    """Labels of one query, most votes first (of equals the one whose nearest voter is nearer).

    Args:
        labels: of the neighbours, nearest first; a neighbour without any does not vote.
        similarities: of the neighbours.
        rows: of the neighbours.
        voters: how many of the labelled neighbours vote, from the nearest.
    """
    voting = [i for i, own in enumerate(labels) if own and np.isfinite(similarities[i])][:voters]
    if not voting:
        return []
    weights = np.exp((similarities[voting] - similarities[voting[0]]) / SHARPNESS)
    total = float(weights.sum())
    found: dict[str, list[float]] = {}
    for weight, place in zip(weights.tolist(), voting, strict=True):
        for label in labels[place]:
            found.setdefault(label, [0.0, place])[0] += weight
    annotations = [
        Annotation(label, None, votes / total, float(similarities[int(place)]), int(rows[int(place)]))
        for label, (votes, place) in found.items()
    ]
    # Sorting is stable, and labels stand in the order of their nearest voters.
    return sorted(annotations, key=lambda a: -round(a.share, 12))


def features_of(annotations: Sequence[Annotation]) -> Floats:
    return np.array([[a.similarity, a.share] for a in annotations], np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Calibrated:
    """What :func:`calibrate` found."""

    voters: int
    transfer: Calibration
    hits: Calibration
    report: dict[str, Any]


def calibrate(
    labels: Sequence[str], sample: NDArray[np.int64], rows: NDArray[np.int64], similarities: Floats
) -> Calibrated:
    """Learn how far neighbours of the index can be trusted.

    Args:
        labels: of all proteins of the index.
        sample: rows of labelled proteins, (s,), in random order.
        rows: their neighbours, (s, k), themselves (or their groups) left out.
        similarities: of the neighbours.

    Returns:
        Among other things a report: accuracy and calibration error of the second half of the sample, with all that
        was chosen and fitted on the first. What is used is fitted on both.
    """
    truth = [split_label(labels[row]) for row in sample.tolist()]
    near = [[split_label(labels[row]) if row >= 0 else [] for row in line] for line in rows.tolist()]
    # Where a protein may have several labels, all that got votes are annotations, else only the first.
    several = any(len(own) > 1 for own in truth)
    half = len(sample) // 2
    choices = [count for count in VOTERS if count <= max(1, rows.shape[1])]
    votes = {
        count: [vote(n, s, r, count) for n, s, r in zip(near, similarities, rows, strict=True)] for count in choices
    }
    # Fewer voters win where more are no better.
    voters = max(choices, key=lambda count: (_accuracy(votes[count][:half], truth[:half]), -count))
    outcomes = [_outcomes(v, t, several) for v, t in zip(votes[voters], truth, strict=True)]
    first, second, every = (_examples(part) for part in (outcomes[:half], outcomes[half:], outcomes))
    predicted = fit(*first)(second[0])
    report = {
        "sample": len(sample),
        "held_out": len(sample) - half,
        "accuracy": _accuracy(votes[voters][half:], truth[half:]),
        "calibration_error": calibration_error(predicted, second[1]),
        "table": reliability_table(predicted, second[1]),
    }
    return Calibrated(voters, fit(*every), fit(*_hit_examples(truth, near, similarities)), report)


def _outcomes(annotations: list[Annotation], truth: list[str], several: bool) -> list[tuple[Annotation, bool]]:
    return [(a, a.label in truth) for a in (annotations if several else annotations[:1])]


def _examples(outcomes: Sequence[list[tuple[Annotation, bool]]]) -> tuple[Floats, NDArray[np.bool_]]:
    flat = [outcome for of_query in outcomes for outcome in of_query]
    return features_of([a for a, _ in flat]), np.array([right for _, right in flat], bool)


def _hit_examples(
    truth: list[list[str]], near: list[list[list[str]]], similarities: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Similarity of each labelled neighbour (n, 1), and whether it shares a label with the query."""
    found = [
        (similar, bool(set(labels) & set(own)))
        for own, line, values in zip(truth, near, similarities.tolist(), strict=True)
        for labels, similar in zip(line, values, strict=True)
        if labels
    ]
    return np.array([[s] for s, _ in found], np.float64).reshape(-1, 1), np.array([right for _, right in found], bool)


def _accuracy(votes: Sequence[list[Annotation]], truth: Sequence[list[str]]) -> float:
    """Share of queries whose first label is one of theirs; a query without any vote counts as wrong."""
    return float(np.mean([bool(v) and v[0].label in t for v, t in zip(votes, truth, strict=True)])) if votes else 0.0


def fit(features: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Logistic regression of ``right`` (n,) on features (n, f), then isotonic means of bins of its score."""
    if not len(right):
        return Calibration([0.0] * (features.shape[1] + 1), [0.0], [0.0])
    weights = _logistic(features, right)
    score = _score(weights, features)
    order = np.argsort(score, kind="stable")
    bins = np.array_split(order, max(1, min(BINS, len(right) // SMALLEST_BIN)))
    means, sizes = _isotonic(np.array([right[rows].mean() for rows in bins]), np.array([len(rows) for rows in bins]))
    # The rule of succession: a bin that was always right is not certain.
    smooth = np.maximum.accumulate((means * sizes + 1) / (sizes + 2))
    return Calibration(weights.tolist(), [float(score[rows].mean()) for rows in bins], smooth.tolist())


def _score(weights: Floats, features: Floats) -> Floats:
    return weights[0] + features @ weights[1:]


def _logistic(features: Floats, right: NDArray[np.bool_]) -> Floats:
    """Newton's method on standardised features, with a small ridge that keeps separable data finite: (f + 1,)."""
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    x = np.column_stack([np.ones(len(right)), (features - mean) / scale])
    weights = np.zeros(x.shape[1])
    penalty = RIDGE * len(right) * np.eye(x.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (chance - right) + penalty @ weights
        curvature = (x * (chance * (1 - chance))[:, None]).T @ x + penalty
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    slopes = weights[1:] / scale
    return np.concatenate([[weights[0] - slopes @ mean], slopes])


def _isotonic(values: Floats, sizes: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The nearest sequence that does not fall (pool adjacent violators), and the size of each value's pool."""
    pools: list[list[float]] = []
    for value, size in zip(values.tolist(), sizes.tolist(), strict=True):
        pools.append([value, size, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, m, p), (b, n, q) = pools[-2:]
            pools[-2:] = [[(a * m + b * n) / (m + n), m + n, p + q]]
    counts = [int(pool[2]) for pool in pools]
    return np.repeat([pool[0] for pool in pools], counts), np.repeat([float(pool[1]) for pool in pools], counts)


def calibration_error(predicted: Floats, right: NDArray[np.bool_]) -> float:
    """Expected calibration error: over ten equal ranges of the prediction, the mean distance of it from the truth."""
    return sum(row["share"] * abs(row["predicted"] - row["right"]) for row in reliability_table(predicted, right))


def reliability_table(predicted: Floats, right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """For each tenth of the range of predictions that occurs: its share, mean prediction and share that is right."""
    places = np.minimum((predicted * ERROR_BINS).astype(int), ERROR_BINS - 1)
    rows = []
    for place in np.unique(places).tolist():
        chosen = places == place
        rows.append(
            {
                "from": place / ERROR_BINS,
                "count": int(chosen.sum()),
                "share": float(chosen.mean()),
                "predicted": float(predicted[chosen].mean()),
                "right": float(right[chosen].mean()),
            }
        )
    return rows
