"""The network: from labelled variants and unlabelled ones to scores of the latter, without fitting."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.landscapes.in_context.attention import Attention

__all__ = ["InContextNetwork", "Shape", "pairwise_loss"]

NEAR = (0.02, 0.3, 1.0)
"""Scales of the likeness of two places, as mean squared differences: the first is that of one position to itself."""
RELATIONS = len(NEAR) + 1
STRONG = 4.0
"""What likeness adds at first to the logarithm of a weight."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        place: numbers that describe where a variant is mutated.
        change: numbers that describe to what.
        width: of a token.
        layers: each attends within variants, then between them, then transforms tokens.
        heads: of each attention.
        dropout: while training; three times as much of the ``place``.
        noise: standard deviation of what is added to the standardised ``place`` while training, so that the few
            hundred positions of each training protein are not learned by heart.
    """

    place: int
    change: int
    width: int = 96
    layers: int = 3
    heads: int = 4
    dropout: float = 0.1
    noise: float = 0.5


class InContextNetwork(nn.Module):
    """Axial attention over a support set with scores and a query set without (after Metalic, arXiv:2410.08355).

    A variant is three tokens: where it is mutated, to what, and its score. So there are two axes: its tokens, and the
    variants. Along the second, support and query variants attend to the support variants alone: a query's score
    depends on the support and on itself, not on which others are asked for. No token knows its index in the support:
    its order does not matter, either. How alike two variants are (their places at three scales, their changes) is
    added to what attention finds, by learned weights; the paper has no such term, since it attends position by
    position.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.place))
        self.register_buffer("spread", torch.ones(shape.place))
        self.place, self.change = nn.Linear(shape.place, shape.width), nn.Linear(shape.change, shape.width)
        self.known, self.unknown = nn.Linear(1, shape.width), nn.Parameter(torch.zeros(shape.width))
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.layers)])
        self.norm, self.head = nn.LayerNorm(shape.width), nn.Linear(shape.width, 1)

    def forward(self, support: Tensor, scores: Tensor, query: Tensor) -> Tensor:
        """Scores (tasks, m) of ``query`` (tasks, m, place + change).

        Args:
            support: (tasks, n, place + change); n may be 0.
            scores: (tasks, n), standardised.
        """
        known = torch.cat([self._described(support), self.known(scores[..., None, None])], -2)
        unknown = self.unknown.expand(*query.shape[:2], 1, -1)
        asked = torch.cat([self._described(query), unknown], -2)
        alike = self._alike(torch.cat([support, query], 1), support)
        for block in self.blocks:
            known, asked = block(known, asked, alike)
        return self.head(self.norm(asked[..., -1, :])).squeeze(-1)

    def _described(self, variants: Tensor) -> Tensor:
        """Two tokens (tasks, n, 2, width) of variants."""
        place, change = self._standardised(variants)
        if self.training:
            place = place + self.shape.noise * torch.randn_like(place)
        return torch.stack(
            [self.place(F.dropout(place, 3 * self.shape.dropout, self.training)), self.change(change)], -2
        )

    def _alike(self, variants: Tensor, support: Tensor) -> Tensor:
        """(tasks, m, n, relations) between m variants and n of the support, each from about 0 to 1."""
        left, right = (self._standardised(x) for x in (variants, support))
        apart = torch.cdist(left[0], right[0]).square() / self.shape.place
        near = [torch.exp(-apart / scale) for scale in NEAR]
        change = F.normalize(left[1], dim=-1) @ F.normalize(right[1], dim=-1).mT
        return torch.stack([*near, change], -1)

    def _standardised(self, variants: Tensor) -> tuple[Tensor, Tensor]:
        """Place and change of variants."""
        place, change = variants.split([self.shape.place, self.shape.change], -1)
        return (place - self.mean) / self.spread, change

    @property
    def parameters_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def description(self) -> dict[str, Any]:
        """The shape, as JSON can hold it."""
        return asdict(self.shape)


class Block(nn.Module):
    """One layer; tokens are (tasks, variants, tokens, width)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(shape.width) for _ in range(3)])
        self.within, self.between = (Attention(shape.width, shape.heads) for _ in range(2))
        self.transform = nn.Sequential(
            nn.Linear(shape.width, 2 * shape.width), nn.GELU(), nn.Linear(2 * shape.width, shape.width)
        )
        self.alike = nn.Linear(RELATIONS, shape.heads, bias=False)
        with torch.no_grad():
            # Each head begins with another notion of likeness.
            self.alike.weight.copy_(STRONG * torch.eye(shape.heads, RELATIONS))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, known: Tensor, asked: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
        size = known.shape[1]
        x = torch.cat([known, asked], 1)
        h = self.norms[0](x)
        x = x + self.dropout(self.within(h, h))
        h = self.norms[1](x).transpose(1, 2)
        bias = self.alike(alike).movedim(-1, 1)[:, None]
        x = x + self.dropout(self.between(h, h[..., :size, :], bias).transpose(1, 2))
        x = x + self.dropout(self.transform(self.norms[2](x)))
        return x[:, :size], x[:, size:]


def pairwise_loss(predicted: Tensor, measured: Tensor) -> Tensor:
    """Binary cross entropy of which of two variants is better, over all pairs that differ; both (tasks, n).

    Zero where no pair differs.
    """
    above = measured[..., :, None] > measured[..., None, :]
    margins = predicted[..., :, None] - predicted[..., None, :]
    return F.softplus(-margins)[above].sum() / above.sum().clamp(min=1)
