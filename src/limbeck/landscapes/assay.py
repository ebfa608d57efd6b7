"""An assay: variants of one or several proteins, and what was measured of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GAP", "LAYOUTS", "STOP", "Assay", "expressed"]

GAP = "-"
STOP = "*"
LAYOUTS = ("substitutions", "aligned", "padded")


def expressed(row: str) -> str:
    """The protein that a row stands for: gaps taken out, and nothing from a stop codon on.

    A row without any residue becomes ``"X"``, so that every encoder has something to read.
    """
    return row.split(STOP, 1)[0].replace(GAP, "") or "X"


@dataclass(frozen=True)
class Assay:
    """n measured variants in one frame of columns.

    Attributes:
        name: of the assay, as users know it.
        rows: n strings of one length (``width``) in the 20 standard letters and ``X``; ``-`` is a gap or the padding
            behind a shorter protein, ``*`` a stop codon (behind which all is ``-``).
        scores: (n,) float64, finite; the mean where a variant was measured several times. Larger is better.
        parents: (n,) the name of each variant's wild type, ``""`` where it has none.
        wild_types: row of each wild type by its name, in the same frame.
        layout: ``"substitutions"`` (all of one length as they came), ``"aligned"`` (insertions and deletions: columns
            are those of an alignment to the wild type) or ``"padded"`` (proteins of several lengths or without a
            wild type, from their first residue on).
        splits: the file's own splits by name: (n,) of ``"train"``, ``"valid"``, ``"test"`` or ``""`` (not used).
        lines: (n,) line of the file where the variant first stands; zeros if there is no file.
        replicates: (n,) how often it was measured.
        spread: (n,) standard deviation between its replicates; NaN where it was measured once.
        first_position: by wild type the number of its first residue, as users count.
        notes: what was taken from the file and what was done with it, in sentences.
        skipped: line and reason of each row that was left out because it cannot be used.
    """

    name: str
    rows: list[str]
    scores: NDArray[np.float64]
    parents: NDArray[Any]
    wild_types: Mapping[str, str] = field(default_factory=dict)
    layout: str = "substitutions"
    splits: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    lines: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    replicates: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    spread: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    first_position: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.rows)
        fill = {"lines": np.zeros(n, np.int64), "replicates": np.ones(n, np.int64), "spread": np.full(n, np.nan)}
        for name, value in fill.items():
            if not len(getattr(self, name)):
                object.__setattr__(self, name, value)
        columns = (self.scores, self.parents, self.lines, self.replicates, self.spread, *self.splits.values())
        if any(len(column) != n for column in columns):
            raise ValueError(f"every column of an assay must have one entry for each of its {n} rows")
        if len({len(row) for row in (*self.rows, *self.wild_types.values())}) > 1:
            raise ValueError("the rows of an assay and its wild types must be of one length")
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, not {self.layout!r}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Columns of the frame; 0 if there is neither a row nor a wild type."""
        return len(next(iter((*self.rows[:1], *self.wild_types.values())), ""))

    @cached_property
    def sequences(self) -> list[str]:
        """What an encoder sees of each variant: :func:`expressed`."""
        return [expressed(row) for row in self.rows]

    @cached_property
    def letters(self) -> NDArray[np.uint8]:
        """(n, width) the rows as ASCII codes."""
        return np.frombuffer("".join(self.rows).encode("ascii"), np.uint8).reshape(len(self), self.width)

    @cached_property
    def differs(self) -> NDArray[np.bool_]:
        """(n, width) where a row differs from its wild type; nowhere for a variant without one.

        Behind a stop codon nothing counts: the stop itself is the difference.
        """
        result = np.zeros((len(self), self.width), dtype=bool)
        for name, wild_type in self.wild_types.items():
            rows = np.flatnonzero(self.parents == name)
            result[rows] = self.letters[rows] != np.frombuffer(wild_type.encode("ascii"), np.uint8)
        stops = self.letters == ord(STOP)
        result &= stops | ~np.logical_or.accumulate(stops, axis=1)
        return result

    @cached_property
    def mutations(self) -> NDArray[np.int64]:
        """(n,) how many mutations each variant has against its wild type: a substitution or a stop codon counts as one,
        and so does a run of gaps in the variant or in its wild type. -1 where there is no wild type."""
        counts = np.full(len(self), -1, np.int64)
        for name, wild_type in self.wild_types.items():
            rows = np.flatnonzero(self.parents == name)
            reference = np.frombuffer(wild_type.encode("ascii"), np.uint8)
            differs = self.differs[rows]
            deleted = differs & (self.letters[rows] == ord(GAP))
            inserted = differs & (reference == ord(GAP))
            # A run goes on across columns where only other variants have residues.
            shared = (reference == ord(GAP)) & (self.letters[rows] == ord(GAP))
            counts[rows] = (
                (differs & ~deleted & ~inserted).sum(axis=1) + _runs(deleted, shared) + _runs(inserted, shared)
            )
        return counts

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over rows, scores, parents, wild types and splits."""
        text = hashlib.sha256()
        for row, score, parent in zip(self.rows, self.scores.tolist(), self.parents.tolist(), strict=True):
            text.update(f"{row}\t{score!r}\t{parent}\n".encode())
        for name in sorted(self.wild_types):
            text.update(f"{name}\t{self.wild_types[name]}\n".encode())
        for name in sorted(self.splits):
            text.update(f"{name}\t{','.join(map(str, self.splits[name]))}\n".encode())
        return text.hexdigest()

    def take(self, rows: Iterable[int]) -> Assay:
        """The variants of these rows, in this order."""
        chosen = np.fromiter(rows, np.intp)
        return replace(
            self,
            rows=[self.rows[i] for i in chosen],
            scores=self.scores[chosen],
            parents=self.parents[chosen],
            splits={name: part[chosen] for name, part in self.splits.items()},
            lines=self.lines[chosen],
            replicates=self.replicates[chosen],
            spread=self.spread[chosen],
        )


def _runs(marks: NDArray[np.bool_], passed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many runs of marks each row has; a run is not broken by columns to be passed over."""
    if not marks.shape[1]:
        return np.zeros(len(marks), np.int64)
    before = marks[:, :-1]
    if passed.any():
        last = np.where(passed, 0, np.arange(marks.shape[1], dtype=np.int32))
        before = np.take_along_axis(marks, np.maximum.accumulate(last, axis=1)[:, :-1], axis=1)
    return (marks[:, 1:] & ~before).sum(axis=1) + marks[:, 0]
