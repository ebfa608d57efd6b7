"""The assays, and which proteins are left out of training."""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from limbeck.homology.mmseqs import Database, MMseqs, write_fasta

BENCHMARK = {
    "BLAT_ECOLX": "beta_lactamase",
    "GFP_AEQVI": "fluorescence",
    "SPG1_STRSG": "gb1",
    "PABP_YEAST": "nn4dms",
    "UBE4B_MOUSE": "nn4dms",
    "Q59976_STRSQ": "nn4dms",
}
"""Proteins that limbeck's benchmark and landscape results measure on: never trained on."""
DRAWN, VALIDATED = 6, 4
"""Further proteins left out for the test, and for choosing the step whose weights are kept."""
FOLDS = 5
"""Networks that together leave out every protein once."""
FEWEST = 500
"""Variants of an assay of a protein that is left out; of one to learn from: 150."""
MOST = 3000
"""Variants that are kept of an assay, drawn at random."""


@dataclass(frozen=True)
class Measured:
    """An assay of single mutants."""

    name: str
    protein: str
    wild_type: str
    rows: list[str]
    scores: np.ndarray


def read(data: Path) -> list[Measured]:
    """All assays of ``dms_proteingym_single``; a protein is named by the first two words of its assays."""
    folder = data / "dms_proteingym_single"
    wild_types = pd.read_csv(folder / "wt.csv.gz").set_index("assay")["wt_sequence"]
    found = []
    for name, table in pd.read_csv(folder / "variants.csv.gz").dropna().groupby("assay", sort=True):
        wild, table = wild_types[name], table.groupby("mutant", sort=True)["score"].mean()
        chosen = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(table))[:MOST]
        mutants = [str(table.index[i]) for i in sorted(chosen)]
        rows = [wild[: int(m[1:-1]) - 1] + m[-1] + wild[int(m[1:-1]) :] for m in mutants]
        scores = table.to_numpy()[sorted(chosen)]
        found.append(Measured(name, "_".join(name.split("_")[:2]), wild, rows, scores))
    return found


def families(assays: list[Measured], threads: int = 1) -> dict[str, str]:
    """Family of each protein: proteins with an MMseqs2 alignment at E-value 1e-3, whatever its identity, are one."""
    wild_types = {a.protein: a.wild_type for a in assays}
    family = {protein: protein for protein in wild_types}
    with MMseqs.open(threads) as runner:
        path = write_fasta(runner.folder / "wild.fasta", wild_types.items())
        databases: list[Database] = [runner.database(path, name) for name in ("wild", "same")]
        with databases[0].search(databases[1], 300).open() as lines:
            pairs = [line.split("\t")[:2] for line in lines]
    for a, b in pairs:
        old, new = sorted((family[a], family[b]), reverse=True)
        family = {protein: new if root == old else root for protein, root in family.items()}
    return family


def divided(
    assays: list[Measured], family: dict[str, str], seed: int = 0, fold: int | None = None
) -> dict[str, list[Measured]]:
    """Assays to ``train`` on, to ``choose`` by and to ``test`` on; no family is in two of them.

    One assay, the largest, of each protein to choose by.

    Args:
        fold: test on this fifth of the families, and choose by families of the next; the benchmark's are never trained
            on. ``None`` is the division of the network that comes with limbeck.
    """
    large = {a.protein for a in assays if len(a.rows) >= FEWEST}
    members: dict[str, list[str]] = defaultdict(list)
    for protein, root in family.items():
        members[root].append(protein)
    benchmark = {family[p] for p in BENCHMARK if p in family}
    free = sorted(root for root in members if root not in benchmark and set(members[root]) <= large)
    drawn = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    test, choose = benchmark | set(drawn[:DRAWN]), set(drawn[DRAWN : DRAWN + VALIDATED])
    if fold is not None:
        others = [sorted(members.keys() - benchmark)[first::FOLDS] for first in range(FOLDS)]
        test = benchmark | set(others[fold])
        choose = set([root for root in others[(fold + 1) % FOLDS] if root in free][:VALIDATED])
    parts: dict[str, list[Measured]] = {"train": [], "choose": [], "test": []}
    for assay in sorted(assays, key=lambda a: -len(a.rows)):
        part = "test" if family[assay.protein] in test else "choose" if family[assay.protein] in choose else "train"
        if part == "choose" and assay.protein in {a.protein for a in parts[part]}:
            continue
        if len(assay.rows) >= (150 if part == "train" else FEWEST):
            parts[part].append(assay)
    return parts
