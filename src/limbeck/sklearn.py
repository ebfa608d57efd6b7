"""Proteins as features in scikit-learn: needs the extra ``limbeck[sklearn]``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError("limbeck.sklearn needs scikit-learn: pip install 'limbeck[sklearn]'") from error

from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.residues import InvalidResidue, clean

__all__ = ["ProteinEmbedder"]


class ProteinEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embed protein sequences: a transformer from n sequences to vectors, (n, dimension) float32.

    Nothing is learned from the data: ``fit`` only loads the encoder. A fitted embedder can be pickled
    whatever its encoder is made of; the copy loads the encoder again when it is first used.

    Args:
        encoder: name or folder, as :func:`limbeck.load` takes it; ``None`` is the default model.
        layer: as :func:`limbeck.load` takes it.
        precision: as :func:`limbeck.load` takes it.
        device: as :func:`limbeck.load` takes it.
        pooling: as :func:`limbeck.load` takes it.

    Attributes:
        encoder_: the loaded :class:`limbeck.Encoder`.
        fingerprint_: its fingerprint. A pickled embedder refuses to go on with any other encoder.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> model = make_pipeline(ProteinEmbedder("composition"), LogisticRegression())
        >>> model.fit(["MKTAYIAK", "GGSGGSGG"], [1, 0]).predict(["MKTAYLAK"])
        array([1])
    """

    def __init__(
        self,
        encoder: str | os.PathLike[str] | None = None,
        *,
        layer: int | str | Sequence[int] | None = None,
        precision: str = "auto",
        device: str = "auto",
        pooling: str | None = None,
    ) -> None:
        self.encoder = encoder
        self.layer = layer
        self.precision = precision
        self.device = device
        self.pooling = pooling

    def fit(self, X: Any = None, y: Any = None) -> ProteinEmbedder:
        """Load the encoder. ``X`` and ``y`` are not looked at.

        Raises:
            InputError: if there is no such encoder, or it cannot be loaded.
        """
        self.encoder_ = self._load()
        self.fingerprint_ = self.encoder_.fingerprint
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Vectors of n proteins: (n, dimension) float32, in the order given.

        Args:
            X: n sequences: a list or another iterable, a 1-D array or series of strings, or an array or
                data frame with one column, (n, 1).

        Raises:
            sklearn.exceptions.NotFittedError: before ``fit``.
            InputError: if a sequence is empty or holds a character that is no residue; it names the row.
            TypeError: if ``X`` is a single string, or an entry is no string.
            ValueError: if ``X`` has more than one column.
        """
        check_is_fitted(self)
        if not hasattr(self, "encoder_"):
            self.encoder_ = self._reload()
        return self.encoder_.encode(_sequences(X))

    @property
    def _n_features_out(self) -> int:
        if not hasattr(self, "encoder_"):
            self.encoder_ = self._reload()
        return self.encoder_.dimension

    def _load(self) -> Encoder:
        return load(self.encoder, layer=self.layer, precision=self.precision, device=self.device, pooling=self.pooling)

    def _reload(self) -> Encoder:
        encoder = self._load()
        if encoder.fingerprint != self.fingerprint_:
            raise InputError(
                f"encoder {encoder.name!r} is not the one that this embedder was fitted with: its weights or "
                "settings have changed; fit again"
            )
        return encoder

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fingerprint_")

    def __getstate__(self) -> dict[str, Any]:
        # Compiled models can't be pickled, and weights don't belong into every copy of a pipeline.
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "encoder_"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def one_column(X: Any, what: str) -> Iterable[Any]:
    """What scikit-learn hands over for n strings: a list or another iterable, or an array or data frame of one column.

    Args:
        what: one of them is called, for messages.

    Raises:
        TypeError: if ``X`` is a single string.
        ValueError: if ``X`` has more than one column.
    """
    if isinstance(X, (str, bytes)):
        raise TypeError(f"expected n {what}s, got one string: pass [{what}]")
    if not hasattr(X, "shape"):
        return X
    array = np.asarray(X, dtype=object)
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise ValueError(f"expected one column of {what}s, got an array of shape {array.shape}")
    return array.ravel()


def _sequences(X: Any) -> list[str]:
    """The rows of ``X`` as cleaned sequences."""
    return [_sequence(row, value) for row, value in enumerate(one_column(X, "sequence"))]


def _sequence(row: int, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"row {row}: expected a sequence (str), got {type(value).__name__}")
    try:
        sequence = clean(value)
    except InvalidResidue as error:
        raise InputError(f"row {row}: {error}; correct or remove it") from None
    if not sequence:
        raise InputError(f"row {row}: the sequence has no residues; remove it")
    return sequence
