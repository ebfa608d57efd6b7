"""Which terms of gene ontology's slim a yeast protein has (SGD): any number of 165."""

from pathlib import Path

import numpy as np

from limbeck.benchmarks.overlap import families
from limbeck.benchmarks.task import Items, Size, Splits, Task, family_parts, read_table, sequences

FILE = "go_yeast_slim/go_yeast_slim.csv.gz"
ROOTS = {"GO:0008150", "GO:0003674", "GO:0005575"}
"""Process, function and component themselves: SGD's way to say that nothing is known."""


def _read(data: Path) -> Splits:
    path = data / FILE
    table = read_table(path, "sequence", "go_slim")
    texts = [";".join(sorted(set(filter(None, text.split(";"))) - ROOTS)) for text in table["go_slim"]]
    items = Items(sequences(path, table["sequence"]), np.array(texts)).without(set())
    items = items.take(np.flatnonzero(items.labels != ""))
    parts = family_parts(items.sequences, families(items.sequences), (0.64, 0.16, 0.2))
    return Splits.by(items, parts, 0, 1, 2)


TASKS = [
    Task(
        name="ontology",
        question="the slim terms of gene ontology of a yeast protein (of those with ten training proteins or more)",
        kind="labels",
        metrics=("fmax", "mean_aupr"),
        folder="go_yeast_slim",
        files=(FILE,),
        read=_read,
        split="none is published: families by shared words stay together, 64 / 16 / 20 % of them",
        citation="Cherry et al. 2012, doi:10.1093/nar/gkr1029; The Gene Ontology Consortium 2023, "
        "doi:10.1093/genetics/iyad031",
        license="SGD and UniProt: CC BY 4.0; the repository of the join: GPL-3, so it is not redistributed",
        sizes={
            "full": Size(),
            "medium": Size(train=1500, valid=400, test=1000, longest=500),
            "small": Size(train=500, valid=150, test=300, longest=500),
        },
    )
]
