"""An encoder's log-likelihood ratios as a model: it ranks without labels, and labels only give it the assay's units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.encoders import Encoder
from limbeck.errors import InputError
from limbeck.landscapes.models.base import Data, Model, State, checked_data, from_text, to_text
from limbeck.landscapes.vectors import Source
from limbeck.landscapes.zero_labels import ZeroLabels, check_likelihoods
from limbeck.rising import rising_line

__all__ = ["ZeroLabelModel"]


class ZeroLabelModel(Model):
    """Ranks variants by :class:`limbeck.landscapes.zero_labels.ZeroLabels`; the labels fit a rising line to that.

    The line is that of least squares, or, where it would fall, one that hardly rises. So the ranking is the same from
    one label as from a thousand. The standard deviation is that of the scores around the line.

    Args:
        encoder: as :func:`limbeck.load` takes it, or several, which are averaged; ``None`` is the default student.
        masked: hide each residue from its own prediction, by an ``X``.
        precision: as :func:`limbeck.load` takes it.
        wild_types: rows that variants are compared with.
        cache: folder that remembers the ratios of the wild types; ``None`` remembers them in this process only.

    Attributes:
        slope_: score for a nat.
        intercept_: score of a variant that is as likely as the wild type.
        noise_: variance of the scores around the line.
    """

    def __init__(
        self,
        encoder: str | Sequence[str] | None = None,
        masked: bool = False,
        *,
        precision: str = "auto",
        wild_types: Sequence[str] = (),
        cache: str | None = None,
    ) -> None:
        self.encoder = encoder
        self.masked = masked
        self.precision = precision
        self.wild_types = wild_types
        self.cache = cache

    def ratios(self, X: Any) -> NDArray[np.float64]:
        """(n,) log-likelihood ratios, in nats; needs no fit.

        Raises:
            InputError: if an encoder has no distribution over residues, or there are no wild types.
        """
        return self.zero_labels().scores(list(X))

    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        rows, scores = checked_data(X, y)
        ratios, self.width_ = self.ratios(rows), len(rows[0])
        self.fingerprint_ = self.zero_labels().fingerprint
        self.intercept_, self.slope_ = rising_line(ratios, scores)
        self.noise_ = float(np.mean((scores - self.slope_ * ratios - self.intercept_) ** 2))
        return self

    def without_labels(self) -> Self:
        """Fitted to no label at all: predictions are :meth:`ratios`, and have no standard deviation (NaN).

        Raises:
            InputError: as :meth:`ratios` does; nothing is computed.
        """
        self.fingerprint_ = self.zero_labels().fingerprint
        for source in self._sources():
            check_likelihoods(source.load())
        self.width_, self.slope_, self.intercept_, self.noise_ = len(self.wild_types[0]), 1.0, 0.0, np.nan
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        if self.zero_labels().fingerprint != self.fingerprint_:
            raise InputError(
                "an encoder is not the one that the model was fitted with: its weights have changed; fit again"
            )
        predicted = self.slope_ * self.ratios(rows) + self.intercept_
        return (predicted, np.full(len(rows), np.sqrt(self.noise_))) if return_std else predicted

    def state(self) -> State:
        numbers = {name: getattr(self, f"{name}_") for name in ("width", "slope", "intercept", "noise")}
        return {name: np.array(value) for name, value in numbers.items()} | {
            "fingerprint": from_text(self.fingerprint_)
        }

    def restore(self, state: State) -> Self:
        self.width_, self.fingerprint_ = int(state["width"]), to_text(state["fingerprint"])
        self.slope_, self.intercept_, self.noise_ = (float(state[name]) for name in ("slope", "intercept", "noise"))
        return self

    def embedder(self) -> Encoder | None:
        return self._sources()[0].load()

    def _sources(self) -> list[Source]:
        names = [self.encoder] if self.encoder is None or isinstance(self.encoder, str) else self.encoder
        return [Source(name, None, self.precision, tuple(self.wild_types), self.cache) for name in names]

    def zero_labels(self) -> ZeroLabels:
        """What scores variants without labels."""
        return ZeroLabels(self._sources(), self.masked)
