"""Joining the parts that ``limbeck embed --shard`` wrote, once they are known to be all of one run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.embedding.settings import differences
from limbeck.embedding.shards import KEYS, Shard, hash_ids
from limbeck.embedding.stores import (
    detect_format,
    format_of,
    read_embeddings,
    read_index,
    read_metadata,
    write_table,
)
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.progress import Progress

__all__ = ["Merged", "merge"]


@dataclass(frozen=True)
class Merged:
    """What :func:`merge` did. Its text is one line."""

    output: str
    parts: int
    proteins: int
    nothing_to_do: bool
    """Whether the output was there already, from the same run."""

    def __str__(self) -> str:
        there = " (was there already, nothing to do)" if self.nothing_to_do else ""
        return f"{self.output}: {self.proteins:,} proteins from {self.parts:,} parts, none missing, none twice{there}"


@dataclass(frozen=True)
class _Part:
    path: Path
    metadata: Mapping[str, str]
    shard: Shard
    start: int
    stop: int


def merge(
    parts: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    format: str | None = None,
    progress: bool = True,
) -> Merged:
    """Join the parts of one run into the file that a single run would have written.

    Args:
        parts: the outputs of ``embed(..., shard="1/n")`` to ``"n/n"``, in any order, all in one format.
        output: where the whole goes, in the format of the parts.
        format: of ``output``, where its ending tells none.
        progress: show progress on standard error.

    Raises:
        InputError: if a part is missing, given twice, damaged or not of the same run (encoder, numeric mode, input,
            settings, number of parts), or if the output is there already and is something else. Nothing is written
            then.
    """
    found = _ordered([_part(Path(path)) for path in parts])
    path = Path(output)
    kind = format_of(path, format)
    _check_output(path, kind, found)
    metadata = {name: value for name, value in found[0].metadata.items() if name not in KEYS}
    result = Merged(str(path), len(found), found[-1].stop, path.exists())
    if path.exists():
        if detect_format(path) != kind or read_metadata(path) != metadata:
            raise InputError(f"{path} exists already and is not of this run; remove it or choose another output")
        return result
    table = _Table(found, metadata, _checked_lengths(found))
    with whole(path) as temporary, Progress("writing", "proteins", result.proteins, progress) as bar:
        write_table(table, temporary, kind, bar.update)
    return result


def _part(path: Path) -> _Part:
    metadata = read_metadata(path)
    if any(key not in metadata for key in KEYS):
        raise InputError(f"{path}: no part of a run; parts are written by `limbeck embed --shard`")
    start, stop = map(int, metadata["rows"].split(":"))
    return _Part(path, metadata, Shard.parse(metadata["shard"]), start, stop)


def _ordered(parts: Sequence[_Part]) -> list[_Part]:
    """The parts by number, once they are known to be all of one run, each there once."""
    if not parts:
        raise InputError("no parts; name the files that `limbeck embed --shard` wrote")
    first = parts[0]
    by_number: dict[int, _Part] = {}
    for part in parts:
        if part.shard.count != first.shard.count:
            raise InputError(f"{part.path} is part {part.shard}, but {first.path} is part {first.shard}")
        if changed := differences(first.metadata, {**part.metadata, "shard": str(first.shard)}):
            raise InputError(f"{first.path} and {part.path} are not of one run: another {changed}; embed one anew")
        if other := by_number.get(part.shard.number):
            raise InputError(f"part {part.shard} is given twice: {other.path} and {part.path}; drop one of them")
        by_number[part.shard.number] = part
    if missing := [number for number in range(1, first.shard.count + 1) if number not in by_number]:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise InputError(f"{len(missing):,} of {first.shard.count:,} parts are missing: {listed}; embed or name them")
    ordered = [by_number[number] for number in sorted(by_number)]
    ends = [0, *(part.stop for part in ordered)]
    if [part.start for part in ordered] != ends[:-1] or ends[-1] != int(first.metadata["input_proteins"]):
        raise InputError("the parts overlap or leave a gap, so they are not of one run; embed them anew")
    return ordered


def _check_output(path: Path, kind: str, parts: Sequence[_Part]) -> None:
    if not path.parent.is_dir():
        raise InputError(f"the output's folder {str(path.parent)!r} does not exist; create it first")
    for part in parts:
        if (there := detect_format(part.path)) != kind:
            raise InputError(f"{part.path} is {there}, and {path} would be {kind}; write the parts' own format")
        if path.exists() and path.samefile(part.path):
            raise InputError(f"{path} is one of the parts; choose another output")


def _checked_lengths(parts: Sequence[_Part]) -> NDArray[np.int32]:
    """Residues of each protein, (n,), from parts that hold just the records that the whole input has, in its order."""
    lengths = np.zeros(parts[-1].stop, dtype=np.int32)

    def ids() -> Iterator[str]:
        for part in parts:
            count = 0
            for id, length in read_index(part.path):
                if part.start + count < part.stop:
                    lengths[part.start + count] = length
                count += 1
                yield id
            if count != part.stop - part.start:
                expected = part.stop - part.start
                raise InputError(f"{part.path}: holds {count:,} proteins, not {expected:,}; embed this part anew")

    if hash_ids(ids()) != parts[0].metadata["ids_sha256"]:
        raise InputError("the parts hold other ids, or in another order, than the input had; embed them anew")
    return lengths


class _Table:
    """The parts end to end, as :func:`limbeck.embedding.stores.write_table` wants them; read once, in order."""

    def __init__(self, parts: Sequence[_Part], metadata: Mapping[str, str], lengths: NDArray[np.int32]) -> None:
        self.dimension = int(metadata["dimension"])
        self.dtype = metadata["dtype"]
        self.per_residue = metadata["level"] == "residues"
        self.metadata = metadata
        self.lengths = lengths
        self._parts = parts
        self._vectors = chain.from_iterable(read_embeddings(part.path) for part in parts)

    def ids(self) -> Iterator[str]:
        for part in self._parts:
            for id, _ in read_index(part.path):
                yield id

    def vectors(self, start: int, stop: int) -> NDArray[np.floating]:
        arrays = [vector for _, vector in islice(self._vectors, stop - start)]
        return np.concatenate(arrays) if self.per_residue else np.stack(arrays)
