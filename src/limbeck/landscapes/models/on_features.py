"""What models on features have in common: where their embeddings come from."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.encoders import Encoder
from limbeck.landscapes.models.base import Model
from limbeck.landscapes.models.features import Features, needs_encoder, zero_labels
from limbeck.landscapes.vectors import Source
from limbeck.landscapes.zero_labels import ZeroLabels

__all__ = ["FeatureModel"]


class FeatureModel(Model):
    """A model on :class:`limbeck.landscapes.models.features.Features`, which its arguments describe.

    A subclass's constructor has all of these arguments, as scikit-learn wants them written out.
    """

    features: str | Sequence[str]
    encoder: str | None
    layer: int | str | Sequence[int] | None
    precision: str
    wild_types: Sequence[str]
    cache: str | None
    scaled: bool = False
    """Whether a single one-hot block is scaled, too."""
    zero_label_weight: float = 1.0
    """By what a zero-label score is enlarged beside other features."""

    def source(self) -> Source:
        """Where its embeddings come from."""
        return Source(self.encoder, self.layer, self.precision, tuple(self.wild_types), self.cache)

    def embedder(self) -> Encoder | None:
        return self.source().load() if needs_encoder(self.features) else None

    def zero_labels(self) -> list[ZeroLabels]:
        """What scores variants without labels among its features."""
        return zero_labels(self.features, self.source())

    def _features(self) -> Features:
        return Features(self.features, self.source(), self.scaled, self.zero_label_weight)
