"""The assays of single mutants that few labels are tried on, chosen by a rule that looks at no score.

Of ProteinGym's assays of single mutants (version 0.1, 58 assays) one for each protein (the part of the name up to the
organism): the one with the most variants, if it has at least 1,024 and its wild type at most 512 residues. Of each
1,024 variants are drawn: up to 512 of them are labelled, and the others are the test.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np

from limbeck.landscapes.assay import Assay

FEWEST, LONGEST, DRAWN = 1024, 512, 1024


def assays(data: Path) -> list[Assay]:
    """The chosen assays, shortest wild type first.

    Args:
        data: holds ``dms_proteingym_single/variants.csv.gz`` and ``wt.csv.gz``.
    """
    folder = data / "dms_proteingym_single"
    wild_types = {line["assay"]: line["wt_sequence"] for line in _lines(folder / "wt.csv.gz")}
    found: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for line in _lines(folder / "variants.csv.gz"):
        found[line["assay"]].append((line["mutant"], float(line["score"])))
    largest: dict[str, str] = {}
    for name, variants in found.items():
        protein = protein_of(name)
        if len(wild_types[name]) <= LONGEST and len(variants) > len(found.get(largest.get(protein, ""), ())):
            largest[protein] = name
    chosen = [name for name in largest.values() if len(found[name]) >= FEWEST]
    return [_assay(name, wild_types[name], found[name]) for name in sorted(chosen, key=lambda n: len(wild_types[n]))]


def protein_of(name: str) -> str:
    """The protein of an assay, by the first two words of its name."""
    return "_".join(name.split("_")[:2])


def _lines(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _assay(name: str, wild_type: str, variants: list[tuple[str, float]]) -> Assay:
    drawn = np.sort(np.random.default_rng(0).permutation(len(variants))[:DRAWN])
    rows = []
    for mutant, _ in (variants[i] for i in drawn):
        place = int(mutant[1:-1]) - 1
        assert wild_type[place] == mutant[0], f"{name}: {mutant} does not fit the wild type"
        rows.append(wild_type[:place] + mutant[-1] + wild_type[place + 1 :])
    return Assay(
        name=name,
        rows=rows,
        scores=np.array([variants[i][1] for i in drawn]),
        parents=np.array(["wild type"] * len(rows), dtype=object),
        wild_types={"wild type": wild_type},
    )
