"""What other programs hand over, and what they read."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck import InputError
from limbeck.embedding import read_metadata

PROTEINS = random_proteins(30, seed=9)


def embed(inputs: Any, output: Path, **options: Any) -> dict[str, Any]:
    limbeck.embed(inputs, output, encoder=FakeEncoder(), progress=False, **options)
    return dict(limbeck.read_embeddings(output))


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """The file that the same proteins give as FASTA."""
    embed(write_fasta(tmp_path / "proteins.fasta", PROTEINS), tmp_path / "expected.h5")
    return (tmp_path / "expected.h5").read_bytes()


def columns(**more: Any) -> dict[str, Any]:
    return {"entry": [id for id, _ in PROTEINS], "Sequence": [sequence for _, sequence in PROTEINS], **more}


def pandas_frame() -> Any:
    return pd.DataFrame(columns(score=range(30)))


def pandas_index() -> Any:
    return pd.DataFrame(columns()).set_index("entry")


def pandas_category() -> Any:
    return pd.DataFrame(columns()).astype({"Sequence": "category"})


def polars_frame() -> Any:
    return pytest.importorskip("polars").DataFrame(columns())


def arrow_table() -> Any:
    return pa.table(columns())


def record_list() -> Any:
    return [SeqRecord(Seq(sequence), id=f"sp|{id}|NAME", name=id) for id, sequence in PROTEINS]


def record_iterator() -> Any:
    return SeqIO.parse(StringIO("".join(f">{id} text\n{sequence}\n" for id, sequence in PROTEINS)), "fasta")


def mixture() -> Any:
    return [pa.table(columns()).slice(0, 10), *record_list()[10:20], pandas_frame()[20:]]


@pytest.mark.parametrize(
    "make",
    [
        pandas_frame, pandas_index, pandas_category, polars_frame, arrow_table, record_list, record_iterator, mixture,
    ],
)  # fmt: skip
def test_proteins_from_python_give_the_table_of_a_file(make: Any, expected: bytes, tmp_path: Path) -> None:
    embed(make(), tmp_path / "found.h5")
    assert (tmp_path / "found.h5").read_bytes() == expected


def test_one_record_and_named_columns(tmp_path: Path) -> None:
    assert list(embed(record_list()[0], tmp_path / "a.h5")) == ["P0"]
    frame = pd.DataFrame({"seq": ["ACGT"], "protein": ["MKV"], "key": ["x"], "id": ["y"]})
    with pytest.raises(InputError, match="<data frame 1>: several columns may hold the sequence"):
        embed(frame, tmp_path / "b.h5")
    found = embed(frame, tmp_path / "b.h5", sequence_column="protein", id_column="key")
    np.testing.assert_array_equal(found["x"], FakeEncoder().encode(["MKV"])[0])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (pa.table({"id": ["a", "b"], "sequence": ["MKV", "MK7"]}), "<data frame 1>, row 2, record 'b': .*'7'"),
        (pa.table({"id": ["a"], "sequence": [7]}), "<data frame 1>: column 'sequence' holds int64, not text"),
        (pd.DataFrame({"id": ["a", 7], "sequence": ["MKV", "M"]}), "the data frame cannot be read"),
        ([SeqRecord(Seq("MKV"), id="a"), SeqRecord(Seq("MK7"), id="b")], "<records 1>, row 2, record 'b'"),
        ([SeqRecord(Seq(None, 7), id="a")], r"record 1 \('a'\): Sequence content is undefined"),
        ([SeqRecord(None, id="a")], r"record 1 \('a'\) has no sequence"),
        ([], "no input"),
    ],
)
def test_what_cannot_be_used(inputs: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        embed(inputs, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_output_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the output with -o"):
        limbeck.embed(record_list(), encoder=FakeEncoder(), progress=False)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_anndata_reads_h5ad(tmp_path: Path, dtype: str) -> None:
    anndata = pytest.importorskip("anndata")
    proteins = [*PROTEINS, ("a/b%", "MKV"), ("ünï", "MKL")]
    found = embed(write_fasta(tmp_path / "p.fasta", proteins), tmp_path / "p.h5ad", dtype=dtype)
    expected = embed(tmp_path / "p.fasta", tmp_path / "p.npz", dtype=dtype)
    data = anndata.read_h5ad(tmp_path / "p.h5ad")
    assert data.obs_names.tolist() == list(found) == list(expected) == [id for id, _ in proteins]
    assert data.obs["length"].tolist() == [len(sequence) for _, sequence in proteins]
    assert data.X.dtype == dtype
    np.testing.assert_array_equal(data.X, np.stack(list(expected.values())))
    np.testing.assert_array_equal(np.stack(list(found.values())), data.X)
    assert dict(data.uns["limbeck"]) == read_metadata(tmp_path / "p.h5ad") == read_metadata(tmp_path / "p.npz")


def test_h5ad_has_no_residues(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="AnnData holds one vector for each protein"):
        embed(write_fasta(tmp_path / "p.fasta", PROTEINS), tmp_path / "p.h5ad", per_residue=True)
