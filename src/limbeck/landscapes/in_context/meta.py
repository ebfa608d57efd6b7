"""Meta-training: one network, many assays.

A step draws assays, of each a support with scores and a query without, and lowers the pairwise loss on the query. What
it draws depends on the seed and the step's number alone, so an interrupted training goes on as if it never stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.stats import spearmanr
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.landscapes.in_context.network import InContextNetwork, pairwise_loss

__all__ = ["MetaSettings", "Task", "meta_train", "standardised", "validated"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """An assay: ``variants`` (n, place + change) as :class:`.Describer` gives them, and ``scores`` (n,).

    Assays of one ``protein`` share its chance to be drawn.
    """

    name: str
    protein: str
    variants: Array
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class MetaSettings:
    """How it is trained.

    Attributes:
        steps: of the optimiser.
        tasks: of a step.
        supports: sizes of the support; each step draws one.
        query: variants of each task that the loss looks at.
        learning_rate: at its peak, after a twentieth of the steps; it then falls to zero along a half cosine.
        weight_decay: of matrices.
        largest_gradient: norm above which the gradient is scaled down to it.
        watched: steps from one look at the validation tasks, and one checkpoint, to the next.
        seed: of the draws.
    """

    steps: int = 10_000
    tasks: int = 2
    supports: tuple[int, ...] = (0, 16, 64, 128, 128)
    query: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    largest_gradient: float = 1.0
    watched: int = 500
    seed: int = 0


@dataclass
class _Course:
    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def standardised(scores: NDArray[np.float64]) -> Array:
    """Scores with mean 0 and standard deviation 1, as far as there are several and they differ."""
    spread = float(scores.std()) if len(scores) else 0.0
    centred = scores - scores.mean() if len(scores) else scores
    return np.asarray(centred / (spread or 1.0), np.float32)


def meta_train(
    network: InContextNetwork,
    tasks: Sequence[Task],
    held: Sequence[Task],
    settings: MetaSettings,
    checkpoint: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[dict[str, float]]:
    """Train in place, and keep the weights that the validation tasks like best.

    Args:
        network: of the shape that the tasks' variants have.
        tasks: to learn from; larger scores must be better in all of them.
        held: validation tasks, of other proteins.
        checkpoint: file from which an interrupted training goes on.
        say: is told each look at validation.

    Returns:
        For each look: step, seconds of training, and the mean Spearman correlation at each size of support.

    Raises:
        InputError: if there are no tasks, a task is too small for a step, or the checkpoint is of another training.
    """
    fewest = max(settings.supports) + 2
    if not tasks or not held or min(len(t.scores) for t in (*tasks, *held)) < fewest:
        raise InputError(
            f"meta-training needs assays to learn from and to validate, of at least {fewest} variants each"
        )
    _set_scale(network, tasks)
    groups = [[p for p in network.parameters() if (p.ndim > 1) is matrices] for matrices in (True, False)]
    optimiser = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": settings.weight_decay}, {"params": groups[1], "weight_decay": 0.0}],
        lr=settings.learning_rate,
    )
    course = _Course()
    best: dict[str, Tensor] = {}
    identity = json.dumps([network.description(), asdict(settings), [t.name for t in (*tasks, *held)]])
    if checkpoint is not None and checkpoint.exists():
        course, best = _read(checkpoint, network, optimiser, identity)
    proteins = sorted({t.protein for t in tasks})
    started = time.monotonic() - course.seconds
    while course.step < settings.steps:
        _step(network, optimiser, tasks, proteins, settings, course.step)
        course.step += 1
        if course.step % settings.watched and course.step < settings.steps:
            continue
        found = validated(network, held, sorted(set(settings.supports)))
        mean = float(np.mean(list(found.values())))
        course.seconds = time.monotonic() - started
        course.history.append({"step": course.step, "seconds": round(course.seconds, 1), **found})
        if mean > course.best:
            course.best, course.best_step = mean, course.step
            best = {name: value.clone() for name, value in network.state_dict().items()}
        if checkpoint is not None:
            _write(checkpoint, network, optimiser, course, best, identity)
        if say:
            say(json.dumps(course.history[-1]))
    if best:
        network.load_state_dict(best)
    network.eval()
    return course.history


def _set_scale(network: InContextNetwork, tasks: Sequence[Task]) -> None:
    """Standardise places by what the training proteins have, each protein counting once."""
    places = {t.protein: t.variants[:, : network.shape.place] for t in tasks}
    means = np.stack([p.mean(axis=0) for p in places.values()])
    squares = np.stack([(p.astype(np.float64) ** 2).mean(axis=0) for p in places.values()])
    mean = means.mean(axis=0)
    spread = np.sqrt(np.maximum(squares.mean(axis=0) - mean**2, 1e-8))
    network.mean.copy_(torch.from_numpy(mean))
    network.spread.copy_(torch.from_numpy(spread))


def _step(
    network: InContextNetwork,
    optimiser: torch.optim.Optimizer,
    tasks: Sequence[Task],
    proteins: list[str],
    settings: MetaSettings,
    step: int,
) -> None:
    random = np.random.default_rng((settings.seed, step))
    torch.manual_seed(int(random.integers(2**31)))
    size = int(random.choice(settings.supports))
    drawn = []
    for protein in random.choice(proteins, settings.tasks, replace=len(proteins) < settings.tasks):
        own = [t for t in tasks if t.protein == protein]
        drawn.append(_draw(own[random.integers(len(own))], size, settings.query, random))
    support, scores, query, targets = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * _share(step / settings.steps)
    network.train()
    optimiser.zero_grad()
    loss = pairwise_loss(network(support, scores, query), targets)
    if not torch.isfinite(loss):
        raise InputError(f"the loss is no number at step {step}; lower the learning rate")
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), settings.largest_gradient)
    optimiser.step()


def _draw(task: Task, support: int, query: int, random: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Support, its standardised scores, query (repeated if the assay is small), its scores."""
    order = random.permutation(len(task.scores))
    rest = order[support:]
    asked = rest[:query] if len(rest) >= query else random.choice(rest, query)
    known = order[:support]
    return (
        task.variants[known],
        standardised(task.scores[known]),
        task.variants[asked],
        task.scores[asked].astype(np.float32),
    )


def _share(done: float) -> float:
    """Of the peak learning rate, when a share of the steps is done."""
    warm = 0.05
    return max(done, 1e-3) / warm if done < warm else 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


@torch.no_grad()
def validated(network: InContextNetwork, held: Sequence[Task], sizes: Sequence[int]) -> dict[str, float]:
    """Mean Spearman correlation over tasks by size of support; the same draw each time."""
    network.eval()
    found = {}
    for size in sizes:
        values = []
        for number, task in enumerate(held):
            support, scores, query, targets = _draw(task, size, 256, np.random.default_rng((number, size)))
            predicted = network(*(torch.from_numpy(part)[None] for part in (support, scores, query)))[0].numpy()
            values.append(0.0 if np.ptp(predicted) == 0 else float(spearmanr(predicted, targets)[0]))
        found[str(size)] = round(float(np.mean(values)), 4)
    return found


def _write(
    path: Path,
    network: InContextNetwork,
    optimiser: torch.optim.Optimizer,
    course: _Course,
    best: dict[str, Tensor],
    identity: str,
) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    metadata = {"course": json.dumps(asdict(course)), "identity": identity}
    with whole(path) as partial:
        save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, partial, metadata)


def _read(
    path: Path, network: InContextNetwork, optimiser: torch.optim.Optimizer, identity: str
) -> tuple[_Course, dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        course = _Course(**json.loads(metadata["course"]))
        if metadata["identity"] != identity:
            raise InputError(f"{path} is of a training with other settings or assays; delete it, or name another file")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({error}); delete it to train from the start") from None
    network.load_state_dict(_below("network", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _below("optimiser", tensors).items():
        index, _, entry = name.partition(".")
        state.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return course, _below("best", tensors)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
