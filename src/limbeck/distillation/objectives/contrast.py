"""Families as teachers of protein vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.distillation.corpus import Batch
from limbeck.distillation.network import Outputs
from limbeck.distillation.objectives import processes
from limbeck.distillation.objectives.base import Objective

__all__ = ["FamilyContrast"]


class FamilyContrast(Objective):
    """Supervised contrast (Khosla et al. 2020, arXiv 2004.11362) between protein families, with a memory of
    recent vectors as further negatives (cross-batch memory, Wang et al. 2020, arXiv 1912.06798).

    One loss, ``contrast``, whose mean over the rows is the mean over those rows that have a relative in the batch. The
    rows of all processes are one batch: each sees the others' vectors and remembers them. There is no loss in
    evaluation, for families held out have few members among the remembered.

    Args:
        dimension: of the protein vectors.
        memory: how many recent vectors are remembered.
        temperature: of the softmax over cosines.
        weight: what the loss is multiplied by.
    """

    eager = True
    vectors: Tensor
    families: Tensor
    position: Tensor

    def __init__(self, dimension: int, memory: int = 2048, temperature: float = 0.1, weight: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.weight = temperature, weight
        self.register_buffer("vectors", torch.zeros(memory, dimension))
        self.register_buffer("families", torch.full((memory,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def targets(self, batch: Batch) -> list[Tensor]:
        """The families, (rows,)."""
        return [torch.from_numpy(batch.families)]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        if not self.training:
            return {}
        with torch.autocast(outputs.vectors.device.type, enabled=False):
            return {"contrast": self.weight * self._contrast(outputs.vectors.float(), targets[0])}

    def _contrast(self, vectors: Tensor, families: Tensor) -> Tensor:
        rank, number = processes.place()
        rows = len(vectors)
        own = slice(rank * rows, (rank + 1) * rows)
        z = F.normalize(vectors, dim=-1)
        batch, batch_families = processes.gather_with_gradient(z), processes.gather(families)
        same = batch_families[:, None] == batch_families[None, :]
        same.fill_diagonal_(False)
        with_relative = same.any(dim=1).sum().clamp_min(1)
        # Remembered vectors come from older weights, so they only repel; a remembered relative does neither.
        repels = (self.families[None, :] >= 0) & (self.families[None, :] != families[:, None])
        itself = torch.eye(len(batch), dtype=torch.bool, device=z.device)[own]
        logits = z @ torch.cat([batch, self.vectors]).T / self.temperature
        logp = F.log_softmax(logits.masked_fill(torch.cat([itself, ~repels], dim=1), float("-inf")), dim=-1)
        attract = same[own]
        chosen = logp[:, : len(batch)].masked_fill(~attract, 0.0).sum(1) / attract.sum(1).clamp_min(1)
        self._remember(batch.detach(), batch_families)
        # Rows without a relative have a loss of zero: the mean over all rows is brought up to that over the others.
        return -chosen * (rows * number / with_relative)

    @torch.no_grad()
    def _remember(self, z: Tensor, families: Tensor) -> None:
        memory = len(self.vectors)
        index = (self.position + torch.arange(len(z), device=z.device))[-memory:] % memory
        self.vectors[index] = z[-memory:]
        self.families[index] = families[-memory:]
        self.position.copy_((self.position + len(z)) % memory)
