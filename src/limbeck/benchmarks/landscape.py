"""Published landscapes that come with limbeck: `limbeck benchmark landscape`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.benchmarks import shipped_data
from limbeck.benchmarks.task import numbers, read_table, sequences
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.landscapes.assay import GAP, Assay
from limbeck.landscapes.comparison import Comparison
from limbeck.landscapes.reading import read_assay
from limbeck.landscapes.run import landscape

__all__ = ["LANDSCAPES", "Landscape", "benchmark_landscapes", "read_landscape", "table_of"]


@dataclass(frozen=True)
class Landscape:
    """A published assay and its published splits.

    Attributes:
        name: of the assay.
        read: from the data folder to the assay.
        splits: which of its splits others report scores on.
        published: Spearman correlations that others report, by split and method, with their source.
    """

    name: str
    read: Callable[[Path], Assay]
    splits: tuple[str, ...]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_landscape(name: str, data: Path) -> Assay:
    """A shipped assay by its name.

    Args:
        data: the folder of data sets.

    Raises:
        InputError: if there is none of that name, or its files are not as documented.
    """
    (entry,) = _chosen([name])
    return entry.read(data)


def _chosen(names: Sequence[str] | None) -> list[Landscape]:
    """The shipped assays of these names, or all."""
    known = [entry.name for entry in LANDSCAPES]
    if unknown := set(names or ()) - set(known):
        raise InputError(f"there is no landscape {min(unknown)!r}; choose from: {', '.join(known)}")
    return [entry for entry in LANDSCAPES if names is None or entry.name in names]


def _file(path: str, name: str, wild_type: str | None = None, **reading: Any) -> Callable[[Path], Assay]:
    def read(data: Path) -> Assay:
        if not (data / path).is_file():
            raise InputError(f"{data / path}: no such file; give the data folder as documented")
        found = None if wild_type is None else data / wild_type
        return read_assay(data / path, name=name, wild_type=found, **reading)

    return read


def _stability(data: Path) -> Assay:
    """TAPE's three files as one assay: unrelated designs in train, mutants of 17 parents in test."""
    rows: list[str] = []
    scores: list[Any] = []
    parents: list[str] = []
    parts: list[str] = []
    wild_types: dict[str, str] = {}
    for part in ("train", "valid", "test"):
        path = data / f"tape_stability/{part}.csv.gz"
        extra = ("parent_cluster", "is_wt") if part == "test" else ()
        table = read_table(path, "sequence", "stability_score", *extra)
        found = sequences(path, table["sequence"])
        clusters = table.get("parent_cluster", [""] * len(found))
        rows += found
        scores.append(numbers(path, table["stability_score"]))
        parents += clusters
        parts += [part] * len(found)
        marks = table.get("is_wt", ["0"] * len(found))
        wild_types |= {c: s for c, s, mark in zip(clusters, found, marks, strict=True) if mark == "1"}
    width = max(map(len, rows))
    return Assay(
        name="stability",
        rows=[row.ljust(width, GAP) for row in rows],
        scores=np.concatenate(scores),
        parents=np.array(parents, dtype=object),
        wild_types={name: row.ljust(width, GAP) for name, row in wild_types.items()},
        layout="padded",
        splits={"tape": np.array(parts, dtype=object)},
        notes=["Designs of four rounds train and validate; all single mutants of 17 of them are tested."],
    )


LANDSCAPES = (
    Landscape(
        "fluorescence",
        # Sequences as TAPE has them, in which a stop codon is deleted; the mutations would say more.
        _file("tape_fluorescence/fluorescence.csv.gz", "fluorescence", mutation_column=""),
        ("file: split",),
        {
            "file: split": {
                "TAPE's best (arXiv 1906.08230)": 0.68,
                "CNN of PEER (arXiv 2206.02096)": 0.682,
                "ESM-2 3B fine-tuned (Schmirler 2024)": 0.699,
            }
        },
    ),
    Landscape(
        "stability",
        _stability,
        ("file: tape",),
        {"file: tape": {"TAPE's best (arXiv 1906.08230)": 0.73, "ESM-2 35M fine-tuned (Schmirler 2024)": 0.769}},
    ),
    Landscape(
        "beta-lactamase",
        _file("beta_lactamase/envision_p62593.csv.gz", "beta-lactamase"),
        ("random", "position-modulo", "position-contiguous"),
    ),
    Landscape(
        "gb1",
        _file("flip_gb1/gb1.csv.gz", "gb1"),
        tuple(f"file: {name}" for name in ("one_vs_rest", "two_vs_rest", "three_vs_rest", "low_vs_high", "sampled")),
        {
            "file: one_vs_rest": {"ridge (FLIP)": 0.28},
            "file: two_vs_rest": {"ridge (FLIP)": 0.59},
            "file: three_vs_rest": {"ridge (FLIP)": 0.76, "ESM-2 8M fine-tuned (Schmirler 2024)": 0.883},
            "file: low_vs_high": {"ridge (FLIP)": 0.34},
        },
    ),
    *(
        Landscape(
            name,
            _file(f"dms_nn4dms/{name}.csv.gz", name, f"dms_nn4dms/{name}.fasta"),
            ("file: split_main",),
        )
        for name in ("avgfp", "bgl3", "pab1", "ube4b")
    ),
)


def benchmark_landscapes(
    output: str | os.PathLike[str],
    *,
    only: Sequence[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    ladder: str = "quick",
    encoders: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Compare models on the shipped assays, on their published splits.

    Args:
        output: folder for a report of each assay, ``landscape.json`` and ``landscape.md``.
        only: names of some of :data:`LANDSCAPES`.
        data: the folder of data sets; by default those that come with limbeck.
        ladder, encoders, sample, seed, progress: as :func:`limbeck.landscape` takes them.

    Returns:
        For each assay and split: ``assay``, ``split``, ``verdict``, ``baseline`` and ``model`` with their Spearman
        correlations ``baseline_value`` and ``model_value``, ``difference``, ``low``, ``high``, ``best`` and
        ``best_value`` (of the models that were fitted to all training variants), ``train``, ``test`` and
        ``compared_train``, ``compared_test`` (of the split, and of the sample that was compared), and ``published``
        (what others report).

    Raises:
        InputError: if there is no such assay, or its files are not as documented.
    """
    folder = shipped_data() if data is None else Path(data)
    rows = []
    for entry in _chosen(only):
        comparison = landscape(
            entry.read(folder),
            Path(output) / entry.name,
            ladder=ladder,
            encoders=encoders,
            sample=sample,
            splits=entry.splits,
            curves=False,
            seed=seed,
            progress=progress,
        )
        rows += [_row(entry, comparison, split) for split in entry.splits]
    with whole(Path(output) / "landscape.json") as partial:
        partial.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with whole(Path(output) / "landscape.md") as partial:
        partial.write_text(table_of(rows) + "\n", encoding="utf-8")
    return rows


def _row(entry: Landscape, comparison: Comparison, split: str) -> dict[str, Any]:
    verdict = comparison.verdicts.set_index("split").loc[split]
    scores = comparison.scores
    scores = scores[(scores["split"] == split) & (scores["metric"] == "spearman")]
    # Where an encoder read a sample, the models compared are those fitted to it.
    compared = scores[scores["rows"] == scores["rows"].max()].set_index("model")["value"]
    full = scores[scores["rows"] == "all"].sort_values("value")
    sizes = comparison.splits.set_index("split").loc[split]
    return {
        "assay": entry.name,
        "split": split.removeprefix("file: "),
        "verdict": verdict["verdict"],
        "baseline": verdict["baseline"],
        "baseline_value": _rounded(compared.get(verdict["baseline"])),
        "model": verdict["model"],
        "model_value": _rounded(compared.get(verdict["model"])),
        **{name: _rounded(verdict[name]) for name in ("difference", "low", "high")},
        "best": full["model"].iloc[-1],
        "best_value": _rounded(full["value"].iloc[-1]),
        "train": int(sizes["train"]),
        "test": int(sizes["test"]),
        "compared_train": int(scores["n_train"].min()),
        "compared_test": int(scores["n_test"].min()),
        "published": dict(entry.published.get(split, {})),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of :func:`benchmark_landscapes` as a Markdown table."""
    head = (
        "assay",
        "split",
        "verdict",
        "without pretraining",
        "with it",
        "difference (95 %)",
        "train / test",
        "published",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        published = "; ".join(f"{value:g} {name}" for name, value in row["published"].items())
        interval = "" if row["low"] is None else f" ({row['low']:+.3f} to {row['high']:+.3f})"
        cells = (
            row["assay"],
            row["split"],
            row["verdict"],
            f"{row['baseline_value']} {row['baseline']}",
            f"{row['model_value']} {row['model']}",
            f"{row['difference']}{interval}",
            f"{row['compared_train']:,} / {row['compared_test']:,}",
            published or "-",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
