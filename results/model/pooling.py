"""What to pool into a protein's vector, and in which proportion: chosen without a look at test proteins.

    python results/model/pooling.py PROTEINS.fasta --data FOLDER --cache CACHE

For each proportion of the parts that a student pools (``limbeck.encoders.student_pooling``), a projection is fitted to
6,000 training proteins of the default model (as in ``project.py``) and scored on the training and validation proteins
of the probes (medium scale, whole proteins): five folds of a solved probe, the best penalty by its mean over the folds;
the same fitted to the training proteins and scored on the validation ones; and the nearest neighbour, each protein left
out in turn. Writes ``pooling.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from project import Pooled, sample

from limbeck import benchmarks
from limbeck.benchmarks.metrics import METRICS, OF_MARGINS
from limbeck.benchmarks.probes import discriminants, ridges
from limbeck.benchmarks.task import Task
from limbeck.distillation import projection as fitting
from limbeck.distillation.config import StudentConfig
from limbeck.encoders.student import student_files
from limbeck.files import whole

HERE = Path(__file__).parent
TASKS = (
    "localisation", "membrane", "melting", "remote_homology", "solubility", "solubility_esol", "stability",
    "structural_class",
)  # fmt: skip
NEAREST = ("localisation", "remote_homology", "structural_class")
SCALE = "medium"
PARTS = ("contexts", "residues", "composition", "first", "last", "pairs", "length")
VERSION_2 = dict(zip(PARTS, (1, 1.5, 0.5, 0, 0, 0, 0), strict=True))
CHOSEN = dict(zip(PARTS, fitting.SHARES, strict=True))
TRIED: tuple[tuple[str, dict[str, float], float], ...] = (
    ("contexts alone", dict.fromkeys(PARTS, 0.0) | {"contexts": 1.0}, -0.5),
    ("version 2", VERSION_2, -0.5),
    ("with the ends", VERSION_2 | {"first": 0.5, "last": 0.5}, -0.5),
    ("with pairs", VERSION_2 | {"pairs": 0.4}, -0.5),
    ("with the length", VERSION_2 | {"length": 0.3}, -0.5),
    ("with ends and length", CHOSEN | {"pairs": 0.0}, -0.5),
    ("all", CHOSEN, -0.5),
    ("no composition", CHOSEN | {"composition": 0.0}, -0.5),
    ("residues 3", CHOSEN | {"residues": 3.0}, -0.5),
    ("ends 0.8", CHOSEN | {"first": 0.8, "last": 0.8}, -0.5),
    ("pairs 0.7", CHOSEN | {"pairs": 0.7}, -0.5),
    ("length 0.6", CHOSEN | {"length": 0.6}, -0.5),
    ("no power", CHOSEN, 0.0),
)
"""Name, shares of the parts, and the power of the deviations by which components are scaled."""
FOLDS = 5


def pooled(encoder: Pooled, name: str, sequences: list[str], cache: Path) -> NDArray[np.float32]:
    path = cache / f"{name}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, encoder.encode(sequences))
    return np.load(path)


def probe(task: Task, x: NDArray[np.float32], labels: NDArray) -> float:
    folds = np.random.default_rng(0).integers(0, FOLDS, len(labels))
    return _best(task, x, labels, [folds == fold for fold in range(FOLDS)])


def _best(task: Task, x: NDArray[np.float32], labels: NDArray, parts: list[NDArray[np.bool_]]) -> float:
    """The best mean over the parts, each held out in turn."""
    names, y = np.unique(labels, return_inverse=True) if task.kind == "classes" else (np.empty(0), labels)
    seen: dict[tuple[str, float], list[float]] = {}
    for held in parts:
        fit = ~held
        for scaling in ("common", "each"):
            fitted = (
                discriminants(x[fit], y[fit], len(names), scaling)
                if task.kind == "classes"
                else ridges(x[fit], y[fit].astype(float), scaling)
            )
            for strength, model in fitted:
                scores = model(x[held])
                margins = scores[:, 0] if task.kind == "values" else scores[:, 1] - scores[:, 0]
                of_margins = task.kind == "values" or task.metrics[0] in OF_MARGINS
                predicted = margins if of_margins else scores.argmax(1)
                value = METRICS[task.metrics[0]](predicted, y[held], np.empty(0, str))
                seen.setdefault((scaling, strength), []).append(value)
    return max(float(np.mean(values)) for values in seen.values())


def nearest(x: NDArray[np.float32], labels: NDArray) -> float:
    x = x - x.mean(axis=0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    return float((labels[cosines.argmax(axis=1)] == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proteins", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    given = parser.parse_args()
    config, weights = student_files("limbeck-9m")
    shape = StudentConfig.of(config["limbeck"])
    encoder = Pooled("student", config, weights)
    encoder.dimension = len(weights["center"])
    path = given.cache / "sample.npy"
    fit_to = torch.from_numpy(
        np.load(path) if path.exists() else pooled(encoder, "sample", sample(given.proteins), given.cache)
    )
    data = {}
    for task in (task for task in benchmarks.tasks(given.data) if task.name in TASKS):
        parts = task.parts(benchmarks.place(task, given.data), SCALE, "test")
        both = [
            pooled(encoder, f"{task.name}-{name}", getattr(parts, name).sequences, given.cache)
            for name in ("fit", "choose")
        ]
        held = np.arange(sum(map(len, both))) >= len(both[0])
        data[task.name] = task, np.concatenate(both), np.concatenate([parts.fit.labels, parts.choose.labels]), held
    rows = []
    for name, shares, power in TRIED:
        # Next to nothing instead of nothing: the map divides by the shares.
        fitting.SHARES, fitting.POWER = tuple(max(share, 1e-6) for share in shares.values()), power
        center, weight = (part.numpy() for part in fitting.projection(fit_to, shape))
        scores, held_out, near = {}, {}, {}
        for key, (task, pooled_parts, labels, held) in data.items():
            x = (pooled_parts - center) @ weight.T
            scores[key], held_out[key] = probe(task, x, labels), _best(task, x, labels, [held])
            if key in NEAREST:
                near[key] = nearest(x, labels)
        row = {"name": name, "shares": shares, "power": power, "mean of probes": float(np.mean(list(scores.values())))}
        row |= {"mean on validation proteins": float(np.mean(list(held_out.values())))}
        row |= {"probes": scores, "on validation proteins": held_out, "nearest": near}
        rows.append(json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 4)))
        print(rows[-1], flush=True)
    with whole(HERE / "pooling.json") as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
