"""Options of training, without anything that takes long to import."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from limbeck.errors import InputError

__all__ = ["StudentConfig", "TrainingConfig"]


def _option(default: Any, description: str) -> Any:
    return field(default=default, metadata={"help": description})


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise InputError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


@dataclass(frozen=True)
class StudentConfig:
    """Shape of a student."""

    width: int = _option(384, "channels of the residual stream: the dimension of residue and of protein vectors")
    inner: int = _option(384, "channels inside a block")
    kernel: int = _option(5, "residues that one convolution spans, before dilation")
    dilations: tuple[int, ...] = _option((1, 2, 4, 8, 16, 1, 2, 4), "dilation of each block, comma separated")
    states: int = _option(2048, "sequence contexts that residues are softly assigned to, for pooling")

    def __post_init__(self) -> None:
        for name in ("width", "inner", "kernel", "states"):
            _at_least(name, getattr(self, name), 1)
        for dilation in self.dilations:
            _at_least("dilations", dilation, 1)
        if self.kernel % 2 == 0:
            raise InputError(f"--kernel must be odd, so that it has a middle; not {self.kernel}")
        if self.states < self.width:
            raise InputError(f"{self.states} contexts cannot span {self.width} dimensions; use at least {self.width}")

    @property
    def radius(self) -> int:
        """Residues on either side that a residue's features depend on."""
        return sum(self.dilations) * (self.kernel // 2)

    def as_dict(self) -> dict[str, int | list[int]]:
        return asdict(self) | {"dilations": list(self.dilations)}


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a training run; their descriptions are the command line's help."""

    steps: int = _option(5_000, "optimiser steps")
    batch_residues: int = _option(12_288, "residues in a batch")
    learning_rate: float = _option(1.5e-3, "peak learning rate: AdamW, warm-up, cosine decay to a twentieth")
    warmup: int = _option(150, "steps of linear warm-up")
    weight_decay: float = _option(0.05, "decoupled weight decay")
    masked: float = _option(0.1, "share of residues hidden from the student, to be read off their neighbours")
    contrast: float = _option(0.3, "weight of the contrast between families")
    seed: int = _option(0, "seed of weights, batches and masks")
    evaluate_every: int = _option(250, "steps between two validations, each followed by a checkpoint")
    precision: str = _option("bf16", "numeric mode of the matrix products: bf16 or f32")
    compile: bool = _option(True, "fuse operators with torch.compile; needs a C++ compiler")
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_residues", "evaluate_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("learning_rate", "warmup", "weight_decay", "contrast", "seed"):
            _at_least(name, getattr(self, name), 0)
        if not 0 <= self.masked < 1:
            raise InputError(f"--masked must be at least 0 and below 1, not {self.masked}")
        if self.precision not in ("bf16", "f32"):
            raise InputError(f"--precision must be bf16 or f32, not {self.precision!r}")
