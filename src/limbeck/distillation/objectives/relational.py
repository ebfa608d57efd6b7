"""Matching how a teacher relates the proteins of a batch to one another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.distillation.corpus import Batch
from limbeck.distillation.features import Features
from limbeck.distillation.network import Outputs
from limbeck.distillation.objectives import processes
from limbeck.distillation.objectives.base import Objective, digest, finite
from limbeck.distillation.objectives.features import protein_standardisation

__all__ = ["Relational"]


class Relational(Objective):
    """The cosines between the proteins of a batch, as the teacher has them (relational knowledge distillation, Park et
    al. 2019, arXiv 1904.05068; similarity-preserving distillation, Tung and Mori 2019, arXiv 1907.09682).

    One loss, ``NAME relations``: the mean squared difference between a protein's cosines to the others and the
    teacher's, whose vectors are standardised first (raw mean features all point the same way). It needs no head, so it
    shapes the student's vectors themselves. In training the rows of all processes are one batch.

    Args:
        features: the teacher's features over the corpus; only the protein vectors are read.
        standardise: how these are brought to one scale: ``dimension``, ``phi-s`` or ``none``.
    """

    eager = True

    def __init__(self, features: Features, standardise: str = "dimension") -> None:
        super().__init__()
        self.features, self.teacher = features, features.name
        self.fingerprint = digest(["relational", features.fingerprint, standardise])
        self.scale = protein_standardisation(features, standardise)

    def targets(self, batch: Batch) -> list[Tensor]:
        """The teacher's raw protein vectors, (rows, dimension)."""
        return [torch.from_numpy(finite(self.features.proteins(batch.proteins), self.teacher))]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        with torch.autocast(outputs.vectors.device.type, enabled=False):
            student = F.normalize(outputs.vectors.float(), dim=-1)
            teacher = F.normalize(self.scale(targets[0]), dim=-1)
            # Evaluation may run in one process alone, which must not wait for the others.
            everyone = processes.gather_with_gradient(student) if self.training else student
            taught = processes.gather(teacher) if self.training else teacher
            # The cosine of a protein with itself is one on both sides, so it adds nothing.
            squares = (student @ everyone.T - teacher @ taught.T).square().sum(1)
        return {f"{self.teacher} relations": squares / max(len(everyone) - 1, 1)}
