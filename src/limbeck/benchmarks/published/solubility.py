"""Whether, and how well, a protein dissolves when it is expressed."""

from pathlib import Path

import numpy as np

from limbeck.benchmarks.task import (
    Items,
    Size,
    Splits,
    Task,
    categories,
    hash_order,
    numbers,
    read_table,
    sequences,
)

DEEPSOL = "solubility_deepsol/deepsol_valid_test.csv.gz"
ESOL = "solubility_esol/esol.csv.gz"


def _deepsol(data: Path) -> Splits:
    path = data / DEEPSOL
    table = read_table(path, "sequence", "solubility", "split")
    items = Items(sequences(path, table["sequence"]), categories(path, table["solubility"], "01"))
    return _with_valid(items, categories(path, table["split"], ("valid", "test")), "valid")


def _esol(data: Path) -> Splits:
    path = data / ESOL
    table = read_table(path, "sequence", "solubility", "split")
    items = Items(sequences(path, table["sequence"]), numbers(path, table["solubility"]))
    return _with_valid(items, categories(path, table["split"], ("train", "test")), "train")


def _with_valid(items: Items, split: np.ndarray, source: str) -> Splits:
    """Cut the part ``source`` into train (four fifths) and valid."""
    rest = items.take(np.flatnonzero(split == source))
    rows = hash_order(rest)
    edge = len(rows) // 5
    return Splits(rest.take(rows[edge:]), rest.take(rows[:edge]), items.take(np.flatnonzero(split == "test")))


TASKS = [
    Task(
        name="solubility",
        question="soluble or not when expressed in E. coli",
        kind="classes",
        metrics=("auroc", "accuracy", "mcc"),
        folder="solubility_deepsol",
        files=(DEEPSOL,),
        read=_deepsol,
        split="published test; DeepSol's validation part cut into train and valid, since its train part is not held",
        citation="Khurana et al. 2018, doi:10.1093/bioinformatics/bty166",
        license="MIT",
        sizes={
            "full": Size(),
            "medium": Size(train=2000, valid=500, test=2000, longest=500),
            "small": Size(train=350, valid=100, test=350, longest=500),
            "quick": Size(train=150, valid=50, test=120, longest=250),
        },
    ),
    Task(
        name="solubility_esol",
        question="soluble share of E. coli's proteins in cell-free expression",
        kind="values",
        metrics=("spearman",),
        folder="solubility_esol",
        files=(ESOL,),
        read=_esol,
        split="published test; a fifth of train is valid",
        citation="Niwa et al. 2009, doi:10.1073/pnas.0811922106; Chen et al. 2021, doi:10.1186/s13321-021-00488-1",
        license="MIT (GraphSol)",
        sizes={
            "full": Size(),
            "medium": Size(longest=500),
            "small": Size(train=250, valid=80, test=250, longest=500),
            "quick": Size(train=120, valid=40, test=100, longest=250),
        },
    ),
]
