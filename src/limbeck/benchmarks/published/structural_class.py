"""Which SCOP class (ProteinBERT's set)."""

from pathlib import Path

from limbeck.benchmarks.task import Items, Size, Splits, Task, categories, hash_order, read_table, sequences

FILES = ("proteinbert_scop/train.csv.gz", "proteinbert_scop/test.csv.gz")


def _read(data: Path) -> Splits:
    train, test = (_part(data / file) for file in FILES)
    rows = hash_order(train)
    edge = len(rows) // 5
    return Splits(train.take(rows[edge:]), train.take(rows[:edge]), test)


def _part(path: Path) -> Items:
    table = read_table(path, "sequence", "scop_class")
    return Items(sequences(path, table["sequence"]), categories(path, table["scop_class"]))


TASKS = [
    Task(
        name="structural_class",
        question="the SCOP class of a domain (7 classes)",
        kind="classes",
        metrics=("accuracy", "macro_f1"),
        folder="proteinbert_scop",
        files=FILES,
        read=_read,
        split="published and random, so relatives of test proteins are in train; valid is a fifth of train",
        citation="Brandes et al. 2022, doi:10.1093/bioinformatics/btac020; Fox et al. 2014, doi:10.1093/nar/gkt1240",
        license="MIT (ProteinBERT's repository)",
        sizes={
            "full": Size(),
            "medium": Size(train=2000, valid=500, test=1500, longest=400),
            "small": Size(train=400, valid=120, test=350, longest=250),
            "quick": Size(train=250, valid=80, test=200, longest=150),
            "glance": Size(train=250, valid=0, test=250, longest=150),
        },
    )
]
