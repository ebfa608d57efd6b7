"""Proteins of a file as a database of relatives, made once and kept, and the profiles of queries against it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.batches import Window, split
from limbeck.encoders.registry import file_hash, fingerprint
from limbeck.errors import InputError
from limbeck.homology import mmseqs
from limbeck.homology.mmseqs import Database, MMseqs, write_fasta
from limbeck.homology.profiles import (
    MOST_CANDIDATES,
    MOST_RELATIVES,
    NEIGHBOURS,
    PSEUDOCOUNT_WEIGHT,
    background,
    read_profiles,
    substitution_probabilities,
)
from limbeck.records import Locator, clean_record, format_of, read_records

__all__ = ["RelativesDatabase"]

OVERLAP = 4096
"""Residues by which windows over a protein that is too long for MMseqs2 overlap: room for a domain on either side."""
_NAME = "proteins"


class RelativesDatabase:
    """The proteins of a file, ready to be searched.

    The database is made once and kept in ``cache``, in a folder named by the file's content and the version of
    MMseqs2. It gets that name only when it is whole; of two processes that make it at the same time, one keeps its own.

    A protein is known by the hash of its sequence, so a query that is itself in the database is passed over there,
    whatever its id, and so are further copies of one relative.

    Args:
        proteins: any file that :func:`limbeck.records.read_records` reads.
        cache: the folder where databases are kept; made if need be.

    Raises:
        InputError: if MMseqs2 is missing, the file cannot be read to its end, or the cache cannot be written.
    """

    def __init__(self, proteins: Path, cache: Path) -> None:
        if not proteins.is_file():
            raise InputError(f"{proteins}: no such file; give a file of proteins to search for relatives")
        program = mmseqs.version()
        self.content = file_hash(proteins)
        """SHA-256 (hex) of the file."""
        made_of = (self.content, format_of(proteins), program, mmseqs.LONGEST, OVERLAP)
        self._folder = cache / fingerprint("MMseqs2 database", 1, *made_of)[:32]
        self.fingerprint = fingerprint("homology profiles", 1, *made_of, *_settings())
        """SHA-256 (hex) over all that determines the profiles."""
        if not self._folder.is_dir():
            _make(proteins, self._folder)

    def profiles(self, proteins: Sequence[str], threads: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Search for the relatives of all proteins at once, and give each profile as soon as it is made.

        Args:
            proteins: cleaned sequences, each at least one residue. Those longer than :data:`mmseqs.LONGEST` are
                searched in overlapping windows.
            threads: of MMseqs2.

        Yields:
            (index of the protein, (length, 20) profile); each index once, in no particular order.

        Raises:
            InputError: if MMseqs2 fails.
        """
        owners: dict[str, list[Window]] = defaultdict(list)
        queries: dict[str, str] = {}
        missing = [0] * len(proteins)
        for index, protein in enumerate(proteins):
            for window in _windows(index, protein):
                text = protein[window.start : window.stop]
                queries[name := _id(text)] = text
                owners[name].append(window)
                missing[index] += 1
        partial: dict[int, NDArray[np.float32]] = {}
        for name, profile in self._search(queries, threads):
            for window in owners[name]:
                index = window.protein
                if index not in partial:
                    partial[index] = np.empty((len(proteins[index]), profile.shape[1]), dtype=np.float32)
                partial[index][window.own_start : window.own_stop] = profile[window.owned]
                missing[index] -= 1
                if not missing[index]:
                    yield index, partial.pop(index)

    def _search(self, queries: dict[str, str], threads: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
        if not queries:
            return
        with MMseqs.open(threads) as runner:
            fasta = write_fasta(runner.folder / "queries.fasta", queries.items())
            queried = runner.database(fasta, "queries")
            table = Database(runner, self._folder / _NAME).search(queried, MOST_CANDIDATES)
            with table.open() as lines:
                yield from read_profiles(lines, queries)


def _settings() -> tuple[object, ...]:
    numbers = hashlib.sha256(background().tobytes() + substitution_probabilities().tobytes()).hexdigest()
    return (*mmseqs.SEARCH_SETTINGS, MOST_CANDIDATES, MOST_RELATIVES, NEIGHBOURS, PSEUDOCOUNT_WEIGHT, numbers)


def _id(sequence: str) -> str:
    return hashlib.blake2b(sequence.encode(), digest_size=16).hexdigest()


def _windows(index: int, protein: str) -> list[Window]:
    return split(index, len(protein), mmseqs.LONGEST, OVERLAP)


def _make(proteins: Path, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as temporary:
            runner = MMseqs(Path(temporary), threads=1)
            fasta = write_fasta(runner.folder / "proteins.fasta", _targets(proteins))
            whole = runner.folder / "whole"
            whole.mkdir()
            runner.run("createdb", fasta, whole / _NAME, "--dbtype", "1")
            _move(whole, folder)
    except OSError as error:
        raise InputError(
            f"{folder.parent}: cannot hold the database of {proteins} ({error.strerror or error}); "
            "set LIMBECK_CACHE to a folder that can"
        ) from error


def _targets(proteins: Path) -> Iterator[tuple[str, str]]:
    locator = Locator(proteins)
    for record in read_records(proteins):
        sequence = clean_record(record, locator)
        for window in _windows(0, sequence):
            text = sequence[window.start : window.stop]
            yield _id(text), text


def _move(whole: Path, folder: Path) -> None:
    try:
        os.rename(whole, folder)
    except OSError:
        # Another process was faster; its database is the same.
        if not folder.is_dir():
            raise
