"""One writer at a time."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["exclusive", "lock"]

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold a lock file; yields ``False`` if another process holds it.

    The system drops the lock when its process ends, however it ends, so none is ever stale. The empty file stays.
    """
    with path.open("ab") as file:
        held, free = lock(file)
        try:
            yield free
        finally:
            # Closing alone would leave the lock to a child process that has inherited the file.
            if held:
                _unlock(file)


def lock(file: BinaryIO) -> tuple[bool, bool]:
    """Try to lock an open file, until it is closed or the process ends, however it ends.

    Returns:
        Whether the lock is held now, and whether the caller may go on: not if another process holds it.
    """
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some file systems of clusters lock nothing; there the user keeps runs apart.
        return False, error.errno in _NO_LOCKS
    return True, True


def _unlock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)
