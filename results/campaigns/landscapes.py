"""The landscapes that campaigns are simulated on, with the plate that a laboratory would begin with.

    python results/campaigns/landscapes.py --data FOLDER --cache FOLDER     # embeds what run.py reads

FOLDER holds flip_gb1/gb1_full_149361.csv.gz (columns variant4 and fitness: GB1's positions 39, 40, 41 and 54, Wu et
al. 2016, doi:10.7554/eLife.16965, as FLIP distributes it) and what limbeck ships as datasets/dms_nn4dms: avGFP
(Sarkisyan et al. 2016) and Pab1 (Melamed et al. 2013) of nn4dms. Variants with a stop codon are left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.landscapes import read_assay
from limbeck.landscapes.assay import STOP, Assay
from limbeck.landscapes.vectors import Source, Vectors

SAMPLE = 6000
"""Variants of a landscape that an encoder reads: what the embedding of all would take is days of one core."""
SEED = 2026
GB1 = "MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE"
LIBRARY = (38, 39, 40, 53)


@dataclass(frozen=True)
class Landscape:
    """An assay to search.

    Attributes:
        read: takes the folder of data sets.
        lowest: the first plate is drawn from the variants with at most so many mutations.
        start: the same in words, with the reason.
    """

    name: str
    read: Callable[[Path], Assay]
    lowest: int
    start: str

    def sampled(self, assay: Assay) -> Assay:
        """The candidates that encoders are compared on: drawn at random, but at least a third of them with so few
        mutations that they may stand on the first plate."""
        rng = np.random.default_rng(SEED)
        early = np.flatnonzero(assay.mutations <= self.lowest)
        kept = set(rng.choice(early, min(len(early), SAMPLE // 3), replace=False).tolist())
        others = [i for i in rng.permutation(len(assay)).tolist() if i not in kept]
        return assay.take(sorted([*kept, *others[: SAMPLE - len(kept)]]))


def _gb1(data: Path) -> Assay:
    rows, scores = [], []
    with gzip.open(data / "flip_gb1/gb1_full_149361.csv.gz", "rt", newline="") as file:
        for line in csv.DictReader(file):
            letters = list(GB1)
            for position, letter in zip(LIBRARY, line["variant4"], strict=True):
                letters[position] = letter
            rows.append("".join(letters))
            scores.append(float(line["fitness"]))
    return Assay("gb1", rows, np.array(scores), np.full(len(rows), "gb1", dtype=object), {"gb1": GB1})


def _nn4dms(name: str) -> Callable[[Path], Assay]:
    def read(data: Path) -> Assay:
        folder = data / "dms_nn4dms"
        assay = read_assay(folder / f"{name}.csv.gz", wild_type=_wild_type(folder, name), stops="drop", name=name)
        assert not any(STOP in row for row in assay.rows)
        return assay

    return read


def _wild_type(folder: Path, name: str) -> Path | str:
    """From the shipped FASTA file, or from nn4dms' own table."""
    if (path := folder / f"{name}.fasta").exists():
        return path
    with open(folder / "wt.tsv", newline="") as file:
        return next(line["wt_sequence"] for line in csv.DictReader(file, delimiter="\t") if line["name"] == name)


LANDSCAPES = (
    Landscape("gb1", _gb1, 4, "any variant, as a library of NNK codons at four positions gives them"),
    Landscape("avgfp", _nn4dms("avgfp"), 2, "variants of one or two mutations, as error-prone PCR at a low rate gives"),
    Landscape("pab1", _nn4dms("pab1"), 1, "single mutants, as a scan of positions gives them"),
)


def source(assay: Assay, cache: Path) -> Source:
    """Where vectors of its variants come from: the default encoder, remembered in a folder."""
    return Source(precision="f32", wild_types=tuple(assay.wild_types.values()), cache=cache, shown=True)


def candidates(landscape: Landscape, data: Path, sampled: bool) -> Assay:
    """The variants to search: all, or those that encoders are compared on."""
    assay = landscape.read(data)
    return landscape.sampled(assay) if sampled else assay


def early(landscape: Landscape, assay: Assay) -> NDArray[np.intp]:
    """Which of them may stand on the first plate."""
    return np.flatnonzero(assay.mutations <= landscape.lowest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--landscape", action="append", choices=[landscape.name for landscape in LANDSCAPES])
    given = parser.parse_args()
    for landscape in LANDSCAPES:
        if given.landscape and landscape.name not in given.landscape:
            continue
        assay = candidates(landscape, given.data, sampled=True)
        vectors = Vectors(source(assay, given.cache))
        # A little at a time, so that an interrupted run goes on.
        for start in range(0, len(assay), 500):
            vectors.pooled(assay.rows[start : start + 500])
        print(landscape.name, len(assay), flush=True)


if __name__ == "__main__":
    main()
