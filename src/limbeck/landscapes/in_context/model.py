"""The in-context predictor as a model of a landscape."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from torch import nn

from limbeck.benchmarks.overlap import near_duplicates
from limbeck.encoders import Encoder
from limbeck.encoders.registry import file_hash
from limbeck.errors import InputError
from limbeck.landscapes.assay import expressed
from limbeck.landscapes.in_context.meta import standardised
from limbeck.landscapes.in_context.network import InContextNetwork, Shape, pairwise_loss
from limbeck.landscapes.in_context.variants import Describer
from limbeck.landscapes.in_context.weights import load_network
from limbeck.landscapes.models.base import Data, Model, State, checked_data, from_text, part, to_text
from limbeck.landscapes.vectors import Source
from limbeck.rising import rising_line

__all__ = ["SHIPPED", "InContextModel", "fine_tuned"]

SHIPPED = Path(str(resources.files("limbeck") / "models" / "limbeck-in-context" / "model.safetensors"))
"""The weights that come with limbeck."""
ROWS_AT_ONCE = 1024
FOLDS = 5
FEWEST_TO_TUNE = 4
LEARNING_RATE = 1e-4
"""Of fine-tuning on the support."""

Array = NDArray[np.float64]


class InContextModel(Model):
    """Scores from a few labelled variants that a meta-trained network reads beside the ones that are asked for.

    Fitting is reading: the labelled variants become the network's support. What comes out ranks variants; a straight
    line brings it to the units of the scores, fitted to what the network says of a fifth of the support with the other
    four fifths as its support. That line's residuals give the standard deviation.

    Args:
        weights: file that ``results/in_context/train.py`` makes; ``None`` is the one that comes with limbeck.
        steps: of fine-tuning a copy of the network on the support, as the paper does (it takes 100); 0 for none.
            A line fitted to a support that the network was tuned on is steeper than it should be.
        most: rows of the support; of more, so many are drawn by ``random_state``. The network was trained with 128.
        sha256: of the weights, if others are to be refused; ``None`` takes any.
        encoder: the one that the weights were trained with, as :func:`limbeck.load` takes it; ``None`` is the default
            student.
        precision: as :func:`limbeck.load` takes it.
        wild_types: rows that variants derive from.
        random_state: draws rows, folds, and the steps of fine-tuning.

    Attributes:
        network_: the network, tuned if that was asked for.
        rows_: (m,) which of the rows are the support.
        line_: (2,) intercept and slope, above 0, from what the network says to scores.
        residual_: root of the mean squared error of the line.
    """

    def __init__(
        self,
        weights: str | None = None,
        steps: int = 0,
        most: int = 256,
        *,
        sha256: str | None = None,
        encoder: str | None = None,
        precision: str = "auto",
        wild_types: Sequence[str] = (),
        random_state: int = 0,
    ) -> None:
        self.weights = weights
        self.steps = steps
        self.most = most
        self.sha256 = sha256
        self.encoder = encoder
        self.precision = precision
        self.wild_types = wild_types
        self.random_state = random_state

    @classmethod
    def of_file(cls, weights: str | None = None, **arguments: Any) -> Self:
        """A model for the encoder that the weights were trained with, which takes no others.

        Raises:
            InputError: if they cannot be read, or that encoder cannot be loaded or is another now.
        """
        encoder = _opened(_file(weights))[1]["encoder"]
        model = cls(weights, sha256=file_hash(_file(weights)), encoder=encoder, **arguments)
        model._network()
        return model

    def learned_from(self) -> dict[str, str]:
        """The proteins whose measurements the weights learned from: wild types by name.

        Raises:
            InputError: if the weights cannot be read.
        """
        return dict(_opened(_file(self.weights))[1].get("proteins", {}))

    def learned_as(self) -> str | None:
        """The name in :meth:`learned_from` of a protein that a wild type is, or is much like; ``None`` for none.

        Raises:
            InputError: if the weights cannot be read.
        """
        known = [expressed(row) for row in self.wild_types]
        return next((name for name, one in self.learned_from().items() if near_duplicates([one], known)), None)

    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        if self.most < 1 or self.steps < 0:
            raise InputError(f"most must be at least 1 and steps at least 0, not {self.most} and {self.steps}")
        rows, scores = checked_data(X, y)
        chosen = np.arange(len(rows))
        if len(rows) > self.most:
            chosen = np.sort(np.random.default_rng(self.random_state).permutation(len(rows))[: self.most])
        network, self.fingerprint_ = self._network()
        self.width_, self.rows_ = len(rows[0]), chosen
        self.support_, self.scores_ = self._describe([rows[i] for i in chosen]), scores[chosen]
        if self.steps:
            with _one_thread():
                network = fine_tuned(network, self.support_, self.scores_, self.steps, self.random_state)
        self.network_ = network
        self.line_, self.residual_ = self._line()
        return self

    def without_labels(self) -> Self:
        """Fitted to no label at all: predictions are :meth:`rank`'s, and have no standard deviation (NaN).

        Raises:
            InputError: if the weights or their encoder cannot be read, or there are no wild types.
        """
        self.network_, self.fingerprint_ = self._network()
        self.rows_, self.support_, self.scores_ = np.empty(0, np.intp), self._describe([]), np.empty(0)
        self.width_, self.line_, self.residual_ = len(self.wild_types[0]), np.array([0.0, 1.0]), np.nan
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        rows = self.fitted_rows(X)
        predicted = self.line_[0] + self.line_[1] * _asked(
            self.network_, self.support_, self.scores_, self._describe(rows)
        )
        return (predicted, np.full(len(rows), self.residual_)) if return_std else predicted

    def rank(self, X: Any) -> Array:
        """What the network says of n rows without any label, (n,): larger is better, in no units.

        It needs no ``fit``.

        Raises:
            InputError: as :meth:`without_labels` and ``predict`` do.
        """
        ranked: Array = clone(self).without_labels().predict(X)
        return ranked

    def embedder(self) -> Encoder | None:
        return self._source.load()

    def state(self) -> State:
        fitted: State = {
            "width": np.array(self.width_),
            "rows": self.rows_,
            "support": self.support_,
            "scores": self.scores_,
            "line": self.line_,
            "residual": np.array(self.residual_),
            "fingerprint": from_text(self.fingerprint_),
            "shape": from_text(json.dumps(self.network_.description())),
        }
        return fitted | {f"network.{name}": value.numpy() for name, value in self.network_.state_dict().items()}

    def restore(self, state: State) -> Self:
        self.width_, self.rows_ = int(state["width"]), state["rows"]
        self.support_, self.scores_ = state["support"], state["scores"]
        self.line_, self.residual_ = state["line"], float(state["residual"])
        self.fingerprint_ = to_text(state["fingerprint"])
        self.network_ = InContextNetwork(Shape(**json.loads(to_text(state["shape"])))).eval()
        tensors = part(state, "network.")
        self.network_.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
        return self

    @property
    def _source(self) -> Source:
        return Source(self.encoder, None, self.precision, tuple(self.wild_types))

    def _network(self) -> tuple[InContextNetwork, str]:
        """The network of the file, and the fingerprint of the encoder that it needs."""
        path = _file(self.weights)
        network, about = _opened(path)
        if self.sha256 is not None and file_hash(path) != self.sha256:
            raise InputError(f"{path}: not the weights that were asked for; their SHA-256 is another")
        encoder = self._source.load()
        if encoder.fingerprint != about["fingerprint"]:
            raise InputError(f"encoder {encoder.name} is not the one that {path} was trained with; give that")
        return network, encoder.fingerprint

    def _describe(self, rows: Sequence[str]) -> NDArray[np.float32]:
        source = self._source
        encoder = source.load()
        if getattr(self, "fingerprint_", encoder.fingerprint) != encoder.fingerprint:
            raise InputError(f"encoder {encoder.name} is not the one that the model was fitted with; fit again")
        return _describer(source, encoder.fingerprint)(rows)

    def _line(self) -> tuple[Array, float]:
        """Intercept and slope, and the root of the mean squared error; from predictions across folds."""
        count = len(self.scores_)
        if count < 2 * FOLDS:
            mean, spread = float(self.scores_.mean()), float(self.scores_.std())
            return np.array([mean, spread]), spread
        folds = np.random.default_rng(self.random_state).permutation(count) % FOLDS
        predicted = np.empty(count)
        for fold in range(FOLDS):
            out = folds == fold
            predicted[out] = _asked(self.network_, self.support_[~out], self.scores_[~out], self.support_[out])
        line = np.array(rising_line(predicted, self.scores_))
        return line, float(np.sqrt(np.mean((line[0] + line[1] * predicted - self.scores_) ** 2)))


@lru_cache(maxsize=8)
def _describer(source: Source, fingerprint: str) -> Describer:
    """The encoder of a fingerprint reads the wild types once."""
    return Describer(source.load(), source.wild_types)


def _file(weights: str | None) -> Path:
    return SHIPPED if weights is None else Path(weights)


def _opened(path: Path) -> tuple[InContextNetwork, dict[str, Any]]:
    """The network of a file, and what is said about it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with results/in_context/train.py")
    return load_network(path)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several wait for each other for longer than they work on steps as small as those of fine-tuning."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _asked(network: InContextNetwork, support: Any, scores: Array, query: Any) -> Array:
    """(m,) what the network says of a query."""
    known, values = torch.from_numpy(support)[None], torch.from_numpy(standardised(scores))[None]
    parts = [
        network(known, values, torch.from_numpy(query[start : start + ROWS_AT_ONCE])[None])[0]
        for start in range(0, len(query), ROWS_AT_ONCE)
    ]
    return torch.cat(parts).double().numpy() if parts else np.empty(0)


def fine_tuned(
    network: InContextNetwork, support: NDArray[np.float32], scores: Array, steps: int, seed: int = 0
) -> InContextNetwork:
    """A copy, tuned by the pairwise loss on a half of the support with the other half as its support.

    With fewer than four labels there is nothing to tune by: the copy is the network.
    """
    tuned = copy.deepcopy(network)
    if len(scores) < FEWEST_TO_TUNE:
        return tuned
    random = np.random.default_rng(seed)
    known, values = torch.from_numpy(support)[None], torch.from_numpy(standardised(scores))[None]
    optimiser = torch.optim.AdamW(tuned.parameters(), lr=LEARNING_RATE, weight_decay=5e-3)
    for _ in range(steps):
        order = torch.from_numpy(random.permutation(len(scores)))
        shown, asked = order[: len(order) // 2], order[len(order) // 2 :]
        optimiser.zero_grad()
        pairwise_loss(tuned(known[:, shown], values[:, shown], known[:, asked]), values[:, asked]).backward()
        nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimiser.step()
    return tuned.eval()
