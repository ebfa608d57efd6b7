"""Which fold, from other superfamilies of that fold (TAPE)."""

from pathlib import Path

from limbeck.benchmarks.task import Items, Size, Splits, Task, categories, read_table, sequences

FILES = tuple(f"tape_remote_homology/{part}.csv.gz" for part in ("train", "valid", "test"))


def _read(data: Path) -> Splits:
    return Splits(*(_part(data / file) for file in FILES))


def _part(path: Path) -> Items:
    table = read_table(path, "sequence", "fold_label")
    return Items(sequences(path, table["sequence"]), categories(path, table["fold_label"]))


TASKS = [
    Task(
        name="remote_homology",
        question="the SCOP fold of a domain, from other superfamilies (1,195 folds)",
        kind="classes",
        metrics=("accuracy",),
        methods=("probe", "nearest"),
        folder="tape_remote_homology",
        files=FILES,
        read=_read,
        split="published: whole superfamilies held out",
        citation="Rao et al. 2019, arXiv:1906.08230; Hou et al. 2018, doi:10.1093/bioinformatics/btx780",
        license="MIT (copy in ProteinBERT's repository)",
        sizes={
            "full": Size(),
            "medium": Size(per_label=20, longest=400, scored_labels=True),
            "small": Size(valid=250, test=600, per_label=8, longest=250, scored_labels=True),
            "quick": Size(valid=80, test=200, per_label=2, longest=150, scored_labels=True),
            "glance": Size(test=300, per_label=2, longest=150, scored_labels=True),
        },
    )
]
