"""Which features of an encoder compete: its layers and poolings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from limbeck.encoders import Encoder, load
from limbeck.errors import InputError

__all__ = ["Choice", "choices", "parse"]

POOLINGS = ("combined", "mean", "sqrt-mean", "contexts")
DEPTHS = (0.5, 0.75, 1.0)
"""Which layers compete in an encoder that gives one layer at a time, as shares of its depth."""


@dataclass(frozen=True)
class Choice:
    """One set of features: an encoder as loaded, and which of its columns."""

    label: str
    encoder: Encoder
    columns: slice = field(default_factory=lambda: slice(None))

    @property
    def key(self) -> str:
        """All that determines the features."""
        return f"{self.label} {self.encoder.fingerprint} {self.encoder.precision} {self.columns}"


def parse(text: str) -> tuple[str, str, list[str]]:
    """``[LABEL=]NAME[@OPTION]...`` as label, name, options."""
    label, _, rest = text.rpartition("=")
    name, *options = rest.split("@")
    if not name:
        raise InputError(f"--encoder {text}: there is no name; write LABEL=NAME, NAME@auto, NAME@2 or NAME@mean")
    return label or rest, name, options


def choices(name: str, options: Sequence[str] = (), threads: int | None = None) -> list[Choice]:
    """The candidates of one encoder.

    Args:
        name: as :func:`limbeck.load` takes it.
        options: ``"auto"``: all layers and poolings that it has (every layer, and all side by side, where one run
            gives them all; else the last and those at a half and three quarters of the depth); or a layer (a
            number or ``"all"``) and a pooling. Nothing: the encoder's default.
        threads: as :func:`limbeck.load` takes it.

    Raises:
        InputError: if it cannot be loaded so.
    """
    if "auto" in options:
        return _layers(name, threads) or _poolings(name, threads)
    layer: int | str | None = None
    pooling: str | None = None
    for option in options:
        if option == "all" or option.lstrip("-").isdigit():
            layer = option if option == "all" else int(option)
        else:
            pooling = option
    encoder = load(name, layer=layer, pooling=pooling, threads=threads)
    return [Choice(", ".join(options) or "default", encoder)]


def _layers(name: str, threads: int | None) -> list[Choice]:
    """Candidates by layer; none if the encoder has no choice of layers."""
    default = load(name, threads=threads)
    depth = getattr(default, "layers", None)
    if not isinstance(depth, int):
        return []
    try:
        every = load(name, layer="all", threads=threads)
    except InputError:
        numbers = sorted({max(1, round(share * depth)) for share in DEPTHS})
        return [Choice(f"layer {n}", load(name, layer=n, threads=threads)) for n in numbers]
    width = every.dimension // depth
    single = [Choice(f"layer {i + 1}", every, slice(i * width, (i + 1) * width)) for i in range(depth)]
    return [*single, Choice("all layers", every)]


def _poolings(name: str, threads: int | None) -> list[Choice]:
    found = []
    for pooling in POOLINGS:
        try:
            found.append(Choice(pooling, load(name, pooling=pooling, threads=threads)))
        except InputError:
            continue
    return found or [Choice("default", load(name, threads=threads))]
