"""The folder of an unfinished run: its lock, its manifest and the pieces that are done."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.files import sync
from limbeck.lock import lock

__all__ = ["Partial", "replace_durably"]

_BLOCK = 2**20


class Partial:
    """The folder ``<output>.partial``, held by one run at a time.

    ``manifest.json`` says what is being computed, ``pieces/`` holds what is done, and ``scratch/`` what is
    rebuilt by each run. Leaving the context removes the scratch, and the whole folder unless a manifest
    stands in it.

    Raises:
        InputError: if the folder cannot be made, or another run holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self._pieces = folder / "pieces"
        self._manifest = folder / "manifest.json"
        self._lock: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._lock = self._take_lock()
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch.mkdir()
        except OSError as error:
            self._release()
            where = str(self.folder.parent)
            raise InputError(f"cannot write in folder {where!r}: {error.strerror}; choose another") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self._manifest.exists():
            self._release()
        else:
            self.remove()

    def _take_lock(self) -> BinaryIO:
        path = self.folder / "lock"
        while True:
            self.folder.mkdir(exist_ok=True)
            try:
                file = path.open("ab")
            except FileNotFoundError:
                # The run that held the folder has just removed it.
                continue
            if not lock(file)[1]:
                file.close()
                raise InputError(f"another run is at work in {self.folder}; wait for it or choose another output")
            try:
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
            except FileNotFoundError:
                pass
            file.close()

    def _release(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None

    def manifest(self) -> dict[str, Any] | None:
        """What the unfinished run is, or ``None`` if there is none.

        Raises:
            InputError: if the manifest cannot be read.
        """
        try:
            content = json.loads(self._manifest.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict):
            raise InputError(f"{str(self._manifest)!r} is damaged; give --restart to begin anew")
        return content

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Throw away what an earlier run left, and write the manifest of a new one."""
        self.clear()
        self._pieces.mkdir()
        temporary = self.scratch / "manifest"
        with temporary.open("w") as file:
            json.dump(manifest, file, indent=1)
            sync(file.fileno())
        replace_durably(temporary, self._manifest)

    def clear(self) -> None:
        """Remove the manifest and all pieces."""
        # The manifest goes first: pieces without one are never taken for another run's.
        self._manifest.unlink(missing_ok=True)
        shutil.rmtree(self._pieces, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder and what this class has put there; anything else in it stays."""
        self.clear()
        shutil.rmtree(self.scratch, ignore_errors=True)
        # Windows cannot remove an open file, elsewhere it has to go while it is locked.
        if sys.platform == "win32":
            self._release()
        (self.folder / "lock").unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        self._release()

    def size(self) -> int:
        """Bytes of all saved pieces."""
        return sum(path.stat().st_size for path in self._pieces.glob("*.npy"))

    def _piece(self, number: int) -> Path:
        return self._pieces / f"{number:08d}.npy"

    def save_piece(self, number: int, vectors: NDArray[np.floating]) -> None:
        """Save one piece; it appears whole or not at all. A checksum of the file ends it."""
        temporary = self.scratch / "piece"
        with temporary.open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(vectors))
        checksum = _checksum(temporary, temporary.stat().st_size)
        with temporary.open("ab") as file:
            file.write(checksum)
            file.flush()
            sync(file.fileno())
        replace_durably(temporary, self._piece(number))

    def has_piece(self, number: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> bool:
        """Whether a piece is there and undamaged."""
        path = self._piece(number)
        try:
            size = path.stat().st_size - 4
            with path.open("rb") as file:
                file.seek(max(0, size))
                ending = file.read()
        except FileNotFoundError:
            return False
        if size < 0 or _checksum(path, size) != ending:
            return False
        vectors = self.open_piece(number)
        return vectors.shape == shape and vectors.dtype == dtype

    def open_piece(self, number: int) -> NDArray[np.floating]:
        """The vectors of a saved piece, (vectors, dimension), mapped from disk."""
        vectors: NDArray[np.floating] = np.load(self._piece(number), mmap_mode="r")
        return vectors


def _checksum(path: Path, size: int) -> bytes:
    """CRC-32 of the first ``size`` bytes of a file, as 4 bytes."""
    value = 0
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, _BLOCK))):
            value = zlib.crc32(block, value)
            size -= len(block)
    return value.to_bytes(4, "little")


def replace_durably(temporary: Path, final: Path) -> None:
    """Rename within one file system so that neither a kill nor a power cut leaves half a file."""
    with temporary.open("rb+") as file:
        sync(file.fileno())
    os.replace(temporary, final)
    if sys.platform != "win32":
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
