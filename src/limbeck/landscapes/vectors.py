"""Embeddings of rows, remembered: each distinct variant is embedded once.

A table lives in the process for each encoder (its fingerprint and precision) and each kind of vector, so that models
fitted to several splits share it. With a folder it also lives there: a later run embeds nothing that an earlier one
has. A file of the folder is written whole, checked by its SHA-256 when it is read, and passed over if it is damaged;
processes write files of their own, so any number may share a folder.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from limbeck.encoders import Encoder, ResidueEncoder, load
from limbeck.encoders.variants import encode_variants
from limbeck.files import whole
from limbeck.landscapes.assay import GAP, STOP, expressed
from limbeck.progress import Progress

__all__ = ["Source", "Vectors", "forget", "mutated_residues", "nearest_wild_types"]

VARIANTS_A_FILE = 4096
_FORMAT = "limbeck-vectors-1"
_KEY_BYTES = 16

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Where vectors come from.

    Attributes:
        encoder: an :class:`limbeck.Encoder`, or what :func:`limbeck.load` takes.
        layer: as ``limbeck.load`` takes it; not used with an encoder that is loaded already.
        precision: the same.
        wild_types: rows that variants derive from, in their frame.
        cache: folder that keeps vectors; ``None`` to keep them in this process only.
        shown: whether progress is shown.
    """

    encoder: Encoder | str | None = None
    layer: int | str | Sequence[int] | None = None
    precision: str = "auto"
    wild_types: tuple[str, ...] = ()
    cache: str | os.PathLike[str] | None = None
    shown: bool = False

    def load(self) -> Encoder:
        """The encoder. The last ones loaded are kept while their files are the same."""
        if self.encoder is not None and not isinstance(self.encoder, str):
            return self.encoder
        layer = tuple(self.layer) if isinstance(self.layer, list) else self.layer
        return _loaded(self.encoder, layer, self.precision, _stamp(self.encoder))


@lru_cache(maxsize=16)
def _loaded(name: str | None, layer: int | str | tuple[int, ...] | None, precision: str, stamp: object) -> Encoder:
    return load(name, layer=layer, precision=precision)


def _stamp(name: str | None) -> object:
    """What changes when the files of an encoder do."""
    if name is None or not (path := Path(name)).exists():
        return None
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


class _Table:
    """Vectors by key."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Array] = {}
        self.read: set[Path] = set()

    def add(self, keys: Sequence[bytes], vectors: Array) -> None:
        self.rows.update(zip(keys, vectors, strict=True))


_TABLES: dict[tuple[str, str, str], _Table] = {}


def forget() -> None:
    """Drop all vectors and encoders that this process keeps."""
    _TABLES.clear()
    _loaded.cache_clear()


class Vectors:
    """Vectors of rows from one source.

    If the source has wild types, one pass over a variant gives both of its vectors, and encoders that allow it
    compute only what a mutation changes (:func:`limbeck.encoders.variants.encode_variants`).
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first needed."""
        return self._source.load()

    def pooled(self, rows: Sequence[str]) -> Array:
        """(n, dimension) the encoder's vectors of the proteins that rows express, pooled as it pools."""
        return self._get(rows, "pooled")

    def mutated(self, rows: Sequence[str]) -> Array:
        """(n, dimension) mean of the residue vectors over the positions where a row differs from its wild type, the
        one with the fewest differences.

        A column without a residue (a deletion, a stop) is stood for by the residues on either side of it. Where
        nothing differs, as in the wild type itself, it is the mean over all residues: a position like any other.

        Raises:
            InputError: if the encoder has no features of single residues.
        """
        return self._get(rows, "mutated")

    def _get(self, rows: Sequence[str], kind: str) -> Array:
        sequences = [expressed(row) for row in rows]
        parents = nearest_wild_types(rows, self._source.wild_types)
        wild_types = self._source.wild_types
        if kind == "mutated":
            places = [mutated_residues(row, wild_types[p]) for row, p in zip(rows, parents, strict=True)]
            keys = [_key(s, p) for s, p in zip(sequences, places, strict=True)]
        else:
            keys = [_key(s) for s in sequences]
        table = self._table(kind)
        if missing := {key: i for i, key in enumerate(keys) if key not in table.rows}:
            self._compute(kind, [rows[i] for i in missing.values()], parents[list(missing.values())])
        vectors = [table.rows[key] for key in keys]
        return np.stack(vectors) if vectors else np.zeros((0, self.encoder.dimension), np.float32)

    def _table(self, kind: str) -> _Table:
        encoder = self.encoder
        name = kind if kind == "mutated" else f"{kind} {encoder.pooling}"
        table = _TABLES.setdefault((encoder.fingerprint, encoder.precision, name), _Table())
        if self._source.cache is not None:
            _read(Path(self._source.cache), self._prefix(kind), table, encoder.dimension)
        return table

    def _prefix(self, kind: str) -> str:
        encoder = self.encoder
        text = "\n".join([_FORMAT, encoder.fingerprint, encoder.precision, kind, encoder.pooling])
        return f"vectors-{hashlib.sha256(text.encode()).hexdigest()[:24]}-"

    def _compute(self, kind: str, rows: list[str], parents: NDArray[np.intp]) -> None:
        """Embed rows and remember what comes out; wild type by wild type, and a file's worth at a time."""
        total = sum(len(expressed(row)) for row in rows)
        name = self.encoder.name
        with Progress(f"embedding with {name}", "residues", total, self._source.shown) as progress:
            for parent in np.unique(parents):
                chosen = [rows[i] for i in np.flatnonzero(parents == parent)]
                for start in range(0, len(chosen), VARIANTS_A_FILE):
                    wild_type = self._source.wild_types[parent] if parent >= 0 else None
                    part = chosen[start : start + VARIANTS_A_FILE]
                    self._embed(kind, part, wild_type, lambda residues, _: progress.update(residues))

    def _embed(self, kind: str, rows: list[str], wild_type: str | None, on_batch: Callable[[int, int], None]) -> None:
        sequences = [expressed(row) for row in rows]
        if wild_type is None:
            self._keep("pooled", [_key(s) for s in sequences], self.encoder.encode(sequences, on_batch))
            return
        both = kind == "mutated" or isinstance(self.encoder, ResidueEncoder)
        places = [mutated_residues(row, wild_type) for row in rows]
        reference = expressed(wild_type)
        pooled, averages = encode_variants(self.encoder, reference, sequences, places if both else None, on_batch)
        self._keep("pooled", [_key(s) for s in sequences], pooled)
        if averages is not None:
            self._keep("mutated", [_key(s, p) for s, p in zip(sequences, places, strict=True)], averages)

    def _keep(self, kind: str, keys: list[bytes], vectors: Array) -> None:
        table = self._table(kind)
        new = [i for i, key in enumerate(keys) if key not in table.rows]
        if self._source.cache is not None and new:
            _write(Path(self._source.cache), self._prefix(kind), [keys[i] for i in new], vectors[new], table)
        table.add([keys[i] for i in new], vectors[new])


def _key(sequence: str, places: Sequence[int] = ()) -> bytes:
    text = f"{sequence} {','.join(map(str, places))}"
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest()


def nearest_wild_types(rows: Sequence[str], wild_types: Sequence[str]) -> NDArray[np.intp]:
    """(n,) index of the wild type from which each row differs in the fewest columns; -1 if there are none."""
    best = np.full(len(rows), -1, np.intp)
    if not wild_types or not rows:
        return best
    codes = np.frombuffer("".join(rows).encode("ascii"), np.uint8).reshape(len(rows), -1)
    fewest = np.full(len(rows), np.iinfo(np.int64).max)
    for number, wild_type in enumerate(wild_types):
        count = (codes != np.frombuffer(wild_type.encode("ascii"), np.uint8)).sum(axis=1)
        nearer = count < fewest
        best[nearer], fewest[nearer] = number, count[nearer]
    return best


def mutated_residues(row: str, wild_type: str) -> list[int]:
    """Residues (0-based, in the expressed protein) at the columns where a row differs from its wild type.

    A column without a residue gives those on either side of it; nothing counts behind a stop.
    """
    visible = row.split(STOP, 1)[0]
    last = len(visible.replace(GAP, "")) - 1
    places: set[int] = set()
    before = 0
    for column, letter in enumerate(row[: len(visible) + 1]):
        residue = letter not in (GAP, STOP)
        if letter != wild_type[column]:
            places |= {before} if residue else {before - 1, before}
        before += residue
    return sorted(place for place in places if 0 <= place <= last)


def _write(folder: Path, prefix: str, keys: list[bytes], vectors: Array, table: _Table) -> None:
    """Add a file of vectors to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), _KEY_BYTES).copy(),
        "vectors": np.ascontiguousarray(vectors, dtype=np.float32),
    }
    path = folder / f"{prefix}{uuid.uuid4().hex}.safetensors"
    with whole(path) as partial:
        save_file(tensors, partial, {"format": _FORMAT, "sha256": _checksum(tensors)})
    table.read.add(path)


def _read(folder: Path, prefix: str, table: _Table, dimension: int) -> None:
    """Take in the files of a folder that have not been read yet."""
    for path in sorted(folder.glob(f"{prefix}*.safetensors")):
        if path in table.read:
            continue
        table.read.add(path)
        try:
            with safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in ("keys", "vectors")}
                sound = (file.metadata() or {}).get("sha256") == _checksum(tensors)
        except (OSError, SafetensorError):
            continue
        if sound and tensors["vectors"].shape == (len(tensors["keys"]), dimension):
            table.add([key.tobytes() for key in tensors["keys"]], tensors["vectors"])


def _checksum(tensors: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()
