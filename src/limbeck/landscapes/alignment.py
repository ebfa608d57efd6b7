"""Variants in one frame of columns: placed on their wild type, insertions in columns that all variants share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.landscapes.assay import GAP, STOP

__all__ = ["Frame", "Placed", "cut", "distance", "place", "project", "residues"]

_AGREE = 8
"""Residues that must agree for two sequences to correspond there."""
_AGREE_SHIFTED = 12
"""The same where insertions and deletions have shifted them against each other since they last agreed."""
_SHIFT = 60


class Placed(NamedTuple):
    """One variant on a wild type of L residues."""

    letters: str
    """(L) what stands at each residue of the wild type, ``-`` where it is deleted."""
    insertions: tuple[tuple[int, str], ...] = ()
    """Inserted residues by the 0-based index of the wild type's residue before which they stand (L: at the end)."""


def residues(placed: Placed) -> str:
    """The variant without gaps, stops where they stand."""
    if not placed.insertions:
        return placed.letters.replace(GAP, "")
    pieces, done = [], 0
    for index, text in placed.insertions:
        pieces += [placed.letters[done:index], text]
        done = index
    return "".join([*pieces, placed.letters[done:]]).replace(GAP, "")


def cut(placed: Placed) -> Placed:
    """The variant with nothing behind its first stop codon."""
    length = len(placed.letters)
    end = placed.letters.find(STOP) + 1 or length
    kept = []
    for index, text in placed.insertions:
        if index >= end < length or (index == end == length and placed.letters.endswith(STOP)):
            break
        body, stop, _ = text.partition(STOP)
        kept.append((index, body + stop))
        if stop:
            end = index
            break
    return Placed(placed.letters[:end].ljust(length, GAP), tuple(kept))


def distance(placed: Placed, wild_type: str) -> int:
    """Substitutions, runs of deleted residues and inserted stretches."""
    if placed.letters == wild_type:
        return len(placed.insertions)
    count = len(placed.insertions)
    before = ""
    for letter, reference in zip(placed.letters, wild_type, strict=True):
        if letter != reference and not (letter == GAP == before):
            count += 1
        before = letter
    return count


def place(text: str, wild_type: str) -> Placed:
    """A sequence on its wild type; as long as it, letter by letter, else aligned.

    A stop codon inside the sequence ends it. One at the end of a sequence that is shorter than the wild type
    ends it early, unless the sequence reaches the wild type's end by being aligned with fewer changes.
    """
    length = len(wild_type)
    body, stop, rest = text.partition(STOP)
    if not stop or (not rest and len(body) == length):
        return Placed(body) if len(body) == length else project(body, wild_type)
    ways = [Placed((body + STOP).ljust(length, GAP))] if len(body) < length else []
    if not (rest and len(text) == length):
        ways.append(cut(project(text, wild_type)) if rest else _ended(project(body, wild_type)))
    return min(ways, key=lambda way: _changes(way, wild_type))


def _ended(placed: Placed) -> Placed:
    """With a stop codon behind the last residue, if any of the wild type's residues are left behind it."""
    reached = len(placed.letters.rstrip(GAP))
    if reached == len(placed.letters):
        return placed
    return cut(Placed((placed.letters[:reached] + STOP).ljust(len(placed.letters), GAP), placed.insertions))


def _changes(placed: Placed, wild_type: str) -> int:
    """As :func:`distance`, but what is missing behind a stop codon is no change of its own."""
    return distance(placed, wild_type) - (STOP in residues(placed) and placed.letters.endswith(GAP))


def project(text: str, wild_type: str) -> Placed:
    """A sequence aligned to its wild type from end to end.

    Where the two agree over some residues, they are taken to correspond; only what lies between is aligned
    (Needleman-Wunsch with affine gaps, BLOSUM62, 11 to open and 1 to extend). A gap within a repeat stands as far
    right as it can, which is also HGVS's rule.
    """
    letters: list[str] = []
    insertions: list[tuple[int, str]] = []
    i = j = 0
    while True:
        same = _common(text[j:], wild_type[i:])
        letters.append(wild_type[i : i + same])
        i, j = i + same, j + same
        if i == len(wild_type) and j == len(text):
            return Placed("".join(letters), tuple(insertions))
        end, text_end = _meet_again(text, wild_type, i, j)
        middle = _align(text[j:text_end], wild_type[i:end])
        letters.append(middle.letters)
        insertions += [(i + index, inserted) for index, inserted in middle.insertions]
        i, j = end, text_end


def _meet_again(text: str, wild_type: str, i: int, j: int) -> tuple[int, int]:
    """Indices into wild type and text, behind a difference at ``i`` and ``j``, from which on they agree again."""
    for k in range(i + 1, len(wild_type) - _AGREE + 1):
        at = j + k - i
        word = wild_type[k : k + _AGREE]
        if not text.startswith(word, at):
            word = wild_type[k : k + _AGREE_SHIFTED]
            at = text.find(word, j, at + _SHIFT) if len(word) == _AGREE_SHIFTED else -1
        # Within a repeat, agreement says little.
        if at >= 0 and wild_type.find(word) == k and wild_type.find(word, k + 1) < 0:
            while k > i and at > j and text[at - 1] == wild_type[k - 1]:
                k, at = k - 1, at - 1
            return k, at
    tail = _common(text[j:][::-1], wild_type[i:][::-1])
    return len(wild_type) - tail, len(text) - tail


def _common(a: str, b: str) -> int:
    """Letters that two strings have in common at their start."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        half = (low + high + 1) // 2
        if a[low:half] == b[low:half]:
            low = half
        else:
            high = half - 1
    return low


@cache
def _aligner() -> Any:
    from Bio.Align import PairwiseAligner, substitution_matrices

    aligner = PairwiseAligner()
    aligner.mode = "global"
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    aligner.open_gap_score = -11
    aligner.extend_gap_score = -1
    return aligner


@lru_cache(maxsize=1 << 14)
def _align(text: str, wild_type: str) -> Placed:
    if not text or not wild_type:
        return Placed(GAP * len(wild_type), ((0, text),) if text else ())
    if len(text) == len(wild_type) <= _AGREE:
        return Placed(text)
    letters: list[str] = []
    insertions: list[tuple[int, str]] = []
    path = _aligner().align(wild_type, text)[0].coordinates
    target, query = path[0].tolist(), path[1].tolist()
    for k in range(len(target) - 1):
        stretch = text[query[k] : query[k + 1]]
        if target[k] == target[k + 1]:
            insertions.append((target[k], stretch))
        else:
            letters.append(stretch or GAP * (target[k + 1] - target[k]))
    return Placed("".join(letters), tuple(insertions))


@dataclass(frozen=True)
class Frame:
    """Columns for the variants of one wild type: its residues, and before some of them columns for insertions.

    Attributes:
        length: residues of the wild type.
        slots: columns for insertions by the 0-based index of the residue before which they stand, in rising order.
        width: columns of a row; the last ones may be padding.
    """

    length: int
    slots: Mapping[int, int]
    width: int

    @classmethod
    def around(cls, length: int, variants: Iterable[Placed]) -> Frame:
        """The narrowest frame in which all these variants have room."""
        slots: dict[int, int] = {}
        for placed in variants:
            for index, text in placed.insertions:
                slots[index] = max(slots.get(index, 0), len(text))
        return cls(length, dict(sorted(slots.items())), length + sum(slots.values()))

    @classmethod
    def of(cls, row: str) -> Frame:
        """The frame of a wild type's row: its gaps are columns for insertions."""
        slots: dict[int, int] = {}
        index = 0
        for gap, run in groupby(row, key=lambda letter: letter == GAP):
            count = len(list(run))
            if gap:
                slots[index] = count
            else:
                index += count
        return cls(index, slots, len(row))

    def row(self, placed: Placed) -> str:
        """The variant as a row; ValueError if an insertion has no room."""
        if not self.slots and not placed.insertions:
            return placed.letters.ljust(self.width, GAP)
        letters = np.full(self.width, ord(GAP), np.uint8)
        letters[self._columns[:-1]] = np.frombuffer(placed.letters.encode("ascii"), np.uint8)
        for index, text in placed.insertions:
            room = self.slots.get(index, 0)
            if len(text) > room:
                raise ValueError(_no_room(index, len(text), room))
            start = self._columns[index] - room
            letters[start : start + len(text)] = np.frombuffer(text.encode("ascii"), np.uint8)
        return letters.tobytes().decode("ascii")

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        """(length + 1) column of each residue of the wild type, and the one behind them and their last slot."""
        rooms = np.zeros(self.length + 1, np.intp)
        rooms[list(self.slots)] = list(self.slots.values())
        return np.arange(self.length + 1) + np.cumsum(rooms)


def _no_room(index: int, count: int, room: int) -> str:
    return f"inserts {count} residues behind residue {index} of the wild type, where the frame has room for {room}"
