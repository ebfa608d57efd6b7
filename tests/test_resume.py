"""Runs that are killed end in the file that an undisturbed run gives."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck import InputError
from limbeck.embedding import plan
from limbeck.embedding.partial import Partial

PROTEINS = random_proteins(240, seed=7)

# Small pieces and a slow encoder; `pause_at` marks a moment and waits there for the signal.
RUN = """
import sys, time
from pathlib import Path
import limbeck
from fake_encoder import FakeEncoder
from limbeck.embedding import pipeline, plan
from limbeck.embedding.partial import Partial

fasta, output, pause_at, per_residue = sys.argv[1:]
plan.CHUNK_PROTEINS, plan.CHUNK_RESIDUES, plan.PIECE_BYTES, plan.PIECE_PARAMETER_RESIDUES = 50, 5000, 2**16, 1

def wait():
    Path(output + ".marker").touch()
    time.sleep(60)

def after(owner, name):
    original = getattr(owner, name)
    def replaced(*arguments):
        original(*arguments)
        wait()
    setattr(owner, name, replaced)

if pause_at == "scan":
    after(pipeline, "_scan")
elif pause_at == "begin":
    after(Partial, "begin")
elif pause_at == "half a table":
    def half(table, path, format, on_proteins):
        path.write_bytes(b"half")
        wait()
    pipeline.write_table = half
elif pause_at == "whole table":
    after(pipeline, "write_table")
elif pause_at == "final name":
    after(pipeline, "_assemble")
limbeck.embed(fasta, output, encoder=FakeEncoder(pause=0.003), per_residue=per_residue == "yes",
              batch_tokens=512, progress=False)
"""


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "proteins.fasta", PROTEINS)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "CHUNK_PROTEINS", 50)
    monkeypatch.setattr(plan, "CHUNK_RESIDUES", 5000)
    monkeypatch.setattr(plan, "PIECE_BYTES", 2**16)
    monkeypatch.setattr(plan, "PIECE_PARAMETER_RESIDUES", 1)


def start(fasta: Path, output: Path, pause_at: str = "", per_residue: bool = False) -> subprocess.Popen[bytes]:
    paths = [str(Path(limbeck.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    arguments = [str(fasta), str(output), pause_at, "yes" if per_residue else "no"]
    return subprocess.Popen([sys.executable, "-c", RUN, *arguments], env=environment)


def finish(fasta: Path, output: Path, per_residue: bool = False) -> bytes:
    assert start(fasta, output, per_residue=per_residue).wait(60) == 0
    return output.read_bytes()


def wait_for(process: subprocess.Popen[bytes], path: Path, pattern: str, count: int) -> None:
    end = time.monotonic() + 60
    while len(list(path.glob(pattern))) < count:
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.001)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def embed(fasta: Path, output: Path, **options: object) -> limbeck.Summary:
    options.setdefault("encoder", FakeEncoder())
    return limbeck.embed(fasta, output, progress=False, **options)


pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@pytest.mark.parametrize("per_residue", [False, True])
def test_killed_again_and_again(fasta: Path, tmp_path: Path, per_residue: bool) -> None:
    whole = finish(fasta, tmp_path / "whole.h5", per_residue)
    output = tmp_path / "killed.h5"
    generator = random.Random(per_residue)
    for count in (1, 4, 8):
        process = start(fasta, output, per_residue=per_residue)
        wait_for(process, tmp_path / "killed.h5.partial" / "pieces", "*.npy", count)
        time.sleep(generator.random() * 0.02)
        kill(process)
        assert not output.exists()
    assert finish(fasta, output, per_residue) == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.h5", "proteins.fasta", "whole.h5"]


@pytest.mark.parametrize("moment", ["scan", "begin", "half a table", "whole table", "final name"])
def test_killed_at_moments_that_matter(fasta: Path, tmp_path: Path, moment: str) -> None:
    whole = finish(fasta, tmp_path / "whole.parquet")
    output = tmp_path / "killed.parquet"
    process = start(fasta, output, moment)
    wait_for(process, tmp_path, "*.marker", 1)
    kill(process)
    assert (tmp_path / "killed.parquet.partial").exists()
    assert output.exists() == (moment == "final name")
    assert finish(fasta, output) == whole
    assert not (tmp_path / "killed.parquet.partial").exists()


class Interrupting(FakeEncoder):
    """Stops at its n-th call."""

    def __init__(self, stop: int = 4, **options: object) -> None:
        super().__init__(**options)
        self._stop = stop

    def encode(self, sequences, on_batch=None):
        if len(self.calls) == self._stop:
            raise KeyboardInterrupt
        return super().encode(sequences, on_batch)


def interrupted(fasta: Path, output: Path, **options: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed(fasta, output, encoder=Interrupting(), **options)


@pytest.mark.usefixtures("small_pieces")
def test_only_the_rest_is_computed(fasta: Path, tmp_path: Path) -> None:
    interrupted(fasta, tmp_path / "a.h5")
    encoder = FakeEncoder()
    summary = embed(fasta, tmp_path / "a.h5", encoder=encoder)
    computed = sum(len(sequence) for call in encoder.calls for sequence in call)
    assert 0 < computed < summary.residues
    assert summary.resumed + computed == sum(len(sequence) for sequence in {s for _, s in PROTEINS})
    assert "resumed" in str(summary)


def in_bf16() -> FakeEncoder:
    encoder = FakeEncoder()
    encoder.precision = "bf16"
    return encoder


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": FakeEncoder("other")}, r"another encoder \(fake there, other now\);"),
        ({"encoder": FakeEncoder(scale=2)}, "another weights or layer of the encoder;"),
        ({"encoder": in_bf16()}, r"another precision \(f32 there, bf16 now\);"),
        ({"dtype": "float16"}, r"another dtype \(float32 there, float16 now\);"),
        ({"per_residue": True}, "another choice between proteins and residues"),
        ({"batch_tokens": 99}, r"another batch size \(512 tokens there, 99 now\);"),
    ],
)
def test_changed_settings_are_refused(fasta: Path, tmp_path: Path, options: dict, message: str) -> None:
    interrupted(fasta, tmp_path / "a.h5")
    with pytest.raises(InputError, match=rf"unfinished run with {message}.* --restart"):
        embed(fasta, tmp_path / "a.h5", **options)
    assert embed(fasta, tmp_path / "a.h5").resumed > 0


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("change", ["letter", "id", "order", "one more"])
def test_changed_input_is_refused(fasta: Path, tmp_path: Path, change: str) -> None:
    interrupted(fasta, tmp_path / "a.h5")
    changed = {
        "letter": [("P0", "W" * len(PROTEINS[0][1])), *PROTEINS[1:]],
        "id": [("Q0", PROTEINS[0][1]), *PROTEINS[1:]],
        "order": [PROTEINS[1], PROTEINS[0], *PROTEINS[2:]],
        "one more": [*PROTEINS, ("new", "MKV")],
    }[change]
    write_fasta(fasta, changed)
    with pytest.raises(InputError, match=r"unfinished run with another input; .* --restart"):
        embed(fasta, tmp_path / "a.h5")
    summary = embed(fasta, tmp_path / "a.h5", restart=True)
    assert summary.resumed == 0
    assert [id for id, _ in limbeck.read_embeddings(tmp_path / "a.h5")] == [id for id, _ in changed]


@pytest.mark.usefixtures("small_pieces")
def test_recorded_batch_size_is_reused(fasta: Path, tmp_path: Path) -> None:
    interrupted(fasta, tmp_path / "a.h5", batch_tokens=300)

    class Watching(FakeEncoder):
        def __init__(self):
            super().__init__()
            self.budgets = set()

        def forward(self, windows):
            self.budgets.add(self.token_budget)
            return super().forward(windows)

    encoder = Watching()
    embed(fasta, tmp_path / "a.h5", encoder=encoder)
    assert encoder.budgets == {300}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "grow", "remove"])
def test_damaged_pieces_are_computed_again(fasta: Path, tmp_path: Path, damage: str) -> None:
    embed(fasta, tmp_path / "whole.h5")
    interrupted(fasta, tmp_path / "a.h5")
    pieces = sorted((tmp_path / "a.h5.partial" / "pieces").iterdir())
    content = pieces[1].read_bytes()
    if damage == "flip":
        middle = len(content) // 2
        pieces[1].write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "remove":
        pieces[1].unlink()
    else:
        pieces[1].write_bytes({"cut": content[:-7], "empty": b"", "grow": content + b"more"}[damage])
    encoder = FakeEncoder()
    summary = embed(fasta, tmp_path / "a.h5", encoder=encoder)
    assert 0 < summary.resumed < summary.residues
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.usefixtures("small_pieces")
def test_damaged_manifest_is_refused(fasta: Path, tmp_path: Path) -> None:
    interrupted(fasta, tmp_path / "a.h5")
    (tmp_path / "a.h5.partial" / "manifest.json").write_text('{"settings"')
    with pytest.raises(InputError, match=r"manifest\.json' is damaged; give --restart"):
        embed(fasta, tmp_path / "a.h5")
    assert embed(fasta, tmp_path / "a.h5", restart=True).resumed == 0


@pytest.mark.usefixtures("small_pieces")
def test_replacing_run_resumes_without_restart(fasta: Path, tmp_path: Path) -> None:
    embed(fasta, tmp_path / "a.h5", dtype="float16")
    old = (tmp_path / "a.h5").read_bytes()
    interrupted(fasta, tmp_path / "a.h5", restart=True)
    assert (tmp_path / "a.h5").read_bytes() == old
    assert embed(fasta, tmp_path / "a.h5").resumed > 0
    assert limbeck.embedding.read_metadata(tmp_path / "a.h5")["dtype"] == "float32"


def test_two_runs_cannot_share_an_output(fasta: Path, tmp_path: Path) -> None:
    process = start(fasta, tmp_path / "a.h5", "begin")
    try:
        wait_for(process, tmp_path, "*.marker", 1)
        with pytest.raises(InputError, match="another run is at work in"):
            embed(fasta, tmp_path / "a.h5")
    finally:
        kill(process)
    embed(fasta, tmp_path / "a.h5", batch_tokens=512)


def test_other_files_in_the_partial_folder_are_left_alone(fasta: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a.h5.partial"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    embed(fasta, tmp_path / "a.h5")
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_manifest_says_what_is_computed(tmp_path: Path) -> None:
    with Partial(tmp_path / "a.partial") as partial:
        partial.begin({"settings": {"encoder": "fake"}})
        assert json.loads((tmp_path / "a.partial" / "manifest.json").read_text()) == partial.manifest()
        partial.clear()
    assert not (tmp_path / "a.partial").exists()
