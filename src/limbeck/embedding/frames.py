"""Proteins that a Python program already holds: data frames and Biopython's records, as one more file to read.

They are written to the run's scratch as Parquet. From there on they are like any other input: read as often as needed,
their columns found by the same rule, what is wrong with one reported with its row.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.errors import InputError
from limbeck.records import identify

__all__ = ["Frame", "SequenceRecord", "is_frame", "is_record", "write_frame", "write_records"]

_ROWS = 2**14


class Frame(Protocol):
    """A data frame of pandas, polars, pyarrow, DuckDB, ...: whatever speaks Arrow's stream interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@runtime_checkable
class SequenceRecord(Protocol):
    """Biopython's ``SeqRecord``, or what looks like it."""

    id: Any
    seq: Any


def is_frame(value: object) -> TypeGuard[Frame]:
    return hasattr(value, "__arrow_c_stream__")


def is_record(value: object) -> TypeGuard[SequenceRecord]:
    # A frame's columns are attributes, too.
    return isinstance(value, SequenceRecord) and not is_frame(value)


def write_frame(frame: Frame, path: Path) -> None:
    """Write a frame as Parquet.

    Raises:
        InputError: if Arrow cannot take it.
    """
    try:
        pq.write_table(pa.table(frame), path)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the data frame cannot be read ({reason}); keep the columns of ids and sequences") from None


def write_records(records: Iterable[SequenceRecord], path: Path) -> None:
    """Write records as Parquet; ids follow the rule for FASTA headers.

    Raises:
        InputError: if the letters of a record are not known.
    """
    schema = pa.schema({"id": pa.string(), "sequence": pa.large_string()})
    with pq.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, str]] = []
        for number, record in enumerate(records, 1):
            rows.append({"id": identify(str(record.id))[0], "sequence": _letters(record, number)})
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))


def _letters(record: SequenceRecord, number: int) -> str:
    if record.seq is None:
        raise InputError(f"record {number} ({record.id!r}) has no sequence; leave it out")
    try:
        return str(record.seq)
    except Exception as error:
        # Biopython's own error for a sequence of which only the length is known is a ValueError of its own class.
        raise InputError(f"record {number} ({record.id!r}): {error}; leave it out") from None
