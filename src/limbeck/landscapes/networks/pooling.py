"""The maximum over each row's windows, without a number for every position."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.landscapes.networks.windows import Pooling

__all__ = ["row_maxima"]


def row_maxima(values: Tensor, pooling: Pooling) -> Tensor:
    """Maxima over the windows of each row, (n, channels); minus infinity for a row without any.

    The gradient of a maximum goes to the window that has it. Where several distinct windows have it, one takes all:
    the paper's framework would share it among them, which is the same unless two windows agree to the last bit.

    Args:
        values: (windows, channels), a row for each window of ``pooling``.
    """
    return _RowMaxima.apply(values, pooling, values.requires_grad)


class _RowMaxima(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, pooling: Pooling, traced: bool) -> Tensor:
        candidates, steps = _candidates(values, pooling, traced)
        ranks = [torch.from_numpy(rank).to(values.device) for rank in pooling.ranks]
        best = values.new_full((len(pooling.order), values.shape[1]), -torch.inf)
        winner = torch.zeros(best.shape, dtype=_counter(len(ranks)), device=values.device) if traced else None
        for rank, which in enumerate(ranks):
            challenger, ahead = candidates.index_select(0, which), best[: len(which)]
            if winner is not None and rank:
                # Later ranks are larger, so that a maximum notes the last one that was ahead; it is far cheaper
                # than filling in by a mask.
                won = (challenger > ahead).to(winner.dtype).mul_(rank)
                torch.maximum(winner[: len(which)], won, out=winner[: len(which)])
            torch.maximum(ahead, challenger, out=ahead)
        order = torch.from_numpy(pooling.order).to(values.device)
        if winner is not None:
            ctx.save_for_backward(_origin(winner, ranks, steps, pooling), order)
            ctx.windows = len(values)
        result = torch.empty_like(best)
        result[order] = best
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        origin, order = ctx.saved_tensors
        result = gradient.new_zeros((ctx.windows, gradient.shape[1]))
        # The gradient of a row without windows is zero already: ReLU follows.
        return result.scatter_add_(0, origin, gradient[order]), None, None


def _counter(bound: int) -> torch.dtype:
    """The smallest type that counts up to ``bound``."""
    return torch.uint8 if bound < 256 else torch.int32


def _candidates(values: Tensor, pooling: Pooling, traced: bool) -> tuple[Tensor, Tensor | None]:
    """Values of all candidates, and for those of the tables how many steps on the reference they have theirs."""
    if not pooling.powers:
        return values, None
    reference = torch.from_numpy(pooling.reference).to(values.device)
    sizes = pooling.sizes
    result = values.new_empty((pooling.windows + sum(sizes), values.shape[1]))
    result[: pooling.windows] = values
    level = values.index_select(0, reference)
    shape = (sum(sizes), values.shape[1])
    steps = torch.empty(shape, dtype=_counter(2**pooling.powers - 1), device=values.device) if traced else None
    below: Tensor | None = None
    for power, (table, start) in enumerate(zip(result[pooling.windows :].split(sizes), pooling.starts, strict=True)):
        left, right = level[: len(table)], level[2**power :]
        if steps is not None:
            below = _steps(left, right, below, 2**power, steps[start : start + len(table)])
        level = torch.maximum(left, right, out=table)
    return result, steps


def _steps(left: Tensor, right: Tensor, below: Tensor | None, distance: int, out: Tensor) -> Tensor:
    """Steps to where the larger of left and right comes from, given the steps of the level below."""
    turned = (right > left).to(out.dtype)
    torch.mul(turned, distance, out=out)
    if below is not None:
        near, far = below[: len(out)], below[distance:]
        # Unsigned numbers wrap around, and back again.
        out += near + (far - near) * turned
    return out


def _origin(winner: Tensor, ranks: list[Tensor], steps: Tensor | None, pooling: Pooling) -> Tensor:
    """The window that each maximum comes from, (n, channels)."""
    which = torch.zeros((len(winner), max(1, len(ranks))), dtype=torch.int64, device=winner.device)
    for rank, candidates in enumerate(ranks):
        which[: len(candidates), rank] = candidates
    chosen = which.gather(1, winner.to(torch.int64))
    if steps is None:
        return chosen
    in_table = (chosen - pooling.windows).clamp_(min=0)
    starts = np.concatenate([np.arange(size) for size in pooling.sizes])
    position = torch.from_numpy(starts).to(winner.device)[in_table]
    position += steps.gather(0, in_table)
    window = torch.from_numpy(pooling.reference).to(winner.device)[position]
    return torch.where(chosen < pooling.windows, chosen, window)
