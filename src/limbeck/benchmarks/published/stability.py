"""How stable a small designed protein is, for neighbours of the best designs (TAPE)."""

from pathlib import Path

from limbeck.benchmarks.task import Items, Size, Splits, Task, categories, numbers, read_table, sequences

FILES = tuple(f"tape_stability/{part}.csv.gz" for part in ("train", "valid", "test"))


def _read(data: Path) -> Splits:
    train, valid = (_part(data / file) for file in FILES[:2])
    path = data / FILES[2]
    table = read_table(path, "sequence", "stability_score", "parent_cluster")
    parents = categories(path, table["parent_cluster"])
    values = numbers(path, table["stability_score"])
    return Splits(train, valid, Items(sequences(path, table["sequence"]), values, clusters=parents, strata=parents))


def _part(path: Path) -> Items:
    table = read_table(path, "sequence", "stability_score")
    return Items(sequences(path, table["sequence"]), numbers(path, table["stability_score"]))


TASKS = [
    Task(
        name="stability",
        question="stability score against proteases, of all single mutants of 17 proteins",
        kind="values",
        metrics=("spearman", "spearman_within"),
        folder="tape_stability",
        files=FILES,
        read=_read,
        split="published: designs of four rounds, then mutants of 17 of them; the bootstrap draws the 17 parents",
        citation="Rocklin et al. 2017, doi:10.1126/science.aan0693; Rao et al. 2019, arXiv:1906.08230",
        license="MIT (copy in ProteinBERT's repository)",
        sizes={
            "full": Size(),
            "medium": Size(train=4000, valid=1000, test=4000),
            "small": Size(train=1000, valid=250, test=1000),
            "quick": Size(train=400, valid=100, test=300),
        },
    )
]
