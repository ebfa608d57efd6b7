from __future__ import annotations

import errno
import gzip
import io
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck import InputError, progress, read_embeddings
from limbeck.embedding import memory, partial, pipeline, plan, read_metadata, stores
from limbeck.embedding.index import Index
from limbeck.embedding.plan import Limits, chunks
from limbeck.embedding.source import stem

PROTEINS = random_proteins(150)


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "proteins.fasta", PROTEINS)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks and pieces even for small inputs."""
    monkeypatch.setattr(plan, "CHUNK_PROTEINS", 32)
    monkeypatch.setattr(plan, "CHUNK_RESIDUES", 3000)
    monkeypatch.setattr(plan, "PIECE_BYTES", 2**14)
    monkeypatch.setattr(plan, "PIECE_PARAMETER_RESIDUES", 1)


def embed(inputs, output, **options):
    options.setdefault("encoder", FakeEncoder())
    return limbeck.embed(inputs, output, progress=False, **options)


def table(path: Path) -> dict[str, NDArray[np.floating]]:
    return dict(read_embeddings(path))


def assert_equal(first: dict[str, NDArray[np.floating]], second: dict[str, NDArray[np.floating]]) -> None:
    assert first.keys() == second.keys()
    for id in first:
        np.testing.assert_array_equal(first[id], second[id])


# Vectors


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("per_residue", [False, True])
@pytest.mark.parametrize("ending", [".h5", ".parquet", ".npz"])
def test_vectors_are_the_encoders_in_input_order(fasta: Path, tmp_path: Path, ending: str, per_residue: bool) -> None:
    embed(fasta, tmp_path / f"out{ending}", per_residue=per_residue)
    found = table(tmp_path / f"out{ending}")
    assert list(found) == [id for id, _ in PROTEINS]
    encoder = FakeEncoder()
    sequences = [sequence for _, sequence in PROTEINS]
    expected = encoder.encode_residues(sequences) if per_residue else encoder.encode(sequences)
    for vector, wanted in zip(found.values(), expected, strict=True):
        np.testing.assert_array_equal(vector, wanted)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("per_residue", [False, True])
def test_shuffled_file_gives_the_same_vectors(fasta: Path, tmp_path: Path, per_residue: bool) -> None:
    embed(fasta, tmp_path / "a.npz", per_residue=per_residue)
    shuffled = random.Random(1).sample(PROTEINS, len(PROTEINS))
    embed(write_fasta(tmp_path / "b.fasta", shuffled), tmp_path / "b.npz", per_residue=per_residue)
    assert list(table(tmp_path / "b.npz")) == [id for id, _ in shuffled]
    assert_equal(table(tmp_path / "a.npz"), table(tmp_path / "b.npz"))


@pytest.mark.parametrize("tokens", [1, 64, 100_000])
def test_batch_size_changes_nothing(fasta: Path, tmp_path: Path, tokens: int) -> None:
    embed(fasta, tmp_path / "a.npz")
    embed(fasta, tmp_path / "b.npz", batch_tokens=tokens)
    assert_equal(table(tmp_path / "a.npz"), table(tmp_path / "b.npz"))


def test_compressed_piped_and_split_inputs_give_the_same_file(fasta: Path, tmp_path: Path) -> None:
    embed(fasta, tmp_path / "plain.h5")
    (tmp_path / "p.fasta.gz").write_bytes(gzip.compress(fasta.read_bytes()))
    embed(tmp_path / "p.fasta.gz", tmp_path / "gz.h5")
    embed("-", tmp_path / "pipe.h5", stdin=io.BytesIO(fasta.read_bytes()))
    parts = [write_fasta(tmp_path / "1.fa", PROTEINS[:70]), write_fasta(tmp_path / "2.fa", PROTEINS[70:])]
    embed(parts, tmp_path / "parts.h5")
    expected = (tmp_path / "plain.h5").read_bytes()
    for name in ("gz.h5", "pipe.h5", "parts.h5"):
        assert (tmp_path / name).read_bytes() == expected


def test_float16_is_the_rounded_float32(fasta: Path, tmp_path: Path) -> None:
    embed(fasta, tmp_path / "a.h5")
    embed(fasta, tmp_path / "b.h5", dtype="float16")
    expected = {id: vector.astype("float16") for id, vector in table(tmp_path / "a.h5").items()}
    assert table(tmp_path / "b.h5")["P0"].dtype == np.float16
    assert_equal(table(tmp_path / "b.h5"), expected)


@pytest.mark.parametrize("per_residue", [False, True])
def test_numbers_beyond_float16_are_refused(tmp_path: Path, per_residue: bool) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", [("fine", "X" * 9), ("large", "MKV")])
    encoder = FakeEncoder(scale=1e6)
    encoder._table[20] = 0
    with pytest.raises(InputError, match=r"record 'large': .*float16.*--dtype float32"):
        embed(fasta, tmp_path / "a.h5", encoder=encoder, dtype="float16", per_residue=per_residue)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("per_residue", [False, True])
def test_equal_sequences_are_computed_once_wherever_they_stand(tmp_path: Path, per_residue: bool) -> None:
    proteins = [(f"{id}_{turn}", sequence) for turn in range(3) for id, sequence in PROTEINS]
    encoder = FakeEncoder()
    fasta = write_fasta(tmp_path / "a.fasta", proteins)
    summary = embed(fasta, tmp_path / "a.npz", encoder=encoder, per_residue=per_residue)
    unique = {sequence for _, sequence in PROTEINS}
    assert summary.duplicates == 450 - len(unique)
    if not per_residue:
        computed = [sequence for call in encoder.calls for sequence in call]
        assert sorted(computed) == sorted(unique)
    found = table(tmp_path / "a.npz")
    assert list(found) == [id for id, _ in proteins]
    for id, _ in PROTEINS:
        np.testing.assert_array_equal(found[f"{id}_0"], found[f"{id}_2"])


def test_metadata(fasta: Path, tmp_path: Path) -> None:
    embed(fasta, tmp_path / "a.parquet")
    found = read_metadata(tmp_path / "a.parquet")
    assert found["encoder"] == "fake"
    assert found["encoder_fingerprint"] == FakeEncoder().fingerprint
    assert found["pooling"] == "mean"
    assert found["precision"] == "f32"
    assert found["dtype"] == "float32"
    assert found["limbeck_version"] == limbeck.__version__


def test_h5_ids_with_slashes(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", [("a/b", "MKV"), ("sp|Q1|NAME", "MKK")])
    embed(fasta, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["a%2Fb", "Q1"]


# Ids and records that cannot be used


def test_repeated_id_names_both_lines(tmp_path: Path) -> None:
    write_fasta(tmp_path / "a.fasta", [("A", "MKV"), ("B", "MK"), ("C", "MM")])
    write_fasta(tmp_path / "b.fasta", [("D", "MKV"), ("B", "MK"), ("A", "MK")])
    with pytest.raises(InputError, match=r"b\.fasta, line 3: id 'B' occurs before, in .*a\.fasta, line 3; .*suffix"):
        embed([tmp_path / "a.fasta", tmp_path / "b.fasta"], tmp_path / "a.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fasta", "b.fasta"]


def test_suffixes_never_meet_another_id(tmp_path: Path) -> None:
    ids = ["A", "A_2", "A", "A", "A_2", "B", "A_3", "A_2_2"]
    fasta = write_fasta(tmp_path / "a.fasta", [(id, "MKV") for id in ids])
    summary = embed(fasta, tmp_path / "a.npz", duplicate_ids="suffix")
    assert list(table(tmp_path / "a.npz")) == ["A", "A_2", "A_4", "A_5", "A_2_3", "B", "A_3", "A_2_2"]
    assert summary.renamed == 3


def test_bad_record_stops_before_anything_is_written(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", [("A", "MKV"), ("B", "MK7")])
    with pytest.raises(InputError, match=r"a\.fasta, line 4, record 'B': character '7'"):
        embed(fasta, tmp_path / "a.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["a.fasta"]


def test_skipped_records_are_listed(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", [("A", "MK7"), ("B", "MKV"), ("C", "--"), ("D", "M!")])
    summary = embed(fasta, tmp_path / "a.h5", skip_invalid=True)
    assert list(table(tmp_path / "a.h5")) == ["B"]
    assert summary.skipped == 3
    lines = (tmp_path / "a.h5.skipped.tsv").read_text().splitlines()
    fields = [line.split("\t") for line in lines]
    assert fields[0] == ["file", "place", "id", "reason"]
    assert [field[1:3] for field in fields[1:]] == [["line 2", "A"], ["line 5", "C"], ["line 8", "D"]]
    assert summary.skipped_list in str(summary)


def test_nothing_but_bad_records(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", [("A", "MK7")])
    with pytest.raises(InputError, match="none of 1 records"):
        embed(fasta, tmp_path / "a.h5", skip_invalid=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("M", "K"),
        lambda text: text.replace(">P7 ", ">Q7 "),
        lambda text: text + ">more\nMK\n",
        lambda text: text[: text.index(">P149 ")],
    ],
    ids=["letters", "ids", "more", "less"],
)
def test_input_that_changes_meanwhile_is_noticed(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]
) -> None:
    finish = Index.finish

    def finish_and_change(index: Index) -> None:
        finish(index)
        fasta.write_text(change(fasta.read_text()))

    monkeypatch.setattr(Index, "finish", finish_and_change)
    with pytest.raises(InputError, match="changed while it was read"):
        embed(fasta, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


# Where the output goes


def test_default_output_stands_in_the_working_directory(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert embed(fasta, None).output == "proteins.h5"
    assert [p.name for p in Path().iterdir()] == ["proteins.h5"]


@pytest.mark.parametrize("inputs", [["-"], ["a.fasta", "b.fasta"]])
def test_default_output_needs_a_single_file(inputs: list[str]) -> None:
    with pytest.raises(InputError, match="name the output"):
        embed(inputs, None)


def test_stem() -> None:
    assert [stem(p) for p in ("d/a.fasta.gz", "a.fasta", "a.b.fa.zst", "a")] == ["a", "a", "a.b", "a"]


@pytest.mark.parametrize("format", ["h5", "parquet", "npz"])
def test_stream_output_is_the_file(fasta: Path, tmp_path: Path, format: str) -> None:
    stream = io.BytesIO()
    summary = embed(fasta, stream, format=format)
    embed(fasta, tmp_path / f"a.{format}")
    assert stream.getvalue() == (tmp_path / f"a.{format}").read_bytes()
    assert summary.output == "standard output"


def test_unusable_outputs(fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for output, message in {
        tmp_path / "a.csv": "tells no format",
        tmp_path / "none" / "a.h5": "does not exist",
        tmp_path: "is a folder",
    }.items():
        with pytest.raises(InputError, match=message):
            embed(fasta, output)

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"cannot write in folder .*: Permission denied"):
        embed(fasta, tmp_path / "a.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["proteins.fasta"]


def test_stream_without_format(fasta: Path) -> None:
    with pytest.raises(InputError, match="needs a format"):
        embed(fasta, io.BytesIO())


@pytest.mark.parametrize("content", [b"", b"my only copy"])
def test_foreign_file_is_not_replaced(fasta: Path, tmp_path: Path, content: bytes) -> None:
    output = tmp_path / "a.h5"
    output.write_bytes(content)
    with pytest.raises(InputError, match="exists already; choose another output"):
        embed(fasta, output)
    assert output.read_bytes() == content
    embed(fasta, output, restart=True)
    assert len(table(output)) == 150


def test_finished_output_needs_nothing(fasta: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.h5"
    embed(fasta, output)
    before = output.stat()
    encoder = FakeEncoder()
    summary = embed(fasta, output, encoder=encoder)
    assert summary.nothing_to_do
    assert encoder.calls == []
    # Not when it was last read, which some disks note down.
    assert (output.stat().st_ino, output.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": FakeEncoder("other")}, r"another encoder \(fake there, other now\);"),
        ({"dtype": "float16"}, r"another dtype \(float32 there, float16 now\);"),
        ({"per_residue": True}, "another choice between proteins and residues"),
        ({"encoder": FakeEncoder(scale=2)}, "another weights or layer of the encoder;"),
        ({"format": "npz"}, "exists already;"),
    ],
)
def test_finished_output_of_other_settings_is_kept(fasta: Path, tmp_path: Path, options: dict, message: str) -> None:
    output = tmp_path / "a.h5"
    embed(fasta, output)
    content = output.read_bytes()
    with pytest.raises(InputError, match=message):
        embed(fasta, output, **options)
    assert output.read_bytes() == content
    embed(fasta, output, restart=True, **options)
    assert output.read_bytes() != content
    assert not (tmp_path / "a.h5.partial").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX devices and pipes")
@pytest.mark.parametrize("restart", [False, True])
def test_pipe_and_device_are_left_alone(fasta: Path, tmp_path: Path, restart: bool) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "null.h5").symlink_to("/dev/null")
    for name in ("pipe.h5", "null.h5"):
        with pytest.raises(InputError, match=rf"{name}' is a device or a pipe; name a file, or - for standard output"):
            embed(fasta, tmp_path / name, restart=restart)
    assert sorted(os.listdir(tmp_path)) == ["null.h5", "pipe.h5", "proteins.fasta"]


# Resources


def test_full_disk_is_seen_before_the_start(fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=300_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"has 0\.3 MB free, and the run needs about 8\.\d MB "):
        embed(fasta, tmp_path / "a.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["proteins.fasta"]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("step", ["save_piece", "write_table"])
def test_disk_that_fills_meanwhile(fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    owner = partial.Partial if step == "save_piece" else pipeline
    original = getattr(owner, step)
    calls = []

    def full(*arguments: object) -> None:
        calls.append(arguments)
        if step == "write_table" or len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, full)
        with pytest.raises(InputError, match=r"disk of .*a\.h5 is full; .* which resumes"):
            embed(fasta, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    assert embed(fasta, tmp_path / "a.h5").resumed > 0
    embed(fasta, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_disk_that_fills_while_ids_are_sorted(fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Index.add

    def add_and_fill(index: Index, id: str, sequence: str) -> None:
        # SQLite's own limit gives the error of a full disk.
        pages = index._database.execute("PRAGMA page_count").fetchone()[0]
        index._database.execute(f"PRAGMA max_page_count = {pages}")
        add(index, id, sequence)

    monkeypatch.setattr(Index, "add", add_and_fill)
    with pytest.raises(InputError, match=r"^the disk of .*a\.h5 is full; .* which resumes$"):
        embed(fasta, tmp_path / "a.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["proteins.fasta"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_largest_file_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\nMKT\n")
    command = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "from limbeck.cli import main\n"
        "raise SystemExit(main(['embed', 'a.fasta', '-o', 'a.h5', '--encoder', 'one-hot']))"
    )
    run = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert run.stderr.splitlines()[-1].startswith("limbeck: a.h5: disk I/O error; put that right")
    assert os.listdir(tmp_path) == ["a.fasta"]


def test_ids_are_sorted_on_the_outputs_disk(tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    folder.mkdir()

    def sorted_in() -> list[tuple[str]]:
        with closing(sqlite3.connect(":memory:")) as database:
            return database.execute("PRAGMA temp_store_directory").fetchall()

    with Index(folder):
        assert sorted_in() == [(str(folder.resolve()),)]
    assert sorted_in() == []


def test_memory_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 30_000
    with (tmp_path / "a.fasta").open("w") as file:
        for number in range(count):
            letters = (limbeck.residues.RESIDUES[number // 20**power % 20] for power in range(4))
            file.write(f">P{number}\n{''.join(letters)}\n")

    class Counting(FakeEncoder):
        most = 0

        def encode(self, sequences, on_batch=None):
            self.most = max(self.most, len(sequences))
            return np.full((len(sequences), self.dimension), len(sequences[0]), dtype=np.float32)

    encoder = Counting(dimension=256)
    monkeypatch.setattr(plan, "CHUNK_PROTEINS", 1024)
    monkeypatch.setattr(plan, "PIECE_BYTES", 2**21)
    monkeypatch.setattr(stores, "_SPAN_BYTES", 2**21)
    tracemalloc.start()
    try:
        embed(tmp_path / "a.fasta", tmp_path / "a.npz", encoder=encoder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(table(tmp_path / "a.npz")) == count
    assert encoder.most <= 1024
    assert peak < count * 256 * 4 / 2


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 2**32), ("1.5 MiB", 3 * 2**19), ("800mb", 800 * 2**20), ("12", 12), ("2T", 2**41)]
)
def test_parse_size(text: str, size: int) -> None:
    assert memory.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "4 X", "-1G", "0", "4G4"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(InputError, match="not understood"):
        memory.parse_size(text)


def test_token_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FakeEncoder()
    encoder.token_budget, encoder.bytes_per_token = 10_000, 1000
    monkeypatch.setattr(memory, "available_memory", lambda: 30_000_000)
    assert memory.token_budget(encoder) == 10_000
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000_000)
    assert memory.token_budget(encoder) == 4096
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    assert memory.token_budget(encoder) == memory.SMALLEST_BUDGET
    assert memory.token_budget(encoder, 77) == 77
    assert memory.token_budget(encoder, memory="64G") == 10_000
    with pytest.raises(InputError, match="are too few"):
        memory.token_budget(encoder, memory="1M")
    with pytest.raises(InputError, match="at least 1 token"):
        memory.token_budget(encoder, 0)


def test_available_memory_is_within_the_machine() -> None:
    assert 0 < memory.available_memory() <= memory.psutil.virtual_memory().total


def test_control_group_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 200\n")
    assert memory._room(tmp_path, "max", "current", "inactive_file") == [500]
    (tmp_path / "max").write_text("max\n")
    assert memory._room(tmp_path, "max", "current", "inactive_file") == []


@pytest.mark.parametrize("per_residue", [False, True])
def test_plan_covers_every_protein_once(per_residue: bool) -> None:
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 300, size=500).astype(np.int32)
    firsts = np.arange(500)
    firsts[100:120], lengths[100:120] = 5, lengths[5]
    places = np.full(500, -1)
    limits = Limits(64, 90, 5000, 20, 1500)
    found = list(chunks(lengths, firsts, places, limits, per_residue))
    assert [c.start for c in found[1:]] == [c.stop for c in found[:-1]]
    pieces = [piece for chunk in found for piece in chunk.pieces]
    assert sorted(np.concatenate([p.rows for p in pieces])) == [r for r in range(500) if firsts[r] == r]
    assert all(len(p.rows) <= 20 and (p.residues <= 1500 or len(p.rows) == 1) for p in pieces)
    assert [p.number for p in pieces] == list(range(len(pieces)))
    assert (places[100:120] == places[5]).all()
    sizes = lengths if per_residue else np.ones(500, dtype=int)
    ends = {int(places[r] + sizes[r]) for r in range(500)}
    assert ends - {int(p) for p in places} == {pieces[-1].start + pieces[-1].vectors}


# Summary and progress


def test_summary(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", [("A", "mkU"), ("B", "M" * 100), ("C", "MKC")])
    summary = embed(fasta, tmp_path / "a.h5")
    assert (summary.proteins, summary.residues, summary.dimension) == (3, 106, 8)
    assert summary.letters == {"lower case": 2, "U": 1}
    assert (summary.windowed, summary.duplicates, summary.skipped) == (1, 1, 0)
    assert 0 < summary.padding < 1
    assert summary.residues_per_second > 0
    for text in ("lower case 2", "U 1", "1 long protein", "duplicates", "fake", str(tmp_path / "a.h5")):
        assert text in str(summary)


def test_progress_lines_in_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.Progress("embedding", "residues", 2000, shown=True) as bar:
        bar.skip(500)
        bar.note("3 of 9 proteins")
        bar.update(500)
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert re.fullmatch(
        r"embedding: 50\.0 % of 2,000 residues, 3 of 9 proteins, [\d,]+ residues/s, \d\d:\d\d left", last
    )
    assert captured.out == ""


def test_progress_bar_on_a_terminal(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 0.0)
    monkeypatch.setattr(plan, "PIECE_PARAMETER_RESIDUES", 1)
    limbeck.embed(fasta, tmp_path / "a.h5", encoder=FakeEncoder(pause=0.01), batch_tokens=512)
    captured = capsys.readouterr()
    bars = captured.err.split("\r")
    assert any(re.search(r"embedding +\d+% .* residues, .*/s, .* left, \d+ of 150 proteins", b) for b in bars)
    assert captured.out == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [100, 0])
def test_progress_bar_fits_the_terminal(columns: int) -> None:
    """One that says no size, as in a container, has a bar, too."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30 if columns else 0, columns, 0, 0))
    code = (
        "from limbeck import progress; import time; progress.SECONDS_BEFORE_BAR = 0.0\n"
        "with progress.Progress('embedding', 'residues', 2000, shown=True) as bar:\n"
        "    bar.note('123,456 of 234,567 proteins'); time.sleep(0.2); bar.update(1000)"
    )
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True, timeout=60)
    os.set_blocking(ours, False)
    bars = os.read(ours, 100_000).decode().split("\r")
    os.close(ours)
    os.close(theirs)
    (found,) = [bar.strip("\n") for bar in bars if "50%" in bar]
    assert len(found) <= (columns or 80)
    assert re.search(r"embedding +50% .*1\.00k/2\.00k residues, [\d.]+k?/s, \d\d:\d\d left", found)


def lines_of(error: str) -> list[tuple[int, int, int]]:
    """Residues in tenths of a percent, proteins and all proteins, as a log has them."""
    found = re.findall(r"embedding: ([\d.]+) % of [\d,]+ residues, (\d+) of (\d+) proteins, ", error)
    return [(round(10 * float(percent)), int(done), int(total)) for percent, done, total in found]


@pytest.mark.parametrize("per_residue", [False, True])
def test_progress_counts_proteins_as_they_are_computed(
    per_residue: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not when their piece is saved: a small input is one piece."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    lengths = [*range(1, 60), 60, 63, 64, 65, 130, 200]
    proteins = [(f"P{i}", "MKV"[i % 3] * length) for i, length in enumerate(lengths)]
    fasta = write_fasta(tmp_path / "a.fasta", [*proteins, ("again", proteins[0][1])])
    limbeck.embed(fasta, tmp_path / "a.h5", encoder=FakeEncoder(), batch_tokens=128, per_residue=per_residue)
    lines = lines_of(capsys.readouterr().err)
    assert len(lines) > 10
    assert (lines[-1]) == (1000, len(proteins), len(proteins))
    longest_first, total = sorted(lengths, reverse=True), sum(lengths)
    for tenths, done, _ in lines:
        # What is whole is computed, and at most one protein, in windows, is computed in part.
        assert round(1000 * sum(longest_first[:done]) / total) <= tenths
        assert done == len(lengths) or tenths <= round(1000 * sum(longest_first[: done + 1]) / total)


def test_progress_of_a_run_that_goes_on(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "PIECE_PARAMETER_RESIDUES", 1)
    output = tmp_path / "a.h5"
    whole, saved = partial.Partial.save_piece, []

    def save(self: partial.Partial, number: int, vectors: NDArray[np.floating]) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(len(vectors))
        whole(self, number, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(partial.Partial, "save_piece", save)
        with pytest.raises(KeyboardInterrupt):
            embed(fasta, output, encoder=FakeEncoder(), batch_tokens=512)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    limbeck.embed(fasta, output, encoder=FakeEncoder(), batch_tokens=512)
    lines = lines_of(capsys.readouterr().err)
    assert lines[-1] == (1000, 150, 150)
    assert all(done >= sum(saved) for tenths, done, _ in lines if tenths > lines[3][0])


@pytest.mark.parametrize("terminal", [False, True])
def test_what_an_earlier_run_did_is_no_part_of_the_rate(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 0.0)
    with progress.Progress("embedding", "residues", 100_000, shown=True) as bar:
        for skipped in (40_000, 40_000):
            # Its checksums are looked at.
            now[0] += 50.0
            bar.skip(skipped)
        for _ in range(10):
            now[0] += 1.0
            bar.update(1000)
    last = [line for line in re.split(r"[\r\n]", capsys.readouterr().err) if "90" in line][-1]
    wanted = r"1\.00k/s, 00:(09|10) left" if terminal else "90.0 % of 100,000 residues, 1,000 residues/s, 00:10 left"
    assert re.search(wanted, last)


def test_quiet_run_says_nothing(fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embed(fasta, tmp_path / "a.h5")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


# Options


def test_options_of_a_name_do_not_go_with_an_encoder(fasta: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="go with the name of an encoder"):
        embed(fasta, tmp_path / "a.h5", layer=3)


@pytest.mark.parametrize("options", [{"dtype": "float64"}, {"duplicate_ids": "drop"}])
def test_unknown_options(fasta: Path, tmp_path: Path, options: dict) -> None:
    with pytest.raises(InputError, match="unknown"):
        embed(fasta, tmp_path / "a.h5", **options)


def test_encoder_without_residues_says_so_at_once(fasta: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no features of single residues"):
        embed(fasta, tmp_path / "a.h5", encoder="composition", per_residue=True)
    assert [p.name for p in tmp_path.iterdir()] == ["proteins.fasta"]


def test_no_inputs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no input"):
        embed([], tmp_path / "a.h5")


def test_standard_input_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="named twice"):
        embed(["-", "-"], tmp_path / "a.h5", stdin=io.BytesIO(b">A\nM\n"))


def test_budget_of_the_encoder_is_given_back(fasta: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    embed(fasta, tmp_path / "a.h5", encoder=encoder, batch_tokens=64)
    assert encoder.token_budget == 512
