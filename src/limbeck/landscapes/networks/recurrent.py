"""A small bidirectional LSTM, the baseline of arXiv 2009.05451 against large pretrained networks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.landscapes.networks.residues import PADDING, UNKNOWN
from limbeck.landscapes.networks.training import Network

__all__ = ["RecurrentNetwork"]


class RecurrentNetwork(Network):
    """An embedding of residues, one bidirectional LSTM, mean and maximum over the residues, and a linear output.

    Padding and gaps are taken out before, so that it sees the protein alone.

    Args:
        embedding: numbers for each residue.
        hidden: states in each direction.
        random_state: seed of the weights.
    """

    def __init__(self, embedding: int, hidden: int, random_state: int) -> None:
        super().__init__()
        # PyTorch's own layers start from the global generator only.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_state)
            self.embedding = nn.Embedding(PADDING, embedding)
            self.forwards = nn.LSTM(embedding, hidden, batch_first=True)
            self.backwards = nn.LSTM(embedding, hidden, batch_first=True)
            self.output = nn.Linear(4 * hidden, 1)

    def groups(self) -> list[list[nn.Parameter]]:
        """All parameters in one group."""
        return [list(self.parameters())]

    def forward(self, codes: NDArray[np.uint8]) -> Tensor:
        """Scores of n rows, (n,), given their codes, (n, width)."""
        residues, lengths = _without_gaps(codes)
        device = self.output.weight.device
        seen = self.embedding(torch.from_numpy(residues).to(device))
        counts = torch.from_numpy(lengths).to(device)[:, None]
        places = torch.arange(seen.shape[1], device=device)
        behind = places >= counts
        # Each direction reads its padding last, so it needs no packing: packed rows of several lengths are computed
        # residue by residue, which takes several times as long.
        mirrored = torch.where(behind, places, counts - 1 - places)
        rows = torch.arange(len(seen), device=device)[:, None]
        read_back = self.backwards(seen[rows, mirrored])[0][rows, mirrored]
        states = torch.cat([self.forwards(seen)[0], read_back], dim=2)
        largest = states.masked_fill(behind[:, :, None], -torch.inf).max(dim=1).values
        mean = states.masked_fill(behind[:, :, None], 0).sum(dim=1) / counts
        return self.output(torch.cat([mean, largest], dim=1)).squeeze(1)


def _without_gaps(codes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The residues of each row from its start on, (n, longest), and how many they are; an empty row becomes X."""
    gaps = codes == PADDING
    lengths = np.maximum(1, (~gaps).sum(axis=1))
    order = np.argsort(gaps, axis=1, kind="stable")[:, : lengths.max(initial=1)]
    residues = np.take_along_axis(codes, order, axis=1).astype(np.int64)
    residues[residues == PADDING] = UNKNOWN
    return residues, lengths
