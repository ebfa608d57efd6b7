"""Score encoders on remote homology and structural class, against the honest floor.

    python results/quality/run.py --encoder composition kmers-3 --encoder mine=path/to/model --cache cache

Writes ``quality.json`` (all that was measured) and ``quality.md`` (the table) beside this file, or under
``--output``. The protocol stands in the README beside this file.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import limbeck
from limbeck.encoders.base import Encoder
from limbeck.residues import clean, to_ids

HERE = Path(__file__).parent
DATASETS = HERE.parents[1] / "datasets"
PROTOCOL = 1
"""Raised when the protocol changes, so that cached predictions of an older one are not used."""
REFERENCE = "kmers-3"
RESAMPLES = 10_000
SEED = 0
STRENGTHS = tuple(10.0**k for k in range(-6, 3))

Floats = NDArray[np.float32]
Labels = NDArray[np.str_]


@dataclass(frozen=True)
class Part:
    """Sequences and labels of one split."""

    sequences: list[str]
    labels: Labels

    def take(self, rows: NDArray[np.intp]) -> Part:
        return Part([self.sequences[i] for i in rows], self.labels[rows])


@dataclass(frozen=True)
class Task:
    """One data set: what is fitted on, what choices are made on, what is scored on."""

    name: str
    train: Part
    """Everything that predictions for ``test`` may use; includes ``valid`` where that was cut from it."""
    fit: Part
    """What predictions for ``valid`` may use."""
    valid: Part
    test: Part
    files: dict[str, str]


def read(path: Path, column: str) -> Part:
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return Part([clean(row["sequence"]) for row in rows], np.array([row[column] for row in rows]))


def checksums(folder: Path) -> dict[str, str]:
    paths = sorted(folder.glob("*.csv.gz"))
    return {f"{folder.name}/{p.name}": hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def remote_homology() -> Task:
    folder = DATASETS / "tape_remote_homology"
    train, valid, test = (read(folder / f"{s}.csv.gz", "fold_label") for s in ("train", "valid", "test"))
    return Task("remote_homology", train, train, valid, test, checksums(folder))


def structural_class() -> Task:
    folder = DATASETS / "proteinbert_scop"
    train, test = (read(folder / f"{s}.csv.gz", "scop_class") for s in ("train", "test"))
    rows = np.arange(len(train.labels))
    fit, valid = train_test_split(rows, test_size=0.2, random_state=SEED, stratify=train.labels)
    return Task("structural_class", train, train.take(fit), train.take(valid), test, checksums(folder))


def fivemers(sequences: list[str]) -> sparse.csr_matrix:
    """Which 5-mers of standard residues each protein holds: (n, 20^5) of 0 and 1."""
    powers = 20 ** np.arange(5)
    columns = []
    for sequence in sequences:
        ids = to_ids(sequence).astype(np.int64)
        if len(ids) < 5:
            columns.append(np.empty(0, np.int64))
            continue
        words = np.lib.stride_tricks.sliding_window_view(ids, 5)
        columns.append(np.unique(words[(words < 20).all(axis=1)] @ powers))
    ends = np.cumsum([0] + [len(c) for c in columns])
    ones = np.ones(ends[-1], np.float32)
    return sparse.csr_matrix((ones, np.concatenate(columns), ends), shape=(len(sequences), 20**5))


def overlap(train: Part, test: Part) -> dict[str, int]:
    """Test proteins that occur in train: exactly, and nearly (half of their 5-mers in one train protein)."""
    known = set(train.sequences)
    words = fivemers(test.sequences)
    shared = (words @ fivemers(train.sequences).T).max(axis=1).toarray().ravel()
    held = np.diff(words.indptr)
    return {
        "train": len(train.sequences),
        "test": len(test.sequences),
        "test_in_train": sum(s in known for s in test.sequences),
        "test_shares_half_of_its_5mers_with_one_train_protein": int(((held > 0) & (shared * 2 >= held)).sum()),
    }


def vectors(encoder: Encoder, sequences: list[str], cache: Path) -> Floats:
    """(n, dimension) float32, computed once for each encoder, precision and list of sequences."""
    key = f"{encoder.fingerprint}\n{encoder.precision}\n" + "\n".join(sequences)
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npy"
    if not path.exists():
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, encoder.encode(sequences))
        partial.rename(path)
    return np.load(path)


def similarities(train: Floats, queries: Floats) -> Floats:
    """Cosine of vectors centred by the train mean: (queries, train)."""
    mean = train.mean(axis=0)

    def directions(x: Floats) -> Floats:
        x = x - mean
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    return directions(queries) @ directions(train).T


def nearest(train: Floats, labels: Labels, queries: Floats) -> Labels:
    """Label of the nearest train protein; the first in the file where several are equally near."""
    return labels[similarities(train, queries).argmax(axis=1)]


def probe(strength: float, train: Floats, labels: Labels, queries: Floats) -> Labels:
    """Logistic regression on centred vectors, all dimensions divided by one number: their common spread."""
    mean = train.mean(axis=0)
    spread = (train - mean).std()
    model = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
    model.fit((train - mean) / spread, labels)
    return model.predict((queries - mean) / spread)


def accuracy(predicted: Labels, labels: Labels) -> float:
    return float((predicted == labels).mean())


def predictions(encoder: Encoder, task: Task, cache: Path) -> dict[str, dict[str, object]]:
    """For each method: its predictions for test, the choices made on valid, and the accuracy there."""
    raw = {part: vectors(encoder, getattr(task, part).sequences, cache) for part in ("train", "valid", "test")}
    known = {sequence: row for row, sequence in enumerate(task.train.sequences)}
    raw["fit"] = raw["train"][[known[s] for s in task.fit.sequences]]
    forms = {"as is": raw}
    if raw["train"].min() >= 0:
        forms["square root"] = {part: np.sqrt(x) for part, x in raw.items()}

    scores = {
        form: accuracy(nearest(x["fit"], task.fit.labels, x["valid"]), task.valid.labels) for form, x in forms.items()
    }
    form = max(scores, key=scores.__getitem__)
    x = forms[form]
    results: dict[str, dict[str, object]] = {
        "nearest_neighbour": {
            "features": form,
            "valid": scores,
            "predicted": nearest(x["train"], task.train.labels, x["test"]).tolist(),
        }
    }
    if task.name == "structural_class":
        tried = {
            strength: accuracy(probe(strength, x["fit"], task.fit.labels, x["valid"]), task.valid.labels)
            for strength in STRENGTHS
        }
        best = max(tried, key=tried.__getitem__)
        results["probe"] = {
            "features": form,
            "C": best,
            "valid": {str(c): a for c, a in tried.items()},
            "predicted": probe(best, x["train"], task.train.labels, x["test"]).tolist(),
        }
    return results


def cached_predictions(encoder: Encoder, task: Task, cache: Path) -> dict[str, dict[str, object]]:
    key = f"{PROTOCOL} {task.name} {encoder.fingerprint} {encoder.precision} {sorted(task.files.items())}"
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(predictions(encoder, task, cache)))
        partial.rename(path)
    return json.loads(path.read_text())


def resampled(correct: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bootstrap over test proteins: (resamples, ) means of ``correct``; the same draws at every call."""
    random = np.random.default_rng(SEED)
    draws = (random.integers(0, len(correct), len(correct)) for _ in range(RESAMPLES))
    return np.array([correct[rows].mean() for rows in draws])


def interval(correct: NDArray[np.float64]) -> list[float]:
    low, high = np.percentile(resampled(correct), [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]


def score(outcome: dict[str, object], reference: dict[str, object], labels: Labels) -> dict[str, object]:
    """Accuracy on test with its 95 % interval, and the paired difference to the reference encoder."""
    correct = (np.array(outcome["predicted"]) == labels).astype(float)
    difference = correct - (np.array(reference["predicted"]) == labels)
    return {
        **{field: value for field, value in outcome.items() if field != "predicted"},
        "accuracy": round(float(correct.mean()), 4),
        "interval_95": interval(correct),
        "difference_to_reference": round(float(difference.mean()), 4),
        "difference_interval_95": interval(difference),
    }


def describe(encoder: Encoder) -> dict[str, object]:
    fields = ("dimension", "parameters", "license", "version", "pooling", "precision", "fingerprint")
    return {field: getattr(encoder, field) for field in fields}


def measure(encoders: dict[str, str], tasks: list[Task], cache: Path) -> dict[str, dict[str, object]]:
    """Scores by label of the encoder, then by task and method."""
    results: dict[str, dict[str, object]] = {}
    reference: dict[str, dict[str, dict[str, object]]] = {}
    for label, name in encoders.items():
        encoder = limbeck.load(name)
        results[label] = describe(encoder)
        for task in tasks:
            started = time.monotonic()
            outcomes = cached_predictions(encoder, task, cache)
            if label == REFERENCE:
                reference[task.name] = outcomes
            for method, outcome in outcomes.items():
                scored = score(outcome, reference[task.name][method], task.test.labels)
                results[label][f"{task.name}.{method}"] = scored
                spent = time.monotonic() - started
                print(
                    f"{label}: {task.name}, {method}: {scored['accuracy']:.3f} ({spent:.0f} s)",
                    file=sys.stderr,
                )
    return results


COLUMNS = {
    "remote_homology.nearest_neighbour": "fold, 1-NN",
    "structural_class.nearest_neighbour": "class, 1-NN",
    "structural_class.probe": "class, probe",
}


def cell(scored: dict[str, object]) -> str:
    low, high = scored["interval_95"]
    return f"{scored['accuracy']:.3f} ({low:.3f} to {high:.3f})"


def table(results: dict[str, dict[str, object]], overlaps: dict[str, dict[str, int]]) -> str:
    """The Markdown report: scores, differences to the reference, overlap of train and test."""
    heads = list(COLUMNS.values())
    lines = [
        "Accuracy on test, 95 % bootstrap interval over test proteins. Protocol: [README](README.md).",
        "",
        f"| encoder | dimension | parameters | {' | '.join(heads)} |",
        f"|---|---:|---:|{'---|' * len(heads)}",
    ]
    for label, result in results.items():
        cells = " | ".join(cell(result[key]) for key in COLUMNS)
        lines.append(f"| {label} | {result['dimension']:,} | {result['parameters']:,} | {cells} |")
    lines += ["", f"Difference to {REFERENCE}, paired over test proteins, in percentage points:", ""]
    lines += [f"| encoder | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for label, result in results.items():
        if label == REFERENCE:
            continue
        cells = []
        for key in COLUMNS:
            low, high = result[key]["difference_interval_95"]
            mean = result[key]["difference_to_reference"]
            cells.append(f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", "Choices made on validation proteins:", ""]
    lines += ["| encoder | fold, 1-NN: features | class: features | class, probe: C |", "|---|---|---|---|"]
    for label, result in results.items():
        fold, kind, fitted = (result[key] for key in COLUMNS)
        lines.append(f"| {label} | {fold['features']} | {kind['features']} | {fitted['C']:g} |")
    lines += ["", "Test proteins that are in train:", ""]
    lines += ["| data set | train | test | the same sequence | shares half of its 5-mers with one train protein |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name, counts in overlaps.items():
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in counts.values())} |")
    return "\n".join(lines) + "\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--encoder",
        action="extend",
        nargs="+",
        default=[],
        metavar="[LABEL=]NAME",
        help="name or path that limbeck.load takes; LABEL is what the table calls it",
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder for vectors and predictions")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for quality.json and quality.md")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    # The reference comes first: every difference is to it.
    encoders = {REFERENCE: REFERENCE}
    for given in options.encoder:
        label, _, name = given.rpartition("=")
        encoders[label or name] = name
    options.cache.mkdir(parents=True, exist_ok=True)
    tasks = [remote_homology(), structural_class()]
    overlaps = {task.name: overlap(task.train, task.test) for task in tasks}
    results = measure(encoders, tasks, options.cache)
    report = {
        "protocol": PROTOCOL,
        "seed": SEED,
        "resamples": RESAMPLES,
        "reference": REFERENCE,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "sklearn": sklearn.__version__,
        },
        "data": {name: digest for task in tasks for name, digest in task.files.items()},
        "overlap": overlaps,
        "encoders": results,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "quality.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.output / "quality.md").write_text(table(results, overlaps))


if __name__ == "__main__":
    main()
