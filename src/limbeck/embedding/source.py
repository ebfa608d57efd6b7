"""The input of one run: files and standard input, read as often as needed."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from limbeck.embedding.frames import Frame, SequenceRecord, is_frame, is_record, write_frame, write_records
from limbeck.errors import InputError
from limbeck.records import InvalidRecord, Locator, Record, bad_record, clean_record, read_records

__all__ = ["STANDARD_INPUT", "Input", "Source", "stem"]

Input = str | os.PathLike[str] | Frame | SequenceRecord
"""A file, ``"-"``, a data frame or a record."""

STANDARD_INPUT = "<standard input>"
_COMPRESSIONS = {".gz", ".bgz", ".bz2", ".xz", ".zst"}


@dataclass(frozen=True)
class _File:
    path: Path
    name: str
    format: str | None


class Source:
    """Proteins of one or more files, in order.

    Args:
        inputs: paths, data frames and records (neighbouring records are read as one file); ``"-"`` is standard
            input, which is kept in ``scratch`` so that it can be read again.
        scratch: a folder for it.
        sequence_column: for tables, as in :func:`limbeck.records.read_records`; so are the other two.
        id_column: for tables.
        input_format: of all files.
        names: what to call the inputs in messages, if not by their paths.
        stdin: what ``"-"`` reads.

    Raises:
        InputError: if there is no input, or standard input is named twice or is a terminal.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        scratch: Path,
        *,
        sequence_column: str | None = None,
        id_column: str | None = None,
        input_format: str | None = None,
        names: Sequence[str] | None = None,
        stdin: BinaryIO | None = None,
    ) -> None:
        if not inputs:
            raise InputError("no input; name at least one file, or - for standard input")
        self._columns = {"sequence_column": sequence_column, "id_column": id_column}
        self._files: list[_File] = []
        for kind, group in groupby(enumerate(inputs), key=lambda item: is_record(item[1])):
            if kind:
                path = scratch / f"records-{len(self._files)}"
                write_records((record for _, record in group if is_record(record)), path)
                self._files.append(_File(path, f"<records {len(self._files) + 1}>", "parquet"))
                continue
            for place, value in group:
                name = None if names is None else names[place]
                self._files.append(self._file(value, name, scratch, input_format, stdin))

    def _file(self, value: Any, name: str | None, scratch: Path, format: str | None, stdin: BinaryIO | None) -> _File:
        if is_frame(value):
            path = scratch / f"frame-{len(self._files)}"
            write_frame(value, path)
            return _File(path, f"<data frame {len(self._files) + 1}>", "parquet")
        text = os.fspath(value)
        if text != "-":
            return _File(Path(text), name or text, format)
        if any(file.name == STANDARD_INPUT for file in self._files):
            raise InputError("standard input (-) is named twice; it can be read once only")
        return _File(_spool(stdin or sys.stdin.buffer, scratch / "input"), STANDARD_INPUT, format)

    def proteins(
        self,
        changed: Counter[str] | None = None,
        on_invalid: Callable[[InvalidRecord], None] | None = None,
    ) -> Iterator[tuple[Record, str]]:
        """Records and their cleaned sequences.

        Args:
            changed: gains one count for each changed letter, as in :func:`limbeck.residues.clean`.
            on_invalid: called with each record that cannot be used, which is then passed over.

        Raises:
            InputError: if a file cannot be read.
            InvalidRecord: at the first record that cannot be used, unless ``on_invalid`` is given.
        """
        for file in self._files:
            locator = Locator(file.path, file.format)
            for record in self._read(file):
                try:
                    sequence = clean_record(record, locator, changed)
                    # NumPy's strings cannot end with it.
                    if "\0" in record.id:
                        raise bad_record(record, locator, "a NUL character in the id")
                except InvalidRecord as error:
                    if on_invalid is None:
                        raise
                    on_invalid(error)
                else:
                    yield record, sequence

    def _read(self, file: _File) -> Iterator[Record]:
        return read_records(file.path, name=file.name, format=file.format, **self._columns)

    def place(self, record: Record) -> str:
        """Where a record stands, for messages: ``proteins.fasta, line 12``."""
        file = next(file for file in self._files if file.name == record.source)
        return f"{record.source}, {Locator(file.path, file.format).place(record.number)}"


def stem(path: str | os.PathLike[str]) -> str:
    """Name of a file without its folder and endings: ``proteins`` for ``data/proteins.fasta.gz``."""
    name = Path(path)
    if name.suffix.lower() in _COMPRESSIONS:
        name = name.with_suffix("")
    return name.stem


def _spool(stream: BinaryIO, path: Path) -> Path:
    if stream.isatty():
        raise InputError("standard input is a terminal; pipe proteins into it or name a file")
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file)
    return path
