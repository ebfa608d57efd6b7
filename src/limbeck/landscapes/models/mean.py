"""The floor: every variant is predicted to score as the training variants do on average."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from limbeck.landscapes.models.base import Data, Model, State, checked_data

__all__ = ["MeanModel"]


class MeanModel(Model):
    """Predicts the mean of the training scores.

    Its standard deviation is that of the training scores. Nothing is chosen, so ``validation`` is not looked at.

    Attributes:
        mean_: of the training scores.
        std_: their standard deviation (divided by n).
    """

    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        rows, scores = checked_data(X, y)
        self.width_ = len(rows[0])
        self.mean_, self.std_ = float(scores.mean()), float(scores.std())
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        predicted = np.full(len(rows), self.mean_)
        return (predicted, np.full(len(rows), self.std_)) if return_std else predicted

    def state(self) -> State:
        return {"width": np.array(self.width_), "mean": np.array(self.mean_), "std": np.array(self.std_)}

    def restore(self, state: State) -> Self:
        self.width_ = int(state["width"])
        self.mean_, self.std_ = float(state["mean"]), float(state["std"])
        return self
