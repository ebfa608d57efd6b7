"""The rows of all processes that share a batch; with one process, its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather", "gather_with_gradient", "mean", "place"]


def place() -> tuple[int, int]:
    """This process's rank, and how many processes there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(rows: Tensor) -> Tensor:
    """(processes x rows, ...) from (rows, ...) of each, in the order of ranks; every process must have as many rows."""
    _, number = place()
    if number == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(number)]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    """Forward gathers; backward adds up what every process's loss says of this process's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rank, number = place()
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(number)[rank]


def gather_with_gradient(rows: Tensor) -> Tensor:
    """As :func:`gather`, and differentiable: averaged over processes, as data parallelism does it, the gradient is that
    of the mean of the processes' losses."""
    gathered: Tensor = _Gather.apply(rows) if place()[1] > 1 else rows
    return gathered


def mean(values: Tensor) -> Tensor:
    """The mean over processes, detached."""
    _, number = place()
    values = values.detach().clone()
    if number > 1:
        dist.all_reduce(values)
    return values / number
