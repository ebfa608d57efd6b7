"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["finished", "reserve", "size_told", "sweep", "sync", "whole"]

_PARTIAL = ".partial"

_BLOCK = 2**20


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; the file moves to ``path`` when it is whole, readable as new files are.

    Any number of processes may write the same file at the same time: each has a name of its own, and the last one to
    end stays. If the block raises, nothing is left.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_PARTIAL}")
    try:
        yield partial
        # Some writers go through a private temporary file, which nobody else could read.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def reserve(path: Path, size: int) -> None:
    """Make a file of so many zeros, to be mapped.

    A new map alone has no room on the disk until it is filled; where the disk is full by then, the system kills the
    process without a word. Here that is an ``OSError``.
    """
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            file.write(bytes(min(_BLOCK, size - start)))


def finished(folder: Path) -> set[str]:
    """Names in a folder, but for files that are being written, or were when their process was killed."""
    return {path.name for path in folder.iterdir() if path.suffix != _PARTIAL}


def sweep(folder: Path) -> None:
    """Remove what killed processes left of files in a folder into which no other process writes."""
    for path in folder.glob(f"*{_PARTIAL}"):
        with suppress(OSError):
            path.unlink()


def size_told(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def sync(descriptor: int) -> None:
    """Make sure that what was written to an open file or folder outlasts a power cut."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such call; they write through.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
