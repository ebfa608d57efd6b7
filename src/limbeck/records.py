"""Reading records: FASTA, CSV/TSV and Parquet, plain or compressed, one record at a time.

No file is ever held in memory. What is wrong with a *file* (cut short, not text, no such column) raises
:class:`InputError`; what is wrong with one *record* (a letter that is no residue, no residues at all, no id)
raises :class:`InvalidRecord` from :func:`clean_record`, so that a caller can skip the record and go on.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, BinaryIO, cast

from dnaio.exceptions import FastaFormatError
from dnaio.readers import FastaReader
from xopen import xopen

from limbeck.errors import InputError
from limbeck.residues import InvalidResidue, clean

__all__ = [
    "FORMATS",
    "InvalidRecord",
    "Locator",
    "Record",
    "bad_record",
    "clean_record",
    "format_of",
    "identify",
    "line_of",
    "read_records",
    "read_rows",
    "stem_of",
]

FORMATS = ("fasta", "csv", "tsv", "parquet")
"""What ``format`` may be."""

_NULLS = {"NA", "NaN", "nan", "None", "NULL", "null"}
"""What R, pandas and databases write into a table for a missing value; letters of residues, all of them."""
SEQUENCE_COLUMNS = ("sequence", "seq", "protein_sequence", "aa_sequence", "aa_seq", "primary", "protein")
"""Columns taken for the sequence if none is named; capitals do not matter."""

ID_COLUMNS = (
    "id",
    "accession",
    "entry",
    "uniprot_id",
    "protein_id",
    "sequence_id",
    "seq_id",
    "identifier",
    "name",
)
"""Columns taken for the id if none is named; the first of these that the table has."""

MAX_RECORD = 100_000_000
"""Characters of one record above which a file is taken for something else than proteins.

The longest protein known has some 45,000 residues; without a bound, a genome or a broken file would fill
the memory.
"""

_ENDINGS = {
    **dict.fromkeys((".fasta", ".fa", ".faa", ".fas", ".fsa", ".pep"), "fasta"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
_COMPRESSION_ENDINGS = (".gz", ".bgz", ".bz2", ".xz", ".zst")
_COMPRESSIONS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_FOREIGN = {
    b"PAR1": "Parquet",
    b"\x89HDF": "HDF5",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"%PDF": "a PDF document",
    b"<": "an HTML or XML page",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"\x1f\x9d": "compressed with compress (.Z)",
    **dict.fromkeys(_COMPRESSIONS, "compressed twice"),
}
_BLOCK = 1 << 17
_COMMENT = re.compile(r"^[^\S\n]*#", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in its file; :func:`clean_record` makes a sequence of it."""

    source: str
    """The file as the user named it; ``"<standard input>"`` for ``-``."""
    number: int
    """1-based place of the record in its file."""
    id: str
    """``ACC`` of a FASTA header that starts with ``db|ACC|NAME`` (exactly three fields; not ``pdb|1ABC|A``,
    whose third field is the chain), else the header's first word. In a table the id column, or ``row-17``."""
    description: str
    """What follows the first word of a FASTA header; empty for a table."""
    text: str
    """The sequence, white space removed, letters untouched."""
    problem: str | None = None
    """Why the record cannot be used, where the reader itself saw it."""


class InvalidRecord(InputError):
    """One record cannot be used; the others of its file can.

    ``place`` is ``"line 12"`` (``"row 12"`` in Parquet) and ``problem`` what is wrong there.
    """

    def __init__(self, record: Record, place: str, problem: str) -> None:
        label = repr(_shorten(record.id)) if record.id else str(record.number)
        super().__init__(f"{record.source}, {place}, record {label}: {problem}; remove it or use --skip-invalid")
        self.record = record
        self.place = place
        self.problem = problem


def read_records(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    sequence_column: str | None = None,
    id_column: str | None = None,
    format: str | None = None,
) -> Iterator[Record]:
    """Read the records of one file, in order.

    Args:
        path: a regular file; gzip, bzip2, xz and zstd are told by its first bytes, whatever its name.
        name: what to call the file in messages and in ``Record.source``; the path if not given.
        sequence_column: a table's column of sequences; by default the one among ``SEQUENCE_COLUMNS``.
        id_column: a table's column of ids; by default the first of ``ID_COLUMNS``, else ids are row numbers.
        format: one of ``FORMATS``; by default told by the file's ending, or by its first character.

    Raises:
        InputError: if the file cannot be read to its end, or holds no records.
    """
    source = name or os.fspath(path)
    kind = format_of(path, format, name=source)
    if kind == "fasta":
        records = _fasta_records(path, source)
    elif kind == "parquet":
        records = _parquet_records(path, source, sequence_column, id_column)
    else:
        records = _table_records(path, source, kind, sequence_column, id_column)
    number = 0
    for number, (id, description, text, problem) in enumerate(records, 1):
        # str.split knows every kind of white space; nearly always there is none.
        yield Record(source, number, id, description, "".join(text.split()), problem)
    if not number:
        raise InputError(
            f"{source}: holds no records; expected proteins as {kind.upper()}, or name another --input-format"
        )


def read_rows(
    path: str | os.PathLike[str], *, name: str | None = None, format: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of one table, in order: the line (in Parquet the row) where each starts, and its fields.

    The first has the column names, white space around them removed. Blank lines are left out; a row may have
    more or fewer fields than there are names. In Parquet a null is ``""`` and numbers are written out.

    Args:
        path: as :func:`read_records` takes it.
        name: what to call the file in messages; the path if not given.
        format: ``"csv"``, ``"tsv"`` or ``"parquet"``; by default told as in :func:`read_records`.

    Raises:
        InputError: if the file is no table, or cannot be read to its end.
    """
    source = name or os.fspath(path)
    kind = format_of(path, format, name=source)
    if kind == "fasta":
        raise InputError(f"{source}: is FASTA, not a table; expected CSV, TSV or Parquet (--input-format)")
    if kind == "parquet":
        yield from _parquet_rows(path, source)
        return
    with _text(path, source, kind) as stream:
        rows = _rows(stream, source, kind)
        for line, header in islice(rows, 1):
            yield line, [column.strip() for column in header]
        yield from rows


def clean_record(record: Record, locator: Locator, changed: Counter[str] | None = None) -> str:
    """The record's sequence in the letters of :mod:`limbeck.residues`.

    Args:
        record: a record of :func:`read_records`.
        locator: finds the line for the message; made for the record's file.
        changed: gains one count for each changed letter, as in :func:`limbeck.residues.clean`.

    Raises:
        InvalidRecord: if the record has no id, no residue, or a character that is no residue.
    """
    if record.problem is not None:
        raise bad_record(record, locator, record.problem)
    if not record.id:
        raise bad_record(record, locator, "has no id")
    try:
        sequence = clean(record.text, changed)
    except InvalidResidue as error:
        raise bad_record(record, locator, str(error), offset=error.offset) from None
    if not sequence:
        raise bad_record(record, locator, "has no residues")
    return sequence


def bad_record(record: Record, locator: Locator, problem: str, *, offset: int | None = None) -> InvalidRecord:
    """The error for one record, its line looked up; ``offset`` (0-based, in its text) is a character's."""
    return InvalidRecord(record, locator.place(record.number, offset), problem)


def line_of(path: str | os.PathLike[str], number: int, format: str | None = None) -> int:
    """Line (1-based) on which record ``number`` starts; in Parquet its row. Reads the file up to there."""
    return Locator(path, format).line(number)


class Locator:
    """Finds the lines of records, for messages.

    The readers do not count lines, so the file is read a second time, but only once something is wrong with
    it. Asked in rising order, any number of records costs one such reading in all.
    """

    def __init__(self, path: str | os.PathLike[str], format: str | None = None) -> None:
        self._path = path
        self._format = format
        self._layouts: Iterator[_Layout] | None = None
        self._current: _Layout = []
        self._number = 0

    def place(self, number: int, offset: int | None = None) -> str:
        """``"line 12"``, or ``"row 12"`` in Parquet; arguments as for :meth:`line`."""
        unit = "row" if format_of(self._path, self._format) == "parquet" else "line"
        return f"{unit} {self.line(number, offset)}"

    def line(self, number: int, offset: int | None = None) -> int:
        """Line (1-based) on which record ``number`` starts, or on which ``offset`` of its text stands.

        Raises:
            InputError: if the file no longer has that record.
        """
        if self._layouts is None or number < self._number:
            self._layouts, self._number = _layouts(self._path, self._format), 0
        while self._number < number:
            layout = next(self._layouts, None)
            if layout is None:
                raise InputError(f"{os.fspath(self._path)}: changed while it was read; run again")
            self._current, self._number = layout, self._number + 1
        passed = 0
        for line, characters in self._current:
            passed += characters
            if offset is not None and offset < passed:
                return line
        return self._current[0][0]


def format_of(path: str | os.PathLike[str], format: str | None = None, *, name: str | None = None) -> str:
    """The format of a file, one of ``FORMATS``: as given, by the file's ending, or by its first character.

    Raises:
        InputError: if ``format`` is none of them, or nothing tells the format.
    """
    if format is not None:
        if format not in FORMATS:
            raise InputError(f"--input-format {format!r} is unknown; use one of {', '.join(FORMATS)}")
        return format
    stem, ending = os.path.splitext(os.fspath(path).lower())
    if ending in _COMPRESSION_ENDINGS:
        ending = os.path.splitext(stem)[1]
    return _ENDINGS.get(ending) or _sniff(path, name or os.fspath(path))


def stem_of(path: str | os.PathLike[str]) -> str:
    """A file's name without its folder and the endings that tell format and compression."""
    stem = os.path.basename(os.fspath(path))
    for endings in (_COMPRESSION_ENDINGS, _ENDINGS):
        bare, ending = os.path.splitext(stem)
        if ending.lower() in endings:
            stem = bare
    return stem


def _sniff(path: str | os.PathLike[str], source: str) -> str:
    with _decompressed(path, source) as stream:
        head = _read(stream, source, _BLOCK).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PAR1"):
        return "parquet"
    _refuse_foreign(head, source)
    line = head.split(b"\n", 1)[0]
    if head.startswith(b">") or not head:
        return "fasta"
    if b"\t" in line or b"," in line:
        return "tsv" if b"\t" in line else "csv"
    raise InputError(
        f"{source}: neither FASTA (starts with '>') nor a table with column names; "
        f"name its format with --input-format ({', '.join(FORMATS)})"
    )


# Bytes: opening, decompressing and checking text


def _open(path: str | os.PathLike[str], source: str) -> io.BufferedReader:
    if os.path.exists(path) and not os.path.isfile(path):
        if os.path.isdir(path):
            raise InputError(f"{source}: is a directory; name the files in it")
        advice = "save its content as one (limbeck embed and search take it on standard input, too, as '-')"
        raise InputError(f"{source}: is no regular file; {advice}")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{source}: no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be opened ({error.strerror}); check its permissions") from None


@contextmanager
def _decompressed(path: str | os.PathLike[str], source: str) -> Iterator[BinaryIO]:
    with _open(path, source) as raw:
        magic = raw.peek(8)
        compression = next((c for m, c in _COMPRESSIONS.items() if magic.startswith(m)), None)
        if compression is None:
            yield raw
        else:
            # xopen would go by the ending before the content. By default it also hands .zst to a program, and
            # misses its complaint about a file cut short; threads=0 keeps it in this process.
            with xopen(raw, "rb", threads=0, format=compression) as stream:
                yield stream


def _read(stream: BinaryIO, source: str, size: int, *, line: bool = False) -> bytes:
    try:
        return stream.readline(size) if line else stream.read(size)
    except EOFError:
        raise InputError(f"{source}: its compressed data are cut short; get the file again") from None
    except Exception as error:
        # Each decompressor has its own classes of error.
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{source}: cannot be read or decompressed ({detail}); get the file again") from None


def _refuse_foreign(head: bytes, source: str) -> None:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            expected = "expected FASTA, CSV or TSV as UTF-8 text, or Parquet (--input-format)"
            raise InputError(f"{source}: is {what}; {expected}")


def _checked(stream: BinaryIO, source: str, format: str) -> Iterator[bytes]:
    """The text of a file in blocks of whole lines, ended by line feeds; refuses what is not UTF-8 text."""
    line, open_size = 1, 0
    start = b">" if format == "fasta" else b"\n"
    block = _read(stream, source, _BLOCK).removeprefix(b"\xef\xbb\xbf")
    _refuse_foreign(block, source)
    while block:
        if not block.endswith(b"\n"):
            block += _read(stream, source, MAX_RECORD + 1, line=True)
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if fault := _fault(block, format):
            offset, problem = fault
            line += block.count(b"\n", 0, offset)
            raise InputError(f"{source}, line {line}: {problem}")
        last = block.rfind(start)
        open_size = len(block) - last if last >= 0 else open_size + len(block)
        line += block.count(b"\n")
        if open_size > MAX_RECORD:
            problem = f"a record of more than {MAX_RECORD:,} characters, which is no protein; check the file"
            raise InputError(f"{source}, line {line}: {problem}")
        yield block
        block = _read(stream, source, _BLOCK)


def _fault(block: bytes, format: str) -> tuple[int, str] | None:
    """Offset and description of the first thing in a block that no text of this format may hold."""
    if (offset := block.find(b"\0")) >= 0:
        return offset, "a NUL byte, so this is binary data or UTF-16; expected UTF-8 text"
    try:
        text = block.decode()
    except UnicodeDecodeError as error:
        byte = block[error.start]
        return error.start, f"byte 0x{byte:02x} is not UTF-8 text; convert the file (iconv -f latin1 -t utf8)"
    # The FASTA reader would pass over comments, and with them over a sequence that was meant to count.
    if format == "fasta" and "#" in text and (match := _COMMENT.search(text)):
        offset = len(text[: match.start()].encode())
        return offset, "a comment ('#'), which FASTA does not have; remove the line"
    return None


class _BlockStream(io.RawIOBase):
    """A binary file made of blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


@contextmanager
def _text(path: str | os.PathLike[str], source: str, format: str) -> Iterator[BinaryIO]:
    """The checked text of a file: UTF-8 without a byte-order mark, lines ended by line feeds."""
    with _decompressed(path, source) as stream:
        yield io.BufferedReader(_BlockStream(_checked(stream, source, format)), _BLOCK)


# Formats: each reader yields (id, description, text, problem)

_Fields = tuple[str, str, str, str | None]


def _fasta_records(path: str | os.PathLike[str], source: str) -> Iterator[_Fields]:
    with _text(path, source, "fasta") as stream:
        # dnaio's own record class refuses headers outside ASCII.
        reader = FastaReader(stream, sequence_class=lambda header, text, _: (header, text))
        # dnaio decodes as the locale says, which is not UTF-8 everywhere.
        reader._file.reconfigure(encoding="utf-8")
        try:
            for header, text in cast(Iterable[tuple[str, str]], reader):
                yield (*identify(header), text, None)
        except FastaFormatError as error:
            place = f"line {(error.line or 0) + 1}"
            problem = "text before the first '>'; expected FASTA, or name another format with --input-format"
            raise InputError(f"{source}, {place}: {problem}") from None


def identify(header: str) -> tuple[str, str]:
    """Id and description of a FASTA header."""
    word, description = [*header.split(None, 1), "", ""][:2]
    fields = word.split("|")
    if len(fields) == 3 and fields[0].lower() != "pdb" and fields[1]:
        return fields[1], description
    return word, description


def _rows(stream: BinaryIO, source: str, format: str) -> Iterator[tuple[int, list[str]]]:
    """First line and fields of each row that is not blank."""
    # The module's own limit is 131,072 characters.
    csv.field_size_limit(MAX_RECORD)
    lines = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    reader = csv.reader(lines, delimiter="\t" if format == "tsv" else ",", strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"no well-formed {format.upper()} ({error}); fix its quotes"
            if line == 1 and "expected after" in str(error):
                problem += f", or save it with {'tabs' if format == 'tsv' else 'commas'} between its columns"
            raise InputError(f"{source}, line {line}: {problem}") from None
        # Spreadsheets write an empty row as separators alone.
        if any(field.strip() for field in row):
            yield line, row


def _table_records(
    path: str | os.PathLike[str], source: str, format: str, sequence_column: str | None, id_column: str | None
) -> Iterator[_Fields]:
    with _text(path, source, format) as stream:
        rows = _rows(stream, source, format)
        header = next(rows, (1, []))[1]
        if not header:
            return
        sequence, id = _choose_columns([h.strip() for h in header], source, sequence_column, id_column)
        for number, (_, row) in enumerate(rows, 1):
            if len(row) != len(header):
                # A comma too many moves every later field, so this row's sequence may be anything.
                problem = f"has {len(row)} fields where the column names are {len(header)}"
                yield f"row-{number}", "", "", problem
            else:
                text = row[sequence]
                missing = f"{text.strip()!r} stands for a missing sequence" if text.strip() in _NULLS else None
                yield f"row-{number}" if id is None else row[id].strip(), "", text, missing


def _parquet_file(path: str | os.PathLike[str], source: str) -> Any:
    import pyarrow.parquet as pq

    with _open(path, source) as raw:
        if not raw.peek(4).startswith(b"PAR1"):
            raise InputError(f"{source}: is no Parquet file; if it is compressed as a whole, decompress it first")
    with _arrow_errors(source):
        return pq.ParquetFile(os.fspath(path))


def _parquet_rows(path: str | os.PathLike[str], source: str) -> Iterator[tuple[int, list[str]]]:
    with _parquet_file(path, source) as file:
        yield 0, [name.strip() for name in file.schema_arrow.names]
        batches = file.iter_batches(batch_size=4096, use_threads=False)
        number = 0
        while True:
            with _arrow_errors(source):
                batch = next(batches, None)
                if batch is None:
                    return
                columns = [["" if v is None else str(v) for v in column.to_pylist()] for column in batch.columns]
            for fields in zip(*columns, strict=True):
                number += 1
                yield number, list(fields)


def _parquet_records(
    path: str | os.PathLike[str], source: str, sequence_column: str | None, id_column: str | None
) -> Iterator[_Fields]:
    with _parquet_file(path, source) as file:
        schema = file.schema_arrow
        sequence, id = _choose_columns(schema.names, source, sequence_column, id_column)
        _check_type(schema.field(sequence), source)
        names = [schema.names[sequence]] + ([] if id is None else [schema.names[id]])
        batches = file.iter_batches(batch_size=4096, columns=list(dict.fromkeys(names)), use_threads=False)
        number = 0
        while True:
            with _arrow_errors(source):
                batch = next(batches, None)
                if batch is None:
                    return
                texts, ids = batch.column(names[0]).to_pylist(), batch.column(names[-1]).to_pylist()
            for text, value in zip(texts, ids, strict=True):
                number += 1
                label = f"row-{number}" if id is None else "" if value is None else str(value).strip()
                yield label, "", text or "", "the sequence is null" if text is None else None


@contextmanager
def _arrow_errors(source: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    # Arrow decodes the names of columns and their text only when they become Python's.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        detail = _shorten(" ".join(str(error).split()), 120)
        raise InputError(f"{source}: damaged Parquet file ({detail}); get the file again") from None


def _check_type(field: Any, source: str) -> None:
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        problem = f"column {field.name!r} holds {field.type}, not text"
        raise InputError(f"{source}: {problem}; choose another with --sequence-column")


def _choose_columns(
    names: list[str], source: str, sequence_column: str | None, id_column: str | None
) -> tuple[int, int | None]:
    """Places of the sequence column and of the id column, if there is one."""
    if id_column is None:
        id_column = next((n for known in ID_COLUMNS for n in names if n.lower() == known), None)
    if sequence_column is None:
        sequence_column = _default_sequence_column(names, source)
    id = None if id_column is None else _named(names, source, id_column, "--id-column")
    return _named(names, source, sequence_column, "--sequence-column"), id


def _default_sequence_column(names: list[str], source: str) -> str:
    candidates = [name for name in names if name.lower() in SEQUENCE_COLUMNS]
    if len(candidates) == 1:
        return candidates[0]
    problem = f"no column is called 'sequence' or the like; its columns are {_listed(names)}"
    if candidates:
        # A DNA sequence beside a protein's is made of residue letters too, so guessing could go unnoticed.
        problem = f"several columns may hold the sequence: {_listed(candidates)}"
    raise InputError(f"{source}: {problem}; choose one with --sequence-column")


def _named(names: list[str], source: str, name: str, option: str) -> int:
    if names.count(name) != 1:
        how_many = "several columns" if name in names else "no column"
        raise InputError(f"{source}: {how_many} called {name!r}; {option} must name one of {_listed(names)}")
    return names.index(name)


# Lines, for messages

_Layout = list[tuple[int, int]]
"""For each line of one record its number in the file and how many characters of the sequence it holds."""


def _layouts(path: str | os.PathLike[str], format: str | None) -> Iterator[_Layout]:
    source = os.fspath(path)
    kind = format_of(path, format)
    if kind == "parquet":
        yield from ([(row, 0)] for row in count(1))
    with _text(path, source, kind) as stream:
        if kind == "fasta":
            yield from _fasta_layouts(io.TextIOWrapper(stream, encoding="utf-8"))
        else:
            yield from ([(line, 0)] for line, _ in islice(_rows(stream, source, kind), 1, None))


def _fasta_layouts(lines: Iterable[str]) -> Iterator[_Layout]:
    layout: _Layout = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line.startswith(">"):
            if layout:
                yield layout
            layout = [(number, 0)]
        elif layout and line:
            layout.append((number, len("".join(line.split()))))
    yield layout


def _listed(names: list[str], most: int = 12) -> str:
    return ", ".join(repr(_shorten(name)) for name in names[:most]) + (", ..." if len(names) > most else "")


def _shorten(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
