"""Vectors as bytes of an answer: JSON, base64 within JSON, or an Arrow stream."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic_core import to_json

__all__ = ["ARROW", "as_arrow", "as_json", "packed", "plain"]

ARROW = "application/vnd.apache.arrow.stream"

Array = NDArray[np.float32]


def packed(vectors: Array) -> str:
    """Base64 of little-endian float32, row by row."""
    return base64.b64encode(np.ascontiguousarray(vectors, dtype="<f4").tobytes()).decode("ascii")


def plain(vectors: Array) -> list[Any]:
    """Numbers that read back as the same float32."""
    return vectors.tolist()


def as_json(content: Any) -> bytes:
    """JSON, which no number that is not finite may enter."""
    return to_json(content)


def as_arrow(
    ids: Sequence[str | None],
    lengths: Sequence[int],
    vectors: Sequence[Array],
    dimension: int,
    metadata: dict[str, str],
) -> bytes:
    """A stream of one table as ``limbeck embed -o FILE.parquet`` has it: ``id``, ``length``, ``embedding``.

    Args:
        ids: of n proteins, null where the client gave none.
        lengths: residues of each.
        vectors: of each (dimension,), or (length, dimension).
        dimension: numbers in a vector.
        metadata: of the schema.
    """
    flat = np.concatenate([v.reshape(-1) for v in vectors]).astype(np.float32, copy=False)
    column: pa.Array = pa.FixedSizeListArray.from_arrays(pa.array(flat), dimension)
    if vectors[0].ndim == 2:
        offsets = np.concatenate([[0], np.cumsum([len(v) for v in vectors])]).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), column)
    table = pa.table(
        {"id": pa.array(ids, pa.string()), "length": pa.array(lengths, pa.int64()), "embedding": column}
    ).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
