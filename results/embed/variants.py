"""What embedding variants of one protein costs, against embedding them as proteins.

    python results/embed/variants.py --output results/embed/variants.json

Processor seconds of one thread, in turns, median of three; the largest difference of the vectors beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.benchmarks import shipped_data
from limbeck.encoders import load
from limbeck.encoders.variants import encode_variants
from limbeck.residues import RESIDUES

ROUNDS = 3
VARIANTS = 100


def mutated(protein: str, count: int, generator: random.Random) -> str:
    letters = list(protein)
    for position in generator.sample(range(len(protein)), count):
        letters[position] = generator.choice([r for r in RESIDUES if r != letters[position]])
    return "".join(letters)


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for name in ("limbeck-9m", "limbeck-contexts"):
        encoder = load(name, threads=1)
        for protein in ("avgfp", "bgl3"):
            path = shipped_data() / "dms_nn4dms" / f"{protein}.fasta"
            wild_type = "".join(path.read_text().splitlines()[1:])
            for count in (1, 2, 4):
                rows.append(measure(encoder, protein, wild_type, count))
                print(rows[-1])
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


def measure(encoder: Any, protein: str, wild_type: str, count: int) -> dict[str, Any]:
    generator = random.Random(count)
    variants = [mutated(wild_type, count, generator) for _ in range(VARIANTS)]
    # The first calls compile.
    encoder.encode(variants[:8])
    encode_variants(encoder, wild_type, variants[:8])
    whole, apart = [], []
    for _ in range(ROUNDS):
        spent, expected = seconds(lambda: encoder.encode(variants))
        whole.append(spent)
        spent, (found, _) = seconds(lambda: encode_variants(encoder, wild_type, variants))
        apart.append(spent)
    return {
        "encoder": encoder.name,
        "protein": protein,
        "residues": len(wild_type),
        "mutations": count,
        "as proteins, s": round(float(np.median(whole)), 3),
        "as variants, s": round(float(np.median(apart)), 3),
        "ratio": round(float(np.median(whole) / np.median(apart)), 2),
        "largest difference": float(np.abs(expected - found).max()),
    }


if __name__ == "__main__":
    main()
