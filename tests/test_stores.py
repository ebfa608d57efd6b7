from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbeck.embedding import stores
from limbeck.embedding.stores import (
    detect_format,
    format_of,
    read_embeddings,
    read_metadata,
    size_on_disk,
    write_table,
)
from limbeck.errors import InputError

FORMATS = ["h5", "parquet", "npz"]
# More than eight: HDF5 stores attributes differently from there on.
METADATA = {f"key {i}": f"wert {i} Ωé" for i in range(12)}


@dataclass
class MemoryTable:
    names: list[str]
    arrays: list[NDArray[np.floating]]
    per_residue: bool
    dimension: int
    dtype: str
    lengths: NDArray[np.int32]
    metadata: dict[str, str] = field(default_factory=lambda: dict(METADATA))

    def ids(self) -> Iterator[str]:
        return iter(self.names)

    def vectors(self, start: int, stop: int) -> NDArray[np.floating]:
        arrays = self.arrays[start:stop]
        return np.concatenate(arrays) if self.per_residue else np.stack(arrays)


def make_table(names: list[str], *, per_residue: bool, dtype: str = "float32", dimension: int = 3) -> MemoryTable:
    generator = np.random.default_rng(len(names))
    lengths = generator.integers(1, 6, size=len(names)).astype(np.int32)
    shapes = [(int(length), dimension) if per_residue else (dimension,) for length in lengths]
    arrays = [generator.normal(size=shape).astype(dtype) for shape in shapes]
    return MemoryTable(names, arrays, per_residue, dimension, dtype, lengths)


def assert_same(path: Path, table: MemoryTable) -> None:
    found = list(read_embeddings(path))
    assert [id for id, _ in found] == table.names
    for (_, array), expected in zip(found, table.arrays, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
    | st.sampled_from([".", "..", "/", "a/b", "a%2Fb", "%", "%2E", "./.", "sp|P1|X", "Ω", "a ", " "]),
    unique=True,
    max_size=12,
)


@pytest.mark.parametrize("format", FORMATS)
@given(names=ids, per_residue=st.booleans(), dtype=st.sampled_from(["float32", "float16"]))
@settings(max_examples=40, deadline=None)
def test_round_trip_of_any_ids(format: str, names: list[str], per_residue: bool, dtype: str) -> None:
    table = make_table(names, per_residue=per_residue, dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table")
        write_table(table, path, format)
        assert detect_format(path) == format
        assert read_metadata(path) == METADATA
        assert_same(path, table)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("per_residue", [False, True])
def test_small_parts_give_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, per_residue: bool
) -> None:
    table = make_table([f"P{i}" for i in range(50)], per_residue=per_residue)
    monkeypatch.setattr(stores, "_SPAN_ROWS", 7)
    monkeypatch.setattr(stores, "_SPAN_BYTES", 80)
    written: list[int] = []
    write_table(table, tmp_path / "table", format, written.append)
    assert_same(tmp_path / "table", table)
    assert sum(written) == 50
    assert max(written) <= 7


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("per_residue", [False, True])
def test_equal_tables_are_equal_files(tmp_path: Path, format: str, per_residue: bool) -> None:
    for name in ("a", "b"):
        write_table(make_table(["x", "y/z"], per_residue=per_residue), tmp_path / name, format)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_h5_has_one_dataset_for_each_protein_at_the_root(tmp_path: Path) -> None:
    names = ["Z9", "a/b", "a%2Fb", ".", "A1"]
    write_table(make_table(names, per_residue=False), tmp_path / "t.h5", "h5")
    with h5py.File(tmp_path / "t.h5") as file:
        assert list(file) == ["Z9", "a%2Fb", "a%252Fb", "%2E", "A1"]
        assert all(isinstance(file[name], h5py.Dataset) and file[name].shape == (3,) for name in file)
        assert file["a%2Fb"].attrs["original_id"] == "a/b"
        assert "original_id" not in file["Z9"].attrs


def test_parquet_columns(tmp_path: Path) -> None:
    write_table(make_table(["a", "b"], per_residue=False), tmp_path / "t.parquet", "parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.names == ["id", "length", "embedding"]
    assert schema.field("length").type == pa.int32()
    assert schema.field("embedding").type.list_size == 3


def test_npz_needs_no_pickle(tmp_path: Path) -> None:
    table = make_table(["a", "long name", "c"], per_residue=True, dtype="float16")
    write_table(table, tmp_path / "t.npz", "npz")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as archive:
        assert archive["ids"].tolist() == table.names
        assert archive["offsets"].tolist() == [0, *np.cumsum(table.lengths)]
        np.testing.assert_array_equal(archive["residues"], np.concatenate(table.arrays))
        assert json.loads(str(archive["metadata"])) == METADATA


@pytest.mark.parametrize("format", FORMATS)
def test_size_on_disk_is_near_the_truth(tmp_path: Path, format: str) -> None:
    count, dimension = 5000, 2000
    table = make_table([f"P{i:06}" for i in range(count)], per_residue=False, dimension=dimension)
    write_table(table, tmp_path / "t", format)
    estimate = size_on_disk(count, count, dimension, 4, format)
    assert 0.8 < (tmp_path / "t").stat().st_size / estimate < 1.2


def test_h5_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    frees = iter([10**10, 10**10, 1000])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=next(frees)))
    monkeypatch.setattr(stores, "_SPAN_ROWS", 10)
    written: list[int] = []
    with pytest.raises(OSError, match="No space left"):
        write_table(make_table([f"P{i}" for i in range(50)], per_residue=False), tmp_path / "t", "h5", written.append)
    assert sum(written) == 20


@pytest.mark.parametrize("format", FORMATS)
def test_half_a_file_is_refused(tmp_path: Path, format: str) -> None:
    write_table(make_table([f"P{i}" for i in range(200)], per_residue=False), tmp_path / "t", format)
    content = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        read_metadata(tmp_path / "t")


@pytest.mark.parametrize("content", [b"", b">P1\nMKV\n", b"PK"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(InputError, match="no table of embeddings"):
        read_embeddings(tmp_path / "t")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_metadata(tmp_path / "t.h5")


@pytest.mark.parametrize(
    ("path", "named", "expected"),
    [("a.h5", None, "h5"), ("a.HDF5", None, "h5"), ("a.b.parquet", None, "parquet"), ("a.txt", "npz", "npz")],
)
def test_format_of(path: str, named: str | None, expected: str) -> None:
    assert format_of(path, named) == expected


@pytest.mark.parametrize(("path", "named"), [("a.csv", None), ("a", None), ("a.h5", "hdf4")])
def test_unknown_format(path: str, named: str | None) -> None:
    with pytest.raises(InputError, match=r"use \.h5|choose h5"):
        format_of(path, named)
