"""The student network: dilated convolutions over residues, and a vocabulary of sequence contexts to pool by.

Each block is ``x + W gelu(conv(norm(x)))`` with a dense dilated convolution, so nearly all the work is a few
large matrix products, which is what CPUs with matrix units and GPUs are fast at (``docs/student.md`` has the
measurements). The receptive field is finite: windows that overlap by at least twice its radius give the same
features as the whole protein.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.distillation.config import StudentConfig
from limbeck.residues import PAD_ID, RESIDUES

__all__ = ["Outputs", "Student"]


CENTER_MOMENTUM = 0.02


class Outputs(NamedTuple):
    """What a student says of a batch of crops."""

    mask: Tensor
    """(batch, length, 1), 1 where there is a residue."""
    features: Tensor
    """(batch, length, width) residue vectors."""
    contexts: Tensor
    """(batch, length, states) log-probabilities of the contexts."""
    profile: Tensor
    """(batch, length, 20) log-probabilities of residues among the relatives."""
    vectors: Tensor
    """(batch, width) protein vectors."""


class Block(nn.Module):
    def __init__(self, width: int, inner: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, inner, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (batch, length, width), mask (batch, length, 1): padding is zero at every convolution, so none leaks."""
        h = self.conv((self.norm(x) * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.out(F.gelu(h, approximate="tanh"))


class Student(nn.Module):
    """Residue features, context assignments and protein vectors from residue ids."""

    center: Tensor

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(PAD_ID + 1, config.width)
        blocks = [Block(config.width, config.inner, config.kernel, dilation) for dilation in config.dilations]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.width)
        self.contexts = nn.Linear(config.width, config.states)
        self.project = nn.Linear(config.states, config.width, bias=False)
        self.register_buffer("center", torch.full((config.states,), config.states**-0.5))
        self.profile = nn.Linear(config.width, len(RESIDUES))
        # Each block adds to the stream: keep the sum's scale at depth.
        for block in blocks:
            nn.init.normal_(block.out.weight, std=0.5 * (config.inner * len(config.dilations)) ** -0.5)
        nn.init.orthogonal_(self.project.weight)

    def residues(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Residue features (batch, length, width) of ids (batch, length) under a 0/1 mask (batch, length, 1)."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def protein(self, assignments: Tensor) -> Tensor:
        """Protein vectors (n, width) from mean context assignments (n, states).

        The square root before the projection is Hellinger's: it lets rare contexts speak beside frequent ones. All
        proteins share most of it, so the average over proteins is taken off: a running average while training.
        """
        roots = assignments.clamp_min(1e-12).sqrt()
        vectors: Tensor = self.project(roots - self.center)
        if self.training:
            with torch.no_grad():
                self.center.lerp_(roots.mean(0), CENTER_MOMENTUM)
        return vectors

    def forward(self, ids: Tensor, mask: Tensor) -> Outputs:
        """Everything that an objective may look at; arguments as for :meth:`residues`."""
        features = self.residues(ids, mask)
        contexts = F.log_softmax(self.contexts(features).float(), dim=-1)
        lengths = mask.float().sum(1)
        mean = (contexts.exp() * mask).sum(1) / lengths
        profile = F.log_softmax(self.profile(features).float(), dim=-1)
        return Outputs(mask, features, contexts, profile, self.protein(mean))
