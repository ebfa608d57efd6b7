"""Parts that were computed apart join to the table of a single run, or are refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck import InputError, cli
from limbeck.embedding.shards import Shard, bounds

PROTEINS = [*random_proteins(40, seed=3), ("twin", random_proteins(40, seed=3)[2][1]), ("a/b%", "MKV")]
FORMATS = ["h5", "parquet", "npz", "h5ad"]


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "proteins.fasta", PROTEINS)


def parts(fasta: Path, format: str = "h5", count: int = 3, **options: object) -> list[Path]:
    paths = [fasta.with_name(f"part-{number}.{format}") for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        options.setdefault("encoder", FakeEncoder())
        limbeck.embed(fasta, path, shard=f"{number}/{count}", progress=False, **options)
    return paths


def merge(paths: list[Path], name: str = "merged.h5") -> limbeck.embedding.Merged:
    return limbeck.merge(paths, paths[0].with_name(name), progress=False)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("per_residue", [False, True])
def test_merged_is_what_a_single_run_writes(fasta: Path, format: str, per_residue: bool) -> None:
    if (format, per_residue) == ("h5ad", True):
        pytest.skip("AnnData holds one vector for each protein")
    whole = fasta.with_name(f"whole.{format}")
    limbeck.embed(fasta, whole, encoder=FakeEncoder(), per_residue=per_residue, progress=False)
    paths = parts(fasta, format, per_residue=per_residue)
    summary = merge(paths[::-1], f"merged.{format}")
    assert summary.proteins == len(PROTEINS)
    assert fasta.with_name(f"merged.{format}").read_bytes() == whole.read_bytes()
    assert merge(paths, f"merged.{format}").nothing_to_do


def test_renamed_ids_and_skipped_records(tmp_path: Path) -> None:
    records = [("x", "MKV"), ("x", "MK7"), ("y", "MKL"), ("x", "AAA"), ("x_2", "WWW"), ("y", "VVVV")]
    fasta = write_fasta(tmp_path / "proteins.fasta", records)
    options = {"duplicate_ids": "suffix", "skip_invalid": True}
    limbeck.embed(fasta, tmp_path / "whole.h5", encoder=FakeEncoder(), progress=False, **options)
    merge(parts(fasta, count=5, **options))
    assert (tmp_path / "merged.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@given(
    lengths=st.lists(st.integers(1, 50) | st.just(40_000), min_size=1, max_size=60),
    count=st.integers(1, 60),
    block=st.integers(1, 70),
)
@settings(max_examples=200, deadline=None)
def test_bounds_cover_all_and_balance(lengths: list[int], count: int, block: int) -> None:
    count = min(count, len(lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.embedding.shards._BLOCK", block)
        found = bounds(np.array(lengths, dtype=np.int32), count)
    assert (found[0], found[-1], len(found)) == (0, len(lengths), count + 1)
    assert (np.diff(found) >= 1).all()
    if max(lengths) <= 50 and len(lengths) >= 4 * count:
        sizes = [sum(lengths[start:stop]) for start, stop in pairwise(found)]
        assert max(sizes) <= sum(lengths) / count + 2 * max(lengths) + count


def test_a_killed_part_goes_on(fasta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CHUNK_PROTEINS": 5, "CHUNK_RESIDUES": 500, "PIECE_PARAMETER_RESIDUES": 1}.items():
        monkeypatch.setattr(f"limbeck.embedding.plan.{name}", value)

    class Interrupting(FakeEncoder):
        def encode(self, sequences, on_batch=None):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().encode(sequences, on_batch)

    output = fasta.with_name("part-2.h5")
    with pytest.raises(KeyboardInterrupt):
        limbeck.embed(fasta, output, encoder=Interrupting(), shard="2/3", progress=False)
    with pytest.raises(InputError, match=r"unfinished run with another part \(2/3 there, 1/3 now\)"):
        limbeck.embed(fasta, output, encoder=FakeEncoder(), shard="1/3", progress=False)
    assert limbeck.embed(fasta, output, encoder=FakeEncoder(), shard="2/3", progress=False).resumed > 0


def test_parts_of_another_run_are_refused(fasta: Path) -> None:
    paths = parts(fasta)
    other = fasta.with_name("other.h5")

    class Half(FakeEncoder):
        precision = "bf16"

    for encoder, message in {
        FakeEncoder("other"): r"another encoder \(fake there, other now\)",
        FakeEncoder(scale=2): "another weights or layer of the encoder",
        Half(): r"another precision \(f32 there, bf16 now\)",
    }.items():
        limbeck.embed(fasta, other, encoder=encoder, shard="2/3", progress=False, restart=True)
        with pytest.raises(InputError, match=message):
            merge([paths[0], other, paths[2]])
    limbeck.embed(fasta, other, encoder=FakeEncoder(), shard="2/4", progress=False, restart=True)
    with pytest.raises(InputError, match=r"other\.h5 is part 2/4, but .* is part 1/3"):
        merge([paths[0], other, paths[2]])
    write_fasta(fasta, [*PROTEINS[:-1], ("new", "MKV")])
    limbeck.embed(fasta, other, encoder=FakeEncoder(), shard="2/3", progress=False, restart=True)
    with pytest.raises(InputError, match="another input, list of ids"):
        merge([paths[0], other, paths[2]])
    assert not fasta.with_name("merged.h5").exists()


def test_missing_and_repeated_parts_are_refused(fasta: Path) -> None:
    paths = parts(fasta)
    with pytest.raises(InputError, match="2 of 3 parts are missing: 1, 3;"):
        merge(paths[1:2])
    copy = fasta.with_name("copy.h5")
    copy.write_bytes(paths[1].read_bytes())
    with pytest.raises(InputError, match=r"part 2/3 is given twice: .*part-2\.h5 and .*copy\.h5"):
        merge([*paths, copy])
    with pytest.raises(InputError, match="no parts"):
        limbeck.merge([], copy)


def test_other_files_are_refused(fasta: Path) -> None:
    paths = parts(fasta)
    whole = fasta.with_name("whole.h5")
    limbeck.embed(fasta, whole, encoder=FakeEncoder("other"), progress=False)
    with pytest.raises(InputError, match="no part of a run"):
        merge([whole])
    with pytest.raises(InputError, match="exists already and is not of this run"):
        merge(paths, "whole.h5")
    with pytest.raises(InputError, match=r"is h5, and .* would be npz"):
        merge(paths, "merged.npz")
    with pytest.raises(InputError, match="is one of the parts"):
        merge(paths, "part-1.h5")


@pytest.mark.parametrize("damage", ["lost", "renamed"])
def test_a_damaged_part_is_refused(fasta: Path, damage: str) -> None:
    paths = parts(fasta)
    with h5py.File(paths[1], "a") as file:
        first = next(iter(file))
        if damage == "renamed":
            file.move(first, "other")
        else:
            del file[first]
    with pytest.raises(
        InputError, match="other ids" if damage == "renamed" else r"part-2\.h5: holds \d+ proteins, not"
    ):
        merge(paths)
    assert sorted(p.name for p in fasta.parent.glob("merged*")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("2", "not understood"), ("a/b", "not understood"), ("0/3", "counted from 1 to 3"), ("4/3", "from 1 to 3")],
)
def test_bad_shards(fasta: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        limbeck.embed(fasta, fasta.with_name("a.h5"), encoder="composition", shard=text, progress=False)


def test_more_parts_than_proteins(fasta: Path) -> None:
    with pytest.raises(InputError, match="has 42 proteins only"):
        limbeck.embed(fasta, fasta.with_name("a.h5"), encoder="composition", shard="1/43", progress=False)
    assert [p.name for p in fasta.parent.iterdir()] == ["proteins.fasta"]


def test_command_line(fasta: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(fasta.parent)
    for number in "12":
        arguments = ["embed", fasta.name, "-o", f"{number}.parquet", "--encoder", "one-hot", "--shard", f"{number}/2"]
        assert cli.main(arguments) == 0
        assert f"part             {number}/2" in capsys.readouterr().err
    assert cli.main(["merge", "1.parquet", "-o", "all.parquet"]) == 2
    assert cli.main(["merge", "2.parquet", "1.parquet", "-o", "all.parquet"]) == 0
    assert capsys.readouterr().err.endswith("all.parquet: 42 proteins from 2 parts, none missing, none twice\n")
    assert pq.read_table("all.parquet")["id"].to_pylist() == [id for id, _ in PROTEINS]


def test_text_of_a_shard() -> None:
    assert str(Shard.parse(" 2/8 ")) == "2/8"
