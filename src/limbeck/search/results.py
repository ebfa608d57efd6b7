"""What a search writes: hits, or transferred labels, as TSV, CSV or Parquet, in bounded memory."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.encoders import Encoder
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.search.index import Hit, Index
from limbeck.search.queries import encoder_of, query_blocks
from limbeck.search.transfer import Annotation
from limbeck.search.vectors import is_table

__all__ = ["Written", "check_request", "format_of", "write_results"]

FORMATS = {".tsv": "tsv", ".tab": "tsv", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
DIGITS = 6
_TYPES = {"rank": pa.int32(), "similarity": pa.float64(), "reliability": pa.float64(), "share": pa.float64()}

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Written:
    """What a search has written; its text is a line for people."""

    queries: int
    rows: int
    without: int
    """Queries for which nothing was found."""
    recall: float | None
    """Of the index's engine against exact search, measured when it was built; ``None`` if search is exact."""
    output: str
    transfer: bool

    def __str__(self) -> str:
        what = "labels" if self.transfer else "hits"
        line = f"{self.queries:,} queries, {self.rows:,} {what}, {self.without:,} queries without any"
        how = "exact search" if self.recall is None else f"approximate search (recall {self.recall:.3f} when built)"
        return f"{line}; {how}; {self.output}"


def format_of(output: str) -> str:
    """The format to write by the ending of a file; standard output (``"-"``) is TSV.

    Raises:
        InputError: if the ending tells none, or there is no such folder.
    """
    if output == "-":
        return "tsv"
    path = Path(output)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"the ending of {output} tells no format; use .tsv, .csv or .parquet")
    if not path.absolute().parent.is_dir():
        raise InputError(f"the output's folder {str(path.parent)!r} does not exist; create it first")
    return FORMATS[path.suffix.lower()]


def check_request(index: Index, k: int, *, transfer: bool, least: float | None, trust: float | None) -> None:
    """Refuse, before anything is computed, what the index cannot give.

    Raises:
        InputError: names the option and what to do.
    """
    if k < 1:
        raise InputError(f"-k must be at least 1, not {k}")
    if not transfer and k > len(index):
        raise InputError(f"-k {k} is more than the {len(index)} proteins of the index; ask for at most as many")
    if transfer and not index.labelled:
        raise InputError(f"{index.name} has no labels to transfer; build it with --labels and --label-column")
    if transfer and least is not None:
        raise InputError("--min-similarity is of hits; with --transfer use --min-reliability")
    if trust is not None and not (transfer and index.calibrated):
        need = "an index whose labels are calibrated" if transfer else "--transfer"
        raise InputError(f"--min-reliability needs {need}; leave it out")


def write_results(
    index: Index,
    queries: str | os.PathLike[str],
    output: str,
    *,
    k: int = 10,
    transfer: bool = False,
    without_self: bool = False,
    min_similarity: float | None = None,
    min_reliability: float | None = None,
    encoder: Encoder | None = None,
    loading: dict[str, Any] | None = None,
    columns: dict[str, Any] | None = None,
    progress: bool = True,
) -> Written:
    """Search for every query of a file and write what is found.

    Args:
        index: that is open.
        queries: embeddings or proteins, as for :func:`limbeck.search.queries.query_blocks`.
        output: a file that ends in ``.tsv``, ``.csv`` or ``.parquet``; ``"-"`` is standard output.
        k: most hits of a query.
        transfer: write labels, not hits.
        without_self: leave out a hit of the query's own id and a similarity of about 1.
        min_similarity: of a hit.
        min_reliability: of a label.
        encoder: that is loaded, to embed proteins with.
        loading: options to load the index's encoder with, if that is not given.
        columns: of a table of proteins.
        progress: show progress on standard error.

    Raises:
        InputError: if the queries don't go with the index, or cannot be read.
    """
    if encoder is None and (queries == "-" or not is_table(queries)):
        encoder = encoder_of(index.manifest, **(loading or {}))
    elif loading:
        raise InputError("options of an encoder go with a file of proteins; these queries are embedded already")
    counts = {"queries": 0, "rows": 0, "without": 0}
    with _writer(output, _columns(index, transfer)) as write:
        for ids, vectors in query_blocks(queries, index.manifest, encoder=encoder, columns=columns, progress=progress):
            own = ids if without_self else None
            if transfer:
                found = _annotation_rows(index, ids, index.annotate(vectors, without=own, least=min_reliability or 0.0))
            else:
                least = float("-inf") if min_similarity is None else min_similarity
                found = _hit_rows(index, ids, index.search(vectors, k, without=own, least=least))
            for rows in found:
                counts["queries"] += 1
                counts["rows"] += len(rows)
                counts["without"] += not rows
                write(rows)
    name = "standard output" if output == "-" else output
    exact = index.manifest.engine["name"] == "exact"
    recall = None if exact else float(index.manifest.recall["recall"])
    return Written(**counts, recall=recall, output=name, transfer=transfer)


def _columns(index: Index, transfer: bool) -> list[str]:
    reliability = ["reliability"] if index.calibrated else []
    if transfer:
        return ["query", "label", *reliability, "share", "nearest", "similarity"]
    return ["query", "rank", "target", "similarity", *(["label"] if index.labelled else []), *reliability]


def _hit_rows(index: Index, ids: Sequence[str], found: Sequence[Sequence[Hit]]) -> Iterator[list[Row]]:
    for id, hits in zip(ids, found, strict=True):
        rows = []
        for rank, hit in enumerate(hits, 1):
            label = (hit.label,) if index.labelled else ()
            reliability = (_rounded(hit.reliability),) if index.calibrated else ()
            rows.append((id, rank, hit.id, round(hit.similarity, DIGITS), *label, *reliability))
        yield rows


def _annotation_rows(index: Index, ids: Sequence[str], found: Sequence[Sequence[Annotation]]) -> Iterator[list[Row]]:
    for id, labels in zip(ids, found, strict=True):
        rows = []
        for a in labels:
            reliability = (_rounded(a.reliability),) if index.calibrated else ()
            rows.append(
                (id, a.label, *reliability, round(a.share, DIGITS), index.id(a.row), round(a.similarity, DIGITS))
            )
        yield rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


class _Write(Protocol):
    def __call__(self, rows: list[Row], /) -> None: ...


@contextmanager
def _writer(output: str, columns: list[str]) -> Iterator[_Write]:
    if output == "-":
        yield _text(sys.stdout, columns, "\t")
        return
    format = format_of(output)
    try:
        with whole(Path(output)) as partial:
            if format == "parquet":
                with _Parquet(partial, columns) as write:
                    yield write
            else:
                with partial.open("w", encoding="utf-8", newline="") as file:
                    yield _text(file, columns, "\t" if format == "tsv" else ",")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None


def _text(file: TextIO, columns: list[str], delimiter: str) -> _Write:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)

    def write(rows: list[Row], /) -> None:
        writer.writerows(rows)

    return write


class _Parquet:
    """Rows gathered to groups of some size."""

    ROWS = 100_000

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in columns])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def __enter__(self) -> _Write:
        return self._write

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def _write(self, rows: list[Row], /) -> None:
        self._rows += rows
        if len(self._rows) >= self.ROWS:
            self._flush()

    def _flush(self) -> None:
        fields = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = [pa.array(values, field.type) for values, field in zip(fields, self._schema, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=self._schema))
        self._rows = []
