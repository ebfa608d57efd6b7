"""From files and folders of proteins to a dataset of embeddings, on a cluster.

1. *Describe.* A worker loads the encoder and says what it is; all others must find the same.
2. *Scan.* Every record is read and checked before anything is computed, and the input is cut into blocks: the plan.
3. *Compute.* Each block becomes one part of the dataset, written by whichever worker gets it.
4. *Finish.* Every part is there, whole; then the dataset is marked as finished.

A run that lost its driver goes on when the same command is given again, with the plan that is there.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from limbeck.distributed.blocks import Limits, Reading
from limbeck.distributed.dataset import DONE, Plan, clear, finish, read_plan, whole_parts
from limbeck.distributed.engine import Cluster, Resources, cluster
from limbeck.distributed.places import Folder, InputFile, input_files
from limbeck.embedding.settings import differences
from limbeck.embedding.summary import as_table, changes, numbers
from limbeck.errors import InputError
from limbeck.progress import Progress

__all__ = ["Summary", "embed"]

_SKIPPED = "_skipped.tsv"


@dataclass(frozen=True)
class Summary:
    """What a run of :func:`embed` did. Its text is a small table for people."""

    output: str
    encoder: str
    dimension: int
    per_residue: bool
    files: int
    others: int
    """Files in the folders whose names tell no format of sequences; they were passed over."""
    parts: int
    proteins: int
    residues: int
    resumed: int
    """Parts that were there already."""
    skipped: int
    letters: Mapping[str, int] = field(hash=False)
    """How often each letter was changed by the rule of :mod:`limbeck.residues`."""
    seconds: float

    def __str__(self) -> str:
        rows = {
            "files": f"{self.files:,}" + (f" ({self.others:,} others passed over)" if self.others else ""),
            "proteins": f"{self.proteins:,}",
            "residues": f"{self.residues:,}",
            "letters changed": changes(self.letters),
        }
        if self.skipped:
            rows["skipped"] = f"{self.skipped:,} records, listed in {_SKIPPED}"
        rows["encoder"] = numbers(self.encoder, self.dimension, self.per_residue)
        if self.resumed:
            rows["resumed"] = f"{self.resumed:,} parts were there already"
        rows["time"] = f"{self.seconds:,.1f} s"
        rows["output"] = f"{self.output}, {self.parts:,} parts, each seen to be whole"
        return as_table(rows)


def embed(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    address: str | None = None,
    workers: int | None = None,
    encoder: str | os.PathLike[str] | None = None,
    per_residue: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    skip_invalid: bool = False,
    sequence_column: str | None = None,
    id_column: str | None = None,
    input_format: str | None = None,
    layer: int | str | Sequence[int] | None = None,
    dimension: int | None = None,
    pooling: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    threads: int = 1,
    block_residues: int | None = None,
    progress: bool = True,
    restart: bool = False,
) -> Summary:
    """Embed the proteins of files and folders into a Parquet dataset, on a Ray cluster.

    An interrupted run is continued by the same call. The layout is that of :mod:`limbeck.distributed.dataset`.

    Args:
        inputs: files as :func:`limbeck.embed` takes them, and folders of them; paths that all machines see, or URIs.
        output: the dataset's folder: a path that all machines see, or a URI.
        address: of the cluster; see :func:`limbeck.distributed.engine.cluster`.
        workers: most encoders at work; by default as many as the cluster has room for.
        encoder: a name or path for :func:`limbeck.load`, that all machines can load.
        per_residue: as in :func:`limbeck.embed`, as are the next five.
        dtype: see ``per_residue``.
        skip_invalid: records that are passed over are listed in ``_skipped.tsv`` in the output.
        sequence_column: see ``per_residue``.
        id_column: see ``per_residue``.
        input_format: see ``per_residue``.
        layer: for :func:`limbeck.load`, as are the next four.
        dimension: see ``layer``.
        pooling: see ``layer``.
        precision: see ``layer``; ``"auto"`` is settled by the first worker, for all.
        device: see ``layer``; ``"cuda"`` gives each worker a GPU.
        threads: processor threads of each worker.
        block_residues: most residues in a part; by default some minutes of work of a processor.
        progress: show progress on standard error.
        restart: throw away what is in the output, and begin anew.

    Raises:
        InputError: if an input, an option, the cluster or an unfinished run cannot be used.
    """
    if dtype not in ("float32", "float16"):
        raise InputError(f"unknown dtype {dtype!r}; choose float32 or float16")
    for name, value in {"workers": workers, "threads": threads, "block_residues": block_residues}.items():
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    started = time.monotonic()
    files, others = input_files([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)
    folder = Folder(output)
    if restart:
        clear(folder)
    there = read_plan(folder)
    reading = Reading(Limits(1, 1), sequence_column, id_column, input_format, skip_invalid)
    load_encoder = {
        "name": None if encoder is None else os.fspath(encoder),
        "layer": layer,
        "dimension": dimension,
        "pooling": pooling,
        "precision": precision,
        "device": device,
    }
    resources = Resources(threads, device, workers)
    with cluster(address) as ray:
        settings, limits = ray.describe(load_encoder, resources, per_residue, dtype)
        load_encoder["precision"] = settings["precision"]
        if block_residues:
            limits = replace(limits, residues=block_residues)
        if there is None:
            folder.create()
            plan = _plan(ray, folder, settings, files, replace(reading, limits=limits), progress)
        else:
            plan = there
            _check_same(folder, plan, settings, files)
        resumed = whole_parts(folder, plan)
        if DONE not in folder.names():
            missing = [part for part in range(len(plan.blocks)) if part not in resumed]
            if missing:
                _compute(
                    ray, plan, missing, folder, replace(reading, limits=plan.limits), load_encoder, resources, progress
                )
            finish(folder, plan)
    return Summary(
        output=folder.name,
        encoder=settings["encoder"],
        dimension=int(settings["dimension"]),
        per_residue=per_residue,
        files=len(files),
        others=len(others),
        parts=len(plan.blocks),
        proteins=plan.proteins,
        residues=plan.residues,
        resumed=len(resumed),
        skipped=plan.skipped,
        letters=plan.letters,
        seconds=time.monotonic() - started,
    )


def _plan(
    ray: Cluster,
    folder: Folder,
    settings: Mapping[str, str],
    files: list[InputFile],
    reading: Reading,
    progress: bool,
) -> Plan:
    """Look at all of the input."""
    letters: Counter[str] = Counter()
    skipped: list[tuple[int, list[str]]] = []
    blocks = []
    with Progress("reading", "proteins", None, progress) as bar:
        for row in ray.scan([file.name for file in files], reading):
            if row["letters"] is None:
                blocks.append(row)
                bar.update(row["proteins"])
            else:
                letters.update(json.loads(row["letters"]))
                skipped.extend((row["file"], line) for line in row["skipped"])
    if not blocks:
        raise InputError(f"none of {len(skipped):,} records can be used; drop --skip-invalid to see why")
    blocks.sort(key=lambda block: (block["file"], block["number"]))
    _check_ids(blocks, files)
    start = 0
    for block in blocks:
        block["start"] = start
        start += block["proteins"]
    if skipped:
        lines = ["file\tplace\tid\treason", *("\t".join(line) for _, line in sorted(skipped, key=lambda item: item[0]))]
        folder.write(_SKIPPED, ("\n".join(lines) + "\n").encode())
    names = ("file", "number", "start", "proteins", "residues", "digest")
    slim = [{name: block[name] for name in names} for block in blocks]
    plan = Plan(settings, reading.limits, files, slim, dict(letters), len(skipped))
    plan.write(folder)
    return plan


def _check_ids(blocks: list[dict[str, Any]], files: list[InputFile]) -> None:
    """Refuse ids that occur twice; 128-bit digests of all are sorted in memory, 24 bytes for each."""
    digests = np.concatenate([np.frombuffer(block.pop("id_digests"), dtype="V16") for block in blocks])
    words = digests.view(np.uint64).reshape(-1, 2)
    order = np.lexsort((words[:, 1], words[:, 0]))
    same = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    if not same.any():
        return
    pairs = np.sort(np.stack([order[:-1][same], order[1:][same]]), axis=0)
    places = [_place(row, blocks, files) for row in pairs[:, np.argmin(pairs[1])].tolist()]
    raise InputError(f"{places[1]}: its id occurs before, in {places[0]}; make ids unique")


def _place(row: int, blocks: list[dict[str, Any]], files: list[InputFile]) -> str:
    """Where a row of the dataset stands in the input, among the proteins that can be used."""
    for block in blocks:
        if block["number"] == 0:
            before = 0
        if row < block["proteins"]:
            return f"{files[block['file']].name}, protein {before + row + 1:,}"
        before += block["proteins"]
        row -= block["proteins"]
    raise IndexError(row)


def _check_same(folder: Folder, plan: Plan, settings: Mapping[str, str], files: list[InputFile]) -> None:
    changed = differences(plan.settings, settings)
    if plan.files != files:
        changed = f"{changed}, input" if changed else "input"
    if changed:
        raise InputError(
            f"{folder.name} holds a run with another {changed}; "
            "choose another output, go on with its own command, or give --restart to begin anew"
        )


def _compute(
    ray: Cluster,
    plan: Plan,
    missing: list[int],
    folder: Folder,
    reading: Reading,
    load_encoder: Mapping[str, Any],
    resources: Resources,
    progress: bool,
) -> None:
    with Progress("embedding", "residues", plan.residues, progress) as bar:
        bar.skip(plan.residues - sum(plan.blocks[part]["residues"] for part in missing))
        for done, row in enumerate(ray.compute(plan, missing, folder.name, reading, load_encoder, resources), 1):
            bar.note(f"{len(plan.blocks) - len(missing) + done:,} of {len(plan.blocks):,} parts")
            bar.update(row["residues"])
