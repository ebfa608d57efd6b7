"""Helix, strand or coil, for each residue: FLIP's NetSurfP-2.0 proteins to train on, CB513 to test."""

from pathlib import Path

import numpy as np

from limbeck.benchmarks.task import Items, Size, Splits, Task, categories, read_table, sequences
from limbeck.errors import InputError

TRAIN = "flip_secondary_structure/secondary_structure.csv.gz"
TEST = "tape_secondary_structure/test_cb513.csv.gz"
LETTERS = str.maketrans("012", "HEC")


def _read(data: Path) -> Splits:
    path = data / TRAIN
    table = read_table(path, "sequence", "ss3", "resolved_mask", "split")
    items = _items(path, table["sequence"], table["ss3"], table["resolved_mask"])
    split = categories(path, table["split"], ("train", "valid", "test"))
    train, valid = (items.take(np.flatnonzero(split == part)) for part in ("train", "valid"))
    return Splits(train, valid, _cb513(data / TEST))


def _cb513(path: Path) -> Items:
    table = read_table(path, "sequence", "ss3", "disorder")
    return _items(path, table["sequence"], [s.translate(LETTERS) for s in table["ss3"]], table["disorder"])


def _items(path: Path, texts: list[str], states: list[str], resolved: list[str]) -> Items:
    """Labels are strings of H, E, C, and ``.`` where the structure is not resolved."""
    cleaned = sequences(path, texts)
    labels = []
    for row, (sequence, state, seen) in enumerate(zip(cleaned, states, resolved, strict=True), 2):
        if not len(sequence) == len(state) == len(seen):
            raise InputError(f"{path}: line {row}: not one label for each residue; copy the file again")
        if not (set(state) <= set("HEC") and set(seen) <= set("01")):
            raise InputError(f"{path}: line {row}: a residue's label is not as documented; copy the file again")
        labels.append("".join(s if known == "1" else "." for s, known in zip(state, seen, strict=True)))
    return Items(cleaned, np.array(labels))


TASKS = [
    Task(
        name="secondary_structure",
        question="helix, strand or coil of each resolved residue",
        kind="residues",
        metrics=("accuracy", "macro_f1"),
        folder="tape_secondary_structure",
        files=(TRAIN, TEST),
        read=_read,
        split="FLIP's train and valid (at most 25 % identical to CB513, by its authors); CB513 without its repeats",
        citation="Klausen et al. 2019, doi:10.1002/prot.25674; Cuff and Barton 1999, "
        "doi:10.1002/(SICI)1097-0134(19990301)34:4<508::AID-PROT10>3.0.CO;2-4; "
        "Dallago et al. 2021, doi:10.1101/2021.11.09.467890; Rao et al. 2019, arXiv:1906.08230",
        license="AFL-3.0 (FLIP); MIT (CB513 in ProteinBERT's repository)",
        sizes={
            "full": Size(residues=100_000),
            "medium": Size(train=500, valid=100, residues=50_000),
            "small": Size(train=120, valid=40, test=150, longest=500, residues=16_000),
            "quick": Size(train=40, valid=15, test=40, longest=200, residues=4_000),
        },
    )
]
