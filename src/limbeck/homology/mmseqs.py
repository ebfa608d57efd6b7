"""Families and alignments by MMseqs2 (Steinegger & Soeding 2017, doi:10.1038/nbt.3988), run as a program."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from limbeck.errors import InputError

__all__ = ["LONGEST", "SEARCH_SETTINGS", "Database", "MMseqs", "is_installed", "version", "write_fasta"]

LONGEST = 65_535
"""MMseqs2 counts positions in 16 bits: it finds no relatives of a longer query."""
ALIGNMENT_COLUMNS = "query,target,qstart,evalue,fident,qaln,taln"
SEARCH_SETTINGS = ("-e", "1e-3", "-s", "5.7")
"""E-value and sensitivity. The E-value depends on the residues of the target database, not on how many queries there
are, so each query's relatives are its own."""


class Database:
    """A database of MMseqs2's own: ``path`` and files whose names start with it."""

    def __init__(self, runner: MMseqs, path: Path) -> None:
        self.runner, self.path = runner, path

    def families(self) -> tuple[dict[str, str], set[str]]:
        """Group homologous proteins: {id: id of the family's representative}, and the ids that represent their near
        copies.

        Near copies (50 % identity over 80 % of both) are joined first, in linear time; their representatives
        are then clustered at 20 % identity over 70 % of both, E-value 1e-4.
        """
        copies, shrunk = self.path.with_suffix(".copies"), self.path.with_suffix(".shrunk")
        clusters = self.path.with_suffix(".families")
        run = self.runner.run
        run("linclust", self.path, copies, self.runner.scratch, "--min-seq-id", "0.5", "-c", "0.8")
        run("createsubdb", copies, self.path, shrunk)
        run(
            "cluster", shrunk, clusters, self.runner.scratch,
            "--min-seq-id", "0.2", "-c", "0.7", "--cov-mode", "0", "-e", "1e-4", "-s", "4",
        )  # fmt: skip
        family = {b: a for a, b in self._pairs(shrunk, clusters)}
        return {member: family[near] for near, member in self._pairs(self.path, copies)}, set(family)

    def _pairs(self, database: Path, clusters: Path) -> Iterator[tuple[str, str]]:
        table = clusters.with_suffix(".tsv")
        self.runner.run("createtsv", database, database, clusters, table)
        with table.open() as lines:
            for line in lines:
                representative, member = line.split()
                yield representative, member

    def search(self, queries: Database, hits: int) -> Path:
        """Align each query to its relatives here.

        Args:
            queries: a database in the runner's folder; the result lies beside it.
            hits: most relatives of one query.

        Returns:
            The table that :func:`limbeck.homology.profiles.read_profiles` reads, grouped by query.
        """
        result, table = queries.path.with_suffix(".hits"), queries.path.with_suffix(".tsv")
        run = self.runner.run
        run(
            "search", queries.path, self.path, result, self.runner.scratch,
            *SEARCH_SETTINGS, "--max-seqs", str(hits), "-a",
        )  # fmt: skip
        run("convertalis", queries.path, self.path, result, table, "--format-output", ALIGNMENT_COLUMNS)
        return table


class MMseqs:
    """Runs ``mmseqs`` in a temporary folder that is removed afterwards; see :meth:`open`.

    Raises:
        InputError: if the program is not installed, or one of its steps fails.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        _require()
        self.folder, self.scratch, self.threads = folder, folder / "scratch", threads

    @classmethod
    @contextmanager
    def open(cls, threads: int, beside: Path | None = None) -> Iterator[MMseqs]:
        """A runner with a temporary folder: beside a file, on the disk that has to hold the result anyway, or where the
        system keeps such folders."""
        with tempfile.TemporaryDirectory(prefix=".limbeck-", dir=beside.parent if beside else None) as folder:
            yield cls(Path(folder), threads)

    def database(self, fasta: Path, name: str) -> Database:
        """Hand a FASTA file to MMseqs2."""
        self.run("createdb", fasta, self.folder / name, "--dbtype", "1")
        return Database(self, self.folder / name)

    def run(self, step: str, *arguments: object) -> None:
        threaded = ["--threads", str(self.threads)] if step not in {"createdb", "createsubdb"} else []
        command = ["mmseqs", step, *map(str, arguments), *threaded, "-v", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise InputError(f"mmseqs {step} failed: {lines[-1] if lines else done.returncode}")


def is_installed() -> bool:
    """Whether the program ``mmseqs`` is on the path."""
    return shutil.which("mmseqs") is not None


def version() -> str:
    """The program's version, as it tells it: ``"14-7e284"``.

    Raises:
        InputError: if it is not installed.
    """
    _require()
    return subprocess.run(["mmseqs", "version"], capture_output=True, text=True, check=True).stdout.strip()


def write_fasta(path: Path, sequences: Iterable[tuple[str, str]]) -> Path:
    """Write (id, sequence) pairs, a line each, and return the path."""
    with path.open("w") as file:
        file.writelines(f">{name}\n{sequence}\n" for name, sequence in sequences)
    return path


def _require() -> None:
    if not is_installed():
        raise InputError("MMseqs2 is not installed; get it with 'apt install mmseqs2' or 'conda install mmseqs2'")
