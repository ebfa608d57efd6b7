"""How far do the default model's vectors of one protein differ between batches, windows and precisions?

    python results/embed/invariance.py

On the example proteome and one protein of 30,000 residues. Writes ``invariance.json`` beside this file. Differences are
the largest of any number, relative to the largest number of any vector; cosines are the lowest of any protein.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import limbeck
from limbeck.records import read_records
from limbeck.residues import RESIDUES

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"


def compared(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[str, float]:
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {
        "largest_relative_difference": float(np.abs(a - b).max() / np.abs(b).max()),
        "largest_cosine_distance": float(1 - cosine.min()),
    }


def main() -> None:
    rng = np.random.default_rng(0)
    proteins = [record.text for record in read_records(EXAMPLE)]
    long = ["".join(rng.choice(list(RESIDUES), 30_000))]
    result: dict[str, dict[str, float]] = {}
    together = {}
    for precision in ("f32", "bf16"):
        encoder = limbeck.load(precision=precision)
        together[precision] = encoder.encode(proteins)
        few = proteins[::5]
        alone = np.concatenate([encoder.encode([protein]) for protein in few])
        result[f"{precision}: alone and in a batch"] = compared(alone, together[precision][::5])
        windowed = encoder.encode(long)
        encoder.max_length = None
        result[f"{precision}: in windows and whole, 30,000 residues"] = compared(windowed, encoder.encode(long))
    result["bf16 and f32"] = compared(together["bf16"], together["f32"])
    (HERE / "invariance.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
