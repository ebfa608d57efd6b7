"""Options of fine-tuning, without anything that takes long to import."""

from __future__ import annotations

from dataclasses import dataclass

from limbeck.errors import InputError
from limbeck.losses import check_loss

__all__ = ["METHODS", "Settings"]

METHODS = ("head", "prompt", "lora", "full")
"""What learns: a linear head on the frozen network; a vector for each layer, one low-rank change for all and a head;
low-rank changes of all its matrices and a head; all of it."""
LEARNING_RATES = {"head": 0.0, "prompt": 1e-3, "lora": 1e-3, "full": 1e-4}


@dataclass(frozen=True)
class Settings:
    """How an encoder is fine-tuned.

    Attributes:
        method: one of :data:`METHODS`.
        epochs: at most; how often each protein is seen.
        patience: epochs without a better score on validation after which training ends.
        batch: most proteins of a step.
        tokens: most residues of a step, padding included; a longer protein is a step of its own.
        learning_rate: at its peak, after a tenth of the steps; it then falls to zero along a half cosine. ``None``:
            1e-3 for ``prompt`` and ``lora``, 1e-4 for ``full``.
        head_learning_rate: of the head, which starts solved.
        weight_decay: of matrices; decoupled, relative to the learning rate.
        largest_gradient: norm above which the gradient is scaled down to it.
        rank: of the changes that ``prompt`` and ``lora`` learn.
        loss: of values: ``squared``, or ``pairwise`` or ``listwise``, which see the order of a step's proteins alone
            (:mod:`limbeck.losses`). The head starts from the squared error.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``.
        precision: ``bf16``, ``f32``, or ``auto``: bf16 where the device multiplies matrices of it. What learns is
            float32 in any case; the frozen weights of an encoder that is no student are held in this precision.
    """

    method: str = "lora"
    epochs: int = 10
    patience: int = 3
    batch: int = 16
    tokens: int = 4096
    learning_rate: float | None = None
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    largest_gradient: float = 1.0
    rank: int = 8
    loss: str = "squared"
    device: str = "cpu"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"there is no way {self.method!r} to fine-tune; choose from: {', '.join(METHODS)}")
        check_loss(self.loss)
        for name in ("epochs", "patience", "batch", "tokens", "rank"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of fine-tuning must be at least 1, not {getattr(self, name)}")
        for name in ("peak", "head_learning_rate", "largest_gradient"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} of fine-tuning must be at least 0, not {getattr(self, name)}")

    @property
    def peak(self) -> float:
        """The learning rate that is meant by ``learning_rate``."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate
