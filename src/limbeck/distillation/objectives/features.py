"""Matching a teacher's features, residue by residue and protein by protein."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.corpus import Batch
from limbeck.distillation.features import Features
from limbeck.distillation.network import Outputs
from limbeck.distillation.objectives.base import Array, Objective, digest, feature_distance, finite, per_row
from limbeck.distillation.objectives.standardise import Identity, PerDimension, PhiS, Standardisation
from limbeck.errors import InputError

__all__ = ["HEADS", "KINDS", "FeatureMatching"]

HEADS = ("linear", "mlp")
KINDS = ("dimension", "phi-s", "none")
SAMPLE_RESIDUES, SAMPLE_PROTEINS = 20_000, 4_096
"""From how many PHI-S is fitted."""


class FeatureMatching(Objective):
    """Any encoder as a teacher: half (1 - cosine) and half smooth L1 on standardised features, through heads of the
    teacher's own that only training needs (UNIC, Sariyildiz et al. 2024, arXiv 2408.05088).

    Two losses: ``NAME residues``, where features are known, and ``NAME proteins``, between the student's protein
    vector and the teacher's vector of the whole protein. Where a cache holds only some residues of a protein, their
    mean stands for all residues of the crop; where it holds none at all, the second loss is the only one.

    UNIC's heads are perceptrons on every block of the student, added up; here they see its last block alone.

    Args:
        features: the teacher's features over the corpus.
        student: shape of the student.
        standardise: how features are brought to one scale: ``dimension``, ``phi-s`` or ``none``.
        head: ``linear``, or ``mlp`` for one hidden layer of four times the student's width, with GELU.

    Raises:
        InputError: if there is no such standardisation or head, or a feature is not finite.
    """

    def __init__(
        self, features: Features, student: StudentConfig, standardise: str = "dimension", head: str = "linear"
    ) -> None:
        super().__init__()
        self.features, self.teacher = features, features.name
        self.fingerprint = digest(["match", features.fingerprint, standardise, head])
        self.protein_scale = protein_standardisation(features, standardise)
        self.protein_head = projection_head(head, student.width, len(features.protein_mean))
        self.with_residues = features.share > 0
        if self.with_residues:
            self.residue_scale = residue_standardisation(features, standardise)
            self.residue_head = projection_head(head, student.width, features.dimension)

    def targets(self, batch: Batch) -> list[Tensor]:
        """Protein vectors (rows, dimension); residue features (rows, length, dimension) and where they are known (rows,
        length); residues a row. All raw."""
        proteins = torch.from_numpy(finite(self.features.proteins(batch.proteins), self.teacher))
        if not self.with_residues:
            return [proteins]
        values, known = self.features.crops(batch.proteins, batch.starts, batch.ids.shape[1])
        values = finite(values, self.teacher, known)
        return [proteins, torch.from_numpy(values), torch.from_numpy(known), per_row(batch.residues_per_row)]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        teacher = self.protein_scale(targets[0])
        proteins = feature_distance(self.protein_head(outputs.vectors).float(), teacher)
        losses = {f"{self.teacher} proteins": proteins}
        if self.with_residues:
            losses[f"{self.teacher} residues"] = self._residues(outputs, *targets[1:])
        return losses

    def _residues(self, outputs: Outputs, values: Tensor, known: Tensor, residues_per_row: Tensor) -> Tensor:
        teacher = self.residue_scale(torch.where(known[..., None], values, 0.0))
        distances = feature_distance(self.residue_head(outputs.features).float(), teacher)
        mask = outputs.mask[..., 0]
        counted = known * mask
        mean = (distances * counted).sum(1) / counted.sum(1).clamp_min(1)
        return mean * mask.sum(1) / residues_per_row


def projection_head(kind: str, width: int, dimension: int) -> nn.Module:
    """From (..., width) of the student to (..., dimension) of a teacher.

    Raises:
        InputError: if there is no such kind of head.
    """
    if kind == "linear":
        return nn.Linear(width, dimension)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, dimension))
    raise InputError(f"heads are {' or '.join(HEADS)}, not {kind!r}; choose one of these")


def residue_standardisation(features: Features, kind: str) -> Standardisation:
    """A standardisation of the teacher's residue features."""
    return _standardisation(
        kind, features.name, features.mean, features.scale, lambda: features.sample(SAMPLE_RESIDUES)
    )


def protein_standardisation(features: Features, kind: str) -> Standardisation:
    """A standardisation of the teacher's protein vectors."""
    return _standardisation(
        kind,
        features.name,
        features.protein_mean,
        features.protein_scale,
        lambda: features.sample_proteins(SAMPLE_PROTEINS),
    )


def _standardisation(
    kind: str, teacher: str, mean: Array, scale: Array, sample: Callable[[], Array]
) -> Standardisation:
    if kind == "dimension":
        return PerDimension(torch.tensor(finite(mean, teacher)), torch.tensor(finite(scale, teacher)))
    if kind == "phi-s":
        return PhiS(torch.from_numpy(finite(sample(), teacher)))
    if kind == "none":
        return Identity()
    raise InputError(f"features are standardised by {', '.join(KINDS)}, not {kind!r}; choose one of these")
