"""Fit the map from what a student pools over a protein to its vector again, without training.

    python results/model/project.py PROTEINS.fasta -o FOLDER

PROTEINS.fasta is the corpus of the default model; of the proteins that it was trained on (training-proteins.tsv.gz),
one of each family, 6,000 are drawn, and read whole. FOLDER gets config.json and model.safetensors with the new
``center`` and ``project.weight``; every other tensor is as it was, bit for bit.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.projection import LONGEST, SAMPLE_PROTEINS, projection
from limbeck.encoders.student import StudentEncoder, expected_shapes, student_folder
from limbeck.encoders.student_pooling import parts
from limbeck.files import whole
from limbeck.records import read_records
from limbeck.residues import clean

HERE = Path(__file__).parent


class Pooled(StudentEncoder):
    """Gives what is projected instead of the vector."""

    def finish(self, sums: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        return parts(sums, lengths, self._width, self._states)


def sample(proteins: Path) -> list[str]:
    """Training proteins in the order of a hash, the first of each family."""
    with gzip.open(HERE / "training-proteins.tsv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    first = {row["family"]: row["id"] for row in reversed(rows)}
    wanted = {row["id"] for row in rows if first[row["family"]] == row["id"]}
    names = set([row["id"] for row in rows if row["id"] in wanted][:SAMPLE_PROTEINS])
    found = [clean(record.text)[:LONGEST] for record in read_records(proteins) if record.id in names]
    if len(found) != len(names):
        raise SystemExit(f"error: {proteins} holds {len(found)} of the {len(names)} proteins; give the whole corpus")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proteins", type=Path)
    parser.add_argument("--student", default="limbeck-9m", help="a student's folder")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    source = student_folder(given.student)
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"pooling": "combined"}
    stored = load_file(source / "model.safetensors")
    shapes = expected_shapes(config["limbeck"])
    fitted = {name: np.zeros(shapes[name], np.float16) for name in ("center", "project.weight")}
    encoder = Pooled("student", config, stored | fitted)
    encoder.dimension = len(fitted["center"])
    pooled = torch.from_numpy(encoder.encode(sample(given.proteins)))
    center, weight = projection(pooled, StudentConfig.of(config["limbeck"]))
    fitted = {"center": center.numpy().astype(np.float16), "project.weight": weight.numpy().astype(np.float16)}
    given.output.mkdir(parents=True, exist_ok=True)
    with whole(given.output / "model.safetensors") as partial:
        save_file(stored | fitted, partial, metadata={"format": "pt"})
    with whole(given.output / "config.json") as partial:
        partial.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
