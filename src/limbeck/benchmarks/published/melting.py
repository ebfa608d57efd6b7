"""At which temperature a protein melts (Meltome atlas).

The temperatures differ between organisms, so much of the rank correlation comes from telling the organism;
``spearman_within`` correlates within each organism alone.
"""

from pathlib import Path

from limbeck.benchmarks.task import Items, Size, Splits, Task, categories, numbers, read_table, sequences

FILE = "meltome/meltome_joined.csv.gz"


def _read(data: Path) -> Splits:
    path = data / FILE
    table = read_table(path, "sequence", "organism", "tm_median", "flip_mixed_split")
    organisms = categories(path, table["organism"])
    items = Items(sequences(path, table["sequence"]), numbers(path, table["tm_median"]), strata=organisms)
    # A protein without a place in FLIP's split takes no part.
    split = categories(path, table["flip_mixed_split"], ("train", "valid", "test", ""))
    return Splits.by(items, split, "train", "valid", "test")


TASKS = [
    Task(
        name="melting",
        question="melting temperature in the cell or lysate (median over experiments)",
        kind="values",
        metrics=("spearman", "spearman_within"),
        folder="meltome",
        files=(FILE,),
        read=_read,
        split="FLIP's mixed split by accession; about a third of its proteins, so not FLIP's own task",
        citation="Jarzab et al. 2020, doi:10.1038/s41592-020-0801-4; Jung et al. 2023, doi:10.3390/ijms24087444; "
        "Dallago et al. 2021, doi:10.1101/2021.11.09.467890",
        license="MIT (DeepSTABp); AFL-3.0 (FLIP)",
        sizes={
            "full": Size(),
            "medium": Size(train=1500, valid=400, test=1500, longest=500),
            "small": Size(train=250, valid=80, test=250, longest=500),
            "quick": Size(train=120, valid=40, test=100, longest=250),
        },
    )
]
