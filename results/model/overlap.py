"""Count the test proteins of the quality table that have a close relative among the training proteins.

    python results/model/overlap.py --corpus corpus.h5

Needs MMseqs2. Writes ``overlap.json`` beside this file: for each test set the share of its proteins whose best
alignment (E-value 1e-3) reaches an identity over at least half of the test protein.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path

from limbeck.distillation.corpus import Corpus
from limbeck.homology.mmseqs import MMseqs
from limbeck.residues import clean

HERE = Path(__file__).parent
DATASETS = HERE.parents[1] / "datasets"
TESTS = ("tape_remote_homology", "proteinbert_scop")
IDENTITIES = (0.3, 0.5, 0.9, 1.0)


def sequences(name: str) -> list[str]:
    with gzip.open(DATASETS / name / "test.csv.gz", "rt") as file:
        return [clean(row["sequence"]) for row in csv.DictReader(file)]


def best_identities(table: Path, proteins: list[str]) -> dict[int, float]:
    best: dict[int, float] = {}
    with table.open() as lines:
        for line in lines:
            query, _, _, _, identity, aligned, _ = line.rstrip("\n").split("\t")
            number = int(query)
            if 2 * len(aligned.replace("-", "")) >= len(proteins[number]):
                best[number] = max(best.get(number, 0.0), float(identity))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    corpus = Corpus(options.corpus)
    result = {}
    with MMseqs.open(options.threads, beside=options.corpus) as runner:
        fasta = runner.folder / "training.fasta"
        fasta.write_text("".join(f">{i}\n{corpus.sequence(i)}\n" for i in range(len(corpus))))
        training = runner.database(fasta, "training")
        for name in TESTS:
            proteins = sequences(name)
            queries = runner.folder / f"{name}.fasta"
            queries.write_text("".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(proteins)))
            best = best_identities(training.search(runner.database(queries, name), hits=50), proteins)
            shares = {f"{i:.0%}": sum(value >= i for value in best.values()) / len(proteins) for i in IDENTITIES}
            result[name] = {"proteins": len(proteins), "share_with_identity_of_at_least": shares}
    (HERE / "overlap.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
