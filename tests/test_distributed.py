"""Blocks, plan and parts of a distributed run, worked off in this process; tests/test_ray.py has the real cluster."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import limbeck
from fake_encoder import random_proteins, write_fasta
from limbeck import InputError, cli
from limbeck.distributed import embed, engine, run
from limbeck.distributed.blocks import Limits, Reading, blocks
from limbeck.distributed.places import Folder

PROTEINS = [*random_proteins(60, seed=2), ("twin", random_proteins(60, seed=2)[40][1])]


class OneProcess(engine.Cluster):
    """Does what workers do, in an order of its own; ``stop`` parts later the driver dies."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.written: list[int] = []

    def describe(self, load_encoder: Any, resources: Any, per_residue: bool, dtype: str) -> Any:
        found = engine._describe(dict(load_encoder), resources.threads, per_residue, dtype)
        if "error" in found:
            raise InputError(found["error"])
        return found["settings"], Limits(**found["limits"])

    def _read(self, items: list[dict[str, Any]], read: Any) -> Any:
        tables = list(chain.from_iterable(read(pa.Table.from_pylist([item])) for item in items))
        random.Random(1).shuffle(tables)
        return Rows(tables)

    def _work(self, data: Any, arguments: tuple[Any, ...], workers: int, resources: Any) -> Any:
        return Rows(self._written(data, engine._Worker(*arguments)))

    def _written(self, data: Any, worker: Any) -> Iterator[pa.Table]:
        for table in data.tables:
            if len(self.written) == self.stop:
                raise KeyboardInterrupt
            self.written.append(table["part"][0].as_py())
            yield worker(table)

    @property
    def _ray(self) -> Any:
        return SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0})


class Rows:
    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self.tables = tables

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for table in self.tables:
            yield from table.to_pylist()


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> OneProcess:
    found = OneProcess()

    @contextmanager
    def cluster(address: str | None) -> Iterator[OneProcess]:
        yield found

    monkeypatch.setattr(run, "cluster", cluster)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inputs = tmp_path / "in"
    (inputs / "deep").mkdir(parents=True)
    write_fasta(inputs / "b.fasta", PROTEINS[:20])
    (inputs / "deep" / "c.csv").write_text("id,sequence\n" + "".join(f"{i},{s}\n" for i, s in PROTEINS[20:]))
    (inputs / "notes.md").write_text("mine")
    (inputs / ".hidden.fasta").write_text("no")
    return inputs


def go(folder: Path, **options: Any) -> run.Summary:
    options = {"encoder": "one-hot", "block_residues": 500, "progress": False, **options}
    return embed(folder, folder.parent / "out", **options)


@pytest.mark.parametrize("per_residue", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_result_is_that_of_one_machine(folder: Path, per_residue: bool, dtype: str) -> None:
    summary = go(folder, per_residue=per_residue, dtype=dtype)
    assert (summary.files, summary.others, summary.proteins, summary.resumed) == (2, 1, len(PROTEINS), 0)
    single = folder.parent / "single.parquet"
    files = [folder / "b.fasta", folder / "deep" / "c.csv"]
    limbeck.embed(files, single, encoder="one-hot", per_residue=per_residue, dtype=dtype, progress=False)
    found = pq.read_table(folder.parent / "out")
    assert found["row"].to_pylist() == list(range(len(PROTEINS)))
    assert found.drop_columns(["row"]).equals(pq.read_table(single))
    assert [id for id, _ in limbeck.read_embeddings(folder.parent / "out")] == [id for id, _ in PROTEINS]
    assert limbeck.embedding.read_metadata(folder.parent / "out")["encoder"] == "one-hot"


def test_uris_and_single_files(folder: Path) -> None:
    # Signs that mean something in a URI.
    (folder / "deep" / "c.csv").rename(folder / "deep" / "c 100%+#.csv")
    inputs = [f"file://{folder}/deep/", str(folder / "b.fasta")]
    summary = embed(inputs, f"file://{folder.parent}/out", encoder="one-hot", progress=False)
    assert (summary.files, summary.parts) == (2, 2)
    expected = [id for id, _ in PROTEINS[20:] + PROTEINS[:20]]
    assert [id for id, _ in limbeck.read_embeddings(folder.parent / "out")] == expected


def test_a_lost_driver_goes_on_with_what_is_missing(folder: Path, one_process: OneProcess) -> None:
    one_process.stop = 3
    with pytest.raises(KeyboardInterrupt):
        go(folder)
    out = folder.parent / "out"
    with pytest.raises(InputError, match="without a finished dataset"):
        next(limbeck.read_embeddings(out))
    first, second = sorted(out.glob("part-*"))[:2]
    first.write_bytes(first.read_bytes()[:-9])
    second.rename(out / "part-9999999.parquet")
    (out / ".part-0000001.parquet.abc").write_bytes(b"half")
    one_process.stop, one_process.written = None, []
    summary = go(folder)
    assert summary.resumed == 1
    assert len(one_process.written) == summary.parts - 1
    assert sorted(p.name for p in out.iterdir() if not p.name.startswith("part")) == [
        "_SUCCESS", "_limbeck.json", "_plan.parquet",
    ]  # fmt: skip
    assert pq.read_table(out)["row"].to_pylist() == list(range(len(PROTEINS)))
    one_process.written = []
    assert go(folder).resumed == summary.parts
    assert one_process.written == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "composition"}, r"another encoder \(one-hot there, composition now\);"),
        ({"dtype": "float16"}, "another dtype"),
        ({"per_residue": True}, "another choice between"),
    ],
)
def test_another_run_is_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    go(folder)
    with pytest.raises(InputError, match=f"holds a run with {message}"):
        go(folder, **options)
    assert go(folder, restart=True, **options).resumed == 0


def test_a_changed_input_is_refused(folder: Path, one_process: OneProcess) -> None:
    one_process.stop = 2
    with pytest.raises(KeyboardInterrupt):
        go(folder)
    one_process.stop = None
    path = folder / "deep" / "c.csv"
    path.write_text(path.read_text().replace(PROTEINS[-2][1], "W" * len(PROTEINS[-2][1])))
    with pytest.raises(InputError, match="holds a run with another input;"):
        go(folder)
    assert go(folder, restart=True).proteins == len(PROTEINS)


def test_a_file_that_changes_under_the_workers_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = run._check_ids

    def change(*arguments: Any) -> None:
        check(*arguments)
        (folder / "b.fasta").write_text(">other\nMKV\n")

    monkeypatch.setattr(run, "_check_ids", change)
    with pytest.raises(InputError, match=r"b\.fasta: has changed since it was planned"):
        go(folder)


def test_bad_records(folder: Path) -> None:
    path = folder / "b.fasta"
    path.write_text(path.read_text() + ">bad\nMK7\n>good\nmku\n")
    with pytest.raises(InputError, match=r"b\.fasta, line 42, record 'bad': .*'7'"):
        go(folder)
    assert not (folder.parent / "out" / "_limbeck.json").exists()
    summary = go(folder, skip_invalid=True)
    assert (summary.skipped, summary.letters["U"]) == (1, 1)
    lines = (folder.parent / "out" / "_skipped.tsv").read_text().splitlines()
    assert lines[1].split("\t")[1:3] == ["line 42", "bad"]


def test_an_id_that_occurs_twice_is_refused(folder: Path) -> None:
    path = folder / "deep" / "c.csv"
    path.write_text(path.read_text() + f"{PROTEINS[3][0]},MKV\n")
    with pytest.raises(InputError, match=r"c\.csv, protein 42: its id occurs before, in .*b\.fasta, protein 4;"):
        go(folder)


def test_a_worker_with_another_encoder_stops_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = engine.load

    def other(*arguments: Any, **options: Any) -> Any:
        encoder = load(*arguments, **options)
        encoder.fingerprint = str(random.random())
        return encoder

    monkeypatch.setattr(engine, "load", other)
    with pytest.raises(InputError, match="a worker has another weights or layer of the encoder"):
        go(folder)


def test_a_part_that_cannot_be_written_stops_the_run_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Folder._write

    def full(self: Folder, name: str, content: Any) -> None:
        if name == "part-0000002.parquet":
            raise OSError(28, "No space left on device")
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_write", full)
        with pytest.raises(InputError, match=r"out: cannot be used \(.*No space left on device\); check it"):
            go(folder)
    assert go(folder).resumed > 0


def test_a_plan_that_cannot_be_read_is_not_called_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(folder)
    out = folder.parent / "out"

    def gone(self: Any, *arguments: Any, **options: Any) -> Any:
        raise OSError("AWS Error NETWORK_CONNECTION during GetObject operation")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_read", gone)
        with pytest.raises(InputError, match="out: does not answer"):
            go(folder)
    (out / "_plan.parquet").unlink()
    with pytest.raises(InputError, match="its plan is damaged"):
        go(folder)


def test_other_folders_are_left_alone(folder: Path) -> None:
    (folder.parent / "out").mkdir()
    (folder.parent / "out" / "mine.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(InputError, match="is no dataset of limbeck"):
            go(folder, restart=restart)
    assert [p.name for p in (folder.parent / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "-o", "out", "--engine", "ray", "--shard", "1/2"], "--shard does not go with --engine ray"),
        (["in", "--engine", "ray"], "name them, the output with -o"),
        (["in/b.fasta", "--workers", "2"], "--workers goes with --engine ray only"),
        (["nowhere", "-o", "out", "--engine", "ray"], "nowhere: no such file or folder"),
        (["s3://id:key@bucket/in", "-o", "out", "--engine", "ray"], "a key in a URI would be written into the dataset"),
        (["oddity://x/y", "-o", "out", "--engine", "ray"], "give a path, or a URI"),
        (["in/b.fasta", "in/b.fasta", "-o", "out", "--engine", "ray"], "is named twice"),
        (["in", "-o", "out", "--engine", "ray", "--encoder", "nothing"], "no encoder is called 'nothing'"),
    ],
)
def test_command_line_errors(
    folder: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("limbeck.commands.embed.need", lambda *arguments: None)
    monkeypatch.chdir(folder.parent)
    assert cli.main(["embed", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in folder.parent.iterdir()) == ["in"]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    proteins=st.integers(1, 10),
    residues=st.integers(1, 100),
)
@settings(max_examples=50, deadline=None)
def test_blocks_hold_all_records_within_their_limits(
    lengths: list[int], proteins: int, residues: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = [(f"P{number}", "A" * length) for number, length in enumerate(lengths)]
    path = write_fasta(tmp_path_factory.mktemp("blocks") / "a.fasta", records)
    found = list(blocks(str(path), Reading(Limits(proteins, residues)), lambda error: None))
    assert [block.number for block in found] == list(range(len(found)))
    assert [pair for block in found for pair in zip(block.ids, block.sequences, strict=True)] == records
    for block in found:
        assert len(block.ids) <= proteins
        assert block.residues <= residues or len(block.ids) == 1
