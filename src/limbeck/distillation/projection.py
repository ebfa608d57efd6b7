"""The last step of a training run: fit the map from what is pooled over a protein to its vector in closed form.

What is pooled has several parts: assignments to sequence contexts, which tell relatives; residue vectors, which tell
what the contexts were not taught, over the whole protein and at its ends; how often residues and pairs of them occur;
and the length. Each is brought to a variance of its own (:data:`SHARES`) before principal components are taken of all
together.

Some contexts vary together over whole folds and swamp the rest in a nearest-neighbour search. Each component, scaled by
its standard deviation to a power of -1/2, evens that out half-way; full whitening (a power of -1) would let the noise
of the smallest components in.

A component of standard deviation s gives a number of standard deviation s to the power of 1/2, so the numbers of a
protein vector come in the order of their variance over proteins, and the first k of them serve alone
(:mod:`limbeck.distillation.nested`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.network import Student
from limbeck.encoders.batches import pack
from limbeck.encoders.student_pooling import part_sizes

__all__ = ["fit_projection", "principal_components", "projection"]

SAMPLE_PROTEINS = 6000
BATCH_RESIDUES = 16_384
LONGEST = 2048
"""Of longer proteins a random piece of this length stands for the whole."""
POWER = -0.5
SHARES = (1.0, 1.5, 0.5, 0.5, 0.5, 0.4, 0.3)
"""Standard deviations over proteins to which the parts are brought, in the order of
:func:`limbeck.encoders.student_pooling.part_sizes`. Chosen on training and validation proteins of the probes
(``results/model/pooling.py``)."""


def principal_components(pooled: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, first principal components and standard deviations of what was pooled.

    Args:
        pooled: (n, numbers).
        width: how many components, at most ``numbers``.

    Returns:
        Mean (numbers,), components (width, numbers) and deviations (width,); where there are fewer proteins than
        components, the rest are any orthogonal directions and deviate by nothing. Deviations descend. The largest
        entry of a component is positive: its sign is arbitrary, and would else be the linear algebra library's.
    """
    # Of the covariance in double precision: a singular value decomposition of thousands of proteins in single precision
    # was seen to come back with components that were not orthogonal.
    exact = pooled.double()
    center = exact.mean(0)
    centred = exact - center
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(pooled))
    components = axes.flip(1).T[:width]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    components = components * torch.where(largest < 0, -1.0, 1.0)
    deviations = variances.flip(0)[:width].clamp_min(0).sqrt()
    return center.float(), components.float(), deviations.float()


@torch.no_grad()
def fit_projection(student: Student, corpus: Corpus, *, device: str = "cpu", bf16: bool = False) -> None:
    """Set the student's ``center`` and ``project`` from what it pools over training proteins, one a family.

    Over those proteins the variance of the numbers of a protein vector descends.

    Args:
        student: trained; changed in place.
        corpus: what it was trained on.
        device: where the student is.
        bf16: compute in bfloat16.
    """
    rng = np.random.default_rng(0)
    training = rng.permutation(np.flatnonzero(~corpus.is_validation))
    _, first = np.unique(corpus.families[training], return_index=True)
    sample = training[np.sort(first)][:SAMPLE_PROTEINS]
    pooled = []
    student.eval()
    lengths = np.minimum(corpus.lengths[sample], LONGEST).tolist()
    for rows in pack(lengths, BATCH_RESIDUES):
        proteins = sample[rows]
        batch = corpus.crop(proteins, lengths[rows[0]], rng, margin=0)
        ids = torch.from_numpy(batch.ids.astype(np.int64)).to(device)
        mask = torch.from_numpy(batch.mask).to(device)[..., None].float()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            pooled.append(student(ids, mask).pooled.float().cpu())
    center, weight = projection(torch.cat(pooled), student.config)
    student.project.weight.copy_(weight)
    student.center.copy_(center)


def projection(pooled: Tensor, config: StudentConfig) -> tuple[Tensor, Tensor]:
    """The map from what is pooled over a protein to its vector.

    Args:
        pooled: (n, numbers) of n proteins, as in :class:`limbeck.distillation.network.Outputs`.
        config: the student's.

    Returns:
        ``center`` (numbers,), and ``weight`` (width, numbers), so that ``(pooled - center) @ weight.T`` are protein
        vectors.
    """
    parts = pooled.split(part_sizes(config.width, config.states), dim=1)
    totals = (part.var(0, correction=0).sum().sqrt().clamp_min(1e-12) for part in parts)
    scale = torch.cat(
        [
            torch.full((part.shape[1],), share / float(total))
            for part, share, total in zip(parts, SHARES, totals, strict=True)
        ]
    )
    center, components, deviations = principal_components(pooled * scale, config.width)
    largest = deviations.max().clamp_min(1e-12)
    # Directions in which the sample hardly varies tell nothing; they must not be blown up.
    weight = components * (deviations.clamp_min(1e-3 * largest) ** POWER)[:, None]
    spread = (deviations.clamp_min(1e-3 * largest) ** (1 + POWER)).square().mean().sqrt()
    return center / scale, weight / spread * scale
