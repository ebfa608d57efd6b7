"""The line that gives what only ranks the units of the scores, and keeps its order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SLOPE", "rising_line"]

LEAST_SLOPE = 0.01
"""In standard deviations of the scores for one of what ranks. Above zero, so that the order is kept, whatever few
scores say."""


def rising_line(ranks: NDArray[np.floating], scores: NDArray[np.floating]) -> tuple[float, float]:
    """Intercept and slope of the least-squares line from what ranks, (n,), to scores, (n,); or, where that line would
    fall or be flat, of one that hardly rises.
    """
    centred, spread = ranks - ranks.mean(), float(ranks.std()) or 1.0
    least = LEAST_SLOPE * (float(scores.std()) or 1.0) / spread
    slope = max(float(np.mean(centred * scores)) / spread**2, least)
    return float(scores.mean() - slope * ranks.mean()), slope
