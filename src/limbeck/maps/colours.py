"""What a column's values become on a map: categories with colours, or numbers on a scale."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError

__all__ = ["KINDS", "Colouring", "colouring"]

KINDS = ("auto", "category", "number")
COLOURED = 16
"""Categories with a colour of their own; the others share a grey one."""
FEWEST_NUMBERS = 13
"""Different numbers from which a column of numbers is a scale; fewer are names, as of clusters."""
TAIL = 0.02
"""Of the values at either end, this share has the end's colour, so that few far ones don't take the whole scale."""
LARGEST_PLACE = 65_534
"""Places on a scale are 0 to this; one more stands for no value."""


@dataclass(frozen=True)
class Colouring:
    """Each protein's colour on a page."""

    kind: str
    """``"category"``, ``"number"`` or ``"none"``."""
    places: NDArray[np.uint16]
    """(n,): a category's place in ``names``, or a number's on the scale; the largest uint16 stands for no value."""
    names: list[str]
    """Categories, the most frequent first."""
    counts: list[int]
    low: float = 0.0
    high: float = 1.0
    """What the ends of a scale stand for."""
    smallest: float = 0.0
    largest: float = 0.0
    """Of all numbers."""

    @property
    def description(self) -> dict[str, Any]:
        """All but the places, for a page."""
        return {
            "kind": self.kind,
            "names": self.names,
            "counts": self.counts,
            "coloured": COLOURED,
            "low": self.low,
            "high": self.high,
            "smallest": self.smallest,
            "largest": self.largest,
        }


def colouring(values: Sequence[str] | None, column: str, kind: str = "auto") -> Colouring:
    """Colours of values; ``""`` is no value.

    Args:
        values: of one column, (n,); ``None`` if there is none.
        column: its name, for messages.
        kind: one of :data:`KINDS`; ``"auto"``: a scale if all values are numbers and more than a dozen differ.

    Raises:
        InputError: if numbers were asked for and a value is none.
    """
    if values is None:
        return Colouring("none", np.zeros(0, np.uint16), [], [])
    numbers = _numbers(values)
    if kind == "number" and numbers is None:
        wrong = next(value for value in values if value and _number(value) is None)
        raise InputError(f"column {column!r} has {wrong!r}, which is no number; use --colour-as category")
    different = len({value for value in values if value})
    if numbers is not None and (kind == "number" or (kind == "auto" and different >= FEWEST_NUMBERS)):
        return _scale(numbers)
    return _categories(values)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    """NaN for no value; ``None`` if one is no number, or there is none at all."""
    found = [_number(value) if value else math.nan for value in values]
    if any(number is None for number in found) or all(not value for value in values):
        return None
    return np.array(found, np.float64)


def _scale(numbers: NDArray[np.float64]) -> Colouring:
    known = numbers[np.isfinite(numbers)]
    low, high = (float(value) for value in np.quantile(known, [TAIL, 1 - TAIL]))
    if high <= low:
        low, high = float(known.min()), float(known.max())
    share = (numbers - low) / (high - low if high > low else 1.0)
    places = np.clip(np.nan_to_num(share) * LARGEST_PLACE, 0, LARGEST_PLACE).round().astype(np.uint16)
    places[np.isnan(numbers)] = LARGEST_PLACE + 1
    return Colouring("number", places, [], [], low, high, float(known.min()), float(known.max()))


def _categories(values: Sequence[str]) -> Colouring:
    frequent = Counter(value for value in values if value)
    names = sorted(frequent, key=lambda name: (-frequent[name], name))
    # Beyond what a place can say lies a column of ids, say, whose rare names would all be grey in any case.
    names = names[:LARGEST_PLACE]
    place = {name: number for number, name in enumerate(names)}
    places = np.array([place.get(value, LARGEST_PLACE + 1) for value in values], np.uint16)
    return Colouring("category", places, names, [frequent[name] for name in names])
