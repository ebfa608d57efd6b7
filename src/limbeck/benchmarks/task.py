"""What a task is: published proteins with labels, in three parts, and how much of them a scale takes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.benchmarks.overlap import near_duplicates
from limbeck.errors import InputError
from limbeck.residues import InvalidResidue, clean

__all__ = [
    "SEED",
    "Items",
    "Parts",
    "Size",
    "Splits",
    "Task",
    "categories",
    "family_parts",
    "hash_order",
    "numbers",
    "read_table",
    "sequences",
]

SEED = 0
"""Decides which proteins a scale takes and where train is cut; printed with every score."""


@dataclass(frozen=True)
class Items:
    """Labelled proteins.

    Attributes:
        sequences: n cleaned sequences.
        labels: (n,) class names, values (float64), several labels joined by ``";"``, or for residue tasks strings as
            long as the sequence, with ``"."`` where nothing is known.
        clusters: (n,) names of the units that the bootstrap draws; each protein by itself if empty.
        strata: (n,) names of the subsets within which ``spearman_within`` correlates; empty if there are none.
        groups: (n,) names of homology groups, which an inner split keeps whole; empty if there are none.
        partners: (n,) of pairs, the second protein's sequence; empty else.
    """

    sequences: list[str]
    labels: NDArray[Any]
    clusters: NDArray[Any] = field(default_factory=lambda: np.empty(0, str))
    strata: NDArray[Any] = field(default_factory=lambda: np.empty(0, str))
    groups: NDArray[Any] = field(default_factory=lambda: np.empty(0, str))
    partners: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def proteins(self) -> list[str]:
        """The different sequences, each of which is encoded once."""
        return list(dict.fromkeys([*self.sequences, *self.partners]))

    @property
    def residues(self) -> int:
        """Of the different proteins."""
        return sum(map(len, self.proteins))

    @property
    def keys(self) -> list[str]:
        """What tells items apart: the sequence, or both of a pair, in whichever order they stand."""
        if not self.partners:
            return self.sequences
        return [" ".join(sorted(pair)) for pair in zip(self.sequences, self.partners, strict=True)]

    def take(self, rows: Iterable[int]) -> Items:
        """The proteins of these rows, in this order."""
        rows = np.fromiter(rows, np.intp)
        labels, clusters, strata, groups = (
            c[rows] if len(c) else c for c in (self.labels, self.clusters, self.strata, self.groups)
        )
        partners = [self.partners[i] for i in rows] if self.partners else []
        return Items([self.sequences[i] for i in rows], labels, clusters, strata, groups, partners)

    def without(self, others: set[str]) -> Items:
        """Those whose key is not among ``others``; of equal keys only the first."""
        seen = set(others)
        rows = []
        for row, key in enumerate(self.keys):
            if key not in seen:
                seen.add(key)
                rows.append(row)
        return self.take(rows)


@dataclass(frozen=True)
class Splits:
    """A data set as published; where it has no validation part, the task has cut one from train."""

    train: Items
    valid: Items
    test: Items

    @classmethod
    def by(cls, items: Items, column: NDArray[Any], *names: Any) -> Splits:
        """Parts as a column (n,) says, each of the items that have its name, or one of its names."""
        return cls(*(items.take(np.flatnonzero(np.isin(column, name))) for name in names))

    @classmethod
    def drawn(cls, items: Items, train: int, valid: int) -> Splits:
        """Parts of so many tenths, and test of the rest, in the order of :func:`hash_order`."""
        rows = hash_order(items)
        first, second = len(rows) * train // 10, len(rows) * (train + valid) // 10
        return cls(items.take(rows[:first]), items.take(rows[first:second]), items.take(rows[second:]))


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
            for key, label in zip(part.keys, part.labels, strict=True):
                text.update(f"{key}\t{label}\n".encode())
            text.update(b"\n")
        return text.hexdigest()

    @cached_property
    def near(self) -> int:
        """How many scored proteins have a near duplicate among those that are fitted on."""
        return near_duplicates(self.fit.proteins, self.score.proteins)


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
    """``"classes"``, ``"values"``, ``"labels"`` (any number for each protein), ``"pairs"`` (a class for each pair of
    proteins) or ``"residues"`` (a class for each residue)."""
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
    caution: str = ""
    """Why its score is worth less than it looks, where it is."""

    def here(self, data: Path) -> bool:
        return (data / self.folder).is_dir()

    def whole(self, data: Path) -> bool:
        """Whether all its files lie there."""
        return all((data / name).is_file() for name in self.files)

    def checksums(self, data: Path) -> dict[str, str]:
        """SHA-256 (hex) of the files, by their path under the data folder."""
        return {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in self.files}

    def parts(self, data: Path, scale: str, split: str) -> Parts:
        """The proteins of a run; a function of the files, the scale, the split and :data:`SEED` alone.

        A sequence of test is taken out of train and valid, one of valid out of train, and repeats within a part go.
        With ``split="valid"`` test proteins are not used at all: valid is scored, and a fifth of train chooses.

        Raises:
            InputError: if a file is missing or not as documented, a part has no protein, or the task has no such scale
                or split.
        """
        if scale not in self.sizes:
            raise InputError(f"task {self.name} has no scale {scale!r}; choose from: {', '.join(self.sizes)}")
        if split not in ("valid", "test"):
            raise InputError(f"there is no split {split!r}; choose valid or test")
        if not self.whole(data):
            return self._parts(data, scale, split)
        # Each encoder of a table asks for the same parts, and some are long in the making.
        key = (self.read, self.sizes[scale], split, *self.checksums(data).items())
        if key not in _REMEMBERED:
            _REMEMBERED[key] = self._parts(data, scale, split)
        return _REMEMBERED[key]

    def _parts(self, data: Path, scale: str, split: str) -> Parts:
        size = self.sizes[scale]
        published = self.read(data)
        test = published.test.without(set())
        valid = published.valid.without(set(test.keys))
        train = published.train.without({*test.keys, *valid.keys})
        scored = _chosen(test if split == "test" else valid, size.test, size.longest)
        if size.scored_labels:
            train, valid = (p.take(np.flatnonzero(np.isin(p.labels, scored.labels))) for p in (train, valid))
        train = _chosen(train, size.train, size.longest, size.per_label)
        chosen = (train, _chosen(valid, size.valid, size.longest)) if split == "test" else _cut(train)
        for items, purpose in zip((*chosen, scored), ("to fit on", "to choose on", "to score"), strict=True):
            if not len(items):
                raise InputError(
                    f"task {self.name}: no item is left {purpose} at scale {scale}, split {split}, in the files under "
                    f"{data}; give the whole data set, or another scale or split"
                )
        return Parts(*chosen, scored)


_REMEMBERED: dict[Any, Parts] = {}


def hash_order(items: Items) -> list[int]:
    """Rows in an order that only the seed and the sequences decide, not the file."""
    keys = [hashlib.sha256(f"{SEED} {key}".encode()).digest() for key in items.keys]
    return sorted(range(len(keys)), key=keys.__getitem__)


def family_parts(sequences: list[str], families: NDArray[np.intp], shares: tuple[float, ...]) -> NDArray[np.intp]:
    """A part for each protein, (n,) of 0, 1, ..., the same for all of a family; the seed and the sequences decide.

    Args:
        families: (n,) numbers.
        shares: of the families in each part; they sum to 1.
    """
    first: dict[int, str] = {}
    for family, sequence in zip(families.tolist(), sequences, strict=True):
        first[family] = min(sequence, first.get(family, sequence))
    edges = np.cumsum(shares)[:-1]
    place = {
        family: int(np.searchsorted(edges, _uniform(sequence), side="right")) for family, sequence in first.items()
    }
    return np.array([place[family] for family in families.tolist()], np.intp)


def _uniform(text: str) -> float:
    """A number between 0 and 1 that the seed and the text decide."""
    digest = hashlib.sha256(f"{SEED} family {text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _chosen(items: Items, count: int | None, longest: int | None, per_label: int | None = None) -> Items:
    both = zip(items.sequences, items.partners or items.sequences, strict=True)
    lengths = [max(len(a), len(b)) for a, b in both]
    rows = [row for row in hash_order(items) if longest is None or lengths[row] <= longest]
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
        InputError: if the file or a column is missing, a line has too few or too many fields, or the file is not gzip
            or UTF-8.
    """
    try:
        with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if missing := [column for column in columns if column not in (reader.fieldnames or [])]:
                raise InputError(f"{path}: there is no column {missing[0]!r}; give the data set as documented")
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"{path}: line {reader.line_num}: not as many fields as the header; copy it again")
                rows.append(row)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the data folder as documented") from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
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


def categories(path: Path, texts: list[str], known: Collection[str] = ()) -> NDArray[np.str_]:
    """Names of classes, parts or groups, (n,), each one of ``known``; or any, where those are not given.

    Raises:
        InputError: names file and line of the first that is empty or not known.
    """
    allowed = tuple(known)
    for row, text in enumerate(texts, 2):
        if allowed and text not in allowed:
            names = ", ".join(filter(None, allowed))
            raise InputError(f"{path}: line {row}: {text!r} is none of {names}; copy the file again")
        if not allowed and not text:
            raise InputError(f"{path}: line {row}: a label is empty; copy the file again")
    return np.array(texts, str)


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
