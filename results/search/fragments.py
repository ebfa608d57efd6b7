"""Are pieces of proteins found among the whole ones? A vector tells the length and the ends, which a piece lacks.

    python fragments.py --output fragments.json

Pieces of the 515 example proteins are searched among these, by cosine after the mean is taken off, as
``limbeck search`` does. Written are the shares of pieces whose own protein is the nearest, and among the ten nearest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

import limbeck
from limbeck.files import whole
from limbeck.records import read_records
from limbeck.residues import clean
from limbeck.search.index import directions

EXAMPLE = Path(__file__).parents[2] / "examples" / "mycoplasma_genitalium.fasta.gz"
PIECES: dict[str, Callable[[str], str]] = {
    "the middle three fifths": lambda text: text[len(text) // 5 : -(len(text) // 5)],
    "the first half": lambda text: text[: len(text) // 2],
    "the second half": lambda text: text[len(text) // 2 :],
    "without the first 25 residues": lambda text: text[25:],
    "with a tag of 20 residues": lambda text: "MGSSHHHHHHSSGLVPRGSH" + text,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    encoder = limbeck.load(precision="f32")
    proteins = [clean(record.text) for record in read_records(EXAMPLE)]
    vectors = encoder.encode(proteins)
    centre = vectors.mean(axis=0)
    index = directions(vectors, centre)
    report: dict[str, object] = {"encoder": encoder.name, "version": encoder.version, "proteins": len(proteins)}
    for name, cut in PIECES.items():
        found = directions(encoder.encode([cut(protein) for protein in proteins]), centre) @ index.T
        nearer = (found > np.diag(found)[:, None]).sum(axis=1)
        shares = {"nearest": (nearer == 0).mean(), "among ten": (nearer < 10).mean(), "cosine": np.diag(found).mean()}
        report[name] = {key: round(float(value), 4) for key, value in shares.items()}
    with whole(given.output) as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
