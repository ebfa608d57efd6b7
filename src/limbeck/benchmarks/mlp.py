"""A small network on frozen features, beside the solved probe: what is there that no linear map reads.

One hidden layer with dropout, trained with AdamW and stopped where validation is best; the strength of the
regularisation is chosen on validation, too. Several seeds, since the weights are drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import InputError

__all__ = ["Found", "search_mlp", "spread_of"]

Floats = NDArray[np.float32]

HIDDEN = 256
SETTINGS: tuple[dict[str, Any], ...] = (
    {"scaling": "common", "dropout": 0.1, "weight_decay": 1e-4},
    {"scaling": "common", "dropout": 0.5, "weight_decay": 1e-2},
    {"scaling": "each", "dropout": 0.5, "weight_decay": 1e-2},
)
"""``scaling``: vectors are divided by one number, or each dimension by its own deviation, as for the probes."""
LEARNING_RATE = 1e-3
BATCH = 128
MOST_EPOCHS = 60
PATIENCE = 8
STEPS_PER_CHECK = 50
"""Validation is looked at after at most so many steps, so that large sets don't take whole epochs between looks."""


@dataclass(frozen=True)
class Found:
    """Networks under the settings that were best on validation, one for each seed."""

    networks: dict[int, nn.Module]
    centre: Tensor
    spread: Tensor
    chosen: dict[str, Any]
    valid: float
    """Mean over seeds of the score on validation, which also chose the epoch: optimistic, like any such score."""
    tried: int

    @property
    def seeds(self) -> list[int]:
        return list(self.networks)

    def scores(self, x: Floats, seed: int) -> Floats:
        """(n, outputs) of one seed's network: logits of classes, probabilities of labels, standardised values."""
        return _scores(self.networks[seed], (torch.from_numpy(x) - self.centre) / self.spread)


def search_mlp(
    fit_x: Floats,
    fit_y: NDArray[Any],
    choose_x: Floats,
    valid: Callable[[Floats], float],
    *,
    kind: str,
    outputs: int,
    seeds: Sequence[int] = (0, 1, 2),
) -> Found:
    """Train networks and keep the settings whose mean score on validation is best.

    Args:
        fit_x: (n, dimension) vectors to fit to; their means and deviations standardise all others.
        fit_y: (n,) classes from 0 or values, or (n, outputs) of 0 and 1.
        choose_x: (m, dimension) validation vectors.
        valid: from scores (m, outputs) of them to a number that is better when larger.
        kind: ``"classes"``, ``"values"`` or ``"labels"``.
        outputs: numbers that a network gives.
        seeds: one network each.

    Raises:
        InputError: if the loss is no number, for a vector or a value is none.
    """
    x, held = (torch.from_numpy(np.ascontiguousarray(part)) for part in (fit_x, choose_x))
    centre = x.mean(0)
    y = torch.from_numpy(np.asarray(fit_y))
    if kind == "values":
        y = ((y - y.mean()) / y.std(correction=0).clamp_min(1e-12)).float()[:, None]
    best: Found | None = None
    for settings in SETTINGS:
        spread = spread_of(x, settings["scaling"])
        inputs = (x - centre) / spread, y, (held - centre) / spread
        regularised = {name: settings[name] for name in ("dropout", "weight_decay")}
        trained = {seed: _trained(*inputs, valid, kind, outputs, seed, **regularised) for seed in seeds}
        mean = float(np.mean([score for _, score in trained.values()]))
        if best is None or mean > best.valid:
            networks = {seed: network for seed, (network, _) in trained.items()}
            best = Found(networks, centre, spread, {"hidden": HIDDEN, **settings}, mean, len(SETTINGS))
    assert best is not None
    return best


def spread_of(x: Tensor, scaling: str) -> Tensor:
    """What vectors (n, dimension) are divided by, (dimension,): one number (``"common"``), or each dimension's own."""
    own = x.std(0, correction=0)
    common = own.square().mean().sqrt() + 1e-12
    # A dimension that hardly varies is noise when blown up.
    return common.expand_as(own) if scaling == "common" else own.clamp_min(1e-3 * float(common))


def _trained(
    x: Tensor,
    y: Tensor,
    held: Tensor,
    valid: Callable[[Floats], float],
    kind: str,
    outputs: int,
    seed: int,
    *,
    dropout: float,
    weight_decay: float,
) -> tuple[nn.Module, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [
            nn.Linear(x.shape[1], HIDDEN),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, outputs),
        ]
        if kind == "labels":
            layers.append(nn.Sigmoid())
        network = nn.Sequential(*layers)
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=weight_decay)
        best, kept, since, step = -np.inf, copy.deepcopy(network), 0, 0
        steps = -(-len(x) // BATCH)
        while since < PATIENCE and step < MOST_EPOCHS * steps:
            for rows in torch.randperm(len(x)).split(BATCH):
                network.train()
                optimiser.zero_grad()
                loss = _loss(network(x[rows]), y[rows], kind)
                step += 1
                if not torch.isfinite(loss):
                    raise InputError(f"the network's loss is no number at step {step}; are all values finite numbers?")
                loss.backward()
                optimiser.step()
                if step % min(steps, STEPS_PER_CHECK) == 0:
                    score = valid(_scores(network, held))
                    since += 1
                    if score > best:
                        best, kept, since = score, copy.deepcopy(network), 0
    return kept, float(best)


def _loss(scores: Tensor, y: Tensor, kind: str) -> Tensor:
    if kind == "classes":
        return F.cross_entropy(scores, y.long())
    return F.binary_cross_entropy(scores, y.float()) if kind == "labels" else F.smooth_l1_loss(scores, y)


@torch.no_grad()
def _scores(network: nn.Module, x: Tensor) -> Floats:
    network.eval()
    return network(x).numpy().astype(np.float32)
