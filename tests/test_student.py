"""The default model as it runs: without PyTorch, in windows, in several precisions."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import limbeck
from limbeck.encoders import graph_cache
from limbeck.encoders.registry import Options
from limbeck.encoders.student import DEFAULT_NAME, StudentEncoder, load_student, random_student
from limbeck.errors import InputError
from limbeck.residues import RESIDUES
from tiny_encoders import protein

MODEL = Path(limbeck.__file__).parent / "models" / DEFAULT_NAME
# Of the largest number in the vectors; measured on S. cerevisiae proteins, see docs/embedding.md.
F32_TOLERANCE = 1e-5
BF16_COSINE = 0.999


@pytest.fixture(scope="module")
def f32():
    return limbeck.load(precision="f32")


@pytest.fixture(scope="module")
def bf16():
    return limbeck.load(precision="bf16")


def close(a, b):
    np.testing.assert_allclose(a, b, atol=F32_TOLERANCE * np.abs(b).max())


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("pooling", ["combined", "mean"])
def test_windows_do_not_show(pooling):
    """The overlap is twice the receptive field, so windowed vectors are those of the whole protein."""
    encoder = limbeck.load(precision="f32", pooling=pooling)
    sequence = protein(1500)
    whole, residues = encoder.encode([sequence]), encoder.encode_residues([sequence])[0]
    encoder.max_length = encoder.overlap + 100
    close(encoder.encode([sequence]), whole)
    close(encoder.encode_residues([sequence])[0], residues)


def test_long_protein_is_not_cut(f32):
    sequence = protein(9000)
    changed = sequence[:-1] + ("A" if sequence[-1] != "A" else "C")
    assert len(f32.encode_residues([sequence])[0]) == 9000
    assert np.abs(f32.encode([sequence]) - f32.encode([changed])).max() > 0


def test_bf16_stays_close_to_f32(f32, bf16):
    sequences = [protein(length, seed) for seed, length in enumerate([40, 333, 90, 700, 5000])]
    assert cosines(bf16.encode(sequences), f32.encode(sequences)).min() > BF16_COSINE


def test_bf16_batch_of_one_is_batch_of_many(bf16):
    sequences = [protein(length, seed) for seed, length in enumerate([40, 333, 90, 700, 41])]
    alone = np.concatenate([bf16.encode([s]) for s in sequences])
    assert cosines(alone, bf16.encode(sequences)).min() > BF16_COSINE


def test_number_of_threads_does_not_matter():
    sequences = [protein(length, seed) for seed, length in enumerate([40, 333, 90])]
    one, two = (limbeck.load(precision="f32", threads=n).encode(sequences) for n in (1, 2))
    close(one, two)


def test_threads_must_be_positive():
    with pytest.raises(InputError, match="threads must be at least 1, not 0"):
        limbeck.load(threads=0)


def test_log_probabilities_are_distributions_that_favour_the_residue(f32):
    sequence = protein(200)
    (log_p,) = f32.log_probabilities([sequence])
    assert log_p.shape == (200, 20)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-5)
    kept = np.mean([RESIDUES[i] == residue for i, residue in zip(log_p.argmax(axis=1), sequence, strict=True)])
    assert kept > 0.5


def test_poolings_and_weights_have_fingerprints_of_their_own(f32):
    others = [limbeck.load(pooling="mean"), random_student(), random_student(seed=1)]
    assert len({f32.fingerprint, *(e.fingerprint for e in others)}) == 4
    assert limbeck.load(precision="bf16").fingerprint == f32.fingerprint


def test_random_student_is_the_same_everywhere():
    vectors = [limbeck.load("random-student", precision="f32").encode(["MKTAYIAK"]) for _ in range(2)]
    np.testing.assert_array_equal(*vectors)


def test_pickled_encoder_compiles_again(f32):
    copy = pickle.loads(pickle.dumps(f32))
    close(copy.encode(["MKTAYIAK"]), f32.encode(["MKTAYIAK"]))


def test_several_threads_may_use_one_encoder(f32):
    proteins = [protein(length, seed=length) for length in (40, 80, 200)]
    expected = [f32.encode([text]) for text in proteins]
    for encoder in (f32, pickle.loads(pickle.dumps(f32))):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(encoder.encode, [[text] for text in proteins * 8]))
        for vectors, right in zip(found, expected * 8, strict=True):
            np.testing.assert_array_equal(vectors, right)


def test_inference_needs_no_pytorch():
    code = (
        "import sys, limbeck; limbeck.load().encode(['MKTAYIAK']); "
        "print(sorted({'torch', 'transformers', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_is_light_enough_and_has_a_card():
    assert (MODEL / "model.safetensors").stat().st_size <= 25_000_000
    card = (MODEL / "README.md").read_text()
    for part in ("license: cc-by-4.0", "## Teachers", "## Corpus", "## Scores", "limbeck distill"):
        assert part in card
    config = json.loads((MODEL / "config.json").read_text())
    assert config["limbeck"]["states"] >= config["limbeck"]["width"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "is not a complete student"),
        ("cut", "is not a complete student"),
        ("shape", r"tensor norm\.weight should have shape \(384,\), found \(3,\)"),
        ("tensor", r"tensor norm\.weight should have shape \(384,\), found None"),
        ("config", "does not describe a limbeck student"),
        ("nested", "nested_dimensions in config.json is no list of numbers"),
    ],
)
def test_damaged_student_is_one_clear_line(tmp_path, damage, message):
    folder = tmp_path / "student"
    shutil.copytree(MODEL, folder)
    weights = folder / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "config":
        (folder / "config.json").write_text("{}")
    elif damage == "nested":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"nested_dimensions": ["64"]}))
    else:
        tensors = load_file(weights)
        norm = tensors.pop("norm.weight")
        save_file(tensors | ({"norm.weight": norm[:3]} if damage == "shape" else {}), weights)
    with pytest.raises(InputError, match=message) as error:
        load_student(folder)
    assert "\n" not in str(error.value)


def test_unknown_pooling_and_precision_name_the_choices():
    with pytest.raises(InputError, match="combined, mean"):
        limbeck.load(pooling="max")
    with pytest.raises(InputError, match="f32, bf16"):
        limbeck.load(precision="int4")


def test_compiled_graph_is_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    first = limbeck.load(precision="f32").encode(["MKTAYIAK"])
    assert list((tmp_path / "cache").rglob("*.blob"))
    np.testing.assert_array_equal(limbeck.load(precision="f32").encode(["MKTAYIAK"]), first)


def test_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "file" / "cache"))
    assert isinstance(limbeck.load(), StudentEncoder)
    assert limbeck.load().encode(["MKTAYIAK"]).shape == (1, 384)


def test_damaged_compiled_graph_is_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    before = random_student(Options(threads=1)).encode(["MKTAYIAK"])
    (blob,) = tmp_path.glob("*.blob")
    blob.write_bytes(blob.read_bytes()[:1000])
    np.testing.assert_array_equal(random_student(Options(threads=1)).encode(["MKTAYIAK"]), before)
    # Not to the byte as it was: the runtime numbers the names of all nodes that a process makes.
    assert blob.stat().st_size > 1_000_000
    # Read back, not compiled a third time.
    monkeypatch.setattr(StudentEncoder, "_graph", None)
    np.testing.assert_array_equal(random_student(Options(threads=1)).encode(["MKTAYIAK"]), before)


def graph_file(folder, number, *, days, size=10):
    """A compiled graph of somebody else's, last used so many days ago."""
    path = folder / f"{number:064x}.blob"
    path.write_bytes(bytes(size))
    return aged(path, days)


def aged(path, days):
    os.utime(path, (time.time() - days * 86_400,) * 2)
    return path


def test_compiled_graphs_that_nobody_uses_are_removed_when_one_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    unused, in_use = graph_file(tmp_path, 1, days=31), graph_file(tmp_path, 2, days=29)
    of_a_killed_process = aged(graph_file(tmp_path, 3, days=0).rename(tmp_path / f"{3:064x}.blob.partial"), 2)
    being_written = graph_file(tmp_path, 4, days=0).rename(tmp_path / f"{4:064x}.blob.1f.partial")
    (tmp_path / "homology").mkdir()
    (tmp_path / "model.blob").write_text("the user's own")
    not_ours = [aged(tmp_path / name, 400) for name in ("homology", "model.blob")]
    random_student(Options(threads=1)).encode(["MKTAYIAK"])
    assert not unused.exists()
    assert not of_a_killed_process.exists()
    assert all(path.exists() for path in (in_use, being_written, *not_ours))


def test_compiled_graphs_have_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    monkeypatch.setattr(graph_cache, "MOST_BYTES", 100)
    oldest, old, last = (graph_file(tmp_path, days, days=days, size=40) for days in (3, 2, 1))
    graph_cache.keep("f" * 64, bytes(20))
    assert (oldest.exists(), old.exists(), last.exists()) == (False, True, True)
    # The one that was asked for stays, whatever its size.
    graph_cache.keep("e" * 64, bytes(1000))
    assert [path.name for path in tmp_path.iterdir()] == [f"{'e' * 64}.blob"]


def test_a_compiled_graph_that_is_read_is_in_use(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    random_student(Options(threads=1)).encode(["MKTAYIAK"])
    (graph,) = tmp_path.glob("*.blob")
    aged(graph, 400)
    random_student(Options(threads=1)).encode(["MKTAYIAK"])
    graph_cache.keep("f" * 64, b"")
    assert graph.exists()


def test_a_compiled_graph_that_cannot_be_removed_is_no_error(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        asked.append(path)
        raise PermissionError(13, "Permission denied")

    asked = []
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    unused = graph_file(tmp_path, 1, days=31)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert random_student(Options(threads=1)).encode(["MKTAYIAK"]).shape == (1, 384)
    assert unused in asked
    assert unused.exists()


def test_processes_that_write_the_same_compiled_graph_leave_one_that_is_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    size = 4_000_000
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: graph_cache.keep("f" * 64, bytes([i]) * size), range(32)))
    (graph,) = tmp_path.iterdir()
    content = graph.read_bytes()
    assert content == content[:1] * size
