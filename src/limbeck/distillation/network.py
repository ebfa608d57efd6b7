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
from limbeck.encoders.student_pooling import ENDS, GAPS, part_sizes
from limbeck.residues import PAD_ID, RESIDUES

__all__ = ["Outputs", "Student", "Subnetwork"]


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
    pooled: Tensor
    """(batch, numbers) what the vectors are projected from, part by part as in
    :func:`limbeck.encoders.student_pooling.part_sizes`: square roots of the proteins' mean context assignments, means
    of their residue vectors, square roots of their composition, how the means over the first and the last residues
    differ from those over all, square roots of the shares of pairs of residues, logarithms of the lengths."""


class Subnetwork(NamedTuple):
    """The part of a student that is computed in one training step; see :mod:`limbeck.distillation.subnetworks`."""

    blocks: tuple[int, ...]
    """Indices of the blocks that take part."""
    channels: Tensor | None
    """Inner channels that take part, the same in each block; ``None`` for all."""
    scale: float
    """What a block's output is multiplied by, to make up for the blocks that don't take part."""


def convolution(x: Tensor, kernel: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """A dilated convolution that keeps the length, as one matrix product a tap.

    On processors PyTorch's own convolution takes longer in bfloat16, above all backward.

    Args:
        x: (batch, length, channels).
        kernel: (filters, channels, taps), an odd number of taps.

    Returns:
        (batch, length, filters).
    """
    taps, length = kernel.shape[2], x.shape[1]
    reach = dilation * (taps // 2)
    padded = F.pad(x, (0, 0, reach, reach))
    total = F.linear(padded[:, :length], kernel[:, :, 0], bias)
    for tap in range(1, taps):
        start = tap * dilation
        total = total + F.linear(padded[:, start : start + length], kernel[:, :, tap])
    return total


class Block(nn.Module):
    def __init__(self, width: int, inner: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, inner, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, mask: Tensor, channels: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """x (batch, length, width), mask (batch, length, 1): padding is zero at every convolution, so none leaks.

        ``channels`` are those inner channels that take part, all by default, scaled up for those that don't; ``scale``
        is what the block's output is multiplied by.
        """
        kernel, bias, weight = self.conv.weight, self.conv.bias, self.out.weight
        if channels is not None:
            kernel, bias = kernel[channels], None if bias is None else bias[channels]
            weight = weight[:, channels] * (self.conv.out_channels / len(channels))
        h = convolution(self.norm(x) * mask, kernel, bias, self.conv.dilation[0])
        return x + scale * F.linear(F.gelu(h, approximate="tanh"), weight, self.out.bias)


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
        pooled = sum(part_sizes(config.width, config.states))
        self.project = nn.Linear(pooled, config.width, bias=False)
        self.register_buffer("center", torch.zeros(pooled))
        self.center[: config.states] = config.states**-0.5
        self.profile = nn.Linear(config.width, len(RESIDUES))
        # Each block adds to the stream: keep the sum's scale at depth.
        for block in blocks:
            nn.init.normal_(block.out.weight, std=0.5 * (config.inner * len(config.dilations)) ** -0.5)
        # Training sees contexts alone at first: residue vectors vary more, and would drown them. The projection that a
        # finished student has is fitted (:mod:`limbeck.distillation.projection`).
        nn.init.zeros_(self.project.weight)
        nn.init.orthogonal_(self.project.weight[:, : config.states])

    def residues(self, ids: Tensor, mask: Tensor, part: Subnetwork | None = None) -> Tensor:
        """Residue features (batch, length, width) of ids (batch, length) under a 0/1 mask (batch, length, 1)."""
        x = self.embed(ids)
        for index, block in enumerate(self.blocks):
            if part is None:
                x = block(x, mask)
            elif index in part.blocks:
                x = block(x, mask, part.channels, part.scale)
        return self.norm(x)

    def follow(self, pooled: Tensor) -> None:
        """Move ``center``, what all proteins share, towards the mean of ``Outputs.pooled`` over a batch."""
        with torch.no_grad():
            self.center.lerp_(pooled, CENTER_MOMENTUM)

    def forward(self, ids: Tensor, mask: Tensor, part: Subnetwork | None = None) -> Outputs:
        """Everything that an objective may look at; arguments as for :meth:`residues`."""
        features = self.residues(ids, mask, part)
        contexts = F.log_softmax(self.contexts(features).float(), dim=-1)
        profile = F.log_softmax(self.profile(features).float(), dim=-1)
        pooled = _pooled(ids, mask.float(), features.float(), contexts.exp())
        return Outputs(mask, features, contexts, profile, self.project(pooled - self.center), pooled)


def _pooled(ids: Tensor, mask: Tensor, features: Tensor, contexts: Tensor) -> Tensor:
    """:attr:`Outputs.pooled`; :func:`limbeck.encoders.student_pooling.parts` is the same in NumPy."""
    lengths = mask.sum(1)
    letters = F.one_hot(ids, PAD_ID + 1)[..., : len(RESIDUES)].float() * mask
    pairs = [(letters[:, :-gap].transpose(1, 2) @ letters[:, gap:]).flatten(1) / lengths for gap in GAPS]
    # The square root is Hellinger's: it lets rare contexts speak beside frequent ones. All proteins share most of it,
    # so what they share is taken off before the projection.
    shares = _mean(contexts, mask), _mean(letters, mask), torch.cat(pairs, dim=1)
    assigned, composition, paired = (share.clamp_min(1e-12).sqrt() for share in shares)
    mean = _mean(features, mask)
    after = mask.flip(1).cumsum(1).flip(1)
    first, last = (_mean(features, mask * (rank <= ENDS)) - mean for rank in (mask.cumsum(1), after))
    return torch.cat([assigned, mean, composition, first, last, paired, lengths.log()], dim=1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """(batch, ...) means of (batch, length, ...) where the mask (batch, length, 1) is 1."""
    return (values * mask).sum(1) / mask.sum(1)
