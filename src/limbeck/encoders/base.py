"""The one idea: everything that turns a protein into numbers is an ``Encoder``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.batches import Piece, Window, pack, split
from limbeck.residues import InvalidResidue, clean
from limbeck.stages import stage

__all__ = ["Encoder", "OnBatch", "ResidueEncoder"]

PROTEINS_AT_ONCE = 2048

OnBatch = Callable[[int, int], None]
"""Called after each batch with (residues that it finished, tokens computed for them, padding included)."""


@runtime_checkable
class Encoder(Protocol):
    """What every encoder offers; callers never ask which kind they hold.

    ``encode`` and ``encode_residues`` take sequences of any length, in any order and number, in the letters
    that :mod:`limbeck.residues` accepts. A protein's result does not depend on its neighbours: batches are
    packed, padded and windowed inside, and none of it shows.
    """

    name: str
    """What :func:`limbeck.load` calls it."""
    version: str
    """Version of the weights or of the definition."""
    dimension: int
    """Numbers in one vector."""
    parameters: int
    """Trained (or, for a random network, drawn) numbers; 0 for a baseline."""
    license: str
    """SPDX identifier of the weights' licence, or ``"unknown"``."""
    pooling: str
    """How residues become one vector: ``"mean"``, ``"sqrt-mean"``, ``"contexts"``, ``"combined"``,
    ``"counts"``."""
    precision: str
    """Numeric mode of the computation: ``"f32"``, ``"bf16"``, ``"f16"``, ``"f64"``, ``"int8"``."""
    fingerprint: str
    """SHA-256 (hex) over all that determines the vectors: weights, definition, layer, pooling. Not the precision."""
    max_length: int | None
    """Longest protein encoded in one window; ``None`` if there is no such limit."""
    token_budget: int
    """Most tokens in one batch; callers may set it. Changes speed and memory, never the vectors
    (beyond the precision's tolerance)."""
    bytes_per_token: int
    """Rough peak memory of one token in a batch, from which callers choose ``token_budget``."""

    def encode(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> NDArray[np.float32]:
        """One vector a protein: (n, dimension) float32, in the order given.

        Raises:
            limbeck.residues.InvalidResidue: if a sequence holds a character that is no residue.
            ValueError: if a sequence is empty.
        """
        ...

    def encode_residues(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        """One vector a residue: for each protein (length, dimension) float32, in the order given.

        Lengths are those of the cleaned sequences. Raises as :meth:`encode` does, and
        :class:`limbeck.errors.InputError` if the encoder has no features of single residues.
        """
        ...


def cleaned(sequences: Sequence[str]) -> list[str]:
    """Clean every sequence; refuse a bare string and empty proteins.

    Raises:
        TypeError: if ``sequences`` is one string, which would be read as many one-residue proteins, or one of them is
            no string.
        ValueError: if a sequence is empty once cleaned.
        limbeck.residues.InvalidResidue: if a character is no residue.
    """
    if isinstance(sequences, (str, bytes)):
        raise TypeError("expected a list of sequences, got one string: pass [sequence]")
    result = []
    for index, sequence in enumerate(sequences):
        if not isinstance(sequence, str):
            raise TypeError(f"sequence {index}: expected a string, got {type(sequence).__name__}")
        try:
            result.append(clean(sequence))
        except InvalidResidue as error:
            raise InvalidResidue(error.character, error.offset, index) from None
        if not result[-1]:
            raise ValueError(f"sequence {index} has no residues")
    return result


def _sums(features: list[NDArray[np.float32]], pieces: list[Piece]) -> NDArray[np.float64]:
    """Sum of each window's owned features: (n, dimension)."""
    return np.stack([f[p.owned].sum(axis=0, dtype=np.float64) for f, p in zip(features, pieces, strict=True)])


class ResidueEncoder(ABC):
    """Base of encoders that compute features of residues in batches.

    A subclass sets the attributes of :class:`Encoder` and writes :meth:`forward`; if it can pool more cheaply
    than by summing the features, or pools something else, it overrides :meth:`pooled_sums` and :meth:`finish`.
    """

    name: str
    version: str
    dimension: int
    parameters: int
    license: str
    fingerprint: str
    pooling: str = "mean"
    precision: str = "f32"
    max_length: int | None = None
    token_budget: int = 16_384
    bytes_per_token: int = 16_384
    overlap: int = 256
    radius: int | None = None
    """How far a residue's features see: letters further away, the protein's ends among them, don't change them.
    ``None`` if they see the whole window."""
    ends: int = 0
    """So many residues at either end of a protein are pooled by where they stand, too: what is added up for them
    changes when the protein gets longer or shorter."""

    @abstractmethod
    def forward(self, windows: list[str]) -> list[NDArray[np.float32]]:
        """Features of one batch of cleaned sequences of like length: for each (length, dimension) float32.

        Special tokens and padding are already taken out.
        """

    def tokens(self, residues: int) -> int:
        """Tokens computed for a window of so many residues when it is the longest of its batch: with start and
        stop tokens, and rounded up if the encoder rounds up."""
        return residues

    def pooled_sums(self, windows: list[str], pieces: list[Piece]) -> NDArray[np.floating]:
        """For each window the sum, over the residues that it owns, of what is pooled: (n, width)."""
        return _sums(self.forward(windows), pieces)

    def pooled_sums_and_features(
        self, windows: list[str], pieces: list[Piece]
    ) -> tuple[NDArray[np.floating], list[NDArray[np.float32]]]:
        """What :meth:`pooled_sums` and :meth:`forward` give, in one pass.

        Whoever pools something else than the features overrides this, too.
        """
        features = self.forward(windows)
        return _sums(features, pieces), features

    def pooled_rows(self, windows: list[str], pieces: list[Piece]) -> list[NDArray[np.float32]]:
        """What :meth:`pooled_sums` adds up, residue by residue: for each window (length, width).

        Whoever pools something else than the features overrides this, too.
        """
        return self.forward(windows)

    def check_residues(self) -> None:  # noqa: B027 (most encoders have them, whatever they are loaded with)
        """Raise ``InputError`` if the encoder has no features of single residues as it was loaded."""

    def states(self, sequence: str) -> Any:
        """What :meth:`changed_sums_and_features` needs to know of a protein that others are variants of.

        ``None`` if the encoder has no such way, or the protein is too long for it.
        """
        return None

    def changed_sums_and_features(
        self, states: Any, variants: list[str], spans: list[tuple[int, int]]
    ) -> tuple[NDArray[np.floating], list[NDArray[np.float32]]]:
        """For variants of a protein, of its length, what :meth:`pooled_sums` and :meth:`forward` give within the radius
        of a span of residues, ``start`` to ``stop``, outside of which the variant has the protein's letters.

        Cheaper than a window: each layer is computed only where it differs from the protein's.
        """
        raise NotImplementedError

    def changed_tokens(self, start: int, stop: int, length: int) -> float:
        """As how many tokens of :meth:`pooled_sums` one span costs in :meth:`changed_sums_and_features`."""
        raise NotImplementedError

    def finish(self, sums: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.floating]:
        """Protein vectors, (n, dimension), from the sums over each protein's residues, (n, width), and their number,
        (n,)."""
        return sums / lengths[:, None]

    def encode(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> NDArray[np.float32]:
        proteins = cleaned(sequences)
        result = np.zeros((len(proteins), self.dimension), dtype=np.float32)
        # What is averaged may be much wider than the result, so few proteins at a time; like lengths together.
        order = sorted(range(len(proteins)), key=lambda i: -len(proteins[i]))
        for first in range(0, len(order), PROTEINS_AT_ONCE):
            chosen = order[first : first + PROTEINS_AT_ONCE]
            result[chosen] = self._encode([proteins[i] for i in chosen], on_batch)
        return result

    def _encode(self, proteins: list[str], on_batch: OnBatch | None) -> NDArray[np.floating]:
        totals: NDArray[np.float64] | None = None
        for windows in self._batches(proteins):
            texts = [proteins[w.protein][w.start : w.stop] for w in windows]
            with stage("network"):
                sums = self.pooled_sums(texts, [Piece(w.owned, w.start, len(proteins[w.protein])) for w in windows])
            if totals is None:
                totals = np.zeros((len(proteins), sums.shape[1]), dtype=np.float64)
            with stage("pooling"):
                np.add.at(totals, [w.protein for w in windows], sums)
            self._report(windows, on_batch)
        assert totals is not None  # there is at least one protein, and it has a window
        with stage("pooling"):
            return self.finish(totals, np.array([len(p) for p in proteins], dtype=np.float64))

    def encode_residues(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        proteins = cleaned(sequences)
        results = [np.empty((len(p), self.dimension), dtype=np.float32) for p in proteins]
        for windows in self._batches(proteins):
            texts = [proteins[w.protein][w.start : w.stop] for w in windows]
            with stage("network"):
                found = self.forward(texts)
            for window, features in zip(windows, found, strict=True):
                results[window.protein][window.own_start : window.own_stop] = features[window.owned]
            self._report(windows, on_batch)
        return results

    @stage("packing")
    def _batches(self, proteins: list[str]) -> list[list[Window]]:
        windows = [
            window
            for index, protein in enumerate(proteins)
            for window in split(index, len(protein), self.max_length, self.overlap)
        ]
        lengths = [self.tokens(len(w)) for w in windows]
        # Windows of one protein are added up in the order of the batches; pack sorts stably, so that order,
        # and with it the last bit of the sum, is the protein's own.
        return [[windows[i] for i in batch] for batch in pack(lengths, self.token_budget)]

    def _report(self, windows: list[Window], on_batch: OnBatch | None) -> None:
        if on_batch:
            tokens = self.tokens(max(len(w) for w in windows)) * len(windows)
            on_batch(sum(w.own_stop - w.own_start for w in windows), tokens)
