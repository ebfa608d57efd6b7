"""Training: first the head alone, solved on frozen vectors, then the network with it.

A head that is still random would send its noise through the network (Kumar et al. 2022, arXiv:2202.10054), and that
start is also the answer where the network has nothing to gain: no epoch is kept that validation does not prefer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.benchmarks.finetuning.examples import Examples
from limbeck.benchmarks.finetuning.network import Tuned
from limbeck.benchmarks.finetuning.settings import Settings
from limbeck.benchmarks.mlp import spread_of
from limbeck.distillation.precision import resolve_precision
from limbeck.encoders.transformer import resolve_device
from limbeck.errors import InputError
from limbeck.losses import LOSSES
from limbeck.rising import rising_line

__all__ = ["Valid", "frozen", "loss_of", "scored", "solve_head", "train"]

Floats = NDArray[np.float32]
Valid = Callable[[Tensor], float]
"""From scores (n, outputs) of the validation part to a number that is better when larger."""

STRENGTHS = tuple(10.0**k for k in range(0, -6, -1))
"""Penalties on the head's squared weights, strongest first: of equal scores the strongest wins."""
ITERATIONS = 60
WARM_UP = 0.1


@dataclass(frozen=True)
class Course:
    """What training chose."""

    valid: float
    epoch: int
    """0: the head alone."""
    epochs: list[float]
    """Score on validation after each epoch, that of the head first."""
    steps: int


def loss_of(kind: str, scores: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of scores (n, outputs)."""
    if kind == "values":
        return F.mse_loss(scores[:, 0], targets)
    return F.binary_cross_entropy_with_logits(scores, targets) if kind == "labels" else F.cross_entropy(scores, targets)


@torch.no_grad()
def _each(network: Tuned, examples: Examples, settings: Settings, what: Callable[..., Tensor]) -> Tensor:
    """(n, ...) of all examples, in their order."""
    network.eval()
    result: Tensor | None = None
    for batch in examples.batches(settings.batch, settings.tokens):
        with _autocast(settings):
            found = what(batch.to(resolve_device(settings.device))).float().cpu()
        if result is None:
            result = torch.zeros(len(examples.targets), found.shape[1])
        result[torch.from_numpy(batch.places)] = found
    assert result is not None
    return result


def frozen(network: Tuned, examples: Examples, settings: Settings) -> Tensor:
    """Vectors of all examples as the network is, (n, width)."""
    return _each(network, examples, settings, network.vectors)


def scored(network: Tuned, examples: Examples, settings: Settings) -> Tensor:
    """Scores of all examples, (n, outputs)."""
    return _each(network, examples, settings, network)


def _autocast(settings: Settings) -> Any:
    bf16 = resolve_precision(settings.precision, settings.device) == "bf16"
    return torch.autocast(resolve_device(settings.device).type, torch.bfloat16, enabled=bf16)


def solve_head(
    network: Tuned, kind: str, fit: tuple[Tensor, Tensor], choose: tuple[Tensor, Tensor], valid: Valid
) -> tuple[float, dict[str, Any]]:
    """Give the network the linear head of the smallest loss on validation; the rest is not looked at.

    The loss chooses, not the score: a head of which only the score counts may be as sure of itself as it likes, and
    then has nothing to teach the network.

    Args:
        network: its head, ``mean`` and ``spread`` are set.
        kind: ``"classes"``, ``"values"``, ``"labels"`` or ``"residues"``.
        fit: vectors (n, width) and targets.
        choose: the same of validation.
        valid: judges scores of validation.

    Returns:
        The score on validation, and which penalty and scaling.
    """
    x, y = fit
    mean = x.mean(0)
    best: tuple[float, float, dict[str, Any], dict[str, Tensor]] | None = None
    for scaling in ("common", "each"):
        scale = spread_of(x, scaling)
        head = nn.Linear(x.shape[1], network.head.out_features)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        held = (choose[0] - mean) / scale
        for strength in STRENGTHS:
            _solve(head, kind, (x - mean) / scale, y, strength)
            with torch.no_grad():
                scores = head(held)
                value, loss = valid(scores), float(loss_of(kind, scores, choose[1]))
            if math.isfinite(loss) and (best is None or loss < best[0]):
                state = {"mean": mean, "spread": scale.clone()}
                state |= {f"head.{name}": t.clone() for name, t in head.state_dict().items()}
                best = loss, value, {"scaling": scaling, "strength": strength}, state
    if best is None:
        raise InputError("no head could be solved: the vectors hold what is no number; try --precision f32")
    network.load_state_dict(best[3], strict=False)
    return best[1], best[2]


def _solve(head: nn.Linear, kind: str, x: Tensor, y: Tensor, strength: float) -> None:
    """Minimise the loss and the penalty, from where the head is; both are convex."""
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of(kind, head(x), y) + strength * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(objective)


def train(
    network: Tuned,
    kind: str,
    fit: Examples,
    choose: Examples,
    valid: Valid,
    start: float,
    settings: Settings,
    seed: int,
) -> Course:
    """Train in place, and keep the weights of the epoch that validation likes best.

    Args:
        network: with a solved head.
        start: the head's score on validation.
        seed: of the order of proteins.

    Raises:
        InputError: if the loss is no number.
    """
    random = np.random.default_rng(seed)
    device = resolve_device(settings.device)
    network.to(device)
    groups = _groups(network, settings)
    optimiser = torch.optim.AdamW(groups)
    peaks = [group["lr"] for group in groups]
    steps = 0
    total = settings.epochs * sum(1 for _ in fit.batches(settings.batch, settings.tokens))
    best, chosen, kept, history = start, 0, _learned(network), [start]
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for batch in fit.batches(settings.batch, settings.tokens, random):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * _share(steps / total)
            optimiser.zero_grad()
            with _autocast(settings):
                scores = network(batch.to(device))
            targets = fit.targets[torch.from_numpy(batch.places)].to(scores.device)
            ranks = kind == "values" and settings.loss != "squared"
            loss = (
                LOSSES[settings.loss](scores[:, 0].float(), targets)
                if ranks
                else loss_of(kind, scores.float(), targets)
            )
            steps += 1
            if not torch.isfinite(loss):
                raise InputError(
                    f"the loss is no number at step {steps} (epoch {epoch}); lower the learning rate, now "
                    f"{settings.peak:g}, or use --precision f32"
                )
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.largest_gradient)
            optimiser.step()
        history.append(valid(scored(network, choose, settings)))
        if history[-1] > best:
            best, chosen, kept = history[-1], epoch, _learned(network)
        if epoch - chosen >= settings.patience:
            break
    network.load_state_dict(kept, strict=False)
    if kind == "values" and settings.loss != "squared" and chosen:
        _rescale(network, fit, settings)
    return Course(best, chosen, history, steps)


@torch.no_grad()
def _rescale(network: Tuned, fit: Examples, settings: Settings) -> None:
    """Bring the scores of a network that was trained to rank to the targets' units, by a line that rises."""
    intercept, slope = rising_line(scored(network, fit, settings)[:, 0].double().numpy(), fit.targets.double().numpy())
    network.head.weight.mul_(slope)
    network.head.bias.mul_(slope).add_(intercept)


def _share(done: float) -> float:
    """Of the peak learning rate, when a share of the steps is done."""
    if done < WARM_UP:
        return max(done, 1e-2 * WARM_UP) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _groups(network: Tuned, settings: Settings) -> list[dict[str, Any]]:
    learning = [p for p in network.body.parameters() if p.requires_grad]
    decay = settings.weight_decay
    return [
        {"params": [p for p in learning if p.ndim > 1], "lr": settings.peak, "weight_decay": decay},
        {"params": [p for p in learning if p.ndim <= 1], "lr": settings.peak, "weight_decay": 0.0},
        {"params": list(network.head.parameters()), "lr": settings.head_learning_rate, "weight_decay": decay},
    ]


def _learned(network: Tuned) -> dict[str, Tensor]:
    return {name: copy.deepcopy(p.detach()) for name, p in network.named_parameters() if p.requires_grad}
