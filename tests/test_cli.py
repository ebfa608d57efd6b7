from __future__ import annotations

import functools
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import limbeck
from fake_encoder import random_proteins, write_fasta
from limbeck import cli

PROTEINS = random_proteins(30)
SOURCE = str(Path(limbeck.__file__).parents[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_fasta(tmp_path / "proteins.fasta", PROTEINS)
    return tmp_path


def run(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "limbeck.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(command, cwd=folder, env=environment, input=stdin, capture_output=True, timeout=120)


def test_embed(folder: Path) -> None:
    done = run(folder, "embed", "proteins.fasta", "--encoder", "composition")
    assert (done.returncode, done.stdout) == (0, b"")
    assert [id for id, _ in limbeck.read_embeddings(folder / "proteins.h5")] == [id for id, _ in PROTEINS]
    names = [line.split("  ")[0] for line in done.stderr.decode().splitlines()]
    counted = ["proteins", "residues", "letters changed", "in windows", "duplicates"]
    assert names == [*counted, "encoder", "speed", "time", "spent on", "output"]


def test_pipe_to_parquet(folder: Path) -> None:
    fasta = (folder / "proteins.fasta").read_bytes()
    done = run(folder, "embed", "-", "-o", "-", "--format", "parquet", "--encoder", "one-hot", stdin=fasta)
    assert done.returncode == 0
    table = pq.read_table(io.BytesIO(done.stdout))
    assert table["id"].to_pylist() == [id for id, _ in PROTEINS]
    assert table["length"].to_pylist() == [len(sequence) for _, sequence in PROTEINS]
    assert [p.name for p in folder.iterdir()] == ["proteins.fasta"]


def test_options_reach_the_run(folder: Path) -> None:
    (folder / "a.csv").write_text("key,mutant\nA,MKV\nA,MK7\nA,mkvu\n")
    done = run(
        folder, "embed", "a.csv", "-o", "a.npz", "--encoder", "one-hot", "--per-residue", "--dtype", "float16",
        "--duplicate-ids", "suffix", "--skip-invalid", "--sequence-column", "mutant", "--id-column", "key",
        "--memory", "4G", "--quiet",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    found = dict(limbeck.read_embeddings(folder / "a.npz"))
    assert {id: (array.shape, array.dtype) for id, array in found.items()} == {
        "A": ((3, 20), np.float16),
        "A_2": ((4, 20), np.float16),
    }
    assert "a.csv\tline 3\tA\t" in (folder / "a.npz.skipped.tsv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "none.fasta"], "none.fasta: no such file"),
        (["embed", "proteins.fasta", "-o", "x.doc"], "tells no format"),
        (["embed", "proteins.fasta", "-o", "none/x.h5"], "does not exist"),
        (["embed", "proteins.fasta", "-o", "-"], "needs a format"),
        (["embed", "proteins.fasta", "--encoder", "compositoin"], "composition"),
        (["embed", "proteins.fasta", "--memory", "much"], "not understood"),
        (["embed", "proteins.fasta", "--layer", "top"], "--layer"),
        (["embed", "proteins.fasta", "--wrong"], "--wrong"),
        (["embed"], "FILE"),
        (["distil"], "'distil'"),
        ([], "VERB"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments, message
) -> None:
    monkeypatch.chdir(folder)
    if "--encoder" not in arguments and len(arguments) > 1:
        arguments = [*arguments, "--encoder", "composition"]
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("limbeck")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert [p.name for p in folder.iterdir()] == ["proteins.fasta"]


def test_mistake_in_a_process(folder: Path) -> None:
    (folder / "bad.fasta").write_text(">A\nMK\nV1\n")
    done = run(folder, "embed", "bad.fasta", "--encoder", "composition", "-o", "a.h5")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        "limbeck: bad.fasta, line 3, record 'A': character '1' at position 4 is not a residue; "
        "remove it or use --skip-invalid\n"
    )


def test_terminal_as_output_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["embed", str(folder / "proteins.fasta"), "-o", "-", "--format", "npz"]) == 2
    assert "is a terminal" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_interrupt_says_how_to_go_on(folder: Path) -> None:
    write_fasta(folder / "many.fasta", random_proteins(40_000, longest=900))
    command = [sys.executable, "-m", "limbeck.cli", "embed", "many.fasta", "--encoder", "composition"]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    # Whoever runs the tests in the background may have told its children to ignore the signal.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, preexec_fn=heed)
    while not (folder / "many.h5.partial" / "scratch" / "lengths").exists():
        time.sleep(0.005)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.decode().splitlines()[-1] == "limbeck: interrupted; the same command goes on from here"
    assert not (folder / "many.h5").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("verb", ["encoders", "embed proteins.fasta --encoder kmers-3 -o - --format npz --quiet"])
def test_broken_pipe_is_silent(folder: Path, verb: str) -> None:
    script = f"{sys.executable} -m limbeck.cli {verb} | true"
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(["sh", "-c", script], cwd=folder, env=environment, capture_output=True)
    assert done.stderr == b""


def test_encoders(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", lines[0]) == ["name", "kind", "dimension", "parameters", "licence", "on this machine"]
    assert "kmers-3" in {line.split()[0] for line in lines}
    assert all(line.endswith(("yes", "no")) for line in lines[1:])


@pytest.mark.parametrize(("arguments", "text"), [(["--version"], limbeck.__version__), (["embed", "-h"], "examples:")])
def test_help_and_version(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 0
    assert text in capsys.readouterr().out


def test_version_describes_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"limbeck {limbeck.__version__}"
    rows = {line[2:14].strip(): line[15:] for line in lines}
    assert list(rows) == ["python", "system", "processor", "features", "memory", "openvino on", "packages"]
    assert rows["openvino on"].startswith("CPU: ")
    assert f"numpy {np.__version__}" in rows["packages"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "per-residue" in script
    assert "landscape" in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script.encode(), timeout=60).returncode == 0


def test_bash_completes_verbs_and_choices(tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    if not shutil.which("bash"):
        pytest.skip("needs bash")
    script = run(tmp_path, "completion", "bash").stdout.decode()
    ask = 'COMP_WORDS=(limbeck {}); COMP_CWORD={}; _shtab_limbeck; echo "${{COMPREPLY[@]}}"'
    questions = [ask.format("emb", 1), ask.format("embed --dtype f", 3), ask.format("embed --eng", 2)]
    answers = subprocess.run(
        ["bash"], input="\n".join([script, *questions]), text=True, capture_output=True, timeout=60
    )
    assert answers.stdout.split("\n")[:3] == ["embed", "float32 float16", "--engine"]
