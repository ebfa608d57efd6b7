"""Proteins with what is to be learned of them, and batches of like length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.encoders.batches import pack
from limbeck.residues import PAD_ID, to_ids

__all__ = ["Batch", "Examples"]

LENGTH_STEP = 32
"""Batches are padded to a multiple of this: kernels are prepared for each shape, and few shapes occur."""


class Batch(NamedTuple):
    """Some examples, for :class:`limbeck.benchmarks.finetuning.network.Tuned`."""

    ids: Tensor
    """(proteins, length)"""
    mask: Tensor
    """(proteins, length, 1)"""
    rows: Tensor | None
    """Of residue tasks: indices of the residues that are looked at, into all positions."""
    places: NDArray[np.intp]
    """(n,) indices of what is predicted, into the targets."""


@dataclass(frozen=True)
class Examples:
    """Proteins, and numbers to predict.

    Attributes:
        sequences: cleaned.
        targets: (n,) classes or standardised values, or (n, labels): for each protein, or each residue in ``rows``.
        rows: of residue tasks, for each protein the positions that are looked at; ``None`` else.
    """

    sequences: list[str]
    targets: Tensor
    rows: list[NDArray[np.intp]] | None = None

    def batches(self, proteins: int, tokens: int, random: np.random.Generator | None = None) -> Iterator[Batch]:
        """All proteins, once: at random, as far as batches of like length allow, or longest first."""
        order = np.arange(len(self.sequences)) if random is None else random.permutation(len(self.sequences))
        # Of equal lengths the order decides, so what stands in a batch together changes from epoch to epoch.
        lengths = [_rounded(len(self.sequences[i])) for i in order]
        groups = [group[i : i + proteins] for group in pack(lengths, tokens) for i in range(0, len(group), proteins)]
        for group in groups if random is None else [groups[i] for i in random.permutation(len(groups))]:
            yield self._batch(order[group])

    def _batch(self, chosen: NDArray[np.intp]) -> Batch:
        length = _rounded(max(len(self.sequences[i]) for i in chosen))
        ids = np.full((len(chosen), length), PAD_ID, np.int64)
        for row, index in enumerate(chosen):
            ids[row, : len(self.sequences[index])] = to_ids(self.sequences[index])
        rows, places = None, chosen
        if self.rows is not None:
            ends = np.cumsum([len(r) for r in self.rows])
            places = np.concatenate([np.arange(ends[i] - len(self.rows[i]), ends[i]) for i in chosen])
            rows = torch.from_numpy(np.concatenate([self.rows[i] + row * length for row, i in enumerate(chosen)]))
        return Batch(torch.from_numpy(ids), torch.from_numpy(ids != PAD_ID)[..., None].float(), rows, places)


def _rounded(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP
