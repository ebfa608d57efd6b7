"""Small tasks to fine-tune on."""

from __future__ import annotations

from typing import Any

import numpy as np

from limbeck.benchmarks.task import Items, Parts, Size, Splits, Task
from tiny_encoders import protein

QUICK = {"epochs": 3, "batch": 8}


def task(kind: str, *metrics: str) -> Task:
    return Task(
        name=f"some_{kind}", question="?", kind=kind, metrics=metrics, folder="", files=(),
        read=lambda _: Splits(*PARTS), split="", citation="", license="", sizes={"full": Size()},
    )  # fmt: skip


MOTIF = "WHW"


def proteins(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Half of them carry a motif somewhere, which their composition hardly tells."""
    random = np.random.default_rng(seed)
    texts = [protein(int(n), seed=1000 * seed + i) for i, n in enumerate(random.integers(15, 40, count))]
    has = random.random(count) < 0.5
    places = random.integers(0, 12, count)
    return [t[:p] + MOTIF + t[p + 3 :] if h else t for t, h, p in zip(texts, has, places, strict=True)], has


def items(kind: str, count: int, seed: int) -> Items:
    texts, has = proteins(count, seed)
    labels: Any = {
        "classes": np.where(has, "with", "without"),
        "values": 50 + 10.0 * has + np.array([len(t) for t in texts]) / 100,
        "labels": np.array(["a;b" if h else "b" if len(t) % 2 else "" for t, h in zip(texts, has, strict=True)]),
        "residues": np.array(["".join(".H"[i > 2] if c in "WH" else "C" for i, c in enumerate(t)) for t in texts]),
    }[kind]
    return Items(texts, labels)


def parts(kind: str) -> Parts:
    return Parts(*(items(kind, n, seed) for seed, n in enumerate((48, 16, 24))))


PARTS = (items("classes", 12, 0), items("classes", 8, 1), items("classes", 8, 2))
TASKS = {
    "classes": task("classes", "accuracy", "macro_f1"),
    "values": task("values", "spearman"),
    "labels": task("labels", "fmax", "mean_aupr"),
    "residues": task("residues", "accuracy"),
}


def after(letters: str, texts: list[str]) -> Items:
    """Residues of two classes: those that stand behind one of some letters, and the others."""
    labels = ["".join("CH"[i > 0 and t[i - 1] in letters] for i in range(len(t))) for t in texts]
    return Items(texts, np.array(labels))
