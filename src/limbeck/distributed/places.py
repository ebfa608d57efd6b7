"""Files and folders by path or by URI (``s3://``, ``gs://``, ``file://``), through Arrow's file systems."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from limbeck.embedding.partial import replace_durably
from limbeck.errors import InputError
from limbeck.records import stem_of

__all__ = ["Folder", "InputFile", "input_files", "on_this_disk"]

# By itself Arrow asks a silent S3 thirty times and more, which takes minutes. Five times with growing pauses bridge a
# busy store, too, and a wrong endpoint is told within half a minute.
_S3_ATTEMPTS = 5
# As Arrow names the errors of S3, or as S3 itself does.
_NO_ANSWER = ("NETWORK_CONNECTION", "curlCode")
_DENIED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "InvalidAccessKeyId",
    "HTTP status 403",
)


@dataclass(frozen=True)
class InputFile:
    """One file of sequences, and what tells whether it has changed."""

    name: str
    """Path or URI."""
    size: int
    modified: int
    """Nanoseconds since 1970; 0 if unknown."""


def input_files(inputs: Sequence[str | os.PathLike[str]]) -> tuple[list[InputFile], list[str]]:
    """The files of sequences in files and folders, and the names of those in folders that are none.

    Folders are searched to their depth, in the order of names; what starts with ``.`` or ``_`` is passed over.

    Raises:
        InputError: if one is not there, or there is no file at all.
    """
    files: list[InputFile] = []
    others: list[str] = []
    for text in [os.fspath(item) for item in inputs]:
        system, path = _resolve(text)
        with _plain_errors(text):
            info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            _require_bucket(text, system, path)
            raise InputError(f"{text}: no such file or folder; check the path")
        if info.type == fs.FileType.File:
            files.append(_input_file(text, info))
            continue
        root, _, query = text.partition("?")
        is_uri = "://" in text
        with _plain_errors(text):
            found = system.get_file_info(fs.FileSelector(path, recursive=True))
        for info in sorted(found, key=lambda info: str(info.path)):
            inside = str(info.path)[len(path) :].lstrip("/")
            if info.type != fs.FileType.File or any(part[0] in "._" for part in inside.split("/")):
                continue
            name = f"{root.rstrip('/')}/{quote(inside) if is_uri else inside}" + (f"?{query}" if query else "")
            # An ending that tells neither format nor compression.
            if stem_of(inside) == os.path.basename(inside):
                others.append(name)
            else:
                files.append(_input_file(name, info))
    if not files:
        raise InputError("no files of sequences are there; name FASTA, CSV, TSV or Parquet files, or folders of them")
    if len(set(files)) < len(files):
        twice = next(file.name for file in files if files.count(file) > 1)
        raise InputError(f"{twice}: is named twice; name each file once")
    return files, others


def _input_file(name: str, info: fs.FileInfo) -> InputFile:
    return InputFile(name, int(info.size), int(info.mtime_ns or 0))


@contextmanager
def on_this_disk(name: str) -> Iterator[Path]:
    """A file's path; a remote one is copied to the temporary folder first, to be read more than once."""
    if "://" not in name:
        yield Path(name)
        return
    system, path = _resolve(name)
    with tempfile.TemporaryDirectory(prefix="limbeck-") as folder:
        copy = Path(folder, os.path.basename(path))
        with _plain_errors(name), system.open_input_stream(path, compression=None) as source, copy.open("wb") as file:
            shutil.copyfileobj(source, file, 2**22)
        yield copy


class Folder:
    """The folder of a dataset, on this disk or behind a URI.

    Raises:
        InputError: if the URI is not understood.
    """

    def __init__(self, text: str | os.PathLike[str]) -> None:
        self.name = os.fspath(text)
        self.system, self._path = _resolve(self.name)

    def create(self) -> None:
        with _plain_errors(self.name):
            self.system.create_dir(self._path, recursive=True)

    def names(self) -> list[str]:
        """Names of the files and folders in it; none if it is not there.

        Raises:
            InputError: if its bucket is not there, and may not be made.
        """
        with _plain_errors(self.name):
            found = self.system.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        if not found and "allow_bucket_creation=true" not in self.name.lower():
            _require_bucket(self.name, self.system, self._path)
        return sorted(str(info.base_name) for info in found)

    def path(self, name: str) -> str:
        """As ``system`` takes it."""
        return f"{self._path}/{name}"

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a file that appears whole or not at all.

        Raises:
            InputError: if it cannot be written.
        """
        with _plain_errors(self.name):
            self._write(name, content)

    def _write(self, name: str, content: bytes | pa.Buffer) -> None:
        if not isinstance(self.system, fs.LocalFileSystem):
            # A store of objects shows one when it is closed.
            with self.system.open_output_stream(self.path(name)) as stream:
                stream.write(content)
            return
        # Readers of datasets pass over names that start with a dot.
        temporary = Path(self.path(f".{name}.{uuid.uuid4().hex}"))
        try:
            temporary.write_bytes(content)
            replace_durably(temporary, Path(self.path(name)))
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """What a file holds; ``None`` if it is not there."""
        with _plain_errors(self.name):
            try:
                return self._read(name)
            except FileNotFoundError:
                return None

    def _read(self, name: str) -> bytes:
        with self.system.open_input_stream(self.path(name), compression=None) as stream:
            return bytes(stream.read())

    def open(self, name: str) -> pa.NativeFile | None:
        """A file to be read anywhere in; ``None`` if it is not there."""
        with _plain_errors(self.name):
            try:
                return self.system.open_input_file(self.path(name))
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        with _plain_errors(self.name):
            self.system.delete_file(self.path(name))


def _resolve(text: str) -> tuple[fs.FileSystem, str]:
    if "://" not in text:
        return fs.LocalFileSystem(), os.path.abspath(text)
    if re.match(r"\w+://[^/?#]*:[^/?#]*@", text):
        raise InputError(
            "a key in a URI would be written into the dataset; take it out, and give it by AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    # Without a region Arrow may ask S3 for it here.
    with _plain_errors(text, "give a path, or a URI like s3://bucket/folder"):
        system, path = fs.FileSystem.from_uri(text)
    if system.type_name == "s3":
        # What a copy in another process is made of; the address has no option for this.
        _, (options,) = system.__reduce__()
        strategy = fs.AwsStandardS3RetryStrategy(max_attempts=_S3_ATTEMPTS)
        system = fs.S3FileSystem(**{**options, "retry_strategy": strategy})
    return system, path.rstrip("/")


def _require_bucket(name: str, system: fs.FileSystem, path: str) -> None:
    """Arrow says nothing of a bucket that is not there, only that nothing is in it."""
    if system.type_name != "s3":
        return
    bucket = path.partition("/")[0]
    with _plain_errors(name):
        info = system.get_file_info(bucket)
    if info.type == fs.FileType.NotFound:
        raise InputError(f"{name}: there is no bucket {bucket!r}; check its name and the endpoint, or create it")


@contextmanager
def _plain_errors(name: str, advice: str = "check it and your access to it") -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        problem = "cannot be used"
        if any(word in reason for word in _DENIED):
            problem, advice = "access is denied", "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
        elif any(word in reason for word in _NO_ANSWER):
            problem, advice = "does not answer", "check the network and the endpoint (AWS_ENDPOINT_URL)"
        raise InputError(f"{name}: {problem} ({reason}); {advice}") from None
