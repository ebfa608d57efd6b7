"""MTDP's published protocol, and how much its choice of the epoch flatters."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score
from sklearn.model_selection import KFold

import limbeck
from fake_encoder import FakeEncoder
from limbeck import benchmarks
from limbeck.benchmarks import mtdp
from limbeck.benchmarks.mtdp import folds, mtdp_protocol, mtdp_task
from limbeck.errors import InputError
from tiny_encoders import protein


def clouds(count: int, classes: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, count)
    centres = distance * np.random.default_rng(99).normal(size=(classes, 8))
    return (centres[y] + random.normal(size=(count, 8))).astype(np.float32), y


def test_folds_are_those_of_scikit_learn() -> None:
    for n in (20, 103):
        expected = KFold(n_splits=10, shuffle=True, random_state=42).split(np.zeros(n))
        for (train, test), (their_train, their_test) in zip(folds(n), expected, strict=True):
            np.testing.assert_array_equal(train, their_train)
            np.testing.assert_array_equal(test, their_test)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_metrics_are_those_of_the_scripts() -> None:
    random = np.random.default_rng(0)
    truth, scores = random.integers(0, 4, 60), random.normal(size=(60, 6)).astype(np.float32)
    f1, balanced = mtdp._metrics("classes", scores, truth)
    assert f1 == pytest.approx(f1_score(truth, scores.argmax(1), average="macro"))
    assert balanced == pytest.approx(balanced_accuracy_score(truth, scores.argmax(1)))
    values = random.normal(size=60)
    (pearson,) = mtdp._metrics("values", scores, values)
    assert pearson == pytest.approx(np.corrcoef(scores[:, 0], values)[0, 1], abs=1e-6)


def plain_fmax(scores: np.ndarray, truth: np.ndarray) -> float:
    """In a loop, one protein at a time."""
    columns = [c for c in range(truth.shape[1]) if truth[:, c].any()]
    best = 0.0
    for threshold in np.arange(101) / 100:
        precisions, recalls = [], []
        for row in range(len(truth)):
            true = {c for c in columns if truth[row, c]}
            predicted = {c for c in columns if scores[row, c] >= threshold}
            if true:
                recalls.append(len(true & predicted) / len(true))
                precisions += [len(true & predicted) / len(predicted)] if predicted else []
        p, r = np.mean(precisions) if precisions else 0, np.mean(recalls)
        best = max(best, 2 * p * r / (p + r) if p + r else 0)
    return best


def test_fmax_and_aupr_of_labels() -> None:
    random = np.random.default_rng(1)
    truth = (random.random((30, 7)) < 0.25).astype(np.float64)
    truth[:, 3], truth[4] = 0, 0  # a label that nobody has, a protein without one
    scores = np.clip(0.4 * truth + 0.6 * random.random((30, 7)), 0, 1).astype(np.float32)
    fmax, aupr = mtdp._metrics("labels", scores, truth)
    assert fmax == pytest.approx(plain_fmax(scores, truth))
    known = [c for c in range(7) if truth[:, c].any()]
    assert aupr == pytest.approx(np.mean([average_precision_score(truth[:, c], scores[:, c]) for c in known]))


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return mtdp_protocol(*clouds(200, 3, 0.5), "classes", epochs=6)


def test_it_says_that_it_leaks(result: dict[str, Any]) -> None:
    assert result["leaky"] is True
    assert "best on the test fold" in result["why"]
    json.dumps(result)


def test_every_fold_is_reported(result: dict[str, Any]) -> None:
    for name in ("published", "last_epoch", "honest"):
        assert set(result[name]) == {"macro_f1", "balanced_accuracy"}
        for summary in result[name].values():
            assert len(summary["folds"]) == 10
            assert summary["median"] == pytest.approx(np.median(summary["folds"]), abs=1e-4)
            assert summary["mean"] == pytest.approx(np.mean(summary["folds"]), abs=1e-4)
    assert result["folds"] == result["published"]["macro_f1"]["folds"]


def test_the_best_epoch_on_test_never_looks_worse(result: dict[str, Any]) -> None:
    pairs = zip(*(result[name]["macro_f1"]["folds"] for name in ("published", "last_epoch")), strict=True)
    assert all(best >= last for best, last in pairs)
    assert min(result["optimism"]["macro_f1"]["folds"]) >= 0
    assert result["optimism"]["macro_f1"]["mean"] > 0


def test_noise_scores_above_zero_where_the_test_fold_chooses() -> None:
    """Pearson's correlation of nothing with nothing: zero in truth, and about zero by the honest choice."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 8)).astype(np.float32), random.normal(size=300)
    found = mtdp_protocol(x, y, "values")
    assert found["optimism"]["pearson"]["mean"] > 0.03
    assert found["mean"] > found["honest"]["pearson"]["mean"] + 0.03


def test_the_same_seed_gives_the_same_numbers() -> None:
    x, y = clouds(60, 2, 0.5)
    first, again, other = (mtdp_protocol(x, y, "classes", epochs=2, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first["folds"] != other["folds"]


def test_labels_are_learned() -> None:
    x, y = clouds(200, 4, 2.0)
    found = mtdp_protocol(x, np.eye(5)[y], "labels", epochs=12)
    assert found["metric"] == "fmax"
    assert found["median"] > 0.55
    assert found["published"]["mean_aupr"]["median"] > 0.6


@pytest.mark.parametrize(
    ("x", "y", "kind", "message"),
    [
        (np.zeros((30, 2), np.float32), np.zeros(29, int), "classes", "do not fit"),
        (np.zeros((30, 2), np.float32), np.zeros(30, int), "labels", "do not fit"),
        (np.zeros((12, 2), np.float32), np.zeros(12, int), "classes", "too few"),
        (np.full((30, 2), np.nan, np.float32), np.zeros(30, int), "classes", "NaN"),
        (np.zeros((30, 2), np.float32), np.full(30, np.inf), "values", "infinite"),
        (np.zeros((30, 2), np.float32), np.zeros(30), "residues", "no kind 'residues'"),
    ],
)
def test_input_that_cannot_be_is_one_line(x: np.ndarray, y: np.ndarray, kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        mtdp_protocol(x, y, kind)
    assert "\n" not in str(caught.value)


def test_without_pytorch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'limbeck\[landscape\]'"):
        mtdp_protocol(*clouds(60, 2, 0.5), "classes")


def test_a_task_puts_all_its_proteins_together(tmp_path: Path) -> None:
    texts = [protein(30, seed) for seed in range(39)]
    texts.append(texts[38][:-1] + ("A" if texts[38][-1] != "A" else "C"))
    path = tmp_path / "solubility_esol/esol.csv.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sequence", "solubility", "split"])
        writer.writerows([t, t.count("A"), "test" if i % 4 == 0 else "train"] for i, t in enumerate(texts))
    task = next(task for task in benchmarks.all_tasks() if task.name == "solubility_esol")
    found = mtdp_task(task, FakeEncoder(), tmp_path, "full")
    assert found["n"] == 40
    assert found["task"] == "solubility_esol"
    assert found["near"] in (0, 2)  # the two that differ by one residue, if no fold has both
    together = any({texts.index(texts[38]), 39} <= set(test) for _, test in folds(40))
    assert not together or found["near"] == 0


def test_residues_are_refused() -> None:
    task = next(task for task in benchmarks.all_tasks() if task.kind == "residues")
    with pytest.raises(limbeck.InputError, match="whole proteins"):
        mtdp_task(task, FakeEncoder(), Path("nowhere"), "small")
