"""A dataset of Parquet files: part k holds the rows of block k, so together they are in the order of the input.

``part-0000000.parquet`` ...
    Columns ``row`` (0-based place in the whole input, the key), ``id``, ``length``, ``embedding``; one schema for all,
    with the run's settings as metadata.
``_limbeck.json``, ``_plan.parquet``
    What is computed: settings, input files and their blocks. There before the first part.
``_SUCCESS``
    There once every part was seen to be whole.

A part's name and content follow from the plan alone and it appears whole, so it does not matter how often, by which
worker or by which run it is written: each row is there once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from limbeck.distributed.blocks import Block, Limits
from limbeck.distributed.places import Folder, InputFile
from limbeck.embedding.stores import arrow_vectors, parquet_fields
from limbeck.errors import InputError

__all__ = ["DONE", "Plan", "clear", "finish", "read_plan", "whole_parts", "write_part"]

DONE = "_SUCCESS"
_MANIFEST, _BLOCKS = "_limbeck.json", "_plan.parquet"
_BLOCK_SCHEMA = pa.schema(
    {
        "file": pa.int32(),
        "number": pa.int32(),
        "start": pa.int64(),
        "proteins": pa.int32(),
        "residues": pa.int64(),
        "digest": pa.binary(32),
    }
)


@dataclass(frozen=True)
class Plan:
    """What is computed."""

    settings: Mapping[str, str]
    limits: Limits
    files: list[InputFile]
    blocks: list[dict[str, Any]]
    """By rows: ``file`` (its place in ``files``), ``number`` in it, ``start`` (row), ``proteins``, ``residues``,
    ``digest``."""
    letters: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0

    @property
    def proteins(self) -> int:
        return sum(block["proteins"] for block in self.blocks)

    @property
    def residues(self) -> int:
        return sum(block["residues"] for block in self.blocks)

    def schema(self) -> pa.Schema:
        settings = self.settings
        fields = parquet_fields(int(settings["dimension"]), settings["dtype"], settings["level"] == "residues")
        return pa.schema([pa.field("row", pa.int64(), nullable=False), *fields], metadata=dict(settings))

    def write(self, folder: Folder) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(self.blocks, _BLOCK_SCHEMA), sink)
        folder.write(_BLOCKS, sink.getvalue())
        content = {name: value for name, value in vars(self).items() if name != "blocks"}
        content |= {"limits": asdict(self.limits), "files": [asdict(file) for file in self.files]}
        # What has no manifest has not begun, so the manifest comes last.
        folder.write(_MANIFEST, json.dumps(content, indent=1).encode())


def read_plan(folder: Folder) -> Plan | None:
    """The plan in a folder; ``None`` if the folder is not there or empty.

    Raises:
        InputError: if it holds something else, or the plan is damaged.
    """
    names = folder.names()
    if _MANIFEST not in names:
        if [name for name in names if not name.startswith((_BLOCKS, f".{_BLOCKS}", f".{_MANIFEST}"))]:
            raise InputError(f"{folder.name} is there already and is no dataset of limbeck; choose another output")
        return None
    manifest, table = folder.read(_MANIFEST), folder.read(_BLOCKS)
    try:
        content = json.loads(manifest or b"")
        blocks = pq.read_table(pa.BufferReader(table or b"")).cast(_BLOCK_SCHEMA).to_pylist()
        content |= {"limits": Limits(**content["limits"]), "files": [InputFile(**file) for file in content["files"]]}
        return Plan(**content, blocks=blocks)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        raise InputError(f"{folder.name}: its plan is damaged; give --restart to begin anew") from None


def clear(folder: Folder) -> None:
    """Remove all that a run has put there, the plan first."""
    names = folder.names()
    for name in [_MANIFEST, DONE, *names]:
        if name in names and name.lstrip(".").startswith(("part-", _MANIFEST, _BLOCKS, DONE)):
            folder.remove(name)
            names.remove(name)


def part_name(number: int) -> str:
    return f"part-{number:07d}.parquet"


def whole_parts(folder: Folder, plan: Plan) -> set[int]:
    """Numbers of the parts that are there with the schema and just the rows of their block, by what their feet say."""
    schema = plan.schema()
    there = {name for name in folder.names() if name.startswith("part-")}
    numbers = [number for number in range(len(plan.blocks)) if part_name(number) in there]
    # Behind a URI each look is a round trip.
    with ThreadPoolExecutor(16) as pool:
        whole = pool.map(lambda number: _is_whole(folder, number, plan.blocks[number], schema), numbers)
        return {number for number, good in zip(numbers, whole, strict=True) if good}


def write_part(
    folder: Folder, number: int, block: Block, start: int, vectors: NDArray[np.floating], schema: pa.Schema
) -> None:
    """Write one part.

    Args:
        folder: where.
        number: of the block among all.
        block: the proteins.
        start: row of its first protein.
        vectors: (n, dimension), or of all residues end to end.
        schema: of the dataset.
    """
    lengths = block.lengths
    per_residue = pa.types.is_list(schema.field("embedding").type)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]) if per_residue else None
    columns = [
        pa.array(np.arange(start, start + len(lengths))),
        pa.array(block.ids, pa.string()),
        pa.array(lengths),
        arrow_vectors(vectors, offsets),
    ]
    sink = pa.BufferOutputStream()
    # A dictionary of floats would only cost time.
    pq.write_table(pa.table(columns, schema=schema), sink, compression="zstd", use_dictionary=["id"])
    folder.write(part_name(number), sink.getvalue())


def finish(folder: Folder, plan: Plan) -> None:
    """Mark the dataset as finished, once every part is whole.

    Raises:
        InputError: if one is not.
    """
    if bad := len(plan.blocks) - len(whole_parts(folder, plan)):
        raise InputError(f"{folder.name}: {bad:,} parts are missing or damaged; repeat the command, which mends them")
    expected = {part_name(number) for number in range(len(plan.blocks))}
    for name in folder.names():
        # What workers that died were about to write, and what was never of this run.
        if name.lstrip(".").startswith("part-") and name not in expected:
            folder.remove(name)
    folder.write(DONE, b"")


def _is_whole(folder: Folder, number: int, block: Mapping[str, Any], schema: pa.Schema) -> bool:
    file = folder.open(part_name(number))
    if file is None:
        return False
    try:
        with file:
            found = pq.ParquetFile(file)
            groups = [found.metadata.row_group(index).column(0).statistics for index in range(found.num_row_groups)]
    except (OSError, pa.ArrowException):
        return False
    # Parquet has a name of its own for the items of a list, which counts as metadata.
    same = found.schema_arrow.equals(schema) and found.schema_arrow.metadata == schema.metadata
    if found.metadata.num_rows != block["proteins"] or not same:
        return False
    return (groups[0].min, groups[-1].max) == (block["start"], block["start"] + block["proteins"] - 1)
