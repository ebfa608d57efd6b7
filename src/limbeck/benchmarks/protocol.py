"""How an encoder is scored: frozen features, a solved probe, choices on validation proteins, intervals."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from limbeck.benchmarks.candidates import Choice
from limbeck.benchmarks.features import one_hot_windows, protein_features, residue_features, residue_sample
from limbeck.benchmarks.metrics import METRICS, OF_MARGINS, interval, replicates
from limbeck.benchmarks.probes import discriminants, nearest, ridges
from limbeck.benchmarks.task import SEED, Items, Parts, Task
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError
from limbeck.files import whole

__all__ = ["PROTOCOL", "RESAMPLES", "score_tasks"]

PROTOCOL = 1
"""Raised when the protocol changes, so that cached scores of an older one are not used."""
RESAMPLES = 1000
ONE_HOT = "one-hot window of 15"

Floats = NDArray[np.float32]
NO_STRATA: NDArray[np.str_] = np.empty(0, str)


@dataclass(frozen=True)
class View:
    """Features of the three parts in one form."""

    chosen: dict[str, str]
    fit: Floats
    choose: Floats
    score: Floats


@dataclass(frozen=True)
class Labels:
    """Numbers to predict in the three parts, and for ``score`` what is resampled together."""

    fit: NDArray[Any]
    choose: NDArray[Any]
    score: NDArray[Any]
    classes: int
    strata: NDArray[Any]
    units: NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """Predictions for ``score`` under the choices that were best on ``choose``."""

    predicted: NDArray[Any]
    margins: NDArray[Any]
    chosen: dict[str, Any]
    valid: float
    tried: int


def score_tasks(
    candidates: Sequence[Choice],
    tasks: Sequence[Task],
    data: Path,
    scale: str,
    split: str,
    cache: Path | None = None,
    log: TextIO | None = sys.stderr,
) -> dict[str, Any]:
    """Scores by task, or by task and method for methods beside the first; see :func:`limbeck.benchmarks.score`."""
    results: dict[str, Any] = {}
    for task in tasks:
        parts = task.parts(data, scale, split)
        key = f"{PROTOCOL} {SEED} {RESAMPLES} {task.name} {task.metrics} {task.sizes[scale]} {parts.digest}"
        key += "".join(f"\n{c.key}" for c in candidates)
        for name, scored in _cached(key, cache, candidates, task, parts, scale).items():
            results[name] = scored
            if log:
                low, high = scored["interval"]
                where = f" [{scored['stand_in']}]" if scored["stand_in"] else ""
                text = f"  {name}: {scored['metric']} {scored['value']:.3f} ({low:.3f} to {high:.3f})"
                print(f"{text}, {scored['seconds']:.0f} s{where}", file=log, flush=True)
    return results


def _cached(
    key: str, cache: Path | None, candidates: Sequence[Choice], task: Task, parts: Parts, scale: str
) -> dict[str, Any]:
    if cache is None:
        return _score(candidates, task, parts, scale, None)
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        scored = _score(candidates, task, parts, scale, cache)
        with whole(path) as partial:
            partial.write_text(json.dumps(scored), encoding="utf-8")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _score(candidates: Sequence[Choice], task: Task, parts: Parts, scale: str, cache: Path | None) -> dict[str, Any]:
    started = time.monotonic()
    if task.kind == "residues":
        views, labels, stand_in = _residue_views(candidates, task, parts, scale, cache)
    else:
        views, labels, stand_in = _protein_views(candidates, parts, cache), _labels(task, parts), ""
    outcomes = _outcomes(task, views, labels)
    results = {}
    for method, outcome in outcomes.items():
        name = task.name if method == task.methods[0] else f"{task.name}_{method}"
        results[name] = {
            **_measured(task, outcome, labels),
            "method": method,
            "chosen": outcome.chosen,
            "valid": round(outcome.valid, 4),
            "tried": outcome.tried,
            "n": {p: len(getattr(parts, p)) for p in ("fit", "choose", "score")},
            "units": len(np.unique(labels.units)),
            "labels": {p: len(getattr(labels, p)) for p in ("fit", "choose", "score")},
            "residues": sum(getattr(parts, p).residues for p in ("fit", "choose", "score")),
            "in_mean": task.primary and method == task.methods[0] and not stand_in,
            "stand_in": stand_in,
            "seconds": round(time.monotonic() - started, 1),
        }
    return results


def _measured(task: Task, outcome: Outcome, labels: Labels) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for metric in task.metrics:
        if metric == "spearman_within" and not len(labels.strata):
            continue
        predicted = outcome.margins if metric in OF_MARGINS else outcome.predicted
        samples = replicates(metric, predicted, labels.score, labels.strata, labels.units, RESAMPLES, SEED)
        value = METRICS[metric](predicted, labels.score, labels.strata)
        measured[metric] = {"value": round(value, 4), "interval": interval(samples)}
        if metric == task.metrics[0]:
            first = {"metric": metric, **measured[metric], "replicates": samples.round(5).tolist()}
    return {**first, "metrics": measured}


def _outcomes(task: Task, views: Iterator[View], labels: Labels) -> dict[str, Outcome]:
    """The best of all views for each method of the task."""
    best: dict[str, Outcome] = {}
    tried = dict.fromkeys(task.methods, 0)
    for view in views:
        for method in task.methods:
            search = _search_nearest if method == "nearest" else _search_probe
            outcome = search(task, view, labels)
            tried[method] += outcome.tried
            if method not in best or outcome.valid > best[method].valid:
                best[method] = outcome
    return {method: Outcome(o.predicted, o.margins, o.chosen, o.valid, tried[method]) for method, o in best.items()}


def _search_nearest(task: Task, view: View, labels: Labels) -> Outcome:
    valid = METRICS[task.metrics[0]](nearest(view.fit, labels.fit, view.choose), labels.choose, NO_STRATA)
    predicted = nearest(view.fit, labels.fit, view.score)
    return Outcome(predicted, predicted, dict(view.chosen), valid, 1)


def _search_probe(task: Task, view: View, labels: Labels) -> Outcome:
    metric = task.metrics[0]
    best: tuple[float, Any, dict[str, Any]] | None = None
    tried = 0
    for scaling in ("common", "each"):
        fitted = (
            ridges(view.fit, labels.fit, scaling)
            if task.kind == "values"
            else discriminants(view.fit, labels.fit, labels.classes, scaling)
        )
        for strength, model in fitted:
            tried += 1
            classes, margins = _decided(task, model(view.choose))
            predicted = margins if metric in OF_MARGINS else classes
            valid = METRICS[metric](predicted, labels.choose, NO_STRATA)
            if best is None or valid > best[0]:
                best = valid, model, {**view.chosen, "scaling": scaling, "strength": strength}
    assert best is not None
    predicted, margins = _decided(task, best[1](view.score))
    return Outcome(predicted, margins, best[2], best[0], tried)


def _decided(task: Task, scores: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is predicted, and the margin of class 1 over class 0."""
    if task.kind == "values":
        return scores[:, 0], scores[:, 0]
    return scores.argmax(axis=1), scores[:, 1] - scores[:, 0]


def _labels(task: Task, parts: Parts) -> Labels:
    score = parts.score
    units = score.clusters if len(score.clusters) else np.arange(len(score))
    fit, choose, truth = (p.labels for p in (parts.fit, parts.choose, score))
    classes = 1
    if task.kind == "classes":
        names = np.unique(np.concatenate([fit, choose, truth]))
        classes = len(names)
        fit, choose, truth = (np.searchsorted(names, p) for p in (fit, choose, truth))
    return Labels(fit, choose, truth, classes, score.strata, units)


def _protein_views(candidates: Sequence[Choice], parts: Parts, cache: Path | None) -> Iterator[View]:
    for candidate in candidates:
        features = [
            protein_features(candidate.encoder, p.sequences, cache)[:, candidate.columns]
            for p in (parts.fit, parts.choose, parts.score)
        ]
        yield from _forms(candidate.label, features)


def _forms(label: str, features: list[Floats]) -> Iterator[View]:
    """As they are, and, where no number of train is negative (counts, posteriors), their square roots too."""
    yield View({"features": label, "form": "as is"}, *features)
    if features[0].min() >= 0:
        yield View({"features": label, "form": "square root"}, *(np.sqrt(np.maximum(f, 0)) for f in features))


def _residue_views(
    candidates: Sequence[Choice], task: Task, parts: Parts, scale: str, cache: Path | None
) -> tuple[Iterator[View], Labels, str]:
    three = (parts.fit, parts.choose, parts.score)
    rows = [_sampled(p, task.sizes[scale].residues) for p in three]
    texts = [
        "".join(label[i] for label, r in zip(p.labels, chosen, strict=True) for i in r)
        for p, chosen in zip(three, rows, strict=True)
    ]
    names = sorted(set("".join(texts)))
    fit, choose, truth = (np.array([names.index(letter) for letter in text]) for text in texts)
    units = np.repeat(np.arange(len(parts.score)), [len(r) for r in rows[2]])
    labels = Labels(fit, choose, truth, len(names), NO_STRATA, units)

    def views() -> Iterator[View]:
        for candidate in able:
            features = [
                residue_features(candidate.encoder, p.sequences, chosen, cache)[:, candidate.columns]
                for p, chosen in zip(three, rows, strict=True)
            ]
            yield from _forms(candidate.label, features)

    # Pooling makes no difference to residues, so of the candidates that differ in it the first is enough.
    able = [c for c in _different(candidates) if has_residues(c.encoder)]
    if able:
        return views(), labels, ""
    windows = [one_hot_windows(p.sequences, chosen) for p, chosen in zip(three, rows, strict=True)]
    return iter([View({"features": ONE_HOT, "form": "as is"}, *windows)]), labels, ONE_HOT


def _different(candidates: Sequence[Choice]) -> list[Choice]:
    by_layer = [c for c in candidates if "layer" in c.label]
    return by_layer or list(candidates[:1])


def has_residues(encoder: Encoder) -> bool:
    try:
        encoder.encode_residues(["MA"])
    except InputError:
        return False
    return True


def _sampled(items: Items, wanted: int | None) -> list[NDArray[np.intp]]:
    known = [np.frombuffer(str(label).encode(), np.uint8) != ord(".") for label in items.labels]
    total = sum(int(k.sum()) for k in known)
    share = min(1.0, wanted / total) if wanted else 1.0
    return [residue_sample(s, k, share) for s, k in zip(items.sequences, known, strict=True)]
