"""Sketch a training corpus, so that users learn whether their proteins were in it.

    python results/model/corpus_sketch.py corpus.fasta -o src/limbeck/models/limbeck-9m/corpus.safetensors \
        --name limbeck-9m --description "274,172 natural proteins" --wild-types wild_types.fasta

Writes the sketch, and beside this file ``corpus_sketch.json``: its size, how often it takes proteins that were not in
the corpus for known ones (random, shuffled and reversed proteins, which keep more and more of what natural ones share),
how often it finds corpus proteins with a share of their residues replaced or cut to a piece, and what it says about
the proteins of ``--wild-types``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.landscapes.sketch import NEAR, SCALE_BITS, CorpusSketch, K
from limbeck.records import Locator, clean_record, read_records
from limbeck.residues import RESIDUES

HERE = Path(__file__).parent
PROBES = 5000
IDENTITIES = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.5)
LENGTHS = ((30, 75), (75, 150), (150, 300), (300, 600), (600, 10_000))
PIECE = 60


def proteins(path: Path) -> list[tuple[str, str]]:
    locator = Locator(path)
    return [(record.id, clean_record(record, locator)) for record in read_records(path)]


def replaced(sequence: str, identity: float, rng: np.random.Generator) -> str:
    """The protein with a share of its residues replaced by others."""
    letters = list(sequence)
    places = rng.choice(len(letters), round((1 - identity) * len(letters)), replace=False)
    for place, step in zip(places.tolist(), rng.integers(1, 20, len(places)).tolist(), strict=True):
        letters[place] = RESIDUES[(RESIDUES.find(letters[place]) + step) % 20]
    return "".join(letters)


def negatives(sample: list[str], rng: np.random.Generator) -> dict[str, list[str]]:
    text = np.array(list("".join(sample).replace("X", "")))
    return {
        "random, residues as frequent as in the corpus": [
            "".join(text[rng.integers(0, len(text), len(s))]) for s in sample
        ],
        "shuffled": ["".join(rng.permutation(list(s))) for s in sample],
        "reversed": [s[::-1] for s in sample],
    }


def rates(sketch: CorpusSketch, sequences: list[str]) -> dict[str, Any]:
    shares, looked_up = sketch.containment(sequences)
    return {
        "proteins": len(sequences),
        "exact": round(float(sketch.contains(sequences).mean()), 5),
        "near": round(float(sketch.near(sequences).mean()), 5),
        "any_kmer": round(float((np.nan_to_num(shares) > 0).mean()), 5),
        "without_a_kmer_to_look_up": round(float((looked_up == 0).mean()), 5),
    }


def sensitivity(sketch: CorpusSketch, sample: list[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for low, high in LENGTHS:
        of_length = [s for s in sample if low <= len(s) < high]
        for identity in IDENTITIES:
            changed = [replaced(s, identity, rng) for s in of_length]
            rows.append({"residues": f"{low} to {high - 1}", "identity": identity, **rates(sketch, changed)})
    starts = [int(rng.integers(len(s) - PIECE + 1)) for s in sample if len(s) >= PIECE]
    long_enough = [s for s in sample if len(s) >= PIECE]
    pieces = [s[start : start + PIECE] for s, start in zip(long_enough, starts, strict=True)]
    return [*rows, {"residues": f"a piece of {PIECE}", "identity": 1.0, **rates(sketch, pieces)}]


def wild_type_rows(sketch: CorpusSketch, path: Path) -> list[dict[str, Any]]:
    names, sequences = (list(part) for part in zip(*proteins(path), strict=True))
    shares, looked_up = sketch.containment(sequences)
    exact, near = sketch.contains(sequences), sketch.near(sequences)
    return [
        {
            "protein": name,
            "residues": len(sequences[i]),
            "exact": bool(exact[i]),
            "near": bool(near[i]),
            "kmers_found": round(float(np.nan_to_num(shares[i])) * int(looked_up[i])),
            "kmers_looked_up": int(looked_up[i]),
        }
        for i, name in enumerate(names)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="FASTA of all training proteins")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--name", default="limbeck-9m")
    parser.add_argument("--description", default="")
    parser.add_argument("--wild-types", type=Path, help="FASTA of proteins to look up")
    options = parser.parse_args()
    corpus = [sequence for _, sequence in proteins(options.corpus)]
    sketch = CorpusSketch.of(corpus, {"name": options.name, "description": options.description})
    sketch.save(options.output)
    rng = np.random.default_rng(0)
    sample = [corpus[i] for i in rng.choice(len(corpus), min(PROBES, len(corpus)), replace=False)]
    result = {
        "corpus": {"proteins": len(corpus), "residues": sum(map(len, corpus))},
        "sketch": {
            "bytes": options.output.stat().st_size,
            "k": K,
            "one_kmer_in": 1 << SCALE_BITS,
            "near_from_containment": NEAR,
            "protein_hashes": len(sketch.proteins),
            "kmer_hashes": len(sketch.kmers),
        },
        "not_in_the_corpus": {name: rates(sketch, found) for name, found in negatives(sample, rng).items()},
        "from_the_corpus": sensitivity(sketch, sample, rng),
        "wild_types": wild_type_rows(sketch, options.wild_types) if options.wild_types else [],
    }
    (HERE / "corpus_sketch.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
