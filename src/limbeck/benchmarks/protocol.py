"""How an encoder is scored: frozen features, a solved probe, choices on validation proteins, intervals."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from limbeck.benchmarks.cache import kept_json
from limbeck.benchmarks.candidates import Choice
from limbeck.benchmarks.features import (
    one_hot_windows,
    pair_features,
    protein_features,
    residue_features,
    residue_sample,
)
from limbeck.benchmarks.metrics import METRICS, OF_MARGINS, OF_SCORES, OF_TWO, interval, replicates
from limbeck.benchmarks.probes import discriminants, nearest, ridges
from limbeck.benchmarks.task import SEED, Items, Parts, Task
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

__all__ = [
    "METHODS",
    "NO_STRATA",
    "PROTOCOL",
    "RESAMPLES",
    "Labels",
    "Outcome",
    "View",
    "labels_of",
    "labels_of_residues",
    "result_of",
    "sampled",
    "score_tasks",
    "validation",
]

PROTOCOL = 2
"""Raised when the protocol changes, so that cached scores of an older one are not used."""
RESAMPLES = 1000
ONE_HOT = "one-hot window of 15"
LEAST_PROTEINS = 10
"""A label of a multilabel task is scored if so many proteins that are fitted on have it."""
METHODS = ("probe", "nearest", "mlp")

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
    unseen: int = 0
    """Scored items of a class that no fitted one has, which are always wrong; of labels, those that are not scored."""
    names: list[str] = field(default_factory=list)
    """Of the classes or labels, in the order of their numbers."""


@dataclass(frozen=True)
class Outcome:
    """Predictions for ``score`` under the choices that were best on ``choose``."""

    scores: list[Floats]
    """(n, outputs), one for each seed; a single one where nothing is drawn."""
    chosen: dict[str, Any]
    valid: float
    tried: int
    view: View | None = None
    """What the probe chose, for the network."""


def score_tasks(
    candidates: Sequence[Choice],
    tasks: Sequence[Task],
    place: Callable[[Task], Path],
    scale: str,
    split: str,
    cache: Path | None = None,
    log: TextIO | None = sys.stderr,
    methods: Sequence[str] = (),
) -> dict[str, Any]:
    """Scores by task, or by task and method for methods beside the first; see :func:`limbeck.benchmarks.score`."""
    results: dict[str, Any] = {}
    for task in tasks:
        parts = task.parts(place(task), scale, split)
        task = replace(task, methods=(*task.methods, *(m for m in methods if m not in task.methods)))
        key = f"{PROTOCOL} {SEED} {RESAMPLES} {task.name} {task.metrics} {task.methods} {task.sizes[scale]}"
        key += f" {parts.digest}" + "".join(f"\n{c.key}" for c in candidates)
        try:
            found = kept_json(cache, key, partial(_score, candidates, task, parts, scale, cache))
        except InputError as error:
            raise InputError(f"task {task.name}: {error}") from error
        for name, scored in found.items():
            results[name] = scored
            if log:
                low, high = scored["interval"]
                where = f" [{scored['stand_in']}]" if scored["stand_in"] else ""
                text = f"  {name}: {scored['metric']} {scored['value']:.3f} ({low:.3f} to {high:.3f})"
                print(f"{text}, {scored['seconds']:.0f} s{where}", file=log, flush=True)
    return results


def _score(candidates: Sequence[Choice], task: Task, parts: Parts, scale: str, cache: Path | None) -> dict[str, Any]:
    started = time.monotonic()
    if task.kind == "residues":
        views, labels, stand_in = _residue_views(candidates, task, parts, scale, cache)
    else:
        in_view = _pair_views if task.kind == "pairs" else _protein_views
        views, labels, stand_in = in_view(candidates, parts, cache), labels_of(task, parts), ""
    if not min(map(len, (labels.fit, labels.choose, labels.score))):
        raise InputError("no residue has a known label in one of the parts; give the whole data set")
    outcomes = _outcomes(task, views, labels)
    results = {}
    for method, outcome in outcomes.items():
        own = method == task.methods[0]
        name = task.name if own else f"{task.name}_{method}"
        results[name] = result_of(task, parts, labels, outcome, method, task.primary and own and not stand_in, started)
        results[name]["stand_in"] = stand_in
    return results


def result_of(
    task: Task, parts: Parts, labels: Labels, outcome: Outcome, method: str, in_mean: bool, started: float
) -> dict[str, Any]:
    """A score with all that :func:`limbeck.benchmarks.score` says of it; ``started`` is by the monotonic clock."""
    return {
        **_measured(task, outcome, labels),
        "kind": task.kind,
        "question": task.question,
        "method": method,
        "chosen": outcome.chosen,
        "valid": round(outcome.valid, 4),
        "tried": outcome.tried,
        "n": {p: len(getattr(parts, p)) for p in ("fit", "choose", "score")},
        "units": len(np.unique(labels.units)),
        "labels": {p: len(getattr(labels, p)) for p in ("fit", "choose", "score")},
        "near": parts.near,
        "unseen_labels": labels.unseen,
        "residues": sum(getattr(parts, p).residues for p in ("fit", "choose", "score")),
        "in_mean": in_mean,
        "stand_in": "",
        "seconds": round(time.monotonic() - started, 1),
    }


def _measured(task: Task, outcome: Outcome, labels: Labels) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for metric in task.metrics:
        if metric == "spearman_within" and not len(labels.strata):
            continue
        predicted = [decided(task, metric, scores) for scores in outcome.scores]
        draws = (labels.score, labels.strata, labels.units, RESAMPLES, SEED)
        samples = np.mean([replicates(metric, p, *draws) for p in predicted], axis=0)
        values = [METRICS[metric](p, labels.score, labels.strata) for p in predicted]
        measured[metric] = {"value": round(float(np.mean(values)), 4), "interval": interval(samples)}
        if len(values) > 1:
            measured[metric]["sd_of_seeds"] = round(float(np.std(values, ddof=1)), 4)
        if metric == task.metrics[0]:
            first = {"metric": metric, **measured[metric], "replicates": samples.round(5).tolist()}
    return {**first, "metrics": measured}


def _outcomes(task: Task, views: Iterator[View], labels: Labels) -> dict[str, Outcome]:
    """The best of all views for each method of the task; the network takes the view that the probe chose."""
    best: dict[str, Outcome] = {}
    searches = {"probe": _search_probe, "nearest": _search_nearest}
    tried = dict.fromkeys(searches, 0)
    for view in views:
        for method in (m for m in task.methods if m in searches):
            outcome = searches[method](task, view, labels)
            tried[method] += outcome.tried
            if method not in best or outcome.valid > best[method].valid:
                best[method] = outcome
    found = {method: replace(outcome, tried=tried[method]) for method, outcome in best.items()}
    if "mlp" in task.methods:
        chosen = best["probe"].view
        assert chosen is not None
        found["mlp"] = _search_mlp(task, chosen, labels)
    return found


def _search_nearest(task: Task, view: View, labels: Labels) -> Outcome:
    own = np.eye(labels.classes, dtype=np.float32)
    valid = validation(task, labels, own[nearest(view.fit, labels.fit, view.choose)])
    return Outcome([own[nearest(view.fit, labels.fit, view.score)]], dict(view.chosen), valid, 1)


def _search_mlp(task: Task, view: View, labels: Labels) -> Outcome:
    from limbeck.benchmarks.mlp import search_mlp

    valid = partial(validation, task, labels)
    found = search_mlp(view.fit, labels.fit, view.choose, valid, kind=_output(task), outputs=labels.classes)
    chosen = {**view.chosen, **found.chosen}
    return Outcome([found.scores(view.score, seed) for seed in found.seeds], chosen, found.valid, found.tried)


def _output(task: Task) -> str:
    """What is predicted: ``"values"``, ``"labels"`` or ``"classes"``."""
    return task.kind if task.kind in ("values", "labels") else "classes"


def _search_probe(task: Task, view: View, labels: Labels) -> Outcome:
    best: tuple[float, Any, dict[str, Any]] | None = None
    tried = 0
    for scaling in ("common", "each"):
        fitted = (
            discriminants(view.fit, labels.fit, labels.classes, scaling)
            if _output(task) == "classes"
            else ridges(view.fit, labels.fit, scaling)
        )
        for strength, model in fitted:
            tried += 1
            valid = validation(task, labels, model(view.choose))
            if best is None or valid > best[0]:
                best = valid, model, {**view.chosen, "scaling": scaling, "strength": strength}
    assert best is not None
    return Outcome([best[1](view.score)], best[2], best[0], tried, view)


def validation(task: Task, labels: Labels, scores: Floats) -> float:
    """How good scores (n, outputs) of the validation part are, by the metric that counts."""
    metric = task.metrics[0]
    return METRICS[metric](decided(task, metric, scores), labels.choose, NO_STRATA)


def decided(task: Task, metric: str, scores: Floats) -> NDArray[Any]:
    """What a metric is to judge, from scores (n, outputs): values, classes, or the margin of class 1 over class 0."""
    if task.kind == "values":
        return scores[:, 0]
    if metric in OF_SCORES:
        return scores
    return scores[:, 1] - scores[:, 0] if metric in OF_MARGINS else scores.argmax(axis=1)


def labels_of(task: Task, parts: Parts) -> Labels:
    """The labels of proteins or pairs in numbers; those of residues: :func:`labels_of_residues`."""
    score = parts.score
    units = score.clusters if len(score.clusters) else np.arange(len(score))
    fit, choose, truth = (p.labels for p in (parts.fit, parts.choose, score))
    if task.kind == "values":
        return Labels(fit, choose, truth, 1, score.strata, units)
    if task.kind == "labels":
        return _many_labels(fit, choose, truth, score.strata, units)
    if task.kind == "pairs":
        units = np.unique([score.sequences, score.partners], return_inverse=True)[1].reshape(2, -1).T
    names = np.unique(np.concatenate([fit, choose, truth]))
    if len(names) != 2 and OF_TWO & set(task.metrics):
        shown = ", ".join(names[:3])
        raise InputError(f"two classes are needed, and there are {len(names)} ({shown}); give the whole data set")
    unseen = int((~np.isin(truth, fit)).sum())
    fit, choose, truth = (np.searchsorted(names, p) for p in (fit, choose, truth))
    return Labels(fit, choose, truth, len(names), score.strata, units, unseen, names.tolist())


def _many_labels(
    fit: NDArray[Any], choose: NDArray[Any], truth: NDArray[Any], strata: NDArray[Any], units: NDArray[Any]
) -> Labels:
    """0 and 1 for each label that is frequent enough where weights are fitted: (n, labels)."""
    sets = [[set(filter(None, str(text).split(";"))) for text in part] for part in (fit, choose, truth)]
    counts = Counter(name for found in sets[0] for name in found)
    names = sorted(name for name, count in counts.items() if count >= LEAST_PROTEINS)
    if not names:
        raise InputError(f"no label stands at {LEAST_PROTEINS} proteins or more; take a larger scale")
    unseen = len({name for found in sets[2] for name in found} - set(names))
    of_fit, of_choose, of_truth = (
        np.array([[name in found for name in names] for found in part], np.float64) for part in sets
    )
    return Labels(of_fit, of_choose, of_truth, len(names), strata, units, unseen, names)


def _pair_views(candidates: Sequence[Choice], parts: Parts, cache: Path | None) -> Iterator[View]:
    for candidate in candidates:
        known: dict[str, Floats] = {}
        for part in (parts.fit, parts.choose, parts.score):
            vectors = protein_features(candidate.encoder, part.proteins, cache)[:, candidate.columns]
            known |= dict(zip(part.proteins, vectors, strict=True))
        mean = np.mean([known[p] for p in parts.fit.proteins], axis=0)
        features = [pair_features(known, p.sequences, p.partners, mean) for p in (parts.fit, parts.choose, parts.score)]
        yield View({"features": candidate.label, "form": "products and differences"}, *features)


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
    rows = [sampled(p, task.sizes[scale].residues) for p in three]
    labels = labels_of_residues(parts, rows)

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


def labels_of_residues(parts: Parts, rows: list[list[NDArray[np.intp]]]) -> Labels:
    """Classes of the residues that are looked at, protein after protein; ``rows`` as :func:`sampled` gives them."""
    three = (parts.fit, parts.choose, parts.score)
    texts = [
        "".join(label[i] for label, r in zip(p.labels, chosen, strict=True) for i in r)
        for p, chosen in zip(three, rows, strict=True)
    ]
    names = sorted(set("".join(texts)))
    fit, choose, truth = (np.array([names.index(letter) for letter in text], np.intp) for text in texts)
    units = np.repeat(np.arange(len(parts.score)), [len(r) for r in rows[2]])
    return Labels(fit, choose, truth, len(names), NO_STRATA, units, int((~np.isin(truth, fit)).sum()), names)


def _different(candidates: Sequence[Choice]) -> list[Choice]:
    by_layer = [c for c in candidates if "layer" in c.label]
    return by_layer or list(candidates[:1])


def has_residues(encoder: Encoder) -> bool:
    try:
        encoder.encode_residues(["MA"])
    except InputError:
        return False
    return True


def sampled(items: Items, wanted: int | None) -> list[NDArray[np.intp]]:
    """For each protein the positions that are looked at, about ``wanted`` of all that are known, or all."""
    known = [np.frombuffer(str(label).encode(), np.uint8) != ord(".") for label in items.labels]
    total = sum(int(k.sum()) for k in known)
    share = min(1.0, wanted / total) if wanted else 1.0
    return [residue_sample(s, k, share) for s, k in zip(items.sequences, known, strict=True)]
