"""The distinct windows of residues in an assay.

What a convolution puts out at a position depends on the residues within its reach alone, so positions with equal
windows have equal outputs. Variants of one protein share nearly all of theirs: among 256 variants of a protein of 237
residues with three mutations each, some 3,000 of the 60,672 windows of five residues are distinct. A network that
computes each of them once is the same function, and has the same gradient, for a twentieth of the work.

Windows are told apart by their content, not by their position: a window of the second layer is a tuple of windows of
the first layer, and so on. Pooling then needs the set of windows of each row. A row is written as stretches that it
shares with a reference row (its wild type, in effect), whose maxima come out of a table, and single windows beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.landscapes.networks.residues import PADDING

__all__ = ["Batch", "Pooling", "Windows", "offsets"]

Integers = NDArray[np.integer]

LEADERS = 16
"""So many rows at most are tried as the centre of a group of like rows."""
SMALLEST_GROUP = 0.02
"""Share of the rows below which a group gets no reference."""


def offsets(kernel: int, dilation: int) -> NDArray[np.intp]:
    """Positions that a filter sees, relative to its own, (kernel,): those of "SAME" padding."""
    reach = (kernel - 1) * dilation
    return np.arange(kernel) * dilation - reach // 2


@dataclass(frozen=True)
class Pooling:
    """How the maximum over each row is put together.

    The candidates are numbered: first the ``windows`` distinct windows of the batch, then for each power p from 1 to
    ``powers`` the maxima over 2**p neighbours in ``reference``, from its first position on.

    Attributes:
        windows: distinct windows of the last layer.
        reference: (m,) the window at each position of the references, one behind the other.
        powers: how many tables of maxima are needed.
        order: (n,) rows of the batch, those with the most candidates first.
        ranks: the first candidate of each row in that order, the second of those that have one, and so on.
    """

    windows: int
    reference: NDArray[np.int64]
    powers: int
    order: NDArray[np.int64]
    ranks: list[NDArray[np.int64]]

    @property
    def sizes(self) -> list[int]:
        """Rows of the tables of maxima."""
        return [len(self.reference) - 2**power + 1 for power in range(1, self.powers + 1)]

    @property
    def starts(self) -> list[int]:
        """Where each table starts, behind the windows."""
        return np.cumsum([0, *self.sizes])[:-1].tolist()

    @property
    def looked_up(self) -> int:
        """Candidates of all rows."""
        return sum(map(len, self.ranks))


@dataclass(frozen=True)
class Batch:
    """The distinct windows of some rows.

    Attributes:
        parts: of each layer the windows, (windows, kernel): for the first layer codes of residues, for the others
            1 + the number of a window of the layer before, or 0 for what lies outside the row.
        pooling: how the last layer's windows are pooled.
        positions: of the rows, in all.
    """

    parts: list[NDArray[np.int64]]
    pooling: Pooling
    positions: int

    @property
    def share(self) -> float:
        """Windows to compute in a layer, relative to one for each position: the mean over the layers."""
        return float(np.mean([len(part) for part in self.parts])) / max(1, self.positions)


class Windows:
    """All distinct windows of n rows, from which those of any batch of rows are taken.

    Args:
        codes: (n, width) as :func:`limbeck.landscapes.networks.residues.encode` gives them.
        layers: :func:`offsets` of each layer's filters.
    """

    def __init__(self, codes: NDArray[np.uint8], layers: Sequence[NDArray[np.intp]]) -> None:
        self._count, self._width = codes.shape
        self._home, references = _groups(codes)
        alone = self._home < 0
        differs = np.ones(codes.shape, bool) if alone.all() else codes != references[self._home]
        of_rows: Integers = codes
        of_references: Integers = references
        self._parts: list[NDArray[np.int32]] = []
        for layer in layers:
            differs = _reached(differs, layer)
            differs[alone] = True
            of_rows, of_references, parts = _number(of_rows, of_references, differs, self._home, layer)
            self._parts.append(parts)
        self._reference = np.zeros((len(references), self._width + 1), np.int64)
        self._reference[:, :-1] = of_references
        self._write_rows(of_rows, of_references, codes == PADDING)
        self._place = np.zeros(max(len(parts) for parts in self._parts), np.int64)

    def __len__(self) -> int:
        return self._count

    def batch(self, rows: NDArray[np.intp]) -> Batch:
        """The windows of these rows."""
        single_row, singles = _taken(self._single_start, rows, self._singles)
        stretch_row, starts, lengths = _taken(self._stretch_start, rows, self._starts, self._lengths)
        frame = self._width + 1
        used, starts = _renumbered(starts, frame)
        reference = self._reference[used].ravel()
        # The last column of each reference only keeps it apart from the next one.
        reference[frame - 1 :: frame] = reference[0] if len(reference) else 0
        windows = _distinct(np.concatenate([singles, reference]), len(self._parts[-1]))
        if not len(windows):
            # Rows without residues have nothing to pool, but a matrix needs a row.
            windows = np.ones(1, np.int64)
        singles, reference = self._placed(windows, singles, reference)
        parts = self._all_parts(windows)
        powers, over = _table(starts, lengths, len(windows), len(reference))
        owners = np.concatenate([single_row, np.tile(stretch_row, 2)])
        candidates = np.concatenate([singles, *over])
        kept = candidates >= 0
        order, ranks = _ranked(owners[kept], candidates[kept], len(rows))
        pooling = Pooling(len(windows), reference, powers, order, ranks)
        return Batch(parts, pooling, len(rows) * self._width)

    def _write_rows(self, of_rows: Integers, of_references: Integers, hidden: NDArray[np.bool_]) -> None:
        """Write every row as stretches of the references and single windows."""
        frame = self._width + 1
        place = np.full(len(self._parts[-1]), -2, np.int32)
        columns = np.arange(self._width, dtype=np.int32)
        for index in reversed(range(len(of_references))):
            place[of_references[index]] = index * frame + columns
        found = place[of_rows]
        if len(of_references):
            # A window that a reference has more than once is taken where the row has it.
            own = (self._home >= 0)[:, None] & (of_rows == of_references[self._home])
            found = np.where(own, self._home[:, None].astype(np.int32) * frame + columns, found)
        found[hidden] = -2
        starts = np.ones(found.shape, bool)
        starts[:, 1:] = (found[:, 1:] < 0) | (found[:, 1:] != found[:, :-1] + 1)
        first = np.flatnonzero(starts)
        lengths = np.diff(first, append=found.size)
        shown = ~hidden.ravel()[first]
        first, lengths = first[shown], lengths[shown]
        alone = lengths == 1
        self._singles = of_rows.ravel()[first[alone]].astype(np.int64)
        self._single_start = self._counted(first[alone])
        self._starts = found.ravel()[first[~alone]].astype(np.int64)
        self._lengths = lengths[~alone]
        self._stretch_start = self._counted(first[~alone])

    def _counted(self, positions: NDArray[np.intp]) -> NDArray[np.int64]:
        """(n + 1,) where each row's entries begin, given their sorted positions in all rows."""
        counts = np.bincount(positions // max(1, self._width), minlength=self._count)
        return np.concatenate([[0], np.cumsum(counts)])

    def _placed(self, windows: NDArray[np.int64], *numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Numbers of windows as places in ``windows``."""
        self._place[windows] = np.arange(len(windows))
        return [self._place[which] for which in numbers]

    def _all_parts(self, windows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Parts of the last layer's windows, and of all windows below that they are made of, first layer first."""
        result = []
        for depth in reversed(range(len(self._parts))):
            parts = self._parts[depth][windows].astype(np.int64)
            if depth:
                windows = _distinct(parts.ravel(), len(self._parts[depth - 1]))
                windows = windows[windows > 0]
                self._place[0] = -1
                (parts,) = self._placed(windows, parts)
                parts += 1
            result.append(parts)
        return result[::-1]


def _groups(codes: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Groups of like rows: the group of each row, (n,), or -1; and each group's most frequent letters, (groups, width).

    A row belongs to the first leader with which it shares more than half of the columns.
    """
    home = np.full(len(codes), -1, np.intp)
    references: list[NDArray[np.uint8]] = []
    left = np.arange(len(codes))
    smallest = max(2, SMALLEST_GROUP * len(codes))
    for _ in range(LEADERS):
        if len(left) < smallest:
            break
        near = 2 * (codes[left] == codes[left[0]]).sum(axis=1) > codes.shape[1]
        near[0] = True
        members, left = left[near], left[~near]
        if len(members) >= smallest:
            home[members] = len(references)
            references.append(_mode(codes[members]))
    return home, np.array(references, np.uint8).reshape(len(references), codes.shape[1])


def _mode(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The most frequent code of each column."""
    counts = np.stack([(codes == code).sum(axis=0) for code in range(PADDING + 1)])
    return counts.argmax(axis=0).astype(np.uint8)


def _reached(differs: NDArray[np.bool_], layer: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(n, width) where a filter sees a position that differs."""
    result = np.zeros_like(differs)
    width = differs.shape[1]
    for offset in layer.tolist():
        low, high = max(0, -offset), min(width, width - offset)
        if low < high:
            result[:, low:high] |= differs[:, low + offset : high + offset]
    return result


def _number(
    rows: Integers,
    references: Integers,
    differs: NDArray[np.bool_],
    home: NDArray[np.intp],
    layer: NDArray[np.intp],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Number the distinct windows of a layer from 1 on.

    Args:
        rows: (n, width) number of what the layer below has at each position; 0 is reserved for what lies outside.
        references: (groups, width) the same of the references.
        differs: (n, width) where a row's window is not that of its reference.

    Returns:
        numbers of the rows' windows, of the references' windows, and what each window is made of,
        (1 + windows, kernel), of which the first is what lies outside.
    """
    places = [np.nonzero(np.ones(references.shape, bool)), np.nonzero(differs)]
    before, behind = max(0, -int(layer.min())), max(0, int(layer.max()))
    padded = [np.pad(part, ((0, 0), (before, behind))) for part in (references, rows)]

    def column(offset: int, which: NDArray[np.intp] | None = None) -> NDArray[np.int64]:
        seen = [part[row, at + before + offset] for part, (row, at) in zip(padded, places, strict=True)]
        joined = np.concatenate(seen)
        return (joined if which is None else joined[which]).astype(np.int64)

    bound = 1 + int(max(part.max(initial=0) for part in padded))
    first, numbers = _unique((column(offset) for offset in layer.tolist()), bound)
    parts = np.zeros((len(first) + 1, len(layer)), np.int32)
    for index, offset in enumerate(layer.tolist()):
        parts[1:, index] = column(offset, first)
    split = references.size
    of_references = (numbers[:split] + 1).reshape(references.shape).astype(np.int32)
    of_rows = of_references[home] if len(references) else np.zeros(rows.shape, np.int32)
    of_rows[differs] = numbers[split:] + 1
    return of_rows, of_references, parts


def _unique(columns: Iterable[NDArray[np.int64]], bound: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Distinct tuples, given column by column: where each first stands, and which one stands at each place.

    Args:
        bound: above all entries.
    """
    key: NDArray[np.int64] | None = None
    size = 1
    for column in columns:
        if key is None:
            key, size = column, bound
            continue
        if size > np.iinfo(np.int64).max // bound:
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            size = int(key.max(initial=0)) + 1
        key = key * bound + column
        size *= bound
    assert key is not None  # a filter sees at least one position
    _, first, numbers = np.unique(key, return_index=True, return_inverse=True)
    return first, numbers


def _distinct(numbers: NDArray[np.int64], bound: int) -> NDArray[np.int64]:
    """The distinct ones among numbers below ``bound``, sorted."""
    if len(numbers) * 8 < bound:
        return np.unique(numbers)
    marks = np.zeros(bound, bool)
    marks[numbers] = True
    return np.flatnonzero(marks)


def _taken(start: NDArray[np.int64], rows: NDArray[np.intp], *values: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The entries of some rows: for each entry its place among ``rows``, then its values."""
    counts = start[rows + 1] - start[rows]
    owner = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    which = np.repeat(start[rows], counts) + within
    return [owner, *(value[which] for value in values)]


def _renumbered(starts: NDArray[np.int64], frame: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which references are used, and the starts as they are when only these stand behind one another."""
    used, which = np.unique(starts // frame, return_inverse=True)
    return used, which * frame + starts % frame


def _table(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], windows: int, positions: int
) -> tuple[int, list[NDArray[np.int64]]]:
    """Powers of two needed to cover stretches, and the two candidates of each: -1 where one is enough."""
    if not len(starts):
        return 0, [starts, starts]
    power = np.log2(lengths).astype(np.int64)
    powers = int(power.max())
    sizes = positions - 2 ** np.arange(1, powers + 1) + 1
    base = windows + np.concatenate([[0, 0], np.cumsum(sizes)])[power]
    second = base + starts + lengths - 2**power
    return powers, [base + starts, np.where(lengths == 2**power, -1, second)]


def _ranked(
    owners: NDArray[np.int64], candidates: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Rows with the most candidates first, and the candidates of each rank in that order."""
    counts = np.bincount(owners, minlength=rows)
    order = np.argsort(-counts, kind="stable")
    turn = np.empty(rows, np.int64)
    turn[order] = np.arange(rows)
    by_row = np.argsort(turn[owners], kind="stable")
    sorted_counts = counts[order]
    rank = np.arange(len(owners)) - np.repeat(np.cumsum(sorted_counts) - sorted_counts, sorted_counts)
    by_rank = np.argsort(rank, kind="stable")
    sizes = np.bincount(rank)
    return order, np.split(candidates[by_row][by_rank], np.cumsum(sizes)[:-1]) if len(sizes) else []
