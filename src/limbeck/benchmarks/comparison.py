"""Means over tasks and paired differences between the rows of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.benchmarks.folder import Benchmark
from limbeck.benchmarks.metrics import interval
from limbeck.encoders.student import RANDOM_NAME

__all__ = [
    "FINE_TUNED",
    "ON_ALL",
    "ON_PROTEINS",
    "compare",
    "difference",
    "independent",
    "is_fine_tuned",
    "is_floor",
    "means",
    "sure",
]

ON_PROTEINS, ON_ALL = "mean, proteins", "mean, all"
FINE_TUNED = "fine-tuned"


def compare(found: Benchmark) -> None:
    """Add to each row its means over tasks, and its paired differences to the reference."""
    base = found.rows[found.reference]
    base_means = means(found, found.reference)
    for label, row in found.rows.items():
        own = means(found, label)
        row["means"] = {title: _summary(value, samples) for title, (value, samples) in own.items()}
        row["differences"] = {
            name: _summary(
                score["value"] - base["scores"][name]["value"],
                found.replicates[f"{label}/{name}"] - found.replicates[f"{found.reference}/{name}"],
            )
            for name, score in row["scores"].items()
            if name in base["scores"] and not score["stand_in"] and not base["scores"][name]["stand_in"]
        }
        row["mean_differences"] = {
            title: _summary(value - base_means[title][0], samples - base_means[title][1])
            for title, (value, samples) in own.items()
            if title in base_means
        }


def means(found: Benchmark, label: str) -> dict[str, tuple[float, NDArray[np.float32]]]:
    """Of the scores that count, and of their bootstrap samples: over the tasks of whole proteins, which every encoder
    does, and over all; none over fewer tasks than the table has."""
    primary = [name for name, task in found.content["tasks"].items() if task["primary"]]
    proteins = [name for name in primary if found.content["tasks"][name]["kind"] != "residues"]
    scores = found.rows[label]["scores"]
    results = {}
    for title, names in ((ON_PROTEINS, proteins), (ON_ALL, primary if primary != proteins else [])):
        if names and all(name in scores and scores[name]["in_mean"] for name in names):
            samples = np.mean([independent(found.replicates[f"{label}/{name}"], name) for name in names], axis=0)
            results[title] = float(np.mean([scores[name]["value"] for name in names])), samples
    return results


def difference(found: Benchmark, label: str, other: str, title: str, relative: bool = False) -> dict[str, Any]:
    """How far the mean of one row is above that of another, ``value`` and ``interval``, or by which share of it."""
    (value, samples), (base, base_samples) = (means(found, name)[title] for name in (label, other))
    if relative:
        return _summary(value / base - 1, samples / base_samples - 1)
    return _summary(value - base, samples - base_samples)


def sure(difference: Mapping[str, Any] | None) -> int:
    """1 or -1 if the interval of a difference is above or below zero, else 0."""
    if difference is None:
        return 0
    low, high = difference["interval"]
    return int(low > 0) - int(high < 0)


def is_floor(row: Mapping[str, Any]) -> bool:
    """Whether a row is of counts or of an untrained network."""
    names = {candidate["name"] for candidate in row["candidates"].values()}
    return not row["parameters"] or RANDOM_NAME in names


def is_fine_tuned(row: Mapping[str, Any]) -> bool:
    """Whether a row is of an encoder that was fine-tuned on each task."""
    return any(label.startswith(FINE_TUNED) for label in row["candidates"])


def independent(samples: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Replicates in an order of the task's own: tasks with equally many proteins must not share their draws."""
    return np.random.default_rng(list(name.encode())).permutation(samples)


def _summary(value: float, samples: NDArray[np.float32]) -> dict[str, Any]:
    return {"value": round(float(value), 4), "interval": interval(samples.astype(np.float64))}
