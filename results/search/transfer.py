"""How right are transferred labels, and how far can their reliability be believed? On published domains.

Structural class: 5,000 train domains of ProteinBERT's SCOP set are indexed, 1,500 of its test domains are queries. The
split is random, so relatives of queries are in the index, as they are when leave-one-out calibrates it.

Fold: 1,453 train domains of TAPE's remote homology set are indexed, 710 of its test domains are queries, of other
superfamilies than any in the index. The index doesn't know that, and was calibrated on domains whose relatives it has.

Centring: accuracy of the nearest alone with the mean of the index taken off and without, and the similarity of random
pairs of the index (5th, 50th and 95th percentile), also for residue and dipeptide frequencies.

    python transfer.py --work FOLDER --output transfer.json
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np

import limbeck
from limbeck.search import build_index, open_index
from limbeck.search.exact import nearest
from limbeck.search.index import Index, directions
from limbeck.search.transfer import calibration_error, reliability_table

DATASETS = Path(__file__).parents[2] / "datasets"
Rows = list[tuple[int, dict[str, str]]]


def rows(path: str) -> Rows:
    with gzip.open(DATASETS / path, "rt") as file:
        return list(enumerate(csv.DictReader(file)))


def write(work: Path, name: str, chosen: Rows, column: str) -> None:
    lines = [f"{name}-{i},{row['sequence']},{row[column]}\n" for i, row in sorted(chosen, key=lambda item: item[0])]
    (work / f"{name}.csv").write_text("id,sequence,label\n" + "".join(lines))


def prepare(work: Path) -> None:
    """Domains of each task as CSV; samples, so that all of it takes minutes."""
    generator = random.Random(0)
    for part, size in (("train", 5000), ("test", 1500)):
        short = [(i, row) for i, row in rows(f"proteinbert_scop/{part}.csv.gz") if len(row["sequence"]) <= 300]
        write(work, f"scop-{part}", generator.sample(short, size), "scop_class")
    train, test = rows("tape_remote_homology/train.csv.gz"), rows("tape_remote_homology/test.csv.gz")
    folds = {row["fold_label"] for _, row in test}
    generator.shuffle(train)
    members: dict[str, Rows] = defaultdict(list)
    for i, row in train:
        fold = row["fold_label"]
        if fold in folds and len(members[fold]) < 15 and len(row["sequence"]) <= 400:
            members[fold].append((i, row))
    write(work, "fold-train", [item for fold in members.values() for item in fold], "fold_label")
    write(work, "fold-test", [(i, row) for i, row in test if len(row["sequence"]) <= 500], "fold_label")


def embedded(work: Path, name: str, encoder: str) -> Path:
    output = work / f"{name}.npz"
    limbeck.embed(work / f"{name}.csv", output, encoder=encoder, precision="f32", threads=1)
    return output


def labels_of(work: Path, name: str) -> list[str]:
    with (work / f"{name}.csv").open() as file:
        return [row["label"] for row in csv.DictReader(file)]


def annotated(index: Index, vectors: np.ndarray, truth: list[str]) -> dict[str, object]:
    found = index.annotate(vectors)
    predicted = np.array([labels[0].reliability for labels in found], np.float64)
    right = np.array([labels[0].label == label for labels, label in zip(found, truth, strict=True)])
    sure = predicted >= 0.9
    return {
        "queries": len(truth),
        "accuracy": float(right.mean()),
        "mean_reliability": float(predicted.mean()),
        "calibration_error": calibration_error(predicted, right),
        "reliability_at_least_0.9": {
            "share": float(sure.mean()),
            "right": float(right[sure].mean()) if any(sure) else None,
        },
        "table": reliability_table(predicted, right),
    }


def one_nearest(work: Path, name: str) -> dict[str, float]:
    """Accuracy of the nearest alone, with the mean of the index taken off, and without."""
    train, test = (np.load(work / f"{name}-{part}.npz")["embeddings"] for part in ("train", "test"))
    known, truth = np.array(labels_of(work, f"{name}-train")), np.array(labels_of(work, f"{name}-test"))
    result = {}
    for kind, centre in (("centred", train.mean(axis=0)), ("not_centred", np.zeros_like(train[0]))):
        best, _ = nearest(directions(train, centre), directions(test, centre), 1)
        result[kind] = float((known[best[:, 0]] == truth).mean())
    return result


def pairs(vectors: np.ndarray, centre: np.ndarray) -> list[float]:
    first, second = np.random.default_rng(0).integers(0, len(vectors), (2, 20_000))
    unit = directions(vectors, centre)
    found = (unit[first] * unit[second]).sum(axis=1)[first != second]
    return np.quantile(found, [0.05, 0.5, 0.95]).tolist()


def centring(work: Path, encoder: str) -> dict[str, object]:
    """Of the sets in ``work``, embedded with another encoder beside them."""
    folder = work / encoder
    folder.mkdir(exist_ok=True)
    result: dict[str, object] = {}
    for name in ("scop", "fold"):
        for part in ("train", "test"):
            shutil.copy(work / f"{name}-{part}.csv", folder)
            embedded(folder, f"{name}-{part}", encoder)
        vectors = np.load(folder / f"{name}-train.npz")["embeddings"]
        result[name] = {
            "accuracy": one_nearest(folder, name),
            "pairs_centred": pairs(vectors, vectors.mean(axis=0)),
            "pairs_not_centred": pairs(vectors, np.zeros_like(vectors[0])),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--encoder", default="limbeck-9m")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    prepare(work)
    result: dict[str, object] = {"encoder": options.encoder}
    for name in ("scop", "fold"):
        train, test = (embedded(work, f"{name}-{part}", options.encoder) for part in ("train", "test"))
        folder = work / f"{name}.index"
        shutil.rmtree(folder, ignore_errors=True)
        manifest = build_index(train, folder, labels=work / f"{name}-train.csv", label_column="label")
        calibration = manifest.labels["calibration"]
        vectors = np.load(test)["embeddings"]
        result[name] = {
            "indexed": manifest.count,
            "labels": manifest.labels["different"],
            "voters": calibration["voters"],
            "leave_one_out": calibration["report"],
            "test": annotated(open_index(folder), vectors, labels_of(work, f"{name}-test")),
        }
    result["centring"] = {
        encoder: centring(work, encoder) for encoder in (options.encoder, "composition", "dipeptides")
    }
    text = json.dumps(json.loads(json.dumps(result), parse_float=lambda number: round(float(number), 4)), indent=1)
    options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
