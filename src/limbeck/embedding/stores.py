"""Tables of embeddings as files: HDF5 in UniProt's layout, Parquet and NPZ, written and read in a stream."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from limbeck.embedding.h5ad import h5ad_index, h5ad_metadata, is_h5ad, read_h5ad, write_h5ad
from limbeck.errors import InputError
from limbeck.hdf5 import link_name

__all__ = [
    "FORMATS",
    "Table",
    "arrow_vectors",
    "detect_format",
    "format_of",
    "parquet_fields",
    "read_embeddings",
    "read_index",
    "read_metadata",
    "size_on_disk",
    "write_table",
]

FORMATS = {".h5": "h5", ".hdf5": "h5", ".parquet": "parquet", ".npz": "npz", ".h5ad": "h5ad"}
"""Formats by the ending of the file."""

_SPAN_ROWS = 2**14
_SPAN_BYTES = 2**25
# A dataset comes with about 350 bytes of its own and its place in the list of names.
_H5_DATASET = 450
# More than HDF5 holds back in its caches.
_H5_MARGIN = 2**23


class Table(Protocol):
    """What is written: one vector for each protein, or for each of its residues."""

    dimension: int
    dtype: str
    """``"float32"`` or ``"float16"``."""
    per_residue: bool
    metadata: Mapping[str, str]
    lengths: NDArray[np.int32]
    """Residues of each protein, (n,)."""

    def ids(self) -> Iterator[str]:
        """Ids in order, all different."""
        ...

    def vectors(self, start: int, stop: int) -> NDArray[np.floating]:
        """Vectors of proteins ``start`` to ``stop``: (n, dimension), or of all their residues end to end."""
        ...


def format_of(path: str | os.PathLike[str], format: str | None = None) -> str:
    """The format to write: the one named, else the one that the ending of ``path`` says.

    Raises:
        InputError: if there is no such format.
    """
    if format is not None:
        if format not in FORMATS.values():
            raise InputError(f"unknown format {format!r}; choose h5, parquet, npz or h5ad")
        return format
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise InputError(
            f"the ending of {path} tells no format; use .h5, .parquet, .npz or .h5ad, or name one with --format"
        )
    return FORMATS[ending]


def write_table(table: Table, path: Path, format: str, on_proteins: Callable[[int], None] = lambda count: None) -> None:
    """Write a table to a new file, in parts of bounded size.

    ``h5``
        UniProt's layout: at the root one dataset for each protein, named by its id, (dimension,) or
        (length, dimension), in order. In names ``%`` and ``/`` (and a name ``.``) are percent-encoded, and
        the attribute ``original_id`` then holds the id. Metadata are attributes of the file.
    ``parquet``
        Columns ``id``, ``length`` and ``embedding`` (fixed-size list; per residue a list of them). Metadata
        stand in the schema.
    ``npz``
        ``ids``, ``embeddings`` (n, dimension) and ``metadata`` (JSON). Per residue, instead of
        ``embeddings``: ``residues`` (all residues, dimension) and ``offsets`` (n + 1,), protein i being
        ``residues[offsets[i]:offsets[i + 1]]``.
    ``h5ad``
        :mod:`limbeck.embedding.h5ad`; not per residue.

    Equal tables give equal files: no time is written.

    Args:
        table: what to write.
        path: where; replaced if there.
        format: ``"h5"``, ``"parquet"``, ``"npz"`` or ``"h5ad"``.
        on_proteins: called now and then with how many more proteins were written.
    """
    writers = {"h5": _write_h5, "parquet": _write_parquet, "npz": _write_npz, "h5ad": _write_h5ad}
    writers[format](table, path, on_proteins)


def read_embeddings(path: str | os.PathLike[str]) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Read a file that :func:`write_table` wrote, protein by protein, in its order; or a dataset's folder.

    Yields:
        (id, vector): (dimension,), or (length, dimension) if it was written per residue.

    Raises:
        InputError: if the file is none of the formats.
    """
    return _READERS[detect_format(path)](Path(path))


def read_index(path: str | os.PathLike[str]) -> Iterator[tuple[str, int]]:
    """Read ids and numbers of residues of a file that :func:`write_table` wrote, but no vectors.

    Yields:
        (id, residues); residues is 0 where the file does not tell: with one vector for each protein in HDF5 and NPZ.

    Raises:
        InputError: if the file is none of the formats.
    """
    return _INDEX_READERS[detect_format(path)](Path(path))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Encoder, version, pooling, precision, ... of a file that :func:`write_table` wrote.

    Raises:
        InputError: if the file is none of the formats, or is damaged.
    """
    format = detect_format(path)
    try:
        if format == "h5ad":
            return h5ad_metadata(Path(path))
        if format == "h5":
            with h5py.File(path) as file:
                return {name: str(value) for name, value in file.attrs.items()}
        if format in ("parquet", "dataset"):
            first = path if format == "parquet" else _parts(Path(path))[0]
            found = pq.read_schema(first).metadata or {}
            return {name.decode(): value.decode() for name, value in found.items() if name != b"ARROW:schema"}
        with np.load(path) as archive:
            return dict(json.loads(str(archive["metadata"])))
    except (OSError, ValueError, KeyError, pa.ArrowException, zipfile.BadZipFile) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from None


def size_on_disk(proteins: int, vectors: int, dimension: int, itemsize: int, format: str) -> int:
    """Bytes, roughly, of a table's file."""
    overhead = {"h5": _H5_DATASET, "parquet": 20, "npz": 10, "h5ad": 50}[format]
    margin = _H5_MARGIN if format in ("h5", "h5ad") else 0
    return vectors * dimension * itemsize + proteins * overhead + margin


def detect_format(path: str | os.PathLike[str]) -> str:
    """The format of an existing file, by its first bytes; ``"dataset"`` for the folder of a distributed run.

    Raises:
        InputError: if it cannot be read or is none of the formats.
    """
    if os.path.isdir(path):
        if not _parts(Path(path)):
            raise InputError(f"{str(path)!r} is a folder without a finished dataset of embeddings; name a file")
        return "dataset"
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    for magic, format in {b"\x89HDF": "h5", b"PAR1": "parquet", b"PK\x03\x04": "npz"}.items():
        if start.startswith(magic):
            return "h5ad" if format == "h5" and _is_h5ad(path) else format
    raise InputError(f"{str(path)!r} is no table of embeddings: neither HDF5, Parquet nor NPZ")


def _is_h5ad(path: str | os.PathLike[str]) -> bool:
    try:
        return is_h5ad(Path(path))
    except OSError:
        # A damaged file, which the reader will report.
        return False


def _spans(table: Table) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Stretches of bounded size: (start, stop, offsets of the proteins in its vectors and their end)."""
    most = max(1, _SPAN_BYTES // (table.dimension * np.dtype(table.dtype).itemsize))
    start, total = 0, len(table.lengths)
    while start < total:
        lengths = table.lengths[start : start + _SPAN_ROWS]
        counts = lengths.astype(np.int64) if table.per_residue else np.ones(len(lengths), dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        size = max(1, int(np.searchsorted(offsets, most, side="right")) - 1)
        yield start, start + size, offsets[: size + 1]
        start += size


def _write_h5(table: Table, path: Path, on_proteins: Callable[[int], None]) -> None:
    ids = table.ids()
    with h5py.File(path, "w", track_order=True) as file:
        for name, value in table.metadata.items():
            file.attrs[name] = value
        for start, stop, offsets in _spans(table):
            vectors = table.vectors(start, stop)
            _require_room(path, stop - start, vectors.nbytes)
            for index in range(stop - start):
                id = next(ids)
                name = link_name(id)
                vector = vectors[offsets[index] : offsets[index + 1]] if table.per_residue else vectors[index]
                dataset = file.create_dataset(name, data=vector)
                if name != id:
                    dataset.attrs["original_id"] = id
            on_proteins(stop - start)


def _require_room(path: Path, datasets: int, size: int) -> None:
    """Raise the system's error for a full disk before HDF5 meets it, which would then crash the process."""
    if shutil.disk_usage(path.parent).free < size + datasets * _H5_DATASET + _H5_MARGIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _read_h5(path: Path) -> Iterator[tuple[str, NDArray[np.floating]]]:
    with h5py.File(path) as file:
        for name, dataset in file.items():
            yield str(dataset.attrs.get("original_id", name)), dataset[()]


def _write_h5ad(table: Table, path: Path, on_proteins: Callable[[int], None]) -> None:
    def spans() -> Iterator[tuple[int, int, NDArray[np.floating]]]:
        for start, stop, _ in _spans(table):
            vectors = table.vectors(start, stop)
            _require_room(path, 0, vectors.nbytes)
            yield start, stop, vectors
            on_proteins(stop - start)

    shape = len(table.lengths), table.dimension
    lengths = np.ascontiguousarray(table.lengths)
    write_h5ad(path, table.ids(), lengths, spans(), shape, table.dtype, table.metadata)


def _h5_index(path: Path) -> Iterator[tuple[str, int]]:
    with h5py.File(path) as file:
        for name, dataset in file.items():
            yield str(dataset.attrs.get("original_id", name)), dataset.shape[0] if dataset.ndim == 2 else 0


def parquet_fields(dimension: int, dtype: str, per_residue: bool) -> list[pa.Field]:
    """The columns ``id``, ``length`` and ``embedding`` of a Parquet table."""
    vector = pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), dimension)
    return [
        pa.field("id", pa.string(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("embedding", pa.list_(vector) if per_residue else vector, nullable=False),
    ]


def arrow_vectors(vectors: NDArray[np.floating], offsets: NDArray[np.int64] | None = None) -> pa.Array:
    """The column ``embedding``.

    Args:
        vectors: (n, dimension), one for each protein, or with ``offsets`` for each residue.
        offsets: where each protein's residues start, and the end.
    """
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    return column if offsets is None else pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), column)


def _write_parquet(table: Table, path: Path, on_proteins: Callable[[int], None]) -> None:
    fields = parquet_fields(table.dimension, table.dtype, table.per_residue)
    schema = pa.schema(fields, metadata=dict(table.metadata))
    ids = table.ids()
    # A dictionary of floats would only cost time.
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["id"]) as writer:
        for start, stop, offsets in _spans(table):
            vectors = arrow_vectors(table.vectors(start, stop), offsets if table.per_residue else None)
            names = pa.array([next(ids) for _ in range(stop - start)], pa.string())
            lengths = pa.array(np.ascontiguousarray(table.lengths[start:stop]))
            writer.write_table(pa.table([names, lengths, vectors], schema=schema))
            on_proteins(stop - start)


def _read_parquet(path: Path) -> Iterator[tuple[str, NDArray[np.floating]]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1024, columns=["id", "embedding"]):
            for id, value in zip(batch["id"], batch["embedding"], strict=True):
                if isinstance(value, pa.ListScalar) and not isinstance(value, pa.FixedSizeListScalar):
                    rows = value.values
                    yield id.as_py(), rows.flatten().to_numpy().reshape(len(rows), rows.type.list_size)
                else:
                    yield id.as_py(), value.values.to_numpy()


def _parquet_index(path: Path) -> Iterator[tuple[str, int]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=2**16, columns=["id", "length"]):
            yield from zip(batch["id"].to_pylist(), batch["length"].to_pylist(), strict=True)


def _parts(folder: Path) -> list[Path]:
    """The files of a finished dataset, in the order of its rows."""
    return sorted(folder.glob("part-*.parquet")) if (folder / "_SUCCESS").exists() else []


def _read_dataset(folder: Path) -> Iterator[tuple[str, NDArray[np.floating]]]:
    for part in _parts(folder):
        yield from _read_parquet(part)


def _dataset_index(folder: Path) -> Iterator[tuple[str, int]]:
    for part in _parts(folder):
        yield from _parquet_index(part)


def _write_npz(table: Table, path: Path, on_proteins: Callable[[int], None]) -> None:
    count = len(table.lengths)
    vectors = int(table.lengths.sum(dtype=np.int64)) if table.per_residue else count
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with _member(archive, "residues" if table.per_residue else "embeddings") as file:
            _write_header(file, np.dtype(table.dtype), (vectors, table.dimension))
            for start, stop, _ in _spans(table):
                file.write(np.ascontiguousarray(table.vectors(start, stop)).tobytes())
                on_proteins(stop - start)
        if table.per_residue:
            with _member(archive, "offsets") as file:
                offsets = np.concatenate([[0], np.cumsum(table.lengths, dtype=np.int64)])
                np.lib.format.write_array(file, offsets)
        longest = max(map(len, table.ids()), default=1)
        with _member(archive, "ids", zipfile.ZIP_DEFLATED) as file:
            _write_header(file, np.dtype(f"<U{max(1, longest)}"), (count,))
            for id in table.ids():
                file.write(id.encode("utf-32-le").ljust(4 * longest, b"\0"))
        with _member(archive, "metadata") as file:
            np.lib.format.write_array(file, np.array(json.dumps(dict(table.metadata))))


def _member(archive: zipfile.ZipFile, name: str, compression: int = zipfile.ZIP_STORED) -> BinaryIO:
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = compression
    return cast(BinaryIO, archive.open(info, "w", force_zip64=True))


def _write_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, description)


def _read_npz(path: Path) -> Iterator[tuple[str, NDArray[np.floating]]]:
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))

        def rows_of(name: str) -> Iterator[Any]:
            return _rows(stack.enter_context(archive.open(f"{name}.npy")))  # type: ignore[arg-type]

        if "embeddings.npy" in archive.namelist():
            for id, vector in zip(rows_of("ids"), rows_of("embeddings"), strict=True):
                yield str(id), vector
            return
        offsets = rows_of("offsets")
        residues = stack.enter_context(archive.open("residues.npy"))
        dtype, shape = _read_header(residues)  # type: ignore[arg-type]
        start = next(offsets)
        for id, stop in zip(rows_of("ids"), offsets, strict=True):
            data = residues.read(int(stop - start) * shape[1] * dtype.itemsize)
            yield str(id), np.frombuffer(data, dtype=dtype).reshape(-1, shape[1])
            start = stop


def _npz_index(path: Path) -> Iterator[tuple[str, int]]:
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))

        def rows_of(name: str) -> Iterator[Any]:
            return _rows(stack.enter_context(archive.open(f"{name}.npy")))  # type: ignore[arg-type]

        if "embeddings.npy" in archive.namelist():
            yield from ((str(id), 0) for id in rows_of("ids"))
            return
        offsets = pairwise(rows_of("offsets"))
        yield from ((str(id), int(stop - start)) for id, (start, stop) in zip(rows_of("ids"), offsets, strict=True))


def _read_header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return dtype, shape


def _rows(file: BinaryIO) -> Iterator[Any]:
    """The rows of an array, read in blocks."""
    dtype, shape = _read_header(file)
    size = dtype.itemsize * int(np.prod(shape[1:]))
    most = max(1, _SPAN_BYTES // size)
    for start in range(0, shape[0], most):
        count = min(most, shape[0] - start)
        yield from np.frombuffer(file.read(count * size), dtype=dtype).reshape(count, *shape[1:])


_READERS = {"h5": _read_h5, "parquet": _read_parquet, "dataset": _read_dataset, "npz": _read_npz, "h5ad": read_h5ad}
_INDEX_READERS = {
    "h5": _h5_index,
    "parquet": _parquet_index,
    "dataset": _dataset_index,
    "npz": _npz_index,
    "h5ad": h5ad_index,
}
