"""Which residue does what at which position: the numbers behind a heat map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.landscapes.assay import GAP, STOP, Assay

__all__ = ["GROUPS", "Effects", "effects", "wild_types_by_size"]

GROUPS = {
    "hydrophobic": "AVILM",
    "aromatic": "FWY",
    "special": "GPC",
    "polar": "STNQ",
    "positive": "HKR",
    "negative": "DE",
    "stop, deletion": STOP + GAP,
}
"""Residues grouped by property, in the order of a heat map's rows."""
_LETTERS = "".join(GROUPS.values())
STRONGEST = 98
"""Percentile of the effects that gets the full colour: few outliers should not pale all others."""


@dataclass(frozen=True)
class Effects:
    """Mean scores by residue and position of one protein; P of its positions, those where any variant differs.

    Attributes:
        parent: name of the wild type.
        letters: L rows of the map, as in :data:`GROUPS`; stop and deletion only where they occur.
        positions: (P,) numbers of the positions, as users count.
        wild_type: the P residues of the wild type.
        values: (L, P) mean over the variants that have the residue; NaN where there is none, as at the wild type's own.
        counts: (L, P) how many variants that are.
        singles: whether only variants with a single mutation count.
        centre: what has no effect: the score of the wild type, or else the median.
        centred_at: says which of the two.
        limit: distance from the centre that gets the full colour, above 0.
    """

    parent: str
    letters: str
    positions: NDArray[np.int64]
    wild_type: str
    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    singles: bool
    centre: float
    centred_at: str
    limit: float


def wild_types_by_size(assay: Assay) -> list[str]:
    """Names of the wild types that have mutated variants, most variants first."""
    counts = {name: int((assay.parents[assay.mutations > 0] == name).sum()) for name in assay.wild_types}
    return sorted((name for name, count in counts.items() if count), key=lambda name: -counts[name])


def effects(
    assay: Assay,
    parent: str,
    rows: ArrayLike | None = None,
    values: ArrayLike | None = None,
    like: Effects | None = None,
) -> Effects | None:
    """Mean scores by residue and position.

    Only single mutants count where they show at least half of the residues that any variant has; or else every variant
    counts for each of its mutations, so that a value is that of the residue in the company it was measured in.

    Args:
        assay: the variants.
        parent: whose variants.
        rows: (n,) rows of the assay; all if not given.
        values: (n,) one number for each of ``rows``; what was measured if not given.
        like: a map to stand beside: its rows, positions, choice of variants, centre and colours are taken.

    Returns:
        Nothing if no such variant differs from the wild type.
    """
    chosen = np.arange(len(assay)) if rows is None else np.asarray(rows, np.intp)
    numbers = assay.scores[chosen] if values is None else np.asarray(values, np.float64)
    of_parent = (assay.parents[chosen] == parent) & np.isfinite(numbers)
    chosen, numbers = chosen[of_parent], numbers[of_parent]
    reference = np.frombuffer(assay.wild_types[parent].encode("ascii"), np.uint8)
    columns = np.flatnonzero(reference != ord(GAP))
    single = assay.mutations[chosen] == 1
    singles = like.singles if like else _enough(assay, chosen, single, columns)
    kept = chosen[single] if singles else chosen
    kept_numbers = numbers[single] if singles else numbers
    sums, counts = _sums(assay, kept, kept_numbers, columns)
    if not counts.any():
        return None
    with np.errstate(invalid="ignore"):
        means = np.where(counts > 0, sums / counts, np.nan)
    first = int(assay.first_position.get(parent, 1))
    if like:
        letters = np.array([_LETTERS.index(letter) for letter in like.letters])
        places = like.positions - first
        centre, centred_at, limit = like.centre, like.centred_at, like.limit
    else:
        letters = np.flatnonzero(np.array([letter.isalpha() for letter in _LETTERS]) | counts.any(axis=1))
        places = np.flatnonzero(counts.any(axis=0))
        centre, centred_at = _centre(assay, parent, numbers, chosen)
        limit = float(np.percentile(np.abs(means[counts > 0] - centre), STRONGEST)) or 1.0
    return Effects(
        parent=parent,
        letters="".join(_LETTERS[i] for i in letters),
        positions=places + first,
        wild_type="".join(chr(reference[columns[i]]) for i in places),
        values=means[np.ix_(letters, places)],
        counts=counts[np.ix_(letters, places)],
        singles=singles,
        centre=centre,
        centred_at=centred_at,
        limit=limit,
    )


def _sums(
    assay: Assay, rows: NDArray[np.intp], numbers: NDArray[np.float64], columns: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(letters, columns) sums of numbers and how many there are, by residue that differs from the wild type."""
    codes = np.full(256, -1, np.int64)
    codes[np.frombuffer(_LETTERS.encode(), np.uint8)] = np.arange(len(_LETTERS))
    which, where = np.nonzero(assay.differs[rows][:, columns])
    letters = codes[assay.letters[rows[which], columns[where]]]
    known = letters >= 0
    cells = letters[known] * len(columns) + where[known]
    size = len(_LETTERS) * len(columns)
    sums = np.bincount(cells, numbers[which[known]], size).astype(np.float64)
    counts = np.bincount(cells, minlength=size).astype(np.int64)
    shape = (len(_LETTERS), len(columns))
    return sums.reshape(shape), counts.reshape(shape)


def _enough(assay: Assay, chosen: NDArray[np.intp], single: NDArray[np.bool_], columns: NDArray[np.intp]) -> bool:
    any_variant, alone = (
        (_sums(assay, rows, np.zeros(len(rows)), columns)[1] > 0).sum() for rows in (chosen, chosen[single])
    )
    return bool(2 * alone >= any_variant and alone)


def _centre(assay: Assay, parent: str, numbers: NDArray[np.float64], chosen: NDArray[np.intp]) -> tuple[float, str]:
    unchanged = assay.mutations[chosen] == 0
    if unchanged.any():
        return float(numbers[unchanged].mean()), "wild type"
    return float(np.median(numbers)), "median"
