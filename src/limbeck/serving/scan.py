"""All single mutants of a protein: values by residue and position, and their picture."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.figures import in_short
from limbeck.landscapes.assay import GAP, STOP
from limbeck.landscapes.effects import GROUPS, STRONGEST, Effects
from limbeck.landscapes.pictures import heat_map, heat_numbers
from limbeck.landscapes.zero_labels import ratios
from limbeck.residues import RESIDUES, UNKNOWN_ID, to_ids

__all__ = ["Scan", "likelihood_ratios"]

LONGEST_PICTURE = 2000
"""Positions up to which a heat map is drawn."""
_ROWS = "".join(letters for letters in GROUPS.values() if not {GAP, STOP} & set(letters))


@dataclass(frozen=True)
class Scan:
    """Values of the single mutants of a protein of P residues.

    Attributes:
        by: ``"model"`` or ``"likelihood"``.
        name: of what gave the values.
        meaning: what a value is, in a sentence.
        centre: value of the protein itself.
        positions: (P,) numbers, as users count.
        wild_type: the P residues.
        values: (20, P) rows in the order of ``RESIDUES``; NaN at the protein's own residues.
    """

    by: str
    name: str
    meaning: str
    centre: float
    positions: NDArray[np.int64]
    wild_type: str
    values: NDArray[np.float64]

    def answer(self, *, picture: bool) -> dict[str, Any]:
        """As :class:`limbeck.serving.bodies.SaturateAnswer` has it, rows grouped as in the picture."""
        grouped = self.values[[RESIDUES.index(letter) for letter in _ROWS]]
        return {
            "by": self.by,
            "name": self.name,
            "meaning": self.meaning,
            "centre": self.centre,
            "positions": self.positions.tolist(),
            "wild_type": self.wild_type,
            "residues": _ROWS,
            "values": [[value if np.isfinite(value) else None for value in row] for row in grouped.tolist()],
            "picture": self._picture(grouped) if picture and len(self.positions) <= LONGEST_PICTURE else None,
        }

    def _picture(self, grouped: NDArray[np.float64]) -> dict[str, Any]:
        known = np.abs(grouped[np.isfinite(grouped)] - self.centre)
        effects = Effects(
            parent=self.name,
            letters=_ROWS,
            positions=self.positions,
            wild_type=self.wild_type,
            values=grouped,
            counts=np.isfinite(grouped).astype(np.int64),
            singles=True,
            centre=self.centre,
            centred_at="the protein itself",
            limit=(float(np.percentile(known, STRONGEST)) if known.size else 0.0) or 1.0,
        )
        svg = str(heat_map(effects, "Single mutants"))
        return {
            # The page's policy lets no element carry a style of its own.
            "svg": re.sub(r'style="width:(\d+)px"', r'data-width="\1"', svg),
            "numbers": json.loads(str(heat_numbers(effects, None))),
            "low": in_short(effects.centre - effects.limit),
            "high": in_short(effects.centre + effects.limit),
            "centre": in_short(effects.centre),
        }


def likelihood_ratios(sequence: str, log_probabilities: NDArray[np.float32], encoder: str) -> Scan:
    """Log-likelihood ratios of all single mutants against the protein's own residues (Meier et al. 2021,
    doi:10.1101/2021.07.09.450648, whose wild-type marginals these are).

    Args:
        sequence: of L residues, cleaned.
        log_probabilities: (L, 20) of the encoder, which has seen the whole sequence.
        encoder: its name.

    Returns:
        The scan; no values where the protein has an ``X``.
    """
    ids = to_ids(sequence)
    known = ids != UNKNOWN_ID
    values = np.where(known, ratios(sequence, log_probabilities.astype(np.float64)).T, np.nan)
    values[ids[known], np.flatnonzero(known)] = np.nan
    return Scan(
        by="likelihood",
        name=encoder,
        meaning=f"Log-likelihood ratio of {encoder}: above 0 where it finds the mutant more likely than the protein's "
        "own residue. It was fitted to no assay; treat it as a hint.",
        centre=0.0,
        positions=np.arange(1, len(sequence) + 1),
        wild_type=sequence,
        values=values,
    )
