"""Whether two yeast proteins interact (Guo et al. 2008, as PIPR has it).

The usual random split lets a probe learn which proteins have many partners, and the test asks about the same ones. Here
both proteins of a test pair, and their relatives, are new. The negative pairs are of proteins from different places in
the cell, so a probe can also score by telling the place.
"""

from pathlib import Path

import numpy as np

from limbeck.benchmarks.overlap import families
from limbeck.benchmarks.task import (
    Items,
    Size,
    Splits,
    Task,
    categories,
    family_parts,
    read_table,
    sequences,
)
from limbeck.errors import InputError

PAIRS, PROTEINS = FILES = ("ppi_yeast_pipr/pairs.csv.gz", "ppi_yeast_pipr/sequences.csv.gz")
CAUTION = "negative pairs are proteins from different places in the cell"


def _pairs(data: Path) -> Items:
    table = read_table(data / PROTEINS, "id", "sequence")
    known = dict(zip(table["id"], sequences(data / PROTEINS, table["sequence"]), strict=True))
    pairs = read_table(data / PAIRS, "id1", "id2", "label")
    for row, pair in enumerate(zip(pairs["id1"], pairs["id2"], strict=True), 2):
        if missing := [name for name in pair if name not in known]:
            raise InputError(f"{data / PAIRS}: line {row}: {missing[0]} is not in {PROTEINS}; copy the files again")
    first, second = ([known[name] for name in pairs[column]] for column in ("id1", "id2"))
    return Items(first, categories(data / PAIRS, pairs["label"], "01"), partners=second).without(set())


def _unseen(data: Path) -> Splits:
    items = _pairs(data)
    proteins = sorted({*items.sequences, *items.partners})
    parts = dict(zip(proteins, family_parts(proteins, families(proteins), (0.55, 0.15, 0.3)), strict=True))
    first, second = (np.array([parts[s] for s in side]) for side in (items.sequences, items.partners))
    return Splits.by(items, np.where(first == second, first, -1), 0, 1, 2)


def _random(data: Path) -> Splits:
    return Splits.drawn(_pairs(data), 7, 1)


def _task(name: str, read: object, split: str, primary: bool, caution: str, **sizes: Size) -> Task:
    return Task(
        name=name,
        question="whether two yeast proteins interact",
        kind="pairs",
        metrics=("auroc", "average_precision", "accuracy"),
        folder="ppi_yeast_pipr",
        files=FILES,
        read=read,  # type: ignore[arg-type]
        split=split,
        citation="Guo et al. 2008, doi:10.1093/nar/gkn159; Chen et al. 2019, doi:10.1093/bioinformatics/btz328; "
        "Park and Marcotte 2012, doi:10.1038/nmeth.2259",
        license="Apache-2.0 (PIPR's repository)",
        sizes=sizes,
        primary=primary,
        caution=caution,
    )


TASKS = [
    _task(
        "interaction",
        _unseen,
        "none is published: test pairs of proteins whose families were not seen; pairs across parts are left out",
        True,
        CAUTION,
        full=Size(),
        medium=Size(train=2000, valid=400, test=1000, longest=700),
        small=Size(train=600, valid=150, test=400, longest=500),
    ),
    _task(
        "interaction_random",
        _random,
        "random pairs, as most papers have it: the proteins of test pairs are in train",
        False,
        f"leaky: the proteins of test pairs are in train; {CAUTION}",
        full=Size(),
        medium=Size(train=2000, valid=400, test=1000, longest=700),
        small=Size(train=400, valid=100, test=250, longest=500),
    ),
]
