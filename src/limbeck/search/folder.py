"""The folder of an index: which files it has, and how damage shows."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from limbeck.errors import InputError
from limbeck.search.vectors import Origin

__all__ = [
    "CENTRE",
    "FORMAT",
    "MANIFEST",
    "PROTEINS",
    "VECTORS",
    "Manifest",
    "checksum",
    "read_manifest",
    "write_manifest",
]

FORMAT = 1
MANIFEST, VECTORS, CENTRE, PROTEINS = "manifest.json", "vectors.npy", "centre.npy", "proteins.arrow"
ALWAYS_CHECKED = 2**28
"""Bytes up to which a file's checksum is looked at whenever an index is opened."""
_BLOCK = 2**22


@dataclass(frozen=True)
class Manifest:
    """What an index is; ``manifest.json`` holds just this."""

    origin: Origin
    count: int
    dtype: str
    """Of the stored vectors: ``"float32"`` or ``"float16"``."""
    centred: bool
    """Whether the mean of the index is taken off every vector before it is compared."""
    limbeck_version: str
    inputs: list[str]
    """Names of the files that it was made of."""
    loading: dict[str, Any] = field(default_factory=dict)
    """Options with which :func:`limbeck.load` makes the encoder again, where the index was made of sequences."""
    engine: dict[str, Any] = field(default_factory=lambda: {"name": "exact"})
    """``name``, and for another than ``"exact"`` its version and settings."""
    recall: dict[str, Any] = field(default_factory=dict)
    """Of the engine against exact search: ``recall``, ``k``, ``queries``."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Columns and counts, and what calibration found; empty if the index has no labels."""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``bytes`` and ``sha256`` of each file."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    content = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1)
    (folder / MANIFEST).write_text(content + "\n", encoding="utf-8")


def read_manifest(folder: str | os.PathLike[str], *, check: bool = False) -> Manifest:
    """Read and check the folder of an index.

    Args:
        folder: of ``limbeck index``.
        check: look at the checksums of all files; otherwise large ones are held to their size alone.

    Raises:
        InputError: if it is none, is of a later limbeck, or is damaged.
    """
    path = Path(folder)
    try:
        content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version = content.pop("format")
    except FileNotFoundError:
        raise InputError(f"{path}: no index is there; make one with `limbeck index`") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path / MANIFEST} is damaged ({error}); build the index again") from None
    if version != FORMAT:
        raise InputError(f"{path}: an index of format {version}, and this limbeck reads {FORMAT}; build it again")
    try:
        manifest = Manifest(**{**content, "origin": Origin(**content["origin"])})
        for name, expected in manifest.files.items():
            _require_intact(path / name, expected["bytes"], expected["sha256"], check)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path / MANIFEST} is damaged ({error}); build the index again") from None
    return manifest


def _require_intact(path: Path, size: int, sha256: str, check: bool) -> None:
    try:
        found = path.stat().st_size
        intact = found == size and (not (check or size <= ALWAYS_CHECKED) or checksum(path) == sha256)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); build the index again") from None
    if not intact:
        raise InputError(f"{path} is damaged: its size or checksum is not the manifest's; build the index again")


def checksum(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
