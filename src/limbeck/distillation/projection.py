"""The last step of a training run: fit the map from context assignments to protein vectors in closed form.

Some contexts vary together over whole folds and swamp the rest in a nearest-neighbour search. Principal components
of the student's own assignments, each scaled by its standard deviation to a power of -1/2, even that out half-way;
full whitening (a power of -1) would let the noise of the smallest components in.

A component of standard deviation s gives a number of standard deviation s to the power of 1/2, so the numbers of a
protein vector come in the order of their variance over proteins, and the first k of them serve alone
(:mod:`limbeck.distillation.nested`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limbeck.distillation.corpus import CROP_LENGTHS, Corpus
from limbeck.distillation.network import Student

__all__ = ["fit_projection", "principal_components"]

SAMPLE_PROTEINS = 6000
ROWS = 32
POWER = -0.5


def principal_components(roots: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, first principal components and standard deviations of protein vectors.

    Args:
        roots: (n, states).
        width: how many components, at most ``states``.

    Returns:
        Mean (states,), components (width, states) and deviations (width,); where there are fewer proteins than
        components, the rest are any orthogonal directions and deviate by nothing. Deviations descend. The largest
        entry of a component is positive: its sign is arbitrary, and would else be the linear algebra library's.
    """
    center = roots.mean(0)
    _, scale, components = torch.linalg.svd(roots - center, full_matrices=len(roots) < roots.shape[1])
    components = components[:width]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    components = components * torch.where(largest < 0, -1.0, 1.0)
    deviations = torch.zeros(width)
    found = min(width, len(scale))
    deviations[:found] = scale[:found] / len(roots) ** 0.5
    return center, components, deviations


@torch.no_grad()
def fit_projection(student: Student, corpus: Corpus, *, device: str = "cpu", bf16: bool = False) -> None:
    """Set the student's ``center`` and ``project`` from its assignments over training proteins, one a family.

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
    sample = sample[np.argsort(corpus.lengths[sample], kind="stable")]
    roots = []
    student.eval()
    for proteins in np.array_split(sample, -(-len(sample) // ROWS)):
        length = min(CROP_LENGTHS[-1], int(corpus.lengths[proteins].max()))
        batch = corpus.crop(proteins, length, rng, margin=0)
        ids = torch.from_numpy(batch.ids.astype(np.int64)).to(device)
        mask = torch.from_numpy(batch.mask).to(device)[..., None].float()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            assignments = student(ids, mask).contexts.exp()
        roots.append(((assignments * mask).sum(1) / mask.sum(1)).clamp_min(1e-12).sqrt().cpu())
    center, components, deviations = principal_components(torch.cat(roots), student.config.width)
    largest = deviations.max().clamp_min(1e-12)
    # Directions in which the sample hardly varies tell nothing; they must not be blown up.
    weight = components * (deviations.clamp_min(1e-3 * largest) ** POWER)[:, None]
    spread = (deviations.clamp_min(1e-3 * largest) ** (1 + POWER)).square().mean().sqrt()
    student.project.weight.copy_(weight / spread)
    student.center.copy_(center)
