"""How the loss of single residues moves over the checkpoints of a run.

Xia et al. (2023, arXiv 2212.09803) sort tokens by the trend of their loss over training, and find that a model goes on
learning from a part of them while the rest stagnate, get worse, or get worse and then better ("double descent"). Here
the tokens are residues of proteins held out, and the rule is :func:`classify`.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.residues import RESIDUES

__all__ = [
    "CONFIDENCE",
    "GROUPS",
    "LETTERS",
    "THRESHOLD",
    "Trajectories",
    "chance",
    "classify",
    "enrichment",
    "read_trajectories",
    "shares",
]

GROUPS = ("falling", "stagnant", "rising", "double descent")
FALLING, STAGNANT, RISING, DOUBLE_DESCENT = range(4)
LETTERS = RESIDUES + "X"

THRESHOLD = 0.1
"""Nats that a loss must move by: a tenth of the probability given to the right residue, about."""
CONFIDENCE = 0.95
"""Of the two-sided t-test of a slope."""
FEWEST_CHECKPOINTS = 4
"""In one line; with fewer, hardly any slope could be told from noise."""
MOST_CHECKPOINTS = 40


@dataclass(frozen=True)
class Trajectories:
    """Losses of the same residues at several checkpoints."""

    steps: NDArray[np.int64]
    """(checkpoints,) optimiser steps, ascending."""
    losses: NDArray[np.float32]
    """(checkpoints, residues) nats."""
    letters: NDArray[np.uint8]
    """(residues,) residue ids."""
    crops: NDArray[np.int64]
    """(residues,) which validation crop a residue is in."""


def read_trajectories(folder: Path, most: int = MOST_CHECKPOINTS) -> Trajectories | None:
    """Read ``validation/step-*.npz`` of a training folder.

    Args:
        folder: a training folder.
        most: checkpoints to read; of more, as many are taken at even distances, the first and the last among them.

    Returns:
        None if fewer than four checkpoints were kept, or no residue in them has a loss.

    Raises:
        InputError: if a file is damaged, or holds other residues than the first.
    """
    found = {}
    for path in (folder / "validation").glob("step-*.npz"):
        if match := re.fullmatch(r"step-(\d+)\.npz", path.name):
            found[int(match[1])] = path
    steps = sorted(found)
    if len(steps) < FEWEST_CHECKPOINTS:
        return None
    if len(steps) > most:
        steps = [steps[i] for i in np.linspace(0, len(steps) - 1, most).round().astype(int)]
    first_loss, mask, ids = _read_checkpoint(found[steps[0]])
    if not mask.any():
        return None
    losses = [first_loss[mask]]
    for step in steps[1:]:
        loss, other_mask, other_ids = _read_checkpoint(found[step])
        if not (np.array_equal(mask, other_mask) and np.array_equal(ids[mask], other_ids[mask])):
            raise InputError(
                f"{found[step]} holds other residues than {found[steps[0]].name}; keep the files of one run"
            )
        losses.append(loss[mask])
    stacked = np.stack(losses).astype(np.float32)
    return Trajectories(np.array(steps), stacked, ids[mask], np.nonzero(mask)[0])


def _read_checkpoint(path: Path) -> tuple[NDArray[np.float16], NDArray[np.bool_], NDArray[np.uint8]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            loss, mask, ids = file["loss"], file["mask"].astype(bool), file["ids"]
        if not (loss.ndim == 2 and loss.shape == mask.shape == ids.shape):
            raise ValueError("loss, mask and ids are not of one shape (rows, length)")
        if (ids[mask] >= len(LETTERS)).any() or not np.isfinite(loss[mask]).all():
            raise ValueError("unknown residues, or losses that are not finite")
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not the losses of a checkpoint ({error}); remove it to go without") from None
    return loss, mask, ids


def classify(
    losses: NDArray[np.floating],
    steps: NDArray[np.int64],
    *,
    threshold: float = THRESHOLD,
    confidence: float = CONFIDENCE,
) -> NDArray[np.int8]:
    """Sort residues into falling, stagnant, rising and double descent, in the order of :data:`GROUPS`.

    A straight line is fitted to the loss over the steps of the second half of the checkpoints (four at least). A
    residue falls or rises if the line moves by more than ``threshold`` from its first step to its last *and* the slope
    differs from zero by a t-test at ``confidence``. All others stagnate.

    Double descent comes before these: the checkpoints (all of them, or without the first quarter, or without the first
    half) are cut in two, four at least in each part, where two lines fit best. The loss rises over the first part and
    falls over the second, both by the rule above.

    Args:
        losses: (checkpoints, residues) nats.
        steps: (checkpoints,) optimiser steps, ascending; four at least.
        threshold: nats.
        confidence: of the t-test.

    Returns:
        (residues,) index into :data:`GROUPS`.
    """
    y, x = losses.astype(np.float64), steps.astype(np.float64)
    window = max(FEWEST_CHECKPOINTS, -(-len(x) // 2))
    move = _moves(y[-window:], x[-window:], threshold, confidence)[0]
    groups = np.select([move < 0, move > 0], [FALLING, RISING], STAGNANT).astype(np.int8)
    for start in sorted({0, len(x) // 4, len(x) // 2}):
        groups[_rises_then_falls(y[start:], x[start:], threshold, confidence)] = DOUBLE_DESCENT
    return groups


def _rises_then_falls(
    losses: NDArray[np.float64], steps: NDArray[np.float64], threshold: float, confidence: float
) -> NDArray[np.bool_]:
    least = np.full(losses.shape[1], np.inf)
    found = np.zeros(losses.shape[1], dtype=np.bool_)
    for cut in range(FEWEST_CHECKPOINTS, len(steps) - FEWEST_CHECKPOINTS + 1):
        before, error_before = _moves(losses[:cut], steps[:cut], threshold, confidence)
        after, error_after = _moves(losses[cut:], steps[cut:], threshold, confidence)
        error = error_before + error_after
        better = error < least
        least[better] = error[better]
        found[better] = ((before > 0) & (after < 0))[better]
    return found


def _moves(
    losses: NDArray[np.float64], steps: NDArray[np.float64], threshold: float, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction of each residue's line (-1, 0 or 1) and the sum of its squared errors; ordinary least squares."""
    x = steps - steps.mean()
    y = losses - losses.mean(axis=0)
    spread = x @ x
    slope = x @ y / spread
    squared = np.square(y - np.outer(x, slope)).sum(axis=0)
    degrees = len(steps) - 2
    clear = np.abs(slope) > _t_quantile(degrees, confidence) * np.sqrt(squared / degrees / spread)
    moved = np.abs(slope * (steps[-1] - steps[0])) > threshold
    return np.sign(slope) * (clear & moved), squared


@lru_cache
def _t_quantile(degrees: int, confidence: float) -> float:
    """Value that the absolute value of Student's t stays below with probability ``confidence``.

    With t = sqrt(degrees) tan(angle), the density of the angle is proportional to cos(angle)^(degrees - 1).
    """
    angle = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angle) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(degrees) * np.tan(np.interp(confidence, mass / mass[-1], angle)))


def shares(groups: NDArray[np.int8]) -> NDArray[np.float64]:
    """(groups,) share of the residues in each group."""
    return np.bincount(groups, minlength=len(GROUPS)) / len(groups)


def chance(trajectories: Trajectories, threshold: float = THRESHOLD, *, seed: int = 0) -> NDArray[np.float64]:
    """(groups,) shares when each residue's checkpoints are in random order: what noise alone is taken for."""
    shuffled = np.random.default_rng(seed).permuted(trajectories.losses, axis=0)
    return shares(classify(shuffled, trajectories.steps, threshold=threshold))


def enrichment(
    groups: NDArray[np.int8],
    letters: NDArray[np.uint8],
    crops: NDArray[np.int64],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """How much more common a letter is in a group than among all residues.

    Args:
        groups, letters, crops: (residues,) each.
        draws: of the bootstrap. Whole crops are drawn, for residues of one protein are not independent.
        seed: of the bootstrap.

    Returns:
        (letters, groups, 3): ratio of the shares, and the ends of its 95 % interval; NaN where the letter or the group
        does not occur.
    """
    _, rows = np.unique(crops, return_inverse=True)
    counts = np.zeros((rows.max() + 1, len(LETTERS), len(GROUPS)))
    np.add.at(counts, (rows, letters, groups), 1)
    times = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
    resampled = _ratios(np.tensordot(times.astype(np.float64), counts, axes=1))
    ratio = _ratios(counts.sum(axis=0))
    low, high = (_quantile(resampled, q) for q in (0.025, 0.975))
    return np.where(np.isnan(ratio)[..., None], np.nan, np.stack([ratio, low, high], axis=-1))


def _ratios(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., letters, groups) counts to ratios of shares."""
    with np.errstate(invalid="ignore", divide="ignore"):
        in_group = counts / counts.sum(axis=-2, keepdims=True)
        overall = counts.sum(axis=-1, keepdims=True) / counts.sum(axis=(-2, -1), keepdims=True)
        ratios: NDArray[np.float64] = in_group / overall
    ratios[~np.isfinite(ratios)] = np.nan
    return ratios


def _quantile(draws: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    """Over the draws that hold the letter and the group; one without says nothing about it."""
    known = ~np.isnan(draws).all(axis=0)
    result = np.full(draws.shape[1:], np.nan)
    result[known] = np.nanquantile(draws[:, known], q, axis=0)
    return result
