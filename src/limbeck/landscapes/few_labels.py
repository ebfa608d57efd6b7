"""What to use with few labels: a rule over measured learning curves.

``few_labels.json`` holds the curves' means over assays of single mutants, each of another protein
(``results/few_labels``). The rule, for an assay with n variants of one protein:

1. Take the measured number of labels that is nearest to n, by ratio; above the largest by more than half, there is no
   recommendation, since the assay can compare models itself.
2. Of the methods whose gain over tuned ridge on one-hot has an interval (95 %, over assays) above zero, the one with
   the highest mean Spearman correlation is recommended. If there is none, ridge on one-hot is.
3. Methods that search for relatives need a file of natural proteins, and are recommended beside what needs none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from limbeck.landscapes.assay import Assay

__all__ = ["BASELINE", "Measured", "advice", "is_few", "recommend"]

BASELINE = "ridge on one-hot"
FARTHEST = 1.5
RELATIVES = "homology"


@dataclass(frozen=True)
class Measured:
    """A method's mean over assays at one number of labels.

    Attributes:
        labels: how many.
        method: as the ladder of ``limbeck landscape`` and ``results/few_labels`` call it.
        value, low, high: Spearman's correlation and its 95 % interval over assays.
        gain, gain_low, gain_high: over ridge on one-hot with as many labels.
    """

    labels: int
    method: str
    value: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float

    @property
    def relatives(self) -> bool:
        """Whether it needs a file of natural proteins to search."""
        return RELATIVES in self.method


@cache
def _table() -> tuple[int, tuple[Measured, ...]]:
    """How many assays there were, and all rows."""
    text = (resources.files("limbeck.landscapes") / "few_labels.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    names = Measured.__dataclass_fields__
    return content["assays"], tuple(Measured(**{name: row[name] for name in names}) for row in content["rows"])


def is_few(labels: int) -> bool:
    """Whether there are no more labels than the curves say something about."""
    return labels <= FARTHEST * max(row.labels for row in _table()[1])


def recommend(labels: int, relatives: bool = False, among: Collection[str] | None = None) -> Measured | None:
    """What to use with so many labelled variants of one protein; ``None`` if there are more than were measured.

    Args:
        relatives: whether what searches a file of natural proteins for relatives counts, whatever ``among`` says.
        among: methods that can be had, as the ladder calls them; ``None`` for all that search for no relatives. Ridge
            on one-hot always can.

    Raises:
        ValueError: if there is no label at all.
    """
    if labels < 1:
        raise ValueError("with no labels there is nothing to compare; use limbeck.landscapes.models.ZeroLabelModel")
    rows = _table()[1]
    if not is_few(labels):
        return None
    nearest = min({row.labels for row in rows}, key=lambda size: abs(math.log(size / labels)))
    here = [row for row in rows if row.labels == nearest and _counts(row, relatives, among)]
    winners = [row for row in here if row.gain_low > 0]
    baseline = next(row for row in here if row.method == BASELINE)
    return max(winners, key=lambda row: row.value, default=baseline)


def _counts(row: Measured, relatives: bool, among: Collection[str] | None) -> bool:
    if row.relatives and relatives:
        return True
    return not row.relatives if among is None else row.method in (BASELINE, *among)


def advice(assay: Assay, among: Collection[str] | None = None) -> str:
    """The recommendation for an assay, in sentences; empty where it has none: many variants, or no one wild type.

    Args:
        among: as :func:`recommend` takes it.
    """
    if len(assay.wild_types) != 1 or not len(assay) or (assay.parents == "").any():
        return ""
    found = recommend(len(assay), among=among)
    if found is None:
        return ""
    assays = _table()[0]
    against = "" if found.method == BASELINE else f", {found.gain:+.2f} over {BASELINE}"
    text = (
        f"With {len(assay):,} variants of one protein, use {found.method}: from {found.labels} labels it reached a "
        f"Spearman correlation of {found.value:.2f} on average over {assays} assays of single mutants "
        f"({found.low:.2f} to {found.high:.2f}{against})."
    )
    other = recommend(len(assay), relatives=True, among=among)
    if other is not None and other.method != found.method:
        text += (
            f" With a file of natural proteins to search (--encoder homology:FILE), use {other.method}: "
            f"{other.value:.2f} ({other.low:.2f} to {other.high:.2f})."
        )
    return text
