"""What a family of encoders tells :mod:`limbeck.encoders`, and small readers that the families share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

__all__ = [
    "EncoderInfo",
    "Family",
    "Options",
    "choose_layers",
    "file_hash",
    "fingerprint",
    "folder_config",
    "safetensors_header",
]


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """One line of ``limbeck encoders``; nothing in it needs the weights to be loaded."""

    name: str
    """What to give to :func:`limbeck.load`."""
    kind: str
    dimension: int | None
    """Numbers in one vector; ``None`` if the file decides."""
    parameters: int | None
    license: str
    on_this_machine: bool
    """Whether it loads now, without a network."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose when loading an encoder; each family refuses what it does not have."""

    layer: int | str | Sequence[int] | None = None
    """One layer, several side by side, or ``"all"``; ``None`` is the encoder's default."""
    precision: str = "auto"
    device: str = "auto"
    pooling: str | None = None
    threads: int | None = None
    """Most processor threads, for networks on the CPU; what is computed in NumPy follows ``OMP_NUM_THREADS``."""
    dimension: int | None = None

    def check(
        self,
        name: str,
        *,
        layers: str | None = None,
        precisions: Sequence[str] = ("f32",),
        devices: Sequence[str] = ("cpu",),
        poolings: Sequence[str] = (),
        nested: bool = False,
    ) -> None:
        """Refuse an option that the encoder ``name`` does not have.

        Args:
            name: what the user called the encoder.
            layers: which layers it has, in words; ``None`` if it has no choice of layers.
            precisions: those it computes in, besides ``"auto"``.
            devices: those it runs on (``"cuda"`` stands for ``"cuda:1"`` too), besides ``"auto"``.
            poolings: those it offers, besides its default.
            nested: whether leading numbers of its vectors serve alone.

        Raises:
            InputError: names the option, the encoder and what it has.
        """
        if self.layer is not None and layers is None:
            raise InputError(f"{name} has no choice of layers; leave the layer out")
        if self.dimension is not None and not nested:
            raise InputError(f"{name} has no choice of dimension; leave the dimension out")
        _one_of(name, "precision", self.precision, ("auto", *precisions))
        _one_of(name, "device", self.device.split(":")[0], ("auto", *devices))
        if self.pooling is not None:
            if not poolings:
                raise InputError(f"{name} has no choice of pooling; leave the pooling out")
            _one_of(name, "pooling", self.pooling, poolings)


def _one_of(name: str, option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} has no {option} {value!r}; choose from: {', '.join(allowed)}")


def choose_layers(
    name: str, layer: int | str | Sequence[int] | None, *, depth: int, default: int, first: int = 1
) -> tuple[int, ...]:
    """Which layers the user chose, counted from the input, in the order asked for.

    Args:
        name: what the user called the encoder.
        layer: a layer, several, ``"all"`` (1 to ``depth``), or ``None``; negative ones count from the end.
        depth: the last layer.
        default: what ``None`` stands for.
        first: 0 if there is an input embedding to choose, else 1.

    Raises:
        InputError: if there is no such layer, or one is named twice.
    """
    if layer is None:
        return (default,)
    if isinstance(layer, str) and layer == "all":
        return tuple(range(1, depth + 1))
    several = isinstance(layer, Sequence) and not isinstance(layer, str)
    wanted: list[Any] = list(layer) if several else [layer]  # type: ignore[arg-type]
    chosen = tuple(_layer(name, one, depth, first) for one in wanted)
    if not chosen:
        raise InputError(f"{name}: no layer is named; choose {first} to {depth}, or leave the layer out")
    if len(set(chosen)) < len(chosen):
        raise InputError(f"{name}: a layer is named twice in {','.join(map(str, wanted))}; name each once")
    return chosen


def _layer(name: str, layer: object, depth: int, first: int) -> int:
    if isinstance(layer, int) and not isinstance(layer, bool):
        counted = layer if layer >= 0 else depth + 1 + layer
        if first <= counted <= depth:
            return counted
    raise InputError(
        f"{name}: there is no layer {layer!r}; choose {first} to {depth}, -1 for the last, several (6,12), or all"
    )


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of encoder. A module of :mod:`limbeck.encoders` joins the registry by defining ``FAMILY``.

    Importing such a module must stay cheap: heavy libraries are imported by ``load``.
    """

    recognises: Callable[[str], bool]
    """Whether a name or path belongs to this family. No two families claim the same one."""
    load: Callable[[str, Options], Encoder]
    available: Callable[[], list[EncoderInfo]]


def fingerprint(*parts: object) -> str:
    """SHA-256 (hex) over the parts, each written on a line of its own."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's content, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safetensors_header(path: Path) -> tuple[set[str], dict[str, str]]:
    """Names of the tensors of a safetensors file, and its metadata; the tensors are not read.

    Raises:
        InputError: if the file is damaged or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys()), dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({_line(error)}); copy it again") from None


def folder_config(folder: Path) -> dict[str, Any] | None:
    """The object in a model folder's ``config.json``; ``None`` if there is no such folder or file.

    Raises:
        InputError: if the file is no JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({_line(error)}); copy it again") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a JSON object; copy it again")
    return config


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
