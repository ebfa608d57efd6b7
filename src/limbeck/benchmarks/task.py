"""What a task is: published proteins with labels, in three parts, and how much of them a scale takes."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.residues import InvalidResidue, clean

__all__ = ["SEED", "Items", "Parts", "Size", "Splits", "Task", "hash_order", "numbers", "read_table", "sequences"]

SEED = 0
"""Decides which proteins a scale takes and where train is cut; printed with every score."""


@dataclass(frozen=True)
class Items:
    """Labelled proteins.

    Attributes:
        sequences: n cleaned sequences.
        labels: (n,) class names, values (float64), or for residue tasks strings as long as the sequence, with
            ``"."`` where nothing is known.
        clusters: (n,) names of the units that the bootstrap draws; each protein by itself if empty.
        strata: (n,) names of the subsets within which ``spearman_within`` correlates; empty if there are none.
        groups: (n,) names of homology groups, which an inner split keeps whole; empty if there are none.
    """

    sequences: list[str]
    labels: NDArray[Any]
    clusters: NDArray[Any] = field(default_factory=lambda: np.empty(0, str))
    strata: NDArray[Any] = field(default_factory=lambda: np.empty(0, str))
    groups: NDArray[Any] = field(default_factory=lambda: np.empty(0, str))

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def residues(self) -> int:
        return sum(map(len, self.sequences))

    def take(self, rows: Iterable[int]) -> Items:
        """The proteins of these rows, in this order."""
        rows = np.fromiter(rows, np.intp)
        columns = (self.labels, self.clusters, self.strata, self.groups)
        return Items([self.sequences[i] for i in rows], *(c[rows] if len(c) else c for c in columns))

    def without(self, others: set[str]) -> Items:
        """Those whose sequence is not among ``others``; of equal sequences only the first."""
        seen = set(others)
        rows = []
        for row, sequence in enumerate(self.sequences):
            if sequence not in seen:
                seen.add(sequence)
                rows.append(row)
        return self.take(rows)


@dataclass(frozen=True)
class Splits:
    """A data set as published; where it has no validation part, the task has cut one from train."""

    train: Items
    valid: Items
    test: Items


@dataclass(frozen=True)
class Parts:
    """What one run uses: weights are fitted on ``fit``, choices made on ``choose``, the score taken on ``score``."""

    fit: Items
    choose: Items
    score: Items

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all sequences and labels."""
        text = hashlib.sha256()
        for part in (self.fit, self.choose, self.score):
            for sequence, label in zip(part.sequences, part.labels, strict=True):
                text.update(f"{sequence}\t{label}\n".encode())
            text.update(b"\n")
        return text.hexdigest()


@dataclass(frozen=True)
class Size:
    """How many proteins a scale takes from each part; ``None``: all of them."""

    train: int | None = None
    valid: int | None = None
    test: int | None = None
    longest: int | None = None
    """Longer proteins are left out, not cut."""
    per_label: int | None = None
    """At most so many train proteins of each label."""
    scored_labels: bool = False
    """Leave out train and validation proteins of labels that no scored protein has: fewer classes to choose from."""
    residues: int | None = None
    """Residue tasks: about so many residues of each part are looked at."""


@dataclass(frozen=True)
class Task:
    """A published data set, its split, its score and where it comes from."""

    name: str
    question: str
    kind: str
    """``"classes"``, ``"values"`` or ``"residues"`` (a class for each residue)."""
    metrics: tuple[str, ...]
    """Names of :data:`limbeck.benchmarks.metrics.METRICS`; the first one counts in the mean over tasks."""
    folder: str
    """Folder under the data folder."""
    files: tuple[str, ...]
    """What is read, as paths under the data folder."""
    read: Callable[[Path], Splits]
    """From the data folder to the published parts."""
    split: str
    citation: str
    license: str
    sizes: Mapping[str, Size]
    """Which scales the task belongs to, and what each of them takes."""
    methods: tuple[str, ...] = ("probe",)
    """``"probe"``, ``"nearest"``; the first one counts in the mean over tasks."""
    primary: bool = True
    """Whether it counts in the mean over tasks."""

    def here(self, data: Path) -> bool:
        return (data / self.folder).is_dir()

    def checksums(self, data: Path) -> dict[str, str]:
        """SHA-256 (hex) of the files, by their path under the data folder."""
        return {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in self.files}

    def parts(self, data: Path, scale: str, split: str) -> Parts:
        """The proteins of a run; a function of the files, the scale, the split and :data:`SEED` alone.

        A sequence of test is taken out of train and valid, one of valid out of train, and repeats within a part go.
        With ``split="valid"`` test proteins are not used at all: valid is scored, and a fifth of train chooses.

        Raises:
            InputError: if a file is missing or not as documented, or the task has no such scale or split.
        """
        if scale not in self.sizes:
            raise InputError(f"task {self.name} has no scale {scale!r}; choose from: {', '.join(self.sizes)}")
        if split not in ("valid", "test"):
            raise InputError(f"there is no split {split!r}; choose valid or test")
        size = self.sizes[scale]
        published = self.read(data)
        test = published.test.without(set())
        valid = published.valid.without(set(test.sequences))
        train = published.train.without({*test.sequences, *valid.sequences})
        scored = _chosen(test if split == "test" else valid, size.test, size.longest)
        if size.scored_labels:
            train, valid = (p.take(np.flatnonzero(np.isin(p.labels, scored.labels))) for p in (train, valid))
        train = _chosen(train, size.train, size.longest, size.per_label)
        if split == "test":
            return Parts(train, _chosen(valid, size.valid, size.longest), scored)
        return Parts(*_cut(train), scored)


def hash_order(items: Items) -> list[int]:
    """Rows in an order that only the seed and the sequences decide, not the file."""
    keys = [hashlib.sha256(f"{SEED} {sequence}".encode()).digest() for sequence in items.sequences]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _chosen(items: Items, count: int | None, longest: int | None, per_label: int | None = None) -> Items:
    rows = [row for row in hash_order(items) if longest is None or len(items.sequences[row]) <= longest]
    if per_label is not None:
        seen: Counter[Any] = Counter()
        kept = []
        for row in rows:
            seen[items.labels[row]] += 1
            if seen[items.labels[row]] <= per_label:
                kept.append(row)
        rows = kept
    return items.take(rows[:count])


def _cut(train: Items) -> tuple[Items, Items]:
    """About four fifths and one fifth: the last homology group where there are groups, else by hash."""
    if len(train.groups):
        last = max(train.groups)
        return train.take(np.flatnonzero(train.groups != last)), train.take(np.flatnonzero(train.groups == last))
    rows = hash_order(train)
    edge = len(rows) - len(rows) // 5
    return train.take(rows[:edge]), train.take(rows[edge:])


def read_table(path: Path, *columns: str) -> dict[str, list[str]]:
    """Columns of a ``.csv.gz`` file.

    Raises:
        InputError: if the file or a column is missing, or it is not gzip or UTF-8.
    """
    try:
        with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if missing := [column for column in columns if column not in (reader.fieldnames or [])]:
                raise InputError(f"{path}: there is no column {missing[0]!r}; give the data set as documented")
            rows = list(reader)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the data folder as documented") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable gzip file of text ({error}); copy it again") from None
    return {column: [row[column] for row in rows] for column in columns}


def sequences(path: Path, texts: list[str]) -> list[str]:
    """The sequences cleaned by the rule of :mod:`limbeck.residues`.

    Raises:
        InputError: names file and row of the first that is empty or holds a character that is no residue.
    """
    results = []
    for row, text in enumerate(texts, 2):
        try:
            results.append(clean(text))
        except InvalidResidue as error:
            raise InputError(f"{path}: line {row}: {error}; copy the file again") from None
        if not results[-1]:
            raise InputError(f"{path}: line {row}: the sequence has no residues; copy the file again")
    return results


def numbers(path: Path, texts: list[str]) -> NDArray[np.float64]:
    """Finite numbers, (n,).

    Raises:
        InputError: names file and line of the first that is none.
    """
    for row, text in enumerate(texts, 2):
        try:
            good = np.isfinite(float(text))
        except ValueError:
            good = False
        if not good:
            raise InputError(f"{path}: line {row}: {text!r} is not a number; copy the file again")
    return np.array(texts, dtype=np.float64)
