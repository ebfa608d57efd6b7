"""Vectors of files that ``limbeck embed`` wrote, block by block, and what the files say of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from limbeck.embedding.stores import detect_format, read_embeddings, read_metadata
from limbeck.errors import InputError

__all__ = ["Origin", "blocks", "is_table", "origin_of"]

PROTEINS_AT_ONCE = 8192


@dataclass(frozen=True)
class Origin:
    """What vectors must share to be compared."""

    encoder: str
    fingerprint: str
    """SHA-256 (hex) of all that determines the vectors but the precision."""
    precision: str
    """Numeric mode in which they were computed."""
    pooling: str
    dimension: int

    def refuse_other(self, other: Origin, mine: str, others: str) -> None:
        """Raise unless the vectors of ``other`` can be compared with these.

        Args:
            other: what the other vectors are.
            mine: what to call these in the message.
            others: what to call the others.

        Raises:
            InputError: says what differs and what to do.
        """
        if (self.dimension, self.pooling) != (other.dimension, other.pooling) and self.encoder == other.encoder:
            raise InputError(
                f"{others} has vectors of {other.dimension} numbers, pooling {other.pooling!r}, and {mine} of "
                f"{self.dimension}, {self.pooling!r}; embed it with the same options"
            )
        if self.fingerprint != other.fingerprint:
            name = f"{other.encoder!r}, and {mine} of {self.encoder!r}"
            if self.encoder == other.encoder:
                name = f"another layer or version of {self.encoder!r} than {mine}"
            raise InputError(f"{others} has vectors of {name}; embed it with the same encoder")
        if self.precision != other.precision:
            raise InputError(
                f"{others} was computed in {other.precision}, and {mine} in {self.precision}; "
                f"embed it with --precision {self.precision}"
            )


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds embeddings, and not sequences.

    Raises:
        InputError: if it cannot be read.
    """
    if not Path(path).is_file():
        raise InputError(f"{os.fspath(path)}: no such file; name a table of embeddings or a file of proteins")
    try:
        format = detect_format(path)
        return format != "parquet" or "embedding" in pq.read_schema(path).names
    except (InputError, pa.ArrowException):
        return False


def origin_of(path: str | os.PathLike[str]) -> Origin:
    """Encoder, weights, precision and pooling of a file of embeddings.

    Raises:
        InputError: if they are not told, or there is one vector for each residue.
    """
    found = read_metadata(path)
    if found.get("level", "proteins") != "proteins":
        raise InputError(f"{os.fspath(path)} has a vector for each residue; embed without --per-residue")
    return origin_from(found, os.fspath(path))


def origin_from(found: Mapping[str, str], name: str) -> Origin:
    """The same from metadata at hand; ``name`` is for the message."""
    try:
        return Origin(
            encoder=found["encoder"],
            fingerprint=found["encoder_fingerprint"],
            precision=found["precision"],
            pooling=found["pooling"],
            dimension=int(found["dimension"]),
        )
    except (KeyError, ValueError):
        raise InputError(f"{name} does not say which encoder made it; write it with `limbeck embed`") from None


def blocks(
    paths: Sequence[str | os.PathLike[str]], dimension: int, at_once: int = PROTEINS_AT_ONCE
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Ids and vectors (n, dimension) of files, in their order, in blocks; a block holds proteins of one file.

    Raises:
        InputError: if a file is damaged, or a vector is not one of so many finite numbers.
    """
    for path in paths:
        try:
            proteins_of_file = read_embeddings(path)
            while proteins := list(islice(proteins_of_file, at_once)):
                ids = [id for id, _ in proteins]
                yield ids, _stacked([vector for _, vector in proteins], ids, dimension, os.fspath(path))
        except InputError:
            raise
        except Exception as error:
            # HDF5, Arrow and zipfile have errors of their own for a file that is cut short.
            detail = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{os.fspath(path)} cannot be read ({detail}); embed it again") from None


def _stacked(vectors: list[NDArray[np.floating]], ids: list[str], dimension: int, name: str) -> NDArray[np.float32]:
    for id, vector in zip(ids, vectors, strict=True):
        if vector.shape != (dimension,):
            raise InputError(f"{name}: the vector of {id!r} has the shape {vector.shape}, not ({dimension},)")
    result = np.stack(vectors).astype(np.float32)
    finite = np.isfinite(result).all(axis=1)
    if not finite.all():
        raise InputError(f"{name}: the vector of {ids[int(np.argmin(finite))]!r} is not finite; embed it again")
    return result
