"""The loss of MTDP, as its code has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.corpus import Batch
from limbeck.distillation.features import Features
from limbeck.distillation.network import Outputs
from limbeck.distillation.objectives.base import Objective, digest, divergence, finite

__all__ = ["PooledKL"]


class PooledKL(Objective):
    """Kullback-Leibler divergence between softmaxes over the *dimensions* of protein vectors (MTDP, Shang et al. 2024,
    arXiv 2405.11735, as released).

    The released code takes, for each of two teachers, ``KLDivLoss(reduction="batchmean")`` between
    ``log_softmax(head(student))`` and ``softmax(teacher)``, at temperature 1, and adds the teachers up unweighted. The
    teacher's vector is its mean over residues, raw. There is no loss of residues, no masked-residue loss and no
    selector in the release (for the selector that the paper describes, see ``choice.Selector``). Its student's mean
    takes in the padding; the vectors here do not.

    Softmax at temperature 1 over raw means whose entries differ by a fraction of one is close to uniform. Then a head
    that gives every protein the average vector is close to the minimum, and little is left to learn from.

    One loss, ``NAME kl``, in nats.

    Args:
        features: the teacher's features over the corpus; only the protein vectors are read.
        student: shape of the student.
    """

    def __init__(self, features: Features, student: StudentConfig) -> None:
        super().__init__()
        self.features, self.teacher = features, features.name
        self.fingerprint = digest(["kl", features.fingerprint])
        self.head = nn.Linear(student.width, len(features.protein_mean))

    def targets(self, batch: Batch) -> list[Tensor]:
        """The teacher's raw protein vectors, (rows, dimension)."""
        return [torch.from_numpy(finite(self.features.proteins(batch.proteins), self.teacher))]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        student = F.log_softmax(self.head(outputs.vectors).float(), dim=-1)
        return {f"{self.teacher} kl": divergence(targets[0].softmax(dim=-1), student)}
