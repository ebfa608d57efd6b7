"""What to pool into a protein's vector, and in which proportion: chosen without a look at test proteins.

    python results/model/pooling.py PROTEINS.fasta --data FOLDER --cache CACHE

For each proportion of contexts, residue vectors and composition, a projection is fitted to 6,000 training proteins of
the default model (as in ``project.py``) and scored on the training and validation proteins of the probes (small scale,
whole proteins): five folds of a solved probe, the best penalty by its mean over the folds; and the nearest neighbour,
each protein left out in turn. Writes ``pooling.json`` beside this file.
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
    "localisation", "melting", "remote_homology", "solubility", "solubility_esol", "stability", "structural_class",
)  # fmt: skip
NEAREST = ("localisation", "remote_homology", "structural_class")
SHARES = ((1, 0, 0), (1, 1, 0), (1, 1, 0.5), (1, 1.5, 0.5), (1, 2, 0.5), (1, 2, 1), (1, 3, 0.5))
POWERS = (0.0, -0.5)
FOLDS = 5


def pooled(encoder: Pooled, name: str, sequences: list[str], cache: Path) -> NDArray[np.float32]:
    path = cache / f"{name}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, encoder.encode(sequences))
    return np.load(path)


def probe(task: Task, x: NDArray[np.float32], labels: NDArray) -> float:
    names, y = np.unique(labels, return_inverse=True) if task.kind == "classes" else (np.empty(0), labels)
    folds = np.random.default_rng(0).integers(0, FOLDS, len(y))
    seen: dict[tuple[str, float], list[float]] = {}
    for fold in range(FOLDS):
        fit, held = folds != fold, folds == fold
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
        parts = task.parts(benchmarks.place(task, given.data), "small", "test")
        both = [
            pooled(encoder, f"{task.name}-{name}", getattr(parts, name).sequences, given.cache)
            for name in ("fit", "choose")
        ]
        data[task.name] = task, np.concatenate(both), np.concatenate([parts.fit.labels, parts.choose.labels])
    rows = []
    for power in POWERS:
        for shares in SHARES:
            # Next to nothing instead of nothing: the map divides by the shares.
            fitting.SHARES, fitting.POWER = tuple(max(share, 1e-6) for share in shares), power
            center, weight = (part.numpy() for part in fitting.projection(fit_to, shape))
            vectors = {name: (x - center) @ weight.T for name, (_, x, _) in data.items()}
            scores = {name: probe(task, vectors[name], labels) for name, (task, _, labels) in data.items()}
            near = {name: nearest(vectors[name], data[name][2]) for name in NEAREST}
            row = {"contexts": shares[0], "residues": shares[1], "composition": shares[2], "power": power}
            row |= {"mean of probes": float(np.mean(list(scores.values()))), "probes": scores, "nearest": near}
            rows.append(json.loads(json.dumps(row), parse_float=lambda text: round(float(text), 4)))
            print(rows[-1], flush=True)
    with whole(HERE / "pooling.json") as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
