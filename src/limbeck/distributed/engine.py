"""The two passes over the input as streams of Ray Data: look at every record, then compute what is not there yet.

In both a task reads one file and hands on its blocks as they come; each is one row of a Ray dataset. Whatever Ray does
again after a lost worker gives the same block, and so the same part. What is wrong with the input travels as a row,
too: an exception would be repeated by Ray, and reach the user wrapped up.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from limbeck.distributed.blocks import Block, Limits, Reading, blocks
from limbeck.distributed.dataset import Plan, write_part
from limbeck.distributed.places import Folder
from limbeck.embedding.settings import differences, settings_of
from limbeck.embedding.vectors import vectors_of
from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.records import InvalidRecord

__all__ = ["Cluster", "Resources", "cluster"]

# Reading is some thousandth of the work, and must not wait for a processor that the encoders hold.
_READER_CPUS = 0
_CHANGED = "{}: has changed since it was planned; put it back, or give --restart to begin anew"


@dataclass(frozen=True)
class Resources:
    """What one worker takes."""

    threads: int = 1
    device: str = "auto"
    workers: int | None = None
    """Most workers; ``None`` for as many as the cluster has room for."""

    @property
    def options(self) -> dict[str, float]:
        return {"num_cpus": self.threads, "num_gpus": int(self.device.startswith("cuda"))}


@contextmanager
def cluster(address: str | None) -> Iterator[Cluster]:
    """A running cluster, or one that is started on this machine and stopped at the end.

    Args:
        address: ``host:port``, ``ray://host:port``, ``"auto"`` for the one that runs on this machine; ``None`` for that
            of ``RAY_ADDRESS``, or a new one.

    Raises:
        InputError: if there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its errors are about what it mends by itself.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"no Ray cluster at {address!r} ({reason}); start one with `ray start --head`") from None
    try:
        yield Cluster(ray)
    finally:
        if ours:
            ray.shutdown()


class Cluster:
    """The passes over the input, on the cluster that Ray is connected to."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def describe(self, load_encoder: Mapping[str, Any], resources: Resources, per_residue: bool, dtype: str) -> Any:
        """What a worker says of the encoder: its settings and limits, or raises :class:`InputError`."""
        task = self._ray.remote(_describe).options(**resources.options)
        found = self._ray.get(task.remote(dict(load_encoder), resources.threads, per_residue, dtype))
        if "error" in found:
            raise InputError(found["error"])
        return found["settings"], Limits(**found["limits"])

    def scan(self, files: Sequence[str], reading: Reading) -> Iterator[dict[str, Any]]:
        """One row for each block (``file``, ``number``, ``proteins``, ``residues``, ``digest``, ``id_digests``) and one
        for the end of each file (``letters``, ``skipped``), in any order.

        Raises:
            InputError: if a file or a record cannot be used.
        """
        items = [{"file": place, "name": name} for place, name in enumerate(files)]
        data = self._read(items, partial(_scan, reading=reading))
        return _rows(data)

    def compute(
        self,
        plan: Plan,
        missing: Sequence[int],
        folder: str,
        reading: Reading,
        load_encoder: Mapping[str, Any],
        resources: Resources,
    ) -> Iterator[dict[str, Any]]:
        """Write the missing parts; one row for each as it is done (``part``, ``residues``).

        Raises:
            InputError: if a file has changed, or a number overflows.
        """
        wanted: dict[int, dict[int, int]] = {}
        for part in missing:
            wanted.setdefault(plan.blocks[part]["file"], {})[plan.blocks[part]["number"]] = part
        items = [
            {
                "file": file,
                "name": plan.files[file].name,
                "parts": json.dumps([[number, part] for number, part in parts.items()]),
                "digests": [plan.blocks[part]["digest"] for part in parts.values()],
                "starts": [plan.blocks[part]["start"] for part in parts.values()],
            }
            for file, parts in wanted.items()
        ]
        room = int(self._ray.cluster_resources().get("CPU", 1) // resources.threads)
        if resources.options["num_gpus"]:
            room = int(self._ray.cluster_resources().get("GPU", 0))
        workers = max(1, min(resources.workers or room, len(missing)))
        arguments = (dict(load_encoder), resources.threads, dict(plan.settings), folder)
        return _rows(self._work(self._read(items, partial(_read, reading=reading)), arguments, workers, resources))

    def _work(self, data: Any, arguments: tuple[Any, ...], workers: int, resources: Resources) -> Any:
        """Hand the rows to at most so many :class:`_Worker`, made with the arguments."""
        from ray.data import ActorPoolStrategy

        return data.map_batches(
            _Worker,
            fn_constructor_args=arguments,
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=1, max_size=workers),
            **resources.options,
        )

    def _read(self, items: list[dict[str, Any]], read: Callable[[pa.Table], Iterator[pa.Table]]) -> Any:
        context = self._ray.data.DataContext.get_current()
        # Every block of ours becomes one of Ray's, whatever its size: it is what a worker takes next.
        context.target_max_block_size = 1
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        data = self._ray.data.from_items(items, override_num_blocks=len(items))
        return data.map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=_READER_CPUS)


def _rows(data: Any) -> Iterator[dict[str, Any]]:
    for row in data.iter_rows():
        if row["error"]:
            raise InputError(row["error"])
        yield row


def _table(schema: pa.Schema, **values: Any) -> pa.Table:
    """A table of one row; what is not given is null."""
    return pa.Table.from_pylist([values], schema)


_SCANNED = pa.schema(
    {
        "file": pa.int32(),
        "number": pa.int32(),
        "proteins": pa.int32(),
        "residues": pa.int64(),
        "digest": pa.binary(),
        "id_digests": pa.large_binary(),
        "letters": pa.string(),
        "skipped": pa.list_(pa.list_(pa.string())),
        "error": pa.string(),
    }
)


def _scan(table: pa.Table, reading: Reading) -> Iterator[pa.Table]:
    (item,) = table.to_pylist()
    reading = replace(reading, letters=type(reading.letters)())
    skipped: list[list[str]] = []

    def note(error: InvalidRecord) -> None:
        fields = (error.record.source, error.place, error.record.id, error.problem)
        skipped.append([" ".join(text.split()) for text in fields])

    try:
        for block in blocks(item["name"], reading, note):
            yield _table(
                _SCANNED,
                file=item["file"],
                number=block.number,
                proteins=len(block.ids),
                residues=block.residues,
                digest=block.digest,
                id_digests=block.id_digests,
            )
    except InputError as error:
        yield _table(_SCANNED, error=str(error))
        return
    yield _table(_SCANNED, file=item["file"], letters=json.dumps(reading.letters), skipped=skipped)


_READ = pa.schema(
    {
        "part": pa.int64(),
        "start": pa.int64(),
        "ids": pa.list_(pa.string()),
        "sequences": pa.list_(pa.large_string()),
        "error": pa.string(),
    }
)


def _read(table: pa.Table, reading: Reading) -> Iterator[pa.Table]:
    """The wanted blocks of one file, each seen to be what was planned."""
    (item,) = table.to_pylist()
    wanted = {
        number: (part, start, digest)
        for (number, part), start, digest in zip(
            json.loads(item["parts"]), item["starts"], item["digests"], strict=True
        )
    }
    try:
        for block in blocks(item["name"], reading, lambda error: None):
            if block.number not in wanted:
                continue
            part, start, digest = wanted.pop(block.number)
            if block.digest != digest:
                raise InputError(_CHANGED.format(item["name"]))
            yield _table(_READ, part=part, start=start, ids=block.ids, sequences=block.sequences)
            if not wanted:
                return
        raise InputError(_CHANGED.format(item["name"]))
    except InputError as error:
        yield _table(_READ, error=str(error))


_WRITTEN = pa.schema({"part": pa.int64(), "residues": pa.int64(), "error": pa.string()})


class _Worker:
    """An actor: holds the encoder, and writes the part of each block that it is given."""

    def __init__(self, load_encoder: dict[str, Any], threads: int, settings: dict[str, str], folder: str) -> None:
        self._settings = settings
        self._per_residue = settings["level"] == "residues"
        self._schema = Plan(settings, Limits(1, 1), [], []).schema()
        try:
            self._folder = Folder(folder)
            self._encoder = load(**load_encoder, threads=threads)
            self._problem = _mismatch(settings, self._encoder)
        except InputError as error:
            self._problem = str(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.concat_tables([self._one(row) for row in table.to_pylist()])

    def _one(self, row: Mapping[str, Any]) -> pa.Table:
        if problem := row["error"] or self._problem:
            return _table(_WRITTEN, error=problem)
        block = Block(0, row["ids"], row["sequences"])
        sequences, places = block.distinct()
        names = {place: id for id, place in zip(block.ids, places, strict=True)}
        try:
            vectors = vectors_of(
                self._encoder, sequences, self._settings["dtype"], self._per_residue, names.__getitem__
            )
            all_vectors = _of_all(vectors, sequences, places, self._per_residue)
            write_part(self._folder, row["part"], block, row["start"], all_vectors, self._schema)
        except InputError as error:
            return _table(_WRITTEN, error=str(error))
        return _table(_WRITTEN, part=row["part"], residues=block.residues)


def _of_all(vectors: Any, sequences: list[str], places: list[int], per_residue: bool) -> Any:
    """Vectors of all proteins, equal ones included, from those of the distinct sequences."""
    import numpy as np

    if not per_residue:
        return vectors[places]
    ends = np.cumsum([len(sequence) for sequence in sequences])
    return np.concatenate([vectors[ends[place] - len(sequences[place]) : ends[place]] for place in places])


def _describe(load_encoder: dict[str, Any], threads: int, per_residue: bool, dtype: str) -> dict[str, Any]:
    try:
        encoder = load(**load_encoder, threads=threads)
        if per_residue:
            encoder.encode_residues(["A"])
    except InputError as error:
        return {"error": str(error)}
    limits = Limits.choose(encoder, per_residue)
    return {"settings": settings_of(encoder, per_residue=per_residue, dtype=dtype), "limits": vars(limits)}


def _mismatch(settings: Mapping[str, str], encoder: Encoder) -> str | None:
    """Why a worker's encoder is not the one that was planned with."""
    own = settings_of(encoder, per_residue=settings["level"] == "residues", dtype=settings["dtype"])
    changed = differences({name: settings[name] for name in own}, own)
    return f"a worker has another {changed}; install the same limbeck and model on every machine" if changed else None
