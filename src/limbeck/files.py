"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["sync", "whole", "write_whole"]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; the file moves to ``path`` when it is whole, readable as new files are."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    # Some writers go through a private temporary file, which nobody else could read.
    mask = os.umask(0)
    os.umask(mask)
    partial.chmod(0o666 & ~mask)
    os.replace(partial, path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file at once; any number of processes may write the same one at the same time.

    Raises:
        OSError: if it cannot be written; nothing of it is left then.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def sync(descriptor: int) -> None:
    """Make sure that what was written to an open file or folder outlasts a power cut."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems have no such call; they write through.
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
