"""How many of a protein's nearest neighbours stay when only the first numbers of its vector are kept.

    python results/model/nested.py

The ten nearest by cosine among the 515 example proteins, by the default model. Writes ``nested.json`` beside this file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import limbeck
from limbeck.files import whole
from limbeck.records import read_records
from limbeck.residues import clean

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"
NEAREST = 10


def nearest(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n, 10) the nearest of each, itself left out."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1)[:, :NEAREST]


def kept(part: NDArray[np.float32], of: NDArray[np.int64]) -> float:
    shared = [len(set(a) & set(b)) for a, b in zip(nearest(part), of, strict=True)]
    return round(float(np.mean(shared)) / NEAREST, 4)


def main() -> None:
    encoder = limbeck.load(precision="f32")
    vectors = encoder.encode([clean(record.text) for record in read_records(EXAMPLE)])
    whole_vectors = nearest(vectors)
    report = {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "proteins": len(vectors),
        "nearest": NEAREST,
        "kept_by_the_first": {d: kept(vectors[:, :d], whole_vectors) for d in (64, 128, 256)},
        "kept_by_the_last": {64: kept(vectors[:, -64:], whole_vectors)},
    }
    print(json.dumps(report, indent=1))
    with whole(HERE / "nested.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
