"""From names and folders to what is served."""

from __future__ import annotations

from pathlib import Path

from limbeck.encoders import load
from limbeck.encoders.registry import folder_config
from limbeck.encoders.student import student_folder
from limbeck.errors import InputError
from limbeck.search import open_index
from limbeck.search.folder import read_manifest
from limbeck.search.queries import encoder_of
from limbeck.serving.service import Service
from limbeck.serving.settings import Settings

__all__ = ["open_service"]


def open_service(
    encoder: str | None,
    settings: Settings,
    *,
    index: str | Path | None = None,
    model: str | Path | None = None,
    precision: str = "auto",
    device: str = "auto",
    threads: int | None = None,
) -> Service:
    """Load an encoder, and what is to be served with it.

    Args:
        encoder: as :func:`limbeck.load` takes it, and so ``precision``, ``device`` and ``threads``; ``None`` is the
            index's own, or the default if there is no index.
        settings: the limits.
        index: folder of an index.
        model: folder that ``limbeck landscape`` wrote.

    Raises:
        InputError: if one of them cannot be loaded.
    """
    if encoder is None and precision == "auto" and index is not None:
        loaded = encoder_of(read_manifest(index), device=device, threads=threads)
    else:
        loaded = load(encoder, precision=precision, device=device, threads=threads)
    landscape = None
    if model is not None:
        from limbeck.serving.landscape import Landscape

        landscape = Landscape(model)
    return Service(
        loaded,
        settings,
        dimensions=() if loaded.pooling == "mean" else _nested(loaded.name),
        index=None if index is None else open_index(index, loaded),
        landscape=landscape,
    )


def _nested(name: str) -> list[int]:
    """Numbers of leading numbers that serve alone, by the configuration of a student."""
    try:
        config = folder_config(student_folder(name))
    except InputError:
        return []
    nested = (config or {}).get("nested_dimensions", []) if "limbeck" in (config or {}) else []
    return [int(dimension) for dimension in nested]
