"""What an objective is, and the sums that keep one process and several the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.distillation.corpus import Batch, Corpus
from limbeck.distillation.network import Outputs, Student
from limbeck.errors import InputError

__all__ = ["Objective"]

Array = NDArray[np.float32]


class Objective(nn.Module):
    """Base of the objectives that compare a student with a teacher on one batch.

    Every loss has one value a row, scaled so that the plain mean over the rows is the loss. A loss of residues is
    divided by the mean number of residues in a row of the *global* batch, so that processes which share a batch
    average to the loss, and to the gradient, that one process would have had.
    """

    teacher: str = ""
    """Whom it learns from; objectives of one teacher are weighted together. Empty: from no teacher, always weight 1."""
    eager: bool = False
    """Runs outside the compiled graph, for it talks to other processes or has a memory."""
    margin: int = 0
    """Profile columns beside a crop that the targets need."""
    fingerprint: str = ""
    """SHA-256 (hex) over what the teacher brings along and how it is used; an unfinished run goes on only with the
    same."""

    def prepare(self, student: Student, corpus: Corpus) -> None:
        """Called once, before the first step of a new run."""

    def targets(self, batch: Batch) -> list[Tensor]:
        """Tensors that :meth:`forward` needs; may read files."""
        raise TypeError("an objective defines targets")

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        """Losses by name, (rows,) each."""
        raise TypeError("an objective defines forward")


def per_row(number: float) -> Tensor:
    """A number of residues as the scalar tensor that goes with the targets."""
    return torch.tensor(number, dtype=torch.float32)


def residue_loss(values: Tensor, mask: Tensor, residues_per_row: Tensor) -> Tensor:
    """Losses (rows,) from those of residues (rows, length) under a 0/1 mask of the same shape."""
    return (values * mask).sum(1) / residues_per_row


def divergence(target: Tensor, log_probabilities: Tensor) -> Tensor:
    """Kullback-Leibler divergence over the last axis, in nats; a target of all zeros (padding) counts nothing."""
    return (torch.xlogy(target, target) - target * log_probabilities).sum(-1)


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half (1 - cosine) and half smooth L1, over the last axis."""
    cosine = 1 - F.cosine_similarity(student, teacher, dim=-1)
    return 0.5 * cosine + 0.5 * F.smooth_l1_loss(student, teacher, reduction="none").mean(-1)


def finite(values: Array, teacher: str, known: NDArray[np.bool_] | None = None) -> Array:
    """The values themselves.

    Raises:
        InputError: if one that is known is not finite.
    """
    # The sum is finite only if every value is, and takes a fraction of the time.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(values.sum())
    if not math.isfinite(total) and not np.isfinite(values if known is None else values[known]).all():
        raise InputError(f"features of teacher {teacher} are not finite; remove its cache, or choose another layer")
    return values


def digest(parts: Sequence[str]) -> str:
    """SHA-256 (hex) over several strings."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
