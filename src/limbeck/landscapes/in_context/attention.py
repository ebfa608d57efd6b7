"""Attention of one set over another, by softmax or linear."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["KINDS", "Attention"]

KINDS = ("softmax", "linear")


class Attention(nn.Module):
    """Multi-head attention of queries over a context set, without positions: the context's order does not matter.

    ``softmax`` weights add up to one over the context and a learned entry that is always there, so an empty context
    has an answer. ``linear`` weights are the products themselves, divided by the size of the context:
    ``out(sum_i <q, k_i> v_i / n)``. With one layer of it a prediction is one preconditioned step of gradient descent
    (Wu et al. 2023, arXiv:2310.08391).

    Args:
        width: of what is read and written.
        heads: a divisor of ``width``.
        kind: one of :data:`KINDS`.
    """

    def __init__(self, width: int, heads: int = 1, kind: str = "softmax") -> None:
        super().__init__()
        if kind not in KINDS or width % heads:
            raise ValueError(f"no attention of kind {kind!r}, width {width} and {heads} heads")
        self.heads, self.kind = heads, kind
        self.queries, self.keys, self.values, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        if kind == "softmax":
            self.none = nn.Parameter(torch.zeros(2, width))

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        """Of ``x`` (..., n, width) over ``context`` (..., m, width): (..., n, width).

        Args:
            bias: (..., heads, n, m), added to the logarithms of softmax weights.
        """
        q, k, v = self.queries(x), self.keys(context), self.values(context)
        if self.kind == "linear":
            q, k, v = (self._split(part) for part in (q, k, v))
            return self.out(self._join(q @ (k.mT @ v)) / max(1, context.shape[-2]))
        k, v = (torch.cat([self.none[i].expand(*part.shape[:-2], 1, -1), part], -2) for i, part in enumerate((k, v)))
        q, k, v = (self._split(part) for part in (q, k, v))
        logits = q @ k.mT / math.sqrt(q.shape[-1])
        if bias is not None:
            logits = logits + F.pad(bias, (1, 0))
        return self.out(self._join(torch.softmax(logits, -1) @ v))

    def _split(self, x: Tensor) -> Tensor:
        """(..., n, width) to (..., heads, n, width / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(-2, -3).flatten(-2)
