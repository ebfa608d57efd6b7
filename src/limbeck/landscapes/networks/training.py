"""Training a network on rows: batches, early stopping, and going on where an interrupted run stopped."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.losses import LOSSES
from limbeck.progress import Progress

__all__ = [
    "Checkpoint",
    "Examples",
    "Network",
    "Settings",
    "optimiser_for",
    "predict",
    "rows_of_step",
    "steps_of",
    "train",
    "train_step",
]

POSITIONS_AT_ONCE = 2**18
SECONDS_BETWEEN_CHECKPOINTS = 60.0


class Examples(Protocol):
    """Rows in the form that a network takes."""

    width: int

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.intp]) -> Any:
        """What the network's ``forward`` takes, for these rows."""
        ...


class Network(nn.Module):
    """A module from a batch of n rows to scores, (n,)."""

    def groups(self) -> list[list[nn.Parameter]]:
        """Parameters that share a learning rate and a weight decay."""
        raise NotImplementedError


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    Attributes:
        batch_size: rows of a step. As in the paper's code a batch may reach over the end of an epoch.
        epochs: how often each row is seen.
        learning_rates: of each group of parameters.
        weight_decays: of each group; decoupled from the gradient, relative to the learning rate.
        patience: epochs without a smaller loss on validation data after which training ends, with the weights of
            the best epoch; ``None`` to train to the end.
        largest_gradient: norm above which the gradient is scaled down to it; ``None`` for no limit.
        random_state: seed of the order of rows.
        loss: one of :data:`limbeck.losses.LOSSES`, within a batch.
    """

    batch_size: int
    epochs: int
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    patience: int | None = None
    largest_gradient: float | None = None
    random_state: int = 0
    loss: str = "squared"


@dataclass
class _Course:
    """Where training stands: all that it needs to go on, beside weights and optimiser."""

    step: int = 0
    epoch: int = 0
    best_error: float = math.inf
    best_epoch: int = 0
    finished: bool = False
    best: dict[str, Tensor] = field(default_factory=dict)


def steps_of(rows: int, settings: Settings) -> int:
    """Steps of a whole run."""
    return math.ceil(rows * settings.epochs / settings.batch_size)


def rows_of_step(step: int, rows: int, settings: Settings) -> NDArray[np.intp]:
    """Rows of a step: all rows are shuffled anew for each epoch, and these orders, one behind the other, are cut.

    It depends on the arguments alone, so that a run can start at any step.
    """
    first = step * settings.batch_size
    last = min(first + settings.batch_size, rows * settings.epochs)
    chosen: list[NDArray[np.intp]] = []
    while first < last:
        epoch, start = divmod(first, rows)
        chosen.append(_order(epoch, rows, settings.random_state)[start : start + last - first])
        first += len(chosen[-1])
    return np.concatenate(chosen)


@lru_cache(maxsize=2)
def _order(epoch: int, rows: int, random_state: int) -> NDArray[np.intp]:
    return np.random.default_rng((random_state, epoch)).permutation(rows)


def predict(network: Network, examples: Examples) -> NDArray[np.float64]:
    """Scores of all rows, (n,)."""
    result = np.empty(len(examples))
    at_once = max(1, POSITIONS_AT_ONCE // max(1, examples.width))
    network.eval()
    with torch.no_grad():
        for first in range(0, len(examples), at_once):
            rows = np.arange(first, min(first + at_once, len(examples)))
            result[rows] = network(examples.batch(rows)).cpu().numpy()
    return result


class Checkpoint:
    """A file that training is kept in.

    Args:
        path: of the file, under whose name no other run is kept; its folder is made when it is first written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to write it again."""
        return time.monotonic() - self._written >= SECONDS_BETWEEN_CHECKPOINTS

    def write(self, network: nn.Module, optimiser: torch.optim.Optimizer, course: _Course) -> None:
        """Keep all that training needs to go on."""
        tensors = {f"weights.{name}": value for name, value in network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in course.best.items()}
        for index, values in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
        plain = {name: value for name, value in vars(course).items() if name != "best"}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole(self._path) as partial:
            kept = {name: value.cpu().contiguous() for name, value in tensors.items()}
            save_file(kept, partial, {"course": json.dumps(plain)})
        self._written = time.monotonic()

    def read(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> _Course:
        """Bring network and optimiser to where they were; a new course if nothing was kept.

        Raises:
            InputError: if the file is damaged.
        """
        if not self._path.exists():
            return _Course()
        try:
            with safe_open(self._path, "pt") as file:
                plain = json.loads((file.metadata() or {})["course"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{self._path} cannot be read ({error}); delete it to train from the start") from None
        network.load_state_dict(_below("weights", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimiser", tensors).items():
            index, _, entry = name.partition(".")
            state.setdefault(int(index), {})[entry] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        return _Course(**plain, best=_below("best", tensors))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def train(
    network: Network,
    examples: Examples,
    scores: NDArray[np.float64],
    settings: Settings,
    validation: tuple[Examples, NDArray[np.float64]] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> int:
    """Fit a network to n rows by the settings' loss; its weights are the fitted ones afterwards.

    Args:
        scores: (n,)
        validation: rows and scores for early stopping.
        checkpoint: where training is kept now and then, and from where it goes on.
        progress: counts rows.

    Returns:
        the epoch whose weights these are, from 1 on.

    Raises:
        InputError: if the checkpoint is damaged, or the loss is no longer finite.
    """
    optimiser = optimiser_for(network, settings)
    course = checkpoint.read(network, optimiser) if checkpoint else _Course()
    parameter = next(network.parameters())
    targets = torch.from_numpy(scores).to(parameter.device, parameter.dtype)
    if progress:
        progress.skip(min(course.step * settings.batch_size, len(scores) * settings.epochs))
    stopping = settings.patience is not None and validation is not None
    while not course.finished:
        rows = rows_of_step(course.step, len(scores), settings)
        loss = train_step(network, optimiser, examples.batch(rows), targets[torch.from_numpy(rows)], settings)
        course.step += 1
        if progress:
            progress.note(f"loss {loss:.4f}")
            progress.update(len(rows))
        course.finished = course.step == steps_of(len(scores), settings)
        passed = course.step * settings.batch_size // len(scores) if not course.finished else settings.epochs
        if passed > course.epoch:
            course.epoch = passed
            if stopping and validation is not None and settings.patience is not None:
                _judge(network, validation, course, settings.patience, settings.loss)
        if checkpoint and (checkpoint.due or course.finished):
            checkpoint.write(network, optimiser, course)
    if course.best:
        network.load_state_dict(course.best)
        return course.best_epoch
    return course.epoch


def optimiser_for(network: Network, settings: Settings) -> torch.optim.Optimizer:
    """Adam with the learning rate and weight decay of each group of parameters.

    Raises:
        ValueError: if there are not as many as groups.
    """
    groups = network.groups()
    if not len(groups) == len(settings.learning_rates) == len(settings.weight_decays):
        raise ValueError(
            f"learning_rates and weight_decays must have {len(groups)} entries, one for each group of layers"
        )
    return torch.optim.AdamW(
        [
            {"params": group, "lr": rate, "weight_decay": decay}
            for group, rate, decay in zip(groups, settings.learning_rates, settings.weight_decays, strict=True)
        ],
        fused=True,
    )


def train_step(
    network: Network, optimiser: torch.optim.Optimizer, batch: Any, targets: Tensor, settings: Settings
) -> float:
    """One step of the optimiser; the loss before it.

    Raises:
        InputError: if the loss is no longer finite.
    """
    network.train()
    optimiser.zero_grad()
    loss = LOSSES[settings.loss](network(batch), targets)
    if not torch.isfinite(loss):
        raise InputError("the training loss is no longer a number; lower learning_rates, or set standardise=True")
    loss.backward()
    if settings.largest_gradient is not None:
        nn.utils.clip_grad_norm_(network.parameters(), settings.largest_gradient)
    optimiser.step()
    return loss.item()


def _judge(
    network: Network, validation: tuple[Examples, NDArray[np.float64]], course: _Course, patience: int, loss: str
) -> None:
    """Note whether the weights are the best so far, and whether to stop."""
    examples, scores = validation
    error = float(LOSSES[loss](torch.from_numpy(predict(network, examples)), torch.from_numpy(scores)))
    if error < course.best_error:
        course.best_error, course.best_epoch = error, course.epoch
        course.best = {name: value.detach().clone() for name, value in network.state_dict().items()}
    elif course.epoch - course.best_epoch >= patience:
        course.finished = True
