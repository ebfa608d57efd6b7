"""The files of a teacher's features: a manifest with checksums, and shards that are whole or not there."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder
from limbeck.errors import InputError
from limbeck.files import size_told, sweep, sync, whole
from limbeck.lock import exclusive

if TYPE_CHECKING:
    from limbeck.distillation.corpus import Corpus

__all__ = ["MANIFEST", "Identity", "Store", "locate"]

MANIFEST = "manifest.json"
_FORMAT = "limbeck teacher features 1"
_BLOCK = 2**24
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DECISIVE = {
    "fingerprint": "another teacher or layer",
    "dimension": "another dimension",
    "precision": "another precision",
    "corpus": "another corpus",
    "share": "another share of the residues",
    "seed": "another seed",
}
"""What must agree before features are taken for those asked for, and what to say if it does not."""
_verified: set[tuple[str, int, int]] = set()
"""Path, size and modification time (ns) of files whose checksum this process has seen to be right."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """Whose features of what a store holds."""

    teacher: str
    version: str
    license: str
    pooling: str
    dimension: int
    fingerprint: str
    precision: str
    corpus: str
    """Fingerprint of the corpus."""
    proteins: int
    residues: int
    share: float
    seed: int

    @classmethod
    def of(cls, teacher: Encoder, corpus: Corpus, share: float, seed: int) -> Identity:
        return cls(
            teacher=teacher.name,
            version=teacher.version,
            license=teacher.license,
            pooling=teacher.pooling,
            dimension=int(teacher.dimension),
            fingerprint=teacher.fingerprint,
            precision=teacher.precision,
            corpus=corpus.fingerprint,
            proteins=len(corpus),
            residues=int(corpus.offsets[-1]),
            share=float(share),
            seed=int(seed),
        )

    @property
    def key(self) -> str:
        """SHA-256 (hex) over all that decides the numbers."""
        parts = {name: getattr(self, name) for name in _DECISIVE}
        return hashlib.sha256(f"{_FORMAT}\n{json.dumps(parts, sort_keys=True)}".encode()).hexdigest()


def locate(folder: Path, identity: Identity) -> Path:
    """Where a store lives: in ``folder`` under the first 16 digits of its key, or ``folder`` if that is a store."""
    return folder if (folder / MANIFEST).exists() else folder / identity.key[:16]


class Store:
    """One folder: ``manifest.json``, and arrays (``.npy``) that it lists with size and SHA-256.

    A file counts only once the manifest lists it, and it is listed only when it is whole on disk.

    Args:
        folder: the store's own folder; made when something is written.
        identity: what it must hold.

    Raises:
        InputError: if there is a manifest and it is damaged or of other features.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.folder, self.identity = folder, identity
        self._origin = identity
        self.plan: list[int] = []
        """First protein of each shard, and last the number of proteins; empty before :meth:`begin`."""
        self._files: dict[str, dict[str, Any]] = {}
        self.load()

    def load(self) -> None:
        """Read the manifest again, if there is one."""
        path = self.folder / MANIFEST
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; choose another cache folder") from None
        content = self._parsed(path, text)
        stored = content["features"]
        wanted = dataclasses.asdict(self.identity)
        if different := [what for name, what in _DECISIVE.items() if stored[name] != wanted[name]]:
            raise InputError(
                f"{self.folder} holds features of teacher {stored['teacher']} that are not the ones needed of "
                f"{self.identity.teacher} ({', '.join(different)}); choose another cache folder or remove this one"
            )
        # The name (a path, perhaps) under which the teacher was first used stays in the manifest.
        self._origin = Identity(**stored)
        self.plan, self._files = content["shards"], content["files"]

    def begin(self, plan: list[int]) -> None:
        """Say how the proteins are divided into shards; written with the next file."""
        self.plan = plan

    def has(self, name: str) -> bool:
        """Whether a file is listed and there. One that was removed is to be computed again."""
        return name in self._files and (self.folder / name).exists()

    def save(self, arrays: Mapping[str, NDArray[Any]], *, outdated: tuple[str, ...] = (), fixed: bool = False) -> None:
        """Write files, each whole, then list them in the manifest, from which ``outdated`` ones go.

        Args:
            fixed: other files depend on these, so one that was removed must come out as it was.

        Raises:
            InputError: if the disk is full or cannot be written, or a fixed file differs. What was listed stays.
        """
        with self._plain_errors():
            entries = {name: self._write(name, array, fixed) for name, array in arrays.items()}
            files = {name: entry for name, entry in self._files.items() if name not in outdated} | entries
            content = {
                "format": _FORMAT,
                "features": dataclasses.asdict(self._origin),
                "kinds": ["residues", "proteins"] if self.identity.share else ["proteins"],
                "shards": self.plan,
                "files": dict(sorted(files.items())),
            }
            self._write_whole(MANIFEST, [_rendered(content)])
            self._files = files

    def open(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """An array mapped from disk.

        Raises:
            InputError: if the file is not what it should be.
        """
        path = self.folder / name
        try:
            # Nothing is no length to map.
            array: NDArray[Any] = np.load(path, mmap_mode="r" if shape[0] else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from None
        if array.shape != shape or array.dtype != dtype:
            raise _damaged(path, f"{array.dtype} {array.shape} instead of {np.dtype(dtype)} {shape}")
        return array

    def verify(self, checksums: bool = True) -> None:
        """Compare the files with the manifest: sizes always, SHA-256 of those that this process has not checked yet.

        Raises:
            InputError: naming the first file that differs.
        """
        present = [name for name in self._files if self.has(name)]
        for name in present:
            path, size = self.folder / name, (self.folder / name).stat().st_size
            if size != self._files[name]["bytes"]:
                raise _damaged(path, f"{size:,} bytes instead of {self._files[name]['bytes']:,}")
        if checksums:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
                list(threads.map(self._verify, present))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder against other runs, and read what they have done meanwhile.

        Raises:
            InputError: if another run holds it, or it cannot be written.
        """
        with ExitStack() as stack:
            with self._plain_errors():
                self.folder.mkdir(parents=True, exist_ok=True)
                free = stack.enter_context(exclusive(self.folder / "lock"))
            if not free:
                raise InputError(
                    f"another run is computing features in {self.folder}; wait for it or choose another cache folder"
                )
            sweep(self.folder)
            self.load()
            yield

    def check_room(self, needed: int) -> None:
        """Refuse to begin what the disk cannot hold: ``needed`` bytes.

        Raises:
            InputError: with both numbers.
        """
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"the features of {self.identity.teacher} need {size_told(needed)} more in {self.folder.parent}, "
                f"which has {size_told(free)} free; choose another cache folder, a smaller share or a smaller corpus"
            )

    def _parsed(self, path: Path, text: bytes) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(text)
            intact = _rendered({key: value for key, value in content.items() if key != "sha256"}) == text
        except (ValueError, AttributeError, TypeError):
            intact = False
        if not intact:
            raise InputError(f"{path} is damaged; remove the folder {self.folder} to compute the features again")
        if content["format"] != _FORMAT:
            raise InputError(
                f"{path}: written by another version of limbeck ({content['format']!r}); choose another cache folder"
            )
        return content

    def _verify(self, name: str) -> None:
        path = self.folder / name
        seen = _signature(path)
        if seen in _verified:
            return
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self._files[name]["sha256"]:
            raise _damaged(path, "its checksum is not the manifest's")
        _verified.add(seen)

    def _write(self, name: str, array: NDArray[Any], fixed: bool) -> dict[str, Any]:
        array = np.ascontiguousarray(array)
        head = _header(array)
        data = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        digest = hashlib.sha256(head)
        digest.update(data)
        entry = {"bytes": len(head) + len(data), "sha256": digest.hexdigest()}
        if fixed and self._files.get(name, entry) != entry:
            raise InputError(
                f"{self.folder / name} is gone and cannot be made again as it was; remove the folder {self.folder} to "
                "compute the features again"
            )
        # In parts, because an array's own method does not say that the disk is full.
        self._write_whole(name, [head, *(data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK))])
        _verified.add(_signature(self.folder / name))
        return entry

    def _write_whole(self, name: str, parts: list[bytes | memoryview]) -> None:
        with whole(self.folder / name) as partial, partial.open("wb") as file:
            file.writelines(parts)
            file.flush()
            sync(file.fileno())

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise InputError(
                    f"no room left in {self.folder} ({error.strerror}); make room and repeat the command, which goes "
                    "on from the last whole file"
                ) from error
            raise InputError(
                f"cannot write in {self.folder} ({error.strerror}); put that right or choose another cache folder"
            ) from error


def _rendered(content: Mapping[str, Any]) -> bytes:
    """The one way to write a manifest, so that any changed byte shows: JSON that ends in its own SHA-256."""
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return (json.dumps({**content, "sha256": digest}, indent=1) + "\n").encode()


def _header(array: NDArray[Any]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(array))
    return buffer.getvalue()


def _signature(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path.resolve()), found.st_size, found.st_mtime_ns


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is damaged ({why}); remove the file, and the same command computes its part again")
