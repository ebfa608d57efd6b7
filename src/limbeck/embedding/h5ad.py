"""AnnData's file (``.h5ad``), written by its on-disk specification (https://anndata.readthedocs.io, "On-disk format").

``X`` (n, dimension) are the vectors; ``obs`` has the ids as its index and ``length``; ``uns["limbeck"]`` the metadata.
Written in a stream, which the anndata package itself does not do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["h5ad_index", "h5ad_metadata", "is_h5ad", "read_h5ad", "write_h5ad"]

_ROWS = 2**14
_TEXT = h5py.string_dtype()


def write_h5ad(
    path: Path,
    ids: Iterator[str],
    lengths: NDArray[np.int32],
    spans: Iterable[tuple[int, int, NDArray[np.floating]]],
    shape: tuple[int, int],
    dtype: str,
    metadata: Mapping[str, str],
) -> None:
    """Write a new file.

    Args:
        path: where; replaced if there.
        ids: of the proteins, in order.
        lengths: residues of each protein, (n,).
        spans: stretches of the table: (start, stop, vectors).
        shape: (n, dimension).
        dtype: of the vectors.
        metadata: texts by name.
    """
    with h5py.File(path, "w", track_order=True) as file:
        _mark(file, "anndata", "0.1.0")
        vectors = _mark(file.create_dataset("X", shape, dtype), "array", "0.2.0")
        _frame(file, "obs", "id", shape[0], ["length"])
        _mark(file["obs"].create_dataset("length", data=lengths), "array", "0.2.0")
        _frame(file, "var", "_index", shape[1], [])
        file["var/_index"][:] = [str(column) for column in range(shape[1])]
        for name in ("layers", "obsm", "obsp", "varm", "varp", "uns", "uns/limbeck"):
            _mark(file.create_group(name, track_order=True), "dict", "0.1.0")
        for name, value in metadata.items():
            _mark(file["uns/limbeck"].create_dataset(name, data=value, dtype=_TEXT), "string", "0.2.0")
        for start, stop, block in spans:
            vectors[start:stop] = block
            file["obs/id"][start:stop] = list(islice(ids, stop - start))


def _frame(file: Any, name: str, index: str, rows: int, columns: list[str]) -> None:
    frame = _mark(file.create_group(name), "dataframe", "0.2.0")
    frame.attrs["_index"] = index
    frame.attrs.create("column-order", np.array(columns, dtype=object), dtype=_TEXT)
    _mark(frame.create_dataset(index, (rows,), _TEXT), "string-array", "0.2.0")


def _mark(element: Any, kind: str, version: str) -> Any:
    element.attrs["encoding-type"] = kind
    element.attrs["encoding-version"] = version
    return element


def is_h5ad(path: Path) -> bool:
    """Whether an HDF5 file is AnnData's."""
    with h5py.File(path) as file:
        return bool(file.attrs.get("encoding-type") == "anndata")


def h5ad_metadata(path: Path) -> dict[str, str]:
    with h5py.File(path) as file:
        return {name: value.asstr()[()] for name, value in file["uns/limbeck"].items()}


def h5ad_index(path: Path) -> Iterator[tuple[str, int]]:
    with h5py.File(path) as file:
        ids, lengths = file["obs/id"], file["obs/length"]
        for start in range(0, len(lengths), _ROWS):
            stop = start + _ROWS
            yield from zip(ids.asstr()[start:stop], lengths[start:stop].tolist(), strict=True)


def read_h5ad(path: Path) -> Iterator[tuple[str, NDArray[np.floating]]]:
    with h5py.File(path) as file:
        ids, vectors = file["obs/id"], file["X"]
        for start in range(0, len(vectors), _ROWS):
            stop = start + _ROWS
            yield from zip(ids.asstr()[start:stop], vectors[start:stop], strict=True)
