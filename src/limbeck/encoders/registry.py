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

    layer: int | str | None = None
    precision: str = "auto"
    device: str = "auto"
    pooling: str | None = None
    threads: int | None = None
    """Most processor threads, for networks on the CPU; what is computed in NumPy follows ``OMP_NUM_THREADS``."""

    def check(
        self,
        name: str,
        *,
        layers: str | None = None,
        precisions: Sequence[str] = ("f32",),
        devices: Sequence[str] = ("cpu",),
        poolings: Sequence[str] = (),
    ) -> None:
        """Refuse an option that the encoder ``name`` does not have.

        Args:
            name: what the user called the encoder.
            layers: which layers it has, in words; ``None`` if it has no choice of layers.
            precisions: those it computes in, besides ``"auto"``.
            devices: those it runs on (``"cuda"`` stands for ``"cuda:1"`` too), besides ``"auto"``.
            poolings: those it offers, besides its default.

        Raises:
            InputError: names the option, the encoder and what it has.
        """
        if self.layer is not None and layers is None:
            raise InputError(f"{name} has no choice of layers; leave the layer out")
        _one_of(name, "precision", self.precision, ("auto", *precisions))
        _one_of(name, "device", self.device.split(":")[0], ("auto", *devices))
        if self.pooling is not None:
            if not poolings:
                raise InputError(f"{name} has no choice of pooling; leave the pooling out")
            _one_of(name, "pooling", self.pooling, poolings)


def _one_of(name: str, option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} has no {option} {value!r}; choose from: {', '.join(allowed)}")


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
