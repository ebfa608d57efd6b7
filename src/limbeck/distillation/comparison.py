"""Students compared where their losses are equal, not where their steps are.

Xia et al. (2023, arXiv 2212.09803): models that have reached the same loss behave alike, whatever their size and
however long they took, so what is worth a comparison is what two models can do at equal loss, and what it cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["at_loss", "lowest", "shared_levels"]


def shared_levels(losses: Sequence[NDArray[np.float64]], count: int = 5) -> NDArray[np.float64]:
    """Loss levels that every student has come through, evenly spaced from the highest to the lowest.

    Args:
        losses: one (evaluations,) array a student, in the order of training.
        count: levels.

    Returns:
        (count,) descending, or (0,) if the students share no range.
    """
    if any(not len(student) for student in losses):
        return np.zeros(0)
    high = min(float(student[0]) for student in losses)
    low = max(float(student.min()) for student in losses)
    return np.linspace(high, low, count) if low < high else np.zeros(0)


def lowest(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(evaluations,) whether the loss was lower than at every evaluation before."""
    before = np.minimum.accumulate(np.concatenate([[np.inf], losses[:-1]]))
    return losses < before


def at_loss(losses: NDArray[np.float64], values: NDArray[np.float64], level: float) -> float:
    """What ``values`` was when the loss first came down to ``level``.

    Only evaluations with a new lowest loss count, so that noise in the loss does not make the answer ambiguous; it is
    linear between the two of them about ``level``.

    Args:
        losses, values: (evaluations,) in the order of training.

    Returns:
        NaN if the loss was below ``level`` from the first evaluation on, or never reached it.
    """
    counts = lowest(losses)
    # np.interp wants them ascending.
    x, y = losses[counts][::-1], values[counts][::-1]
    return float(np.interp(level, x, y, left=np.nan, right=np.nan)) if len(x) else float("nan")
