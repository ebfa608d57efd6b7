"""The downstream protocol of MTDP (arXiv 2405.11735), as its scripts had it, and how far it flatters.

A frozen protein vector goes through two linear maps with nothing between them; all proteins of a data set are cut into
ten random folds, and of twenty epochs the one with the best score on the test fold is reported. That leaks twice:
relatives, even near duplicates, of test proteins are in train, and the test fold chooses the epoch. Its numbers are
here to be set beside the published ones, never beside those of :func:`limbeck.benchmarks.score`.

The same network with an honest choice of the epoch stands beside it, so that the second leak is measured and not only
named. The first one stays in both.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.benchmarks.features import protein_features
from limbeck.benchmarks.metrics import THRESHOLDS, mean_aupr
from limbeck.benchmarks.overlap import near_duplicates
from limbeck.benchmarks.task import Items, Task
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["METRICS_OF", "WHY", "folds", "mtdp_protocol", "mtdp_task"]

Floats = NDArray[np.float32]

FOLDS = 10
FOLD_SEED = 42
EPOCHS = 20
BATCH = 64
LEARNING_RATE = 1e-3
WHY = (
    "leaky: folds are random, so relatives of test proteins are in train, and the epoch is the one that is best on the "
    "test fold itself"
)
METRICS_OF = {"classes": ("macro_f1", "balanced_accuracy"), "values": ("pearson",), "labels": ("fmax", "mean_aupr")}
"""What is reported of each kind; the first one chooses the epoch."""
VALIDATION = 9
"""One of so many proteins of the training folds chooses the epoch in the honest variant."""


def mtdp_protocol(x: Floats, y: NDArray[Any], kind: str, *, epochs: int = EPOCHS, seed: int = 0) -> dict[str, Any]:
    """Ten random folds of frozen vectors.

    Args:
        x: (n, dimension) vectors.
        y: (n,) classes from 0, or values in their own unit, or (n, labels) of 0 and 1.
        kind: ``"classes"``, ``"values"`` or ``"labels"``.
        epochs: 20 in the scripts.
        seed: of weights and batches, which the scripts leave to chance. That of the folds is theirs, 42.

    Returns:
        ``leaky`` (true), ``why``, ``metric``, and ``median``, ``mean`` and ``folds`` of it as MTDP reports them; the
        same of all metrics under ``published``; under ``last_epoch`` what the same networks give without a choice of
        the epoch; under ``honest`` the same architecture with the epoch chosen on a ninth of the training folds, which
        it does not learn from; under ``optimism`` how much better that very network looks when the test fold chooses
        its epoch. ``settings`` and ``n`` (proteins).

    Raises:
        InputError: if PyTorch is missing, there are fewer proteins than folds, the shapes don't fit, or a vector holds
            what is no number.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("MTDP's protocol trains a network with PyTorch; pip install 'limbeck[landscape]'")
    _check(x, y, kind)
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in ("published", "last_epoch", "honest", "best")}
    for number, (train, test) in enumerate(folds(len(x))):
        course = _course(x, y, kind, train, [test], epochs, seed + number)[0]
        rows["published"].append(_best(course))
        rows["last_epoch"].append(course[-1])
        order = np.random.default_rng((seed, number)).permutation(train)
        edge = max(1, len(order) // VALIDATION)
        valid, on_test = _course(x, y, kind, order[edge:], [order[:edge], test], epochs, seed + number)
        rows["honest"].append(on_test[_best_epoch(valid)])
        rows["best"].append(_best(on_test))
    found = {name: _summaries(kind, values) for name, values in rows.items()}
    metric = METRICS_OF[kind][0]
    gaps = [best[0] - honest[0] for best, honest in zip(rows["best"], rows["honest"], strict=True)]
    return {
        "leaky": True,
        "why": WHY,
        "kind": kind,
        "metric": metric,
        **found["published"][metric],
        "published": found["published"],
        "last_epoch": found["last_epoch"],
        "honest": found["honest"],
        "optimism": {metric: _summary(gaps)},
        "n": len(x),
        "settings": {
            "network": "two linear maps, no non-linearity",
            "optimiser": "AdamW",
            "learning_rate": LEARNING_RATE,
            "batch": BATCH,
            "epochs": epochs,
            "folds": FOLDS,
            "fold_seed": FOLD_SEED,
            "seed": seed,
        },
    }


def mtdp_task(
    task: Task, encoder: Encoder, data: Path, scale: str, *, cache: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """The protocol on all proteins that a task has at a scale: its train, valid and test put together.

    Args:
        task: of whole proteins.
        encoder: whose vectors are scored, as they are.
        data: the task's data folder.
        scale: of the task.
        cache: folder for vectors.
        seed: as for :func:`mtdp_protocol`.

    Returns:
        What :func:`mtdp_protocol` gives, with ``task``, ``encoder``, and ``near``: how many proteins have a near
        duplicate among the other nine folds.

    Raises:
        InputError: if the task is one of pairs or residues, or as :func:`mtdp_protocol` does.
    """
    if task.kind not in METRICS_OF:
        raise InputError(f"MTDP's protocol has no task of {task.kind} such as {task.name}; give one of whole proteins")
    parts = task.parts(data, scale, "test")
    three = (parts.fit, parts.choose, parts.score)
    proteins = [sequence for part in three for sequence in part.sequences]
    x = protein_features(encoder, proteins, cache)
    result = mtdp_protocol(x, _targets(task.kind, three), task.kind, seed=seed)
    near = sum(
        near_duplicates([proteins[i] for i in train], [proteins[i] for i in test]) for train, test in folds(len(x))
    )
    return {"task": task.name, "encoder": encoder.name, **result, "near": near}


def folds(n: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows of train and test, ascending: those of scikit-learn's ``KFold(10, shuffle=True, random_state=42)``."""
    order = np.arange(n)
    np.random.RandomState(FOLD_SEED).shuffle(order)
    return [(np.setdiff1d(order, test), np.sort(test)) for test in np.array_split(order, FOLDS)]


def _targets(kind: str, parts: Sequence[Items]) -> NDArray[Any]:
    labels = np.concatenate([part.labels for part in parts])
    if kind == "values":
        return labels
    if kind == "classes":
        return np.unique(labels, return_inverse=True)[1]
    sets = [set(filter(None, str(text).split(";"))) for text in labels]
    names = sorted(set().union(*sets))
    return np.array([[name in found for name in names] for found in sets], np.float64)


def _check(x: Floats, y: NDArray[Any], kind: str) -> None:
    if kind not in METRICS_OF:
        raise InputError(f"MTDP's protocol has no kind {kind!r}; choose from: {', '.join(METRICS_OF)}")
    if x.ndim != 2 or len(x) != len(y) or y.ndim != (2 if kind == "labels" else 1):
        raise InputError(f"vectors {x.shape} and targets {y.shape} of {kind} do not fit; give one row for each protein")
    if len(x) < 2 * FOLDS:
        raise InputError(f"{len(x)} proteins are too few for ten folds; give at least {2 * FOLDS}")
    if not np.isfinite(x).all() or (kind != "classes" and not np.isfinite(y).all()):
        raise InputError("vectors or targets hold NaN or infinite numbers; try --precision f32, or leave those out")


def _course(
    x: Floats,
    y: NDArray[Any],
    kind: str,
    train: NDArray[np.intp],
    scored: Sequence[NDArray[np.intp]],
    epochs: int,
    seed: int,
) -> list[list[tuple[float, ...]]]:
    """For each of the scored sets of rows its metrics after each epoch."""
    import torch

    vectors = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    targets = torch.from_numpy(np.asarray(y)).long() if kind == "classes" else torch.from_numpy(np.asarray(y)).float()
    outputs = {"classes": int(y.max()) + 1, "values": 1, "labels": y.shape[-1]}[kind]
    fit = torch.from_numpy(train)
    found: list[list[tuple[float, ...]]] = [[] for _ in scored]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Linear(x.shape[1], x.shape[1]), torch.nn.Linear(x.shape[1], outputs))
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
        for _ in range(epochs):
            for rows in fit[torch.randperm(len(fit))].split(BATCH):
                optimiser.zero_grad()
                _loss(network, vectors[rows], targets[rows], kind).backward()
                optimiser.step()
            with torch.no_grad():
                for course, rows_of in zip(found, scored, strict=True):
                    scores = network(vectors[torch.from_numpy(rows_of)])
                    scores = scores.sigmoid() if kind == "labels" else scores
                    course.append(_metrics(kind, scores.numpy(), y[rows_of]))
    return found


def _loss(network: nn.Module, x: Tensor, y: Tensor, kind: str) -> Tensor:
    import torch.nn.functional as F

    scores = network(x)
    if kind == "classes":
        return F.cross_entropy(scores, y)
    if kind == "labels":
        return F.binary_cross_entropy_with_logits(scores, y)
    return F.mse_loss(scores[:, 0], y)


def _metrics(kind: str, scores: Floats, truth: NDArray[Any]) -> tuple[float, ...]:
    if kind == "values":
        return (_pearson(scores[:, 0], truth),)
    if kind == "labels":
        return _fmax(scores, truth), mean_aupr(scores, truth, np.empty(0))
    predicted = scores.argmax(axis=1)
    return _macro_f1(predicted, truth), _balanced_accuracy(predicted, truth)


def _pearson(a: Floats, b: NDArray[Any]) -> float:
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else 0.0


def _macro_f1(predicted: NDArray[np.intp], truth: NDArray[np.intp]) -> float:
    """As scikit-learn has it: the mean over classes that are true or predicted; limbeck's own is over true ones."""
    count = int(max(predicted.max(), truth.max())) + 1
    total = np.bincount(truth, minlength=count) + np.bincount(predicted, minlength=count)
    hits = np.bincount(truth[predicted == truth], minlength=count)
    return float((2 * hits[total > 0] / total[total > 0]).mean())


def _balanced_accuracy(predicted: NDArray[np.intp], truth: NDArray[np.intp]) -> float:
    """Mean over the true classes of the share that is found."""
    true = np.bincount(truth)
    hits = np.bincount(truth[predicted == truth], minlength=len(true))
    return float((hits[true > 0] / true[true > 0]).mean())


def _fmax(scores: Floats, truth: NDArray[Any]) -> float:
    """Over thresholds 0, 0.01, ... 1, without labels that no protein of the fold has and proteins without a label."""
    scores = scores[:, truth.any(axis=0)][truth.any(axis=1)]
    truth = truth[:, truth.any(axis=0)][truth.any(axis=1)]
    best = 0.0
    for threshold in THRESHOLDS:
        predicted = scores >= threshold
        count, hits = predicted.sum(axis=1), (predicted * truth).sum(axis=1)
        if hits.any():
            precision = float((hits[count > 0] / count[count > 0]).mean())
            recall = float((hits / truth.sum(axis=1)).mean())
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def _best_epoch(course: Sequence[tuple[float, ...]]) -> int:
    """The first of those whose first metric is best."""
    return int(np.argmax([metrics[0] for metrics in course]))


def _best(course: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Metrics of the best epoch; the scripts start from a best of 0, so nothing below is reported."""
    best = course[_best_epoch(course)]
    return best if best[0] > 0 else tuple(0.0 for _ in best)


def _summaries(kind: str, values: Sequence[tuple[float, ...]]) -> dict[str, dict[str, Any]]:
    return {name: _summary([v[i] for v in values]) for i, name in enumerate(METRICS_OF[kind])}


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(float(np.median(values)), 4),
        "mean": round(float(np.mean(values)), 4),
        "folds": [round(float(v), 4) for v in values],
    }
