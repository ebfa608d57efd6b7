"""The folder of a benchmark: what it holds, how a run joins what lies there, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.lock import exclusive

__all__ = ["Benchmark", "join", "read", "write", "writing"]

TABLE, SAMPLES, PAGE = "benchmark.json", "replicates.npz", "benchmark.html"
SETTINGS = ("protocol", "scale", "split", "seed", "resamples")
"""What rows must share to stand in one table, beside the data."""


@dataclass
class Benchmark:
    """A table of encoders over tasks."""

    path: Path
    """Its folder."""
    content: dict[str, Any]
    """What ``benchmark.json`` holds."""
    replicates: dict[str, NDArray[np.float32]]
    """Scores of the bootstrap samples, by ``ENCODER/SCORE``; the samples are the same for all encoders."""

    @property
    def rows(self) -> dict[str, Any]:
        """Scores, intervals, differences and cost by label of the encoder, in the order in which they were added."""
        rows: dict[str, Any] = self.content["encoders"]
        return rows

    @property
    def reference(self) -> str:
        """Label of the row that others are compared with."""
        return str(self.content["reference"])

    @property
    def tasks(self) -> list[str]:
        """Names of the scores, in the order of the table: a task, or ``TASK_METHOD``."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row["scores"]))

    def table(self, width: int = 100) -> str:
        """The table for a terminal of so many columns."""
        from limbeck.benchmarks.table import terminal

        return terminal(self, width)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make the folder and keep other runs out of it.

    Raises:
        InputError: if it cannot be made or written, or another run is writing it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / "lock") as free:
            if not free:
                raise InputError(f"{folder}: another run is writing it; wait for it, or give another folder")
            yield
    except OSError as error:
        # A disk that fills up, mostly.
        where, why = error.filename or folder, error.strerror or error
        raise InputError(f"{where}: cannot be written ({why}); make room, or give another folder") from None


def read(folder: Path) -> Benchmark | None:
    """The table that lies in a folder, if there is one.

    Raises:
        InputError: if there is something else by its name, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder")
    path = folder / TABLE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = {*SETTINGS, "data", "tasks", "encoders", "reference", "methods"} - content.keys()
        if missing:
            raise ValueError(f"it has no {min(missing)}")
        with np.load(folder / SAMPLES, allow_pickle=False) as file:
            replicates = {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no table of `limbeck benchmark` ({error}); give another folder") from None
    return Benchmark(folder, content, replicates)


def join(found: Benchmark, settings: Mapping[str, Any], data: Mapping[str, str]) -> None:
    """Make sure that a run may add rows to a table.

    Args:
        settings: the run's, by the names in :data:`SETTINGS`.
        data: SHA-256 of the run's files; there may be others than the table's, but what both have must be the same.

    Raises:
        InputError: names the first thing that the run has otherwise.
    """
    path = found.path / TABLE
    for name in SETTINGS:
        if found.content[name] != settings[name]:
            raise InputError(f"{path} has {name} {found.content[name]}, not {settings[name]}; give another folder")
    known = found.content["data"]
    if other := [file for file, digest in data.items() if known.get(file, digest) != digest]:
        raise InputError(f"{path} was made with another {other[0]}; give another folder")


def write(found: Benchmark) -> None:
    """Write all that the folder holds; the page only where what it needs is installed."""
    from limbeck.benchmarks.table import markdown

    with whole(found.path / SAMPLES) as partial, partial.open("wb") as file:
        kept: dict[str, Any] = dict(found.replicates)
        np.savez_compressed(file, **kept)
    with whole(found.path / TABLE) as partial:
        partial.write_text(json.dumps(found.content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with whole(found.path / "benchmark.md") as partial:
        partial.write_text(markdown(found), encoding="utf-8")
    try:
        from limbeck.benchmarks.leaderboard import write_leaderboard
    except ImportError:
        return
    write_leaderboard(found, found.path / PAGE)
