"""Losses of unlike size brought to the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from limbeck.distillation.objectives import processes
from limbeck.errors import InputError

__all__ = ["MODES", "LossBalance"]

MODES = ("none", "running")
SMALLEST = 1e-6


class LossBalance(nn.Module):
    """A factor for each loss, one over its running magnitude, so that each teacher weighs the same whatever its loss is
    measured in.

    The magnitude is an exponential moving average of the loss's mean over the rows of all processes, and begins with
    the first mean it sees. As a loss falls, its factor rises: the gradient is, nearly, that of the loss's logarithm.
    It is kept in the state dict, so a resumed run goes on exactly. It runs outside the compiled graph, and changes in
    training alone.

    Args:
        names: of the losses, or of the teachers, one magnitude each. The empty name (no teacher) has the factor 1.
        mode: ``running``, or ``none`` for a factor of 1.
        momentum: of the average; 0.99 is about the last hundred steps.

    Raises:
        InputError: if there is no such mode.
    """

    eager = True
    magnitude: Tensor
    seen: Tensor

    def __init__(self, names: Sequence[str], mode: str = "running", momentum: float = 0.99) -> None:
        super().__init__()
        if mode not in MODES:
            raise InputError(f"losses are balanced by {' or '.join(MODES)}, not {mode!r}; choose one of these")
        self.names = tuple(name for name in names if name)
        self.mode, self.momentum = mode, momentum
        self.register_buffer("magnitude", torch.ones(len(self.names)))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def forward(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A factor (scalar) for each name in ``losses``, whose values are (rows,)."""
        if self.mode == "running" and self.training and self.names:
            self._update(torch.stack([losses[name].float().mean() for name in self.names]))
        factors = 1 / self.magnitude if self.mode == "running" else torch.ones_like(self.magnitude)
        by_name = dict(zip(self.names, factors.unbind(), strict=True))
        return {name: by_name[name] if name else torch.ones_like(loss[0]) for name, loss in losses.items()}

    def _update(self, means: Tensor) -> None:
        means = processes.mean(means).abs().clamp_min(SMALLEST)
        self.magnitude.copy_(torch.where(self.seen, torch.lerp(means, self.magnitude, self.momentum), means))
        self.seen.fill_(True)
