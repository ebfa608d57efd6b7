"""Options of training, without anything that takes long to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from limbeck.errors import InputError

__all__ = ["ADAPTATION", "StudentConfig", "TrainingConfig"]


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

    @classmethod
    def of(cls, shape: Mapping[str, Any]) -> StudentConfig:
        """From the ``"limbeck"`` part of a student's ``config.json``; see :meth:`as_dict`."""
        return cls(**{**shape, "dilations": tuple(shape["dilations"])})

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
    batch_residues: int = _option(12_288, "residues in a batch, over all processes and micro-batches")
    accumulate: int = _option(1, "micro-batches whose gradients are added up before a step: less memory")
    learning_rate: float = _option(1.5e-3, "peak learning rate: AdamW, warm-up, cosine decay to a twentieth")
    warmup: int = _option(150, "steps of linear warm-up")
    weight_decay: float = _option(0.05, "decoupled weight decay")
    ema: float = _option(0.998, "decay of the running average of the weights that is kept as the student; 0: none")
    objectives: tuple[str, ...] = _option(
        ("match",), "what is learned from each --teacher, comma separated: match, kl, relational"
    )
    standardise: str = _option("dimension", "how a teacher's features are scaled: dimension, phi-s or none")
    head: str = _option("linear", "map from student to teacher: linear or mlp")
    teachers_used: str = _option("all", "teachers that a protein learns from: all, dropping (UNIC) or selector (MTDP)")
    balance: str = _option("none", "running: divide each loss by its running size, so that all weigh alike; or none")
    hidden: float = _option(-1.0, "weight of naming the hidden residues; -1: 1 without a context library, else 0")
    masked: float = _option(0.1, "share of residues hidden from the student, to be read off their neighbours")
    contrast: float = _option(0.3, "weight of the contrast between families")
    sampling: str = _option("protein", "what is drawn evenly: protein, or family, whatever its size")
    subset: float = _option(1.0, "share of the proteins to learn from, the most informative (INGENIOUS)")
    subnetworks: bool = _option(False, "train parts of the network first, the whole later (EST)")
    seed: int = _option(0, "seed of weights, batches and masks")
    evaluate_every: int = _option(250, "steps between two validations, each followed by a checkpoint")
    precision: str = _option("auto", "numeric mode of the matrix products: bf16, f32, or auto: bf16 where it is fast")
    compile: bool = _option(True, "fuse operators with torch.compile; needs a C++ compiler")
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_residues", "evaluate_every", "accumulate"):
            _at_least(name, getattr(self, name), 1)
        for name in ("learning_rate", "warmup", "weight_decay", "contrast", "seed"):
            _at_least(name, getattr(self, name), 0)
        for name in ("masked", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if not 0 < self.subset <= 1:
            raise InputError(f"--subset must be above 0 and at most 1, not {self.subset}")
        if self.hidden < 0 and self.hidden != -1:
            raise InputError(f"--hidden must be at least 0, or -1 for the default, not {self.hidden}")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if one not in choices:
                    flag = name.replace("_", "-")
                    raise InputError(f"--{flag} must be {', '.join(choices[:-1])} or {choices[-1]}, not {one!r}")


_CHOICES = {
    "objectives": ("match", "kl", "relational"),
    "standardise": ("dimension", "phi-s", "none"),
    "head": ("linear", "mlp"),
    "teachers_used": ("all", "dropping", "selector"),
    "balance": ("none", "running"),
    "sampling": ("protein", "family"),
    "precision": ("auto", "bf16", "f32"),
}

ADAPTATION = TrainingConfig(
    steps=100,
    batch_residues=4096,
    learning_rate=3e-4,
    warmup=10,
    weight_decay=0.01,
    masked=0.15,
    contrast=0.0,
    evaluate_every=50,
    compile=False,
)
"""Options of ``limbeck adapt``, for hundreds to thousands of sequences: compiling would take longer than it saves."""
