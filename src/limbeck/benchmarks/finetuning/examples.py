"""Proteins with what is to be learned of them, and batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.encoders.batches import Window, pack, split
from limbeck.residues import PAD_ID, to_ids

__all__ = ["Batch", "Examples", "Reading"]

LENGTH_STEP = 32
"""Batches are padded to a multiple of this: kernels are prepared for each shape, and few shapes occur."""


@dataclass(frozen=True)
class Reading:
    """How a network takes proteins: as token ids, whole or in windows.

    Attributes:
        write: token ids of a stretch of residues, one each, between fixed ones.
        before: fixed tokens before the residues.
        special: fixed tokens before and behind them.
        pad: the id of padding.
        window: most residues of one window; ``None`` if there is no such limit.
        overlap: of neighbouring windows, in residues.
    """

    write: Callable[[str], Sequence[int] | NDArray[np.integer]] = to_ids
    before: int = 0
    special: int = 0
    pad: int = PAD_ID
    window: int | None = None
    overlap: int = 0

    def windows(self, protein: int, length: int) -> list[Window]:
        """Those of a protein of so many residues, as the encoder itself cuts it."""
        return split(protein, length, self.window, self.overlap)

    def tokens(self, length: int) -> int:
        """Tokens of a protein of so many residues, over all its windows."""
        return sum(len(window) + self.special for window in self.windows(0, length))


@dataclass(frozen=True)
class Batch:
    """Some examples, for :class:`limbeck.benchmarks.finetuning.network.Tuned`: one row a window.

    Attributes:
        ids: (windows, tokens)
        given: (windows, tokens) 1 where there is a token, 0 where there is padding.
        owned: (windows, tokens, 1) 1 for the residues that count: no fixed token, and none that another window owns.
        proteins: (windows,) which protein of the batch a window is of.
        rows: of residue tasks: indices of the residues that are looked at, into all positions.
        places: (n,) indices of what is predicted, into the targets.
    """

    ids: Tensor
    given: Tensor
    owned: Tensor
    proteins: Tensor
    rows: Tensor | None
    places: NDArray[np.intp]

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on a device."""
        ids, given, owned, proteins = (t.to(device) for t in (self.ids, self.given, self.owned, self.proteins))
        rows = None if self.rows is None else self.rows.to(device)
        return Batch(ids, given, owned, proteins, rows, self.places)


@dataclass(frozen=True)
class Examples:
    """Proteins, and numbers to predict.

    Attributes:
        sequences: cleaned.
        targets: (n,) classes or standardised values, or (n, labels): for each protein, or each residue in ``rows``.
        rows: of residue tasks, for each protein the positions that are looked at; ``None`` else.
        reading: how the network takes them; by default as a student does.
    """

    sequences: list[str]
    targets: Tensor
    rows: list[NDArray[np.intp]] | None = None
    reading: Reading = field(default_factory=Reading)

    def batches(self, proteins: int, tokens: int, random: np.random.Generator | None = None) -> Iterator[Batch]:
        """All that is to be predicted, once: at random, as far as batches of like length allow, or longest first."""
        order = np.arange(len(self.sequences)) if random is None else random.permutation(len(self.sequences))
        # Of equal lengths the order decides, so what stands in a batch together changes from epoch to epoch.
        lengths = [_rounded(self.reading.tokens(len(self.sequences[i]))) for i in order]
        groups = [group[i : i + proteins] for group in pack(lengths, tokens) for i in range(0, len(group), proteins)]
        for group in groups if random is None else [groups[i] for i in random.permutation(len(groups))]:
            batch = self._batch(order[group])
            # Of a residue task a protein may have no residue that is looked at: there is nothing to predict of it.
            if len(batch.places):
                yield batch

    def _batch(self, chosen: NDArray[np.intp]) -> Batch:
        reading = self.reading
        texts = [self.sequences[i] for i in chosen]
        windows = [window for row, text in enumerate(texts) for window in reading.windows(row, len(text))]
        length = _rounded(max(map(len, windows)) + reading.special)
        if reading.window is not None:
            # Beyond a full window some networks have no positions, not even for padding.
            length = min(length, reading.window + reading.special)
        ids = np.full((len(windows), length), reading.pad, np.int64)
        given, owned = np.zeros((len(windows), length), np.int64), np.zeros((len(windows), length), np.float32)
        for row, window in enumerate(windows):
            ids[row, : len(window) + reading.special] = reading.write(texts[window.protein][window.start : window.stop])
            given[row, : len(window) + reading.special] = 1
            owned[row, reading.before + window.owned.start : reading.before + window.owned.stop] = 1
        rows, places = None, chosen
        if self.rows is not None:
            ends = np.cumsum([len(r) for r in self.rows])
            places = np.concatenate([np.arange(ends[i] - len(self.rows[i]), ends[i]) for i in chosen])
            # Windows stand in order and share out a protein's residues, so these are all residues, one after the other.
            residues = np.flatnonzero(owned)
            starts = np.cumsum([0, *map(len, texts)])
            rows = torch.from_numpy(
                np.concatenate([residues[self.rows[i] + start] for i, start in zip(chosen, starts, strict=False)])
            )
        proteins = torch.tensor([window.protein for window in windows])
        return Batch(
            torch.from_numpy(ids), torch.from_numpy(given), torch.from_numpy(owned)[..., None], proteins, rows, places
        )


def _rounded(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP
