"""Where in the cell (DeepLoc).

The primary task takes DeepLoc-2's homology folds, cut at 30 % identity over whole sequences, so that relatives in train
give less away; those by a domain remain (``results/relatives`` counts them). DeepLoc-2 allows several locations; the
proteins with exactly one (76 %) make a task of ten classes, scored like the others. DeepLoc-1 is scored too, on its
test set and on the hard set of Staerk et al.
"""

from pathlib import Path

import numpy as np

from limbeck.benchmarks.task import Items, Size, Splits, Task, categories, read_table, sequences

FOLDS = "deeploc2/swissprot_5fold.csv.gz"
FIRST = "deeploc1/deeploc1.csv.gz"
PARTS = ["0", "1", "2"], "3", "4"
"""Folds to train on, to validate and to test."""


def _folds(data: Path) -> Splits:
    path = data / FOLDS
    table = read_table(path, "sequence", "locations", "fold")
    labels, folds = categories(path, table["locations"]), categories(path, table["fold"], "01234")
    items = Items(sequences(path, table["sequence"]), labels, groups=folds)
    single = np.char.find(labels, "|") < 0
    return Splits.by(items.take(np.flatnonzero(single)), folds[single], *PARTS)


def _membrane(data: Path) -> Splits:
    path = data / FOLDS
    table = read_table(path, "sequence", "membrane", "fold")
    folds = categories(path, table["fold"], "01234")
    items = Items(sequences(path, table["sequence"]), categories(path, table["membrane"], "01"), groups=folds)
    return Splits.by(items, folds, *PARTS)


def _first(data: Path, test: str) -> Splits:
    path = data / FIRST
    table = read_table(path, "sequence", "location", "split")
    # DeepLoc-1's classes; 23 rows of valid carry a double label that train does not know.
    labels = np.char.replace(categories(path, table["location"]), "Cytoplasm-Nucleus", "Cytoplasm")
    items = Items(sequences(path, table["sequence"]), labels)
    split = categories(path, table["split"], ("train", "valid", "test", "test_hard"))
    return Splits.by(items, split, "train", "valid", test)


_SIZES = {
    "full": Size(),
    "medium": Size(train=1500, valid=400, test=1500, longest=500),
    "small": Size(train=350, valid=100, test=300, longest=500),
}


def _deeploc1(name: str, test: str, split: str, **sizes: Size) -> Task:
    return Task(
        name=name,
        question="one of 10 places in the cell",
        kind="classes",
        metrics=("accuracy", "macro_f1"),
        folder="deeploc1",
        files=(FIRST,),
        read=lambda data: _first(data, test),
        split=split,
        citation="Almagro Armenteros et al. 2017, doi:10.1093/bioinformatics/btx431; "
        "Staerk et al. 2021, doi:10.1093/bioadv/vbab035",
        license="MIT (the repositories copied from)",
        sizes={**_SIZES, **sizes},
        primary=False,
    )


TASKS = [
    Task(
        name="localisation",
        question="one of 10 places in the cell, across homology folds",
        kind="classes",
        metrics=("accuracy", "macro_f1"),
        folder="deeploc2",
        files=(FOLDS,),
        read=_folds,
        split="published homology folds: 0 to 2 train, 3 valid, 4 test; proteins with one location",
        citation="Thumuluri et al. 2022, doi:10.1093/nar/gkac278",
        license="none stated in the copy (DeepLoc-2.0's own repository: CC BY-NC-ND 2.0); not redistributed",
        sizes=_SIZES,
    ),
    Task(
        name="membrane",
        question="in a membrane or soluble, across homology folds",
        kind="classes",
        metrics=("accuracy", "auroc", "macro_f1"),
        folder="deeploc2",
        files=(FOLDS,),
        read=_membrane,
        split="published homology folds: 0 to 2 train, 3 valid, 4 test",
        citation="Thumuluri et al. 2022, doi:10.1093/nar/gkac278",
        license="none stated in the copy (DeepLoc-2.0's own repository: CC BY-NC-ND 2.0); not redistributed",
        sizes=_SIZES,
    ),
    _deeploc1(
        "localisation_deeploc1",
        "test",
        "published; the train file lacks 6 % of its proteins",
        quick=Size(train=150, valid=50, test=120, longest=300),
    ),
    _deeploc1("localisation_hard", "test_hard", "published: setHARD; the train file lacks 6 % of its proteins"),
]
