"""Train parts of the network first and the whole later, to save operations.

Evolving subnetwork training (EST, Li et al. 2024, arXiv 2406.06962) samples layers and the inner columns of each layer
at every step, in three stages: both sampled; all layers with sampled columns; the whole network. What is left out is
made up for by scaling what is kept. The paper samples attention heads too, which this network has none of, and its
text as we have it gives no lengths of stages: ours are :data:`STAGES`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.network import Subnetwork
from limbeck.residues import RESIDUES

__all__ = ["STAGES", "Stage", "operations", "sample", "stage_of"]


class Stage(NamedTuple):
    """One stage of the schedule."""

    until: float
    """Share of all steps at which it ends."""
    blocks: float
    """Share of the blocks that take part in a step."""
    channels: float
    """Share of each block's inner channels that do."""


STAGES = (Stage(0.25, 0.75, 0.5), Stage(0.5, 1.0, 0.5), Stage(1.0, 1.0, 1.0))


def stage_of(step: int, steps: int) -> Stage:
    """The stage that a step belongs to."""
    return next((stage for stage in STAGES if step < stage.until * steps), STAGES[-1])


def sample(student: StudentConfig, step: int, steps: int, seed: int) -> Subnetwork | None:
    """The part of the network that one step trains, a function of the step and the seed; ``None`` is the whole."""
    stage = stage_of(step, steps)
    if stage.blocks == stage.channels == 1.0:
        return None
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    depth = len(student.dilations)
    kept = max(1, round(stage.blocks * depth))
    blocks = sorted(torch.randperm(depth, generator=generator)[:kept].tolist())
    count = max(1, round(stage.channels * student.inner))
    channels = torch.randperm(student.inner, generator=generator)[:count].sort().values
    return Subnetwork(tuple(blocks), channels, depth / kept)


def operations(student: StudentConfig, part: Subnetwork | None = None) -> float:
    """Floating-point operations of the student on one residue in a training step: two for each multiply-add of the
    forward pass, and twice as many again backward."""
    blocks, channels = len(student.dilations), student.inner
    if part is not None:
        blocks, channels = len(part.blocks), channels if part.channels is None else len(part.channels)
    trunk = blocks * channels * student.width * (student.kernel + 1)
    heads = student.width * (student.states + len(RESIDUES))
    return 6.0 * (trunk + heads)
