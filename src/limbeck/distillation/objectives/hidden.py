"""Learning without a teacher: name the hidden residues."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limbeck.distillation.corpus import Batch
from limbeck.distillation.network import Outputs
from limbeck.distillation.objectives.base import Objective, per_row, residue_loss
from limbeck.residues import UNKNOWN_ID

__all__ = ["HiddenResidues"]


class HiddenResidues(Objective):
    """Name the residues that were hidden (masked language modelling, Devlin et al. 2019, arXiv 1810.04805).

    One loss, ``hidden``: nats per hidden residue. A hidden ``X`` has no name, so it counts nothing.

    Args:
        weight: what the loss is multiplied by in training.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def targets(self, batch: Batch) -> list[Tensor]:
        """Residue ids and whether to name them, (rows, length) each; hidden residues a row."""
        known = batch.hidden & (batch.residues < UNKNOWN_ID)
        residues = np.where(known, batch.residues, 0).astype(np.int64)
        return [torch.from_numpy(residues), torch.from_numpy(known).float(), per_row(batch.hidden_per_row)]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        residues, hidden, hidden_per_row = targets
        surprise = -outputs.profile.gather(-1, residues[..., None])[..., 0]
        loss = residue_loss(surprise, hidden, hidden_per_row)
        return {"hidden": self.weight * loss if self.training else loss}
