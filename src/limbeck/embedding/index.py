"""What a run must remember about every protein, kept on disk so that memory stays bounded."""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from limbeck.files import reserve

__all__ = ["Index"]

_FLUSH = 20_000
_REPEATS = """
    SELECT row, first FROM (
        SELECT row, first_value(row) OVER (PARTITION BY {column} ORDER BY row) AS first FROM protein
    ) WHERE row > first ORDER BY row
"""


class Index:
    """Ids, lengths and equal sequences of the proteins of one run, by row (0-based position in the input).

    Rows are appended first, then :meth:`finish` builds what can be asked for. Of sequences only
    128-bit digests are kept.

    Args:
        folder: an empty folder that this object may fill.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # The run holds its own lock, and file systems of clusters often have none to offer.
        self._database = sqlite3.connect(f"{(folder / 'index.sqlite').resolve().as_uri()}?nolock=1", uri=True)
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE protein (row INTEGER PRIMARY KEY, id TEXT NOT NULL, digest BLOB NOT NULL);"
            "CREATE TABLE renamed (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);"
        )
        self._sort_in(str(folder.resolve()))
        self._lengths_file = (folder / "lengths").open("wb")
        self._rows: list[tuple[int, str, bytes]] = []
        self._lengths = array("i")
        self._hash = hashlib.sha256()
        self.start = 0
        """Where in the input row 0 is; not 0 once :meth:`keep` was called, as ``stop`` is not ``None``."""
        self.stop: int | None = None
        self.proteins = 0
        self.residues = 0
        self.duplicates = 0
        """Rows whose sequence occurred before. There once finished, as is all that follows."""
        self.computed_residues = 0
        """Residues of all other rows."""
        self.lengths: NDArray[np.int32]
        """(proteins,), on disk."""
        self.firsts: NDArray[np.int64]
        """(proteins,), on disk; for each row the first row with the same sequence, often itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sort_in("")
        self._database.close()
        self._lengths_file.close()

    def _sort_in(self, folder: str) -> None:
        """Let SQLite sort in this folder; ``""`` is its own choice, like /var/tmp, which is often small."""
        # SQLite takes no bytes that are not UTF-8.
        with suppress(UnicodeEncodeError):
            self._database.execute("PRAGMA temp_store_directory = '{}'".format(folder.replace("'", "''")))

    def add(self, id: str, sequence: str) -> None:
        """Append one protein with its cleaned sequence."""
        digest = sequence_digest(sequence)
        name = id.encode()
        # Lengths keep the fields apart.
        self._hash.update(b"%d:%b%b" % (len(name), name, digest))
        self._rows.append((self.proteins, id, digest))
        self._lengths.append(len(sequence))
        self.proteins += 1
        self.residues += len(sequence)
        if len(self._rows) == _FLUSH:
            self._flush()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all ids and digests of sequences added so far, in order."""
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._database.executemany("INSERT INTO protein VALUES (?, ?, ?)", self._rows)
        self._lengths.tofile(self._lengths_file)
        self._rows.clear()
        del self._lengths[:]

    def finish(self) -> None:
        """Sort ids and sequences (on disk) and fill ``lengths`` and ``firsts``; needs at least one."""
        self._flush()
        self._lengths_file.close()
        # Sorting once at the end is many times faster than keeping a random order sorted from row to row.
        self._database.executescript(
            "CREATE INDEX by_id ON protein (id, row); CREATE INDEX by_digest ON protein (digest, row);"
        )
        self.lengths = np.memmap(self._folder / "lengths", dtype=np.int32, mode="r")
        self._compare()

    def keep(self, start: int, stop: int) -> None:
        """Forget all rows but ``start`` to ``stop`` (half open), which become rows 0, 1, ...; counts follow.

        The fingerprint stays that of the whole input.
        """
        for table in ("protein", "renamed"):
            self._database.execute(f"DELETE FROM {table} WHERE row < ? OR row >= ?", (start, stop))
            self._database.execute(f"UPDATE {table} SET row = row - ?", (start,))
        self.start, self.stop = start, stop
        self.lengths = self.lengths[start:stop]
        self.proteins, self.duplicates = stop - start, 0
        self.residues = int(self.lengths.sum(dtype=np.int64))
        self._compare()

    def _compare(self) -> None:
        """Find the rows whose sequence occurred before."""
        reserve(self._folder / "firsts", self.proteins * np.dtype(np.int64).itemsize)
        self.firsts = np.memmap(self._folder / "firsts", dtype=np.int64, mode="r+")
        for start in range(0, self.proteins, 1_000_000):
            block = self.firsts[start : start + 1_000_000]
            block[:] = np.arange(start, start + len(block))
        self.computed_residues = self.residues
        for row, first in self._repeats("digest"):
            self.firsts[row] = first
            self.duplicates += 1
            self.computed_residues -= int(self.lengths[row])

    def _repeats(self, column: str) -> Iterator[tuple[int, int]]:
        return self._database.execute(_REPEATS.format(column=column))

    def first_repeated_id(self) -> tuple[int, int] | None:
        """The first row whose id occurred before, and the row where it did: (earlier, later)."""
        for row, first in self._repeats("id"):
            return first, row
        return None

    def rename_repeated_ids(self) -> int:
        """Give the second, third, ... protein of one id the names ``id_2``, ``id_3``, ...; returns how many.

        A name that another protein has, by itself or by this rule, is passed over: ids end up unique.
        """
        query = """
            SELECT row, id, row > first_value(row) OVER (PARTITION BY id ORDER BY row) AS repeated
            FROM protein ORDER BY id, row
        """
        taken = """
            SELECT EXISTS (SELECT 1 FROM protein WHERE id = ?1)
                OR EXISTS (SELECT 1 FROM renamed WHERE id = ?1)
        """
        number = 1
        renamed = 0
        for row, id, repeated in self._database.execute(query):
            if not repeated:
                number = 1
                continue
            number += 1
            while self._database.execute(taken, (f"{id}_{number}",)).fetchone()[0]:
                number += 1
            self._database.execute("INSERT INTO renamed VALUES (?, ?)", (row, f"{id}_{number}"))
            renamed += 1
        return renamed

    def originals(self) -> Iterator[tuple[str, bytes]]:
        """Id as it stands in the input, and digest of the sequence, of every protein."""
        return self._database.execute("SELECT id, digest FROM protein ORDER BY row")

    def ids(self) -> Iterator[str]:
        """The id of every protein, in the order of the rows, renamed ones by their new names."""
        query = """
            SELECT coalesce(renamed.id, protein.id)
            FROM protein LEFT JOIN renamed ON renamed.row = protein.row ORDER BY protein.row
        """
        for (id,) in self._database.execute(query):
            yield id

    def id(self, row: int) -> str:
        """The id of one protein, as it stands in the input."""
        return str(self._database.execute("SELECT id FROM protein WHERE row = ?", (row,)).fetchone()[0])


def sequence_digest(sequence: str) -> bytes:
    """128 bits that tell sequences apart: among 10**9, two share one with a probability below 10**-20."""
    return hashlib.blake2b(sequence.encode("ascii"), digest_size=16).digest()
