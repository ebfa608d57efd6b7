"""Queries of an index: proteins, embedded with the index's own encoder, or embeddings that go with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.embedding.pipeline import embed
from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.search.folder import Manifest
from limbeck.search.index import origin_of_encoder
from limbeck.search.vectors import blocks, is_table, origin_of

__all__ = ["encoder_of", "query_blocks"]

AT_ONCE = 512


def query_blocks(
    path: str | os.PathLike[str],
    manifest: Manifest,
    *,
    encoder: Encoder | None = None,
    columns: dict[str, Any] | None = None,
    progress: bool = True,
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Ids and vectors of the queries, in their order, in blocks.

    Args:
        path: a file that ``limbeck embed`` wrote, or a file of proteins; ``"-"`` is proteins on standard input.
        manifest: of the index.
        encoder: to embed proteins with; the index's own, loaded by its name, if not given.
        columns: where a table of proteins has what, and its format, as for :func:`limbeck.embed`.
        progress: show progress on standard error.

    Raises:
        InputError: if the queries' vectors are of another encoder or precision than the index's.
    """
    name = os.fspath(path)
    if name != "-" and is_table(path):
        manifest.origin.refuse_other(origin_of(path), "the index", name)
        yield from blocks([path], manifest.origin.dimension, AT_ONCE)
        return
    encoder = encoder or encoder_of(manifest)
    manifest.origin.refuse_other(origin_of_encoder(encoder), "the index", f"{encoder.name} as it was loaded")
    with tempfile.TemporaryDirectory(prefix="limbeck-") as folder:
        embedded = Path(folder, "queries.npz")
        embed(path, embedded, encoder=encoder, progress=progress, **(columns or {}))
        yield from blocks([embedded], manifest.origin.dimension, AT_ONCE)


def encoder_of(manifest: Manifest, **options: Any) -> Encoder:
    """Load the encoder that an index was made with.

    Args:
        manifest: of the index.
        options: of :func:`limbeck.load`, which count before those that the index remembers: ``encoder`` (a name or
            path), ``layer``, ``pooling``, ``dimension``, ``device``, ``threads``.

    Raises:
        InputError: if it cannot be loaded, or what was loaded is another.
    """
    known: dict[str, Any] = {"encoder": manifest.origin.encoder, **manifest.loading}
    known.update({name: value for name, value in options.items() if value is not None})
    name = known.pop("encoder")
    if isinstance(known.get("layer"), list):
        known["layer"] = tuple(known["layer"])
    model = load(name, precision=manifest.origin.precision, **known)
    if model.dimension > manifest.origin.dimension and "dimension" not in known and "layer" not in known:
        # Leading numbers of the vector, where the encoder offers so many; if not, its own error says so.
        model = load(name, precision=manifest.origin.precision, dimension=manifest.origin.dimension, **known)
    if model.fingerprint != manifest.origin.fingerprint:
        raise InputError(
            f"{name!r} loads, but with other weights, layer or pooling than the index was made with; "
            "give the same --encoder, --layer, --pooling and --dimension as then"
        )
    return model
