"""Compiled graphs in the user's cache folder, and which of them go again.

There is a new one for each version of the weights, of the runtime and of this code, for each precision, number of
threads and processor, and nobody asks for most of them twice. So when one is written, those go that were not used for
:data:`UNUSED_DAYS`, and the longest unused of what is more than :data:`MOST_BYTES`.

Any number of processes may share the folder. A file has its name only when it is whole, and whoever finds that one has
gone compiles the graph again.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

from limbeck.files import whole

__all__ = ["MOST_BYTES", "UNUSED_DAYS", "cache_directory", "keep", "kept", "used"]

UNUSED_DAYS = 30
MOST_BYTES = 2**30
"""Of all compiled graphs together; the default network has 47 MB in f32."""

_DAY = 24 * 60 * 60.0
# The user may have chosen a folder with files of other kinds in it, which are nothing to us.
_GRAPH = re.compile(r"[0-9a-f]{64}\.blob")
_UNFINISHED = re.compile(r"[0-9a-f]{64}\.blob\..*partial")


def cache_directory() -> Path:
    """Where compiled graphs are kept: ``$LIMBECK_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("LIMBECK_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "limbeck"


def kept(digest: str) -> Path:
    """The file of a compiled graph, whether it is there or not.

    Args:
        digest: SHA-256 (hex) over all that determines the graph.
    """
    return cache_directory() / f"{digest}.blob"


def used(digest: str) -> None:
    """Note that a graph that is kept was of use now."""
    # Not left to the file system, for most don't note reading, or only once a day. A folder that can't be written, or
    # is another user's, is not the reader's to look after.
    with suppress(OSError):
        os.utime(kept(digest))


def keep(digest: str, graph: bytes) -> None:
    """Keep a compiled graph, and remove what nobody has used for long. A file that cannot be removed stays.

    Raises:
        OSError: if the graph cannot be written; nothing of it is left then.
    """
    path = kept(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes that start together compile the same graph.
    with whole(path) as partial:
        partial.write_bytes(graph)
    _remove_unused(path)


def _remove_unused(new: Path) -> None:
    now = time.time()
    others = []
    for path in new.parent.iterdir():
        # Another process may have removed it in the meantime.
        with suppress(OSError):
            if _GRAPH.fullmatch(path.name) and path != new:
                status = path.stat()
                others.append((status.st_mtime, status.st_size, path))
            elif _UNFINISHED.fullmatch(path.name) and now - path.stat().st_mtime > _DAY:
                # Of a process that was killed; no other writes for a day.
                path.unlink()
    total = new.stat().st_size
    for last, size, path in sorted(others, reverse=True):
        total += size
        if total > MOST_BYTES or now - last > UNUSED_DAYS * _DAY:
            with suppress(OSError):
                path.unlink()
