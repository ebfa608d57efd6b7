"""The networks as scikit-learn regressors."""

from __future__ import annotations

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from limbeck.errors import InputError
from limbeck.landscapes.models.base import Data, Model, State, checked_data, hold_out
from limbeck.landscapes.networks.convolutions import ConvolutionalNetwork
from limbeck.landscapes.networks.cost import Estimate
from limbeck.landscapes.networks.published import PUBLISHED, settings
from limbeck.landscapes.networks.recurrent import RecurrentNetwork
from limbeck.landscapes.networks.residues import CATEGORIES, encode
from limbeck.landscapes.networks.training import (
    Checkpoint,
    Examples,
    Network,
    Settings,
    predict,
    rows_of_step,
    steps_of,
    train,
)
from limbeck.landscapes.networks.windows import Batch, Windows
from limbeck.losses import check_loss
from limbeck.progress import Progress
from limbeck.rising import rising_line

__all__ = ["BiLSTM", "CNNEnsemble", "DilatedCNN", "LinearMaxPoolCNN", "MaxPoolCNN", "NetworkModel"]

LARGEST_TABLE = 2**29
"""Numbers (float32: 2 GiB) above which a batch is computed position by position."""
FEWEST_FOR_THREADS = 1e9
"""Multiplications of a step, forward, below which one thread does all: several wait for each other for longer than they
work, and on a busy machine fifty times as long."""
LARGEST_GRADIENT = 1.0
"""Norm to which the gradient of an LSTM is limited, which now and then explodes."""
SAMPLED_STEPS = 8
OPERATIONS_OF_ADAM = 4
"""For each parameter, in a step."""
FORWARD_AND_BACKWARD = 3
"""Operations of a step relative to those of computing the scores: the gradient takes twice as many."""


class NetworkModel(Model):
    """A network trained on the scores alone.

    Predictions are clipped to the range of the training scores, as in the paper; those of a ranking loss have no units
    and get them from a rising line through the training rows, without clipping, which would make the best equal. The
    standard deviation of a
    prediction is the root of the mean squared error on rows that were not fitted to: those of ``validation``, or
    those held out. A model that had neither has none.

    Attributes:
        network_: the fitted module.
        epoch_: the epoch whose weights these are.
        residual_: root of the mean squared error on rows that were not fitted to; NaN if there were none.
    """

    batch_size: int
    epochs: int
    learning_rates: Sequence[float]
    weight_decays: Sequence[float]
    patience: int | None
    held_out: float
    standardise: bool
    loss: str
    random_state: int
    device: str
    network_: Any

    @classmethod
    def published(cls, task: str, **changes: Any) -> Self:
        """The network with the settings of arXiv 2011.03443 for a task: see :data:`PUBLISHED`.

        Args:
            changes: arguments that differ from the published ones.

        Raises:
            ValueError: if the paper has no such network for the task.
        """
        return cls(**{**settings(task, cls.__name__), **changes})

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        validation: Data | None = None,
        *,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Fit to n rows and their scores.

        Args:
            X: n rows.
            y: (n,) finite scores.
            validation: rows and scores that are not fitted to: for early stopping if ``patience`` is set, and for
                the standard deviation. Without them the share ``held_out`` of ``X`` is taken for both.
            checkpoint: folder in which training is kept once a minute, and from which it goes on: an interrupted
                fit that is called again ends in the same weights, and a finished one ends at once. A folder serves
                any number of fits, which are told apart by all that determines them; members of a
                :class:`CNNEnsemble` that were fitted by themselves are found there, too.
            progress: whether to show it on standard error.

        Raises:
            InputError: if rows and scores don't belong together, a letter is no residue, or the checkpoint is
                damaged.
        """
        check_loss(self.loss)
        rows, scores = checked_data(X, y)
        self.width_ = len(rows[0])
        rows, scores, held = _divided(rows, scores, validation, self.held_out, self.random_state)
        self._low, self._high = float(scores.min()), float(scores.max())
        self._centre, self._scale = _standard(scores) if self.standardise else (0.0, 1.0)
        self.network_ = self.build().to(self._device())
        examples = self._examples(encode(rows))
        watched = None if held is None else (self._examples(encode(held[0])), self._scaled(held[1]))
        kept = None if checkpoint is None else self._checkpoint(Path(checkpoint), rows, scores, held)
        with (
            Progress(f"training {type(self).__name__}", "variants", len(rows) * self.epochs, progress) as shown,
            self._threads_for(examples),
        ):
            self.epoch_ = train(
                self.network_, examples, self._scaled(scores), self.training_settings(), watched, kept, shown
            )
        if self.loss != "squared":
            self._centre, self._scale = self._line(examples, scores)
        self.residual_ = math.nan if watched is None or held is None else _error(self._scores(watched[0]), held[1])
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        if return_std and math.isnan(self.residual_):
            raise InputError(
                f"this {type(self).__name__} has no standard deviation: fit it with validation data or held_out above 0"
            )
        predicted = self._scores(self._examples(encode(rows))) if rows else np.empty(0)
        return (predicted, np.full(len(rows), self.residual_)) if return_std else predicted

    def state(self) -> State:
        check_is_fitted(self)
        numbers = {
            "width": self.width_,
            "epoch": self.epoch_,
            "residual": self.residual_,
            "low": self._low,
            "high": self._high,
            "centre": self._centre,
            "scale": self._scale,
        }
        weights = {f"network.{name}": value.cpu().numpy() for name, value in self.network_.state_dict().items()}
        return {**weights, **{name: np.array(value) for name, value in numbers.items()}}

    def restore(self, state: State) -> Self:
        self.width_, self.epoch_ = int(state["width"]), int(state["epoch"])
        self.residual_ = float(state["residual"])
        self._low, self._high = float(state["low"]), float(state["high"])
        self._centre, self._scale = float(state["centre"]), float(state["scale"])
        self.network_ = self.build().to(self._device())
        self.network_.load_state_dict(
            {
                name.removeprefix("network."): torch.from_numpy(np.array(value))
                for name, value in state.items()
                if name.startswith("network.")
            }
        )
        return self

    def operations(self, n_rows: int, width: int) -> float:
        """Floating-point operations of a whole fit as the network is defined: everything at every position."""
        positions = n_rows * width * self.epochs
        return 2.0 * FORWARD_AND_BACKWARD * positions * self._products_at_a_position()

    @contextmanager
    def _threads_for(self, examples: Examples) -> Iterator[None]:
        """Compute with one thread what is too little for several."""
        before = torch.get_num_threads()
        if self._cost(examples.batch(np.arange(min(len(examples), self.batch_size))))[0] < FEWEST_FOR_THREADS:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def estimate(self, X: Any) -> Estimate:
        """What fitting to these rows takes, from a few of its batches, if no early stopping cuts it short."""
        rows, _ = checked_data(X, np.zeros(len(X)))
        examples = self._examples(encode(rows))
        count = steps_of(len(rows), self.training_settings())
        steps = sorted({round(step) for step in np.linspace(0, count - 1, SAMPLED_STEPS)})
        costs = [self._cost(examples.batch(rows_of_step(step, len(rows), self.training_settings()))) for step in steps]
        products, others = FORWARD_AND_BACKWARD * count * np.mean(costs, axis=0)
        parameters = sum(value.numel() for value in self.build().parameters())
        return Estimate(2 * float(products), float(others) + OPERATIONS_OF_ADAM * parameters * count, count)

    @abstractmethod
    def build(self) -> Network:
        """The module with the weights that training starts from."""

    @abstractmethod
    def _examples(self, codes: NDArray[np.uint8]) -> Examples:
        """Rows for the fitted or to be fitted ``network_``."""

    @abstractmethod
    def _products_at_a_position(self) -> int:
        """Multiplications for each position when the scores are computed."""

    @abstractmethod
    def _cost(self, batch: Any) -> tuple[float, float]:
        """Multiplications in matrix products, and operations outside of them, when a batch's scores are computed."""

    def training_settings(self) -> Settings:
        """How it is trained."""
        return Settings(
            batch_size=self.batch_size,
            epochs=self.epochs,
            learning_rates=tuple(self.learning_rates),
            weight_decays=tuple(self.weight_decays),
            patience=self.patience,
            random_state=self.random_state,
            loss=self.loss,
        )

    def _device(self) -> str:
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device

    def _scaled(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return (scores - self._centre) / self._scale

    def _scores(self, examples: Examples) -> NDArray[np.float64]:
        with self._threads_for(examples):
            raw = predict(self.network_, examples) * self._scale + self._centre
        return np.clip(raw, self._low, self._high) if self.loss == "squared" else raw

    def _line(self, examples: Examples, scores: NDArray[np.float64]) -> tuple[float, float]:
        """Start and slope of the line from what a ranking network gives to scores; it rises whatever they say."""
        with self._threads_for(examples):
            raw = predict(self.network_, examples)
        return rising_line(raw, scores)

    def _checkpoint(self, folder: Path, rows: list[str], scores: NDArray[np.float64], held: Data | None) -> Checkpoint:
        digest = hashlib.sha256(json.dumps([type(self).__name__, self.get_params()], sort_keys=True).encode())
        for part in (rows, scores.tolist(), [] if held is None else [held[0], np.asarray(held[1]).tolist()]):
            digest.update(json.dumps(part).encode())
        return Checkpoint(folder / f"{type(self).__name__}-{digest.hexdigest()[:32]}.safetensors")


class _CNN(NetworkModel):
    """A convolutional network of arXiv 2011.03443."""

    channels: Sequence[int]
    kernels: Sequence[int]

    def _dilations(self) -> tuple[int, ...]:
        return (1,) * len(self.kernels)

    def _dense(self) -> int | None:
        return None

    def build(self) -> ConvolutionalNetwork:
        return ConvolutionalNetwork(
            tuple(self.channels), tuple(self.kernels), self._dilations(), self._dense(), self.random_state
        )

    def _examples(self, codes: NDArray[np.uint8]) -> Examples:
        return _WindowExamples(codes, self.network_ if hasattr(self, "network_") else self.build().to(self._device()))

    def _products_at_a_position(self) -> int:
        inputs = (CATEGORIES, *self.channels)
        filters = sum(
            inputs[depth] * kernel * outputs
            for depth, (kernel, outputs) in enumerate(zip(self.kernels, self.channels, strict=True))
        )
        return filters + self.channels[-1] * (self._dense() or 1)

    def _cost(self, batch: Any) -> tuple[float, float]:
        if not isinstance(batch, Batch):
            return float(batch.size * self._products_at_a_position()), 0.0
        below = [0, *map(len, batch.parts[:-1])]
        inputs = (0, *self.channels)
        products = others = 0.0
        for depth, (kernel, outputs) in enumerate(zip(self.kernels, self.channels, strict=True)):
            products += below[depth] * inputs[depth] * kernel * outputs
            others += batch.parts[depth].size * outputs
        last = self._dense() or self.channels[-1]
        if self._dense():
            products += len(batch.parts[-1]) * self.channels[-1] * last
        return products, others + (batch.pooling.looked_up + sum(batch.pooling.sizes)) * last


class MaxPoolCNN(_CNN):
    """Convolutions, the maximum over the residues, and a linear output.

    The defaults are for a quick answer on any assay, with early stopping; :meth:`published` has the paper's settings.

    Args:
        channels: filters of each layer.
        kernels: residues that each layer's filters see.
        batch_size: rows of a step.
        epochs: how often each row is seen, at most.
        learning_rates: of the convolutions and of the output.
        weight_decays: the same; decoupled from the gradient, relative to the learning rate.
        patience: epochs without a smaller error on rows that are not fitted to after which training ends, with the
            weights of the best epoch; ``None`` to train to the end.
        held_out: share of the rows that is not fitted to if ``fit`` is given no validation data.
        standardise: whether the scores are brought to mean 0 and standard deviation 1 for training.
        loss: ``"squared"``, or ``"pairwise"`` or ``"listwise"``, which see the order of a batch's scores alone
            (:mod:`limbeck.losses`).
        random_state: seed of the weights, of the order of rows, and of what is held out.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU if there is one. On the CPU two fits with one
            ``random_state`` and one number of threads are the same.
    """

    def __init__(
        self,
        channels: Sequence[int] = (1024,),
        kernels: Sequence[int] = (5,),
        *,
        batch_size: int = 256,
        epochs: int = 50,
        learning_rates: Sequence[float] = (1e-3, 1e-3),
        weight_decays: Sequence[float] = (0.0, 0.0),
        patience: int | None = 5,
        held_out: float = 0.1,
        standardise: bool = True,
        loss: str = "squared",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.channels = channels
        self.kernels = kernels
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rates = learning_rates
        self.weight_decays = weight_decays
        self.patience = patience
        self.held_out = held_out
        self.standardise = standardise
        self.loss = loss
        self.random_state = random_state
        self.device = device


class DilatedCNN(_CNN):
    """As :class:`MaxPoolCNN`, whose other arguments it has, with filters that leave out residues.

    Args:
        dilations: distances between the residues that each layer's filters see.
    """

    def __init__(
        self,
        channels: Sequence[int] = (256, 256),
        kernels: Sequence[int] = (5, 5),
        dilations: Sequence[int] = (2, 1),
        *,
        batch_size: int = 256,
        epochs: int = 50,
        learning_rates: Sequence[float] = (1e-3, 1e-3),
        weight_decays: Sequence[float] = (0.0, 0.0),
        patience: int | None = 5,
        held_out: float = 0.1,
        standardise: bool = True,
        loss: str = "squared",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.channels = channels
        self.kernels = kernels
        self.dilations = dilations
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rates = learning_rates
        self.weight_decays = weight_decays
        self.patience = patience
        self.held_out = held_out
        self.standardise = standardise
        self.loss = loss
        self.random_state = random_state
        self.device = device

    def _dilations(self) -> tuple[int, ...]:
        return tuple(self.dilations)


class LinearMaxPoolCNN(_CNN):
    """As :class:`MaxPoolCNN`, whose other arguments it has, with a dense layer at every residue before the maximum.

    Args:
        dense: outputs of that layer.
        learning_rates: of the convolutions, of the dense layer, and of the output.
        weight_decays: the same.
    """

    def __init__(
        self,
        channels: Sequence[int] = (256,),
        kernels: Sequence[int] = (5,),
        dense: int = 512,
        *,
        batch_size: int = 256,
        epochs: int = 50,
        learning_rates: Sequence[float] = (1e-3, 1e-3, 1e-3),
        weight_decays: Sequence[float] = (0.0, 0.0, 0.0),
        patience: int | None = 5,
        held_out: float = 0.1,
        standardise: bool = True,
        loss: str = "squared",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.channels = channels
        self.kernels = kernels
        self.dense = dense
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rates = learning_rates
        self.weight_decays = weight_decays
        self.patience = patience
        self.held_out = held_out
        self.standardise = standardise
        self.loss = loss
        self.random_state = random_state
        self.device = device

    def _dense(self) -> int:
        return self.dense


class BiLSTM(NetworkModel):
    """A bidirectional LSTM over the protein, without gaps, and a linear output on mean and maximum of its states.

    The network that small data may prefer to a large pretrained one (arXiv 2009.05451).

    Args:
        embedding: numbers for each residue.
        hidden: states in each direction.
        learning_rates: one, of all layers.
        weight_decays: the same.

    The other arguments are those of :class:`MaxPoolCNN`.
    """

    def __init__(
        self,
        embedding: int = 32,
        hidden: int = 128,
        *,
        batch_size: int = 64,
        epochs: int = 50,
        learning_rates: Sequence[float] = (2e-3,),
        weight_decays: Sequence[float] = (0.01,),
        patience: int | None = 5,
        held_out: float = 0.1,
        standardise: bool = True,
        loss: str = "squared",
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.embedding = embedding
        self.hidden = hidden
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rates = learning_rates
        self.weight_decays = weight_decays
        self.patience = patience
        self.held_out = held_out
        self.standardise = standardise
        self.loss = loss
        self.random_state = random_state
        self.device = device

    def build(self) -> RecurrentNetwork:
        return RecurrentNetwork(self.embedding, self.hidden, self.random_state)

    def _examples(self, codes: NDArray[np.uint8]) -> Examples:
        return _CodeExamples(codes)

    def training_settings(self) -> Settings:
        return replace(super().training_settings(), largest_gradient=LARGEST_GRADIENT)

    def _products_at_a_position(self) -> int:
        return 2 * 4 * self.hidden * (self.embedding + self.hidden)

    def _cost(self, batch: Any) -> tuple[float, float]:
        return float(batch.size * self._products_at_a_position()), float(batch.size * 2 * 4 * self.hidden)


class CNNEnsemble(Model):
    """The mean of several networks' predictions.

    The standard deviation of a prediction is the root of the members' variance plus the mean squared error of their
    mean on rows that were not fitted to.

    Args:
        members: class and arguments of each, where its ``random_state`` may be left out.
        held_out: share of the rows that no member is fitted to if ``fit`` is given no validation data.
        random_state: seed of every member but those that have a like one before them, which get the next seed.

    Attributes:
        members_: the fitted networks.
        residual_: root of the mean squared error of their mean on rows that were not fitted to; NaN if there were none.
    """

    def __init__(
        self,
        members: Sequence[tuple[str, Mapping[str, Any]]] = (("MaxPoolCNN", {}), ("DilatedCNN", {})),
        *,
        held_out: float = 0.1,
        random_state: int = 0,
    ) -> None:
        self.members = members
        self.held_out = held_out
        self.random_state = random_state

    @classmethod
    def published(cls, task: str, random_state: int = 0, **changes: Any) -> Self:
        """The networks of arXiv 2011.03443 for a task: see :data:`PUBLISHED`.

        Args:
            changes: arguments of every member that differ from the published ones.

        Raises:
            ValueError: if the paper has no such task.
        """
        if task not in PUBLISHED:
            raise ValueError(f"the paper has no task {task!r}; it has: {', '.join(PUBLISHED)}")
        members = tuple((name, {**settings(task, name), **changes}) for name in PUBLISHED[task])
        return cls(members, held_out=changes.get("held_out", 0.0), random_state=random_state)

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        validation: Data | None = None,
        *,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """As :meth:`NetworkModel.fit`; every member is given the same validation data."""
        rows, scores = checked_data(X, y)
        rows, scores, held = _divided(rows, scores, validation, self.held_out, self.random_state)
        members = self._members()
        for member in members:
            member.fit(rows, scores, held, checkpoint=checkpoint, progress=progress)
        self.width_, self.members_ = len(rows[0]), members
        self.residual_ = math.nan if held is None else _error(self.predict(held[0]), held[1])
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        if return_std and math.isnan(self.residual_):
            raise InputError(
                "this CNNEnsemble has no standard deviation: fit it with validation data or held_out above 0"
            )
        each = np.array([member.predict(rows) for member in self.members_])
        return (each.mean(axis=0), np.sqrt(each.var(axis=0) + self.residual_**2)) if return_std else each.mean(axis=0)

    def state(self) -> State:
        check_is_fitted(self)
        result = {"width": np.array(self.width_), "residual": np.array(self.residual_)}
        for index, member in enumerate(self.members_):
            result |= {f"{index}.{name}": value for name, value in member.state().items()}
        return result

    def restore(self, state: State) -> Self:
        members = self._members()
        for index, member in enumerate(members):
            prefix = f"{index}."
            member.restore({name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)})
        self.width_, self.residual_, self.members_ = int(state["width"]), float(state["residual"]), members
        return self

    def operations(self, n_rows: int, width: int) -> float:
        """As :meth:`NetworkModel.operations`, of all members."""
        return sum(member.operations(n_rows, width) for member in self._members())

    def estimate(self, X: Any) -> Estimate:
        """As :meth:`NetworkModel.estimate`, of all members."""
        return sum((member.estimate(X) for member in self._members()), Estimate(0.0, 0.0, 0))

    def _members(self) -> list[NetworkModel]:
        """The networks, not fitted."""
        known = {kind.__name__: kind for kind in (MaxPoolCNN, DilatedCNN, LinearMaxPoolCNN, BiLSTM)}
        like = [json.dumps([name, dict(arguments)], sort_keys=True) for name, arguments in self.members]
        return [
            known[name](**{"random_state": self.random_state + like[:index].count(like[index]), **arguments})
            for index, (name, arguments) in enumerate(self.members)
        ]


class _CodeExamples:
    """Rows for a network that reads residues in their order."""

    def __init__(self, codes: NDArray[np.uint8]) -> None:
        self.width = codes.shape[1]
        self._codes = codes

    def __len__(self) -> int:
        return len(self._codes)

    def batch(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        return self._codes[rows]


class _WindowExamples:
    """Rows for a convolutional network, by their distinct windows.

    On a CPU this is quicker even where rows share little; but then its tables are large, and batches whose tables would
    not fit into memory are computed at every position. So is everything on a GPU, which is quick enough at that.
    """

    def __init__(self, codes: NDArray[np.uint8], network: ConvolutionalNetwork) -> None:
        self.width = codes.shape[1]
        self._codes, self._network = codes, network
        on_cpu = next(network.parameters()).device.type == "cpu"
        self._windows = Windows(codes, network.layers) if on_cpu else None

    def __len__(self) -> int:
        return len(self._codes)

    def batch(self, rows: NDArray[np.intp]) -> Batch | NDArray[np.uint8]:
        if self._windows is None:
            return self._codes[rows]
        batch = self._windows.batch(rows)
        return batch if self._network.largest_table(batch) <= LARGEST_TABLE else self._codes[rows]


def _divided(
    rows: list[str], scores: NDArray[np.float64], validation: Data | None, held_out: float, random_state: int
) -> tuple[list[str], NDArray[np.float64], tuple[list[str], NDArray[np.float64]] | None]:
    """Rows and scores to fit to, and those not to fit to if there are any."""
    if validation is not None:
        return rows, scores, checked_data(*validation, width=len(rows[0]))
    if not held_out or len(rows) < 2:
        return rows, scores, None
    kept, held = hold_out(len(rows), held_out, random_state)
    return [rows[i] for i in kept], scores[kept], ([rows[i] for i in held], scores[held])


def _standard(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; 1 where there is no deviation."""
    return float(scores.mean()), float(scores.std()) or 1.0


def _error(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((predicted - measured) ** 2)))
