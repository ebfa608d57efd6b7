"""``limbeck profiles``, ``contexts`` and ``distill`` as a user runs them."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import limbeck
from limbeck.distillation.homology import choose_queries

pytest.importorskip("torch")
EXAMPLE = Path(__file__).parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"
TINY = [
    *("--width", "16", "--inner", "16", "--states", "24", "--dilations", "1,2"),
    *("--steps", "4", "--warmup", "1", "--batch-residues", "1024", "--evaluate-every", "2"),
    *("--no-compile", "--precision", "f32"),
]


def run(*arguments):
    command = [sys.executable, "-m", "limbeck.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_distill_from_scratch_then_embed(tmp_path):
    done = run("distill", EXAMPLE, "-o", tmp_path / "student", "--name", "tiny", "--license", "CC0-1.0", *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"--encoder {tmp_path / 'student'}" in done.stderr
    again = run("distill", EXAMPLE, "-o", tmp_path / "student", *TINY)
    assert again.returncode == 2
    assert again.stderr == f"limbeck: {tmp_path / 'student'} already holds a student; choose another folder\n"
    embedded = run("embed", EXAMPLE, "--encoder", tmp_path / "student", "-o", tmp_path / "out.npz")
    assert embedded.returncode == 0, embedded.stderr
    assert np.load(tmp_path / "out.npz")["embeddings"].shape == (515, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--contexts", "no.safetensors"],
            "has no profiles for a context library; make a corpus with 'limbeck profiles'",
        ),
        (["--teacher", "kmers-3"], "kmers-3 describes whole proteins and has no features"),
        (["--teacher", "nothing-like-it"], "no encoder is called 'nothing-like-it'"),
        (["--states", "8"], "8 contexts cannot span 16 dimensions"),
    ],
)
def test_distill_refuses_in_one_line(tmp_path, arguments, message):
    done = run("distill", EXAMPLE, "-o", tmp_path / "student", *TINY, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "student" / "config.json").exists()


def test_missing_corpus_is_one_line(tmp_path):
    done = run("distill", tmp_path / "no.fasta", "-o", tmp_path / "student")
    assert done.returncode == 2
    assert "no.fasta" in done.stderr
    assert "Traceback" not in done.stderr


def test_queries_are_balanced_over_families():
    families = {f"a{i}": "a" for i in range(20)} | {f"b{i}": "b" for i in range(3)} | {"short": "c", "other": "c"}
    families |= {f"single{i}": f"single{i}" for i in range(2500)}
    lengths = dict.fromkeys(families, 100) | {"short": 20}
    chosen = choose_queries(families, lengths)
    assert len(chosen) == len(set(chosen))
    count = {family: sum(name.startswith(family) for name in chosen) for family in ("a", "b", "single")}
    assert (count["a"], count["b"]) == (3, 3)
    assert 400 < count["single"] < 600
    assert "other" in chosen
    assert "short" not in chosen


@pytest.mark.skipif(not shutil.which("mmseqs"), reason="MMseqs2 (apt install mmseqs2) is no Python package")
def test_profiles_contexts_and_distillation_end_to_end(tmp_path):
    corpus, library, student = tmp_path / "corpus.h5", tmp_path / "library.safetensors", tmp_path / "student"
    done = run("profiles", EXAMPLE, "-o", corpus, "--threads", "2")
    assert done.returncode == 0, done.stderr
    with h5py.File(corpus) as file:
        assert 50 < len(file["names"]) < 515
        np.testing.assert_allclose(file["profiles"][:].astype(np.float32).sum(axis=1), 1, atol=0.01)
        assert len(np.unique(file["families"][:])) < len(file["names"])
    assert not list(tmp_path.glob(".limbeck-*"))

    done = run("contexts", corpus, "-o", library, "--states", "24", "--windows", "2000", "--iterations", "3")
    assert done.returncode == 0, done.stderr
    assert limbeck.load(library).encode(["MKTAYIAKQR"]).shape == (1, 24)

    done = run("distill", corpus, "--contexts", library, "-o", student, *TINY)
    assert done.returncode == 0, done.stderr
    assert "library.safetensors" in (student / "README.md").read_text()


def test_missing_mmseqs_says_how_to_get_it(tmp_path, monkeypatch):
    from limbeck.homology import mmseqs

    monkeypatch.setattr(mmseqs.shutil, "which", lambda name: None)
    with pytest.raises(limbeck.InputError, match="MMseqs2 is not installed; get it with 'apt install mmseqs2'"):
        mmseqs.MMseqs(tmp_path, 1)


def test_distill_from_python(tmp_path):
    from limbeck.distillation.config import StudentConfig, TrainingConfig

    shape = StudentConfig(width=16, inner=16, states=24, dilations=(1,))
    config = TrainingConfig(steps=2, batch_residues=512, evaluate_every=2, compile=False, student=shape)
    folder = limbeck.distill(EXAMPLE, tmp_path / "student", config=config)
    assert limbeck.load(folder).dimension == 16
    assert callable(limbeck.adapt)
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        limbeck.distil  # noqa: B018
