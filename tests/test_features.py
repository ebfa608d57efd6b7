"""Teachers' features: the store on disk, its resumption and its checks, and the live twin."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.features import (
    CachedFeatures,
    LiveFeatures,
    cached,
    choice,
    estimate,
    features_of,
    has_residue_features,
    statistics,
    store,
    teaching,
)
from limbeck.errors import InputError
from limbeck.residues import RESIDUES
from tiny_encoders import write_library

WIDTH = 8  # of FakeEncoder


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(cached, "SHARD_RESIDUES", 700)
    monkeypatch.setattr(teaching, "_BATCH_RESIDUES", 300)
    # Only a power cut could tell the difference.
    monkeypatch.setattr(store, "sync", lambda descriptor: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return corpus_of(tmp_path_factory.mktemp("corpus"), random_proteins(40, seed=3))


def corpus_of(folder: Path, proteins: list[tuple[str, str]]) -> Corpus:
    return Corpus(write_fasta(folder / "proteins.fasta", proteins))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def new_run() -> None:
    """What a new process knows: no file has been checked yet."""
    store._verified.clear()


def halves(teacher, corpus: Corpus, protein: int) -> np.ndarray:
    (features,) = teacher.encode_residues([corpus.sequence(protein)])
    return features.astype(np.float16).astype(np.float32)


many = settings(max_examples=15, deadline=None)


@many
@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=12),
    share=st.one_of(st.sampled_from([0.01, 1.0]), st.floats(0.05, 0.95)),
    seed=st.integers(0, 3),
    length=st.integers(1, 60),
)
def test_crops_are_the_teachers_features_where_known(tmp_path_factory, lengths, share, seed, length):
    rng = np.random.default_rng(seed)
    proteins = [(f"p{i}", "".join(rng.choice(list(RESIDUES), size=n))) for i, n in enumerate(lengths)]
    folder = tmp_path_factory.mktemp("any")
    corpus, teacher = corpus_of(folder, proteins), FakeEncoder()
    features = CachedFeatures(folder, teacher, corpus, share=share, seed=seed)
    rows = np.arange(len(lengths)).repeat(2)
    starts = rng.integers(0, np.array(lengths)[rows])
    values, known = features.crops(rows, starts, length)
    live, live_known = LiveFeatures(teacher, corpus).crops(rows, starts, length)
    assert values.dtype == np.float32
    for row, (protein, start) in enumerate(zip(rows, starts, strict=True)):
        truth = halves(teacher, corpus, protein)[start : start + length]
        here = known[row, : len(truth)]
        np.testing.assert_array_equal(values[row, : len(truth)][here], truth[here])
        assert live_known[row].sum() == len(truth)
        np.testing.assert_array_equal(live[row, : len(truth)].astype(np.float16), truth)
    assert not values[~known].any()
    assert not known[~live_known].any()
    if share == 1:
        np.testing.assert_array_equal(known, live_known)
    # What is known of a residue does not depend on the crop that shows it.
    whole_known = features.crops(rows, np.zeros_like(rows), 150)[1]
    for row, start in enumerate(starts):
        inside = whole_known[row, start : start + length]
        np.testing.assert_array_equal(known[row, : len(inside)], inside)
    vectors = teacher.encode([s for _, s in proteins])
    np.testing.assert_allclose(features.proteins(rows), vectors[rows], atol=1e-6)


@settings(max_examples=8, deadline=None)
@given(stop=st.integers(1, 40), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_killed_run_resumes_to_the_same_bytes(corpus, tmp_path_factory, stop, share):
    folder = tmp_path_factory.mktemp("resume")
    calls = []

    def interrupt(done, total):
        calls.append(done)
        if len(calls) == stop:
            raise KeyboardInterrupt

    whole = CachedFeatures(folder / "whole", FakeEncoder(), corpus, share=share)
    try:
        CachedFeatures(folder / "parts", FakeEncoder(), corpus, share=share, on_progress=interrupt)
        assert len(calls) < stop
    except KeyboardInterrupt:
        assert len(calls) == stop
    new_run()
    later = []
    resumed = CachedFeatures(
        folder / "parts", FakeEncoder(), corpus, share=share, on_progress=lambda done, total: later.append(done)
    )
    assert files(resumed.folder) == files(whole.folder)
    assert len(resumed._store.plan) > 4
    # Shards that were whole are not computed again.
    recorded = [o for o in corpus.offsets[resumed._store.plan] if o and o in calls]
    assert all(done > max(recorded, default=0) for done in later)


KILLED = """
import sys, time
from pathlib import Path
from fake_encoder import FakeEncoder
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.features import CachedFeatures, cached

def progress(done, total):
    if done > total / 2:
        Path(sys.argv[2] + ".marker").touch()
        time.sleep(60)

cached.SHARD_RESIDUES = 700
CachedFeatures(Path(sys.argv[2]), FakeEncoder(), Corpus(Path(sys.argv[1])), on_progress=progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_one_run_writes_at_a_time_and_a_dead_ones_lock_is_free(tmp_path):
    corpus = corpus_of(tmp_path, random_proteins(40, seed=3))
    paths = [str(Path(limbeck.__file__).parents[1]), str(Path(__file__).parent)]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = {paths}\n{KILLED}",
            tmp_path / "proteins.fasta",
            tmp_path / "c",
        ]
    )
    end = time.monotonic() + 60
    while not (tmp_path / "c.marker").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(InputError, match=r"another run is computing features in .*; wait for it or choose another"):
        CachedFeatures(tmp_path / "c", FakeEncoder(), corpus)
    process.send_signal(signal.SIGKILL)
    process.wait()
    calls = []
    resumed = CachedFeatures(tmp_path / "c", FakeEncoder(), corpus, on_progress=lambda *done: calls.append(done))
    assert calls[0][0] > calls[0][1] / 2
    assert files(resumed.folder) == files(CachedFeatures(tmp_path / "whole", FakeEncoder(), corpus).folder)


@settings(max_examples=25, deadline=None)
@given(which=st.integers(0, 999), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_is_noticed(corpus, tmp_path_factory, which, place, flip):
    folder = tmp_path_factory.getbasetemp() / "damage"
    features = CachedFeatures(folder, FakeEncoder(), corpus, share=0.3)
    paths = [p for p in sorted(features.folder.iterdir()) if p.name != "lock"]
    path = paths[which % len(paths)]
    intact = path.read_bytes()
    at = int(place * len(intact))
    try:
        path.write_bytes(intact[:at] + bytes([intact[at] ^ flip]) + intact[at + 1 :])
        new_run()
        with pytest.raises(InputError, match=rf"{path.name} is damaged.*; remove the (file|folder)") as caught:
            CachedFeatures(folder, FakeEncoder(), corpus, share=0.3)
        assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(intact)


def test_a_file_cut_short_is_noticed_without_checksums(corpus, tmp_path):
    features = CachedFeatures(tmp_path, FakeEncoder(), corpus)
    path = features.folder / "residues-00001.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"residues-00001\.npy is damaged \(.* bytes instead of"):
        CachedFeatures(tmp_path, FakeEncoder(), corpus, verify=False)


@pytest.mark.parametrize("name", ["known.npy", "residues-00002.npy", "proteins-00000.npy", "statistics.npy"])
def test_a_removed_file_is_computed_again(corpus, tmp_path, name):
    before = files(CachedFeatures(tmp_path, FakeEncoder(), corpus).folder)
    features = CachedFeatures(tmp_path, FakeEncoder(), corpus)
    (features.folder / name).unlink()
    again = CachedFeatures(tmp_path, FakeEncoder(), corpus)
    assert files(again.folder) == before


def test_a_choice_that_cannot_be_made_again_is_not_replaced(corpus, tmp_path, monkeypatch):
    features = CachedFeatures(tmp_path, FakeEncoder(), corpus)
    (features.folder / "known.npy").unlink()
    monkeypatch.setattr(cached, "choose", lambda residues, share, seed: choice.choose(residues, share, seed + 1))
    for _ in range(2):
        with pytest.raises(InputError, match=r"known\.npy is gone and cannot be made again .*; remove the folder"):
            CachedFeatures(tmp_path, FakeEncoder(), corpus)


def test_later_runs_read_what_is_there(corpus, tmp_path):
    first = CachedFeatures(tmp_path, FakeEncoder(), corpus)
    teacher = FakeEncoder()
    teacher.forward = None  # it must not be asked
    second = CachedFeatures(tmp_path, teacher, corpus, on_progress=lambda *done: pytest.fail("computed again"))
    rows, starts = np.array([3, 3, 9]), np.array([0, 1, 0])
    for a, b in zip(first.crops(rows, starts, 30), second.crops(rows, starts, 30), strict=True):
        np.testing.assert_array_equal(a, b)
    assert second.fingerprint == first.fingerprint


def test_caches_are_never_mistaken(corpus, tmp_path):
    other = corpus_of(tmp_path, random_proteins(41, seed=3))
    precise = FakeEncoder()
    precise.precision = "bf16"
    runs = [
        (FakeEncoder(), corpus, {}),
        (FakeEncoder(scale=2.0), corpus, {}),
        (FakeEncoder(dimension=5), corpus, {}),
        (precise, corpus, {}),
        (FakeEncoder(), other, {}),
        (FakeEncoder(), corpus, {"share": 0.5}),
        (FakeEncoder(), corpus, {"seed": 1}),
    ]
    caches = [CachedFeatures(tmp_path, teacher, where, **options) for teacher, where, options in runs]
    caches.append(features_of(FakeEncoder(), corpus, folder=tmp_path, live=True))
    assert len({c.fingerprint for c in caches}) == len(caches)
    first = caches[0].folder
    assert first == tmp_path / caches[0].fingerprint[:16]
    # The store itself may be named as well, if it is the right one.
    assert CachedFeatures(first, *runs[0][:2]).folder == first
    for (teacher, where, options), what in zip(
        runs[1:], ["teacher or layer", "dimension", "precision", "corpus", "share of the residues", "seed"], strict=True
    ):
        with pytest.raises(InputError, match=f"features of teacher fake that are not .*another {what}[),].*; choose"):
            CachedFeatures(first, teacher, where, **options)


def test_the_manifest_says_what_is_there(corpus, tmp_path):
    features = CachedFeatures(tmp_path, FakeEncoder(), corpus, share=0.3, seed=5)
    manifest = json.loads((features.folder / "manifest.json").read_text())
    assert manifest["kinds"] == ["residues", "proteins"]
    assert manifest["features"] == {
        "teacher": "fake",
        "version": "1",
        "license": "CC0-1.0",
        "pooling": "mean",
        "dimension": WIDTH,
        "fingerprint": FakeEncoder().fingerprint,
        "precision": "f32",
        "corpus": corpus.fingerprint,
        "proteins": 40,
        "residues": int(corpus.offsets[-1]),
        "share": 0.3,
        "seed": 5,
    }
    on_disk = {p.name: p.stat().st_size for p in features.folder.iterdir() if p.suffix == ".npy"}
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == on_disk


def test_a_manifest_of_another_version_is_refused(corpus, tmp_path):
    path = CachedFeatures(tmp_path, FakeEncoder(), corpus).folder / "manifest.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_bytes(store._rendered(content | {"format": "limbeck teacher features 7"}))
    with pytest.raises(InputError, match="written by another version of limbeck"):
        CachedFeatures(tmp_path, FakeEncoder(), corpus)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"teacher one-hot gives features that are not finite for protein 7 of the corpus; choose"),
        (np.inf, r"teacher one-hot gives features that are not finite for protein 7 of the corpus; choose"),
        (7e4, r"teacher one-hot gives features of up to 7e\+04 for protein 7 of the corpus, beyond float16's range"),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused(corpus, tmp_path, monkeypatch, value, message):
    teacher = limbeck.load("one-hot")
    original = teacher.encode_residues

    def spoiled(sequences, on_batch=None):
        features = original(sequences)
        for sequence, values in zip(sequences, features, strict=True):
            if sequence == corpus.sequence(6):
                values[-1, 3] = value
        return features

    monkeypatch.setattr(teacher, "encode_residues", spoiled)
    with pytest.raises(InputError, match=message):
        CachedFeatures(tmp_path, teacher, corpus, share=1.0)


def test_pooled_numbers_that_are_not_finite_are_refused(corpus, tmp_path, monkeypatch):
    teacher = limbeck.load("composition")
    monkeypatch.setattr(teacher, "encode", lambda s: np.full((len(s), 20), np.inf, np.float32))
    for live in (False, True):
        with pytest.raises(InputError, match=r"teacher composition gives features that are not finite for protein \d+"):
            features_of(teacher, corpus, folder=tmp_path, share=0.0, live=live)


def test_a_teacher_that_leaves_residues_out_is_refused(corpus, tmp_path, monkeypatch):
    teacher = FakeEncoder()
    whole = teacher.encode_residues
    monkeypatch.setattr(teacher, "encode_residues", lambda s: [f[:100] for f in whole(s)])
    for live in (False, True):
        with pytest.raises(InputError, match=r"shape \(100, 8\) for protein .* it must describe every residue"):
            features_of(teacher, corpus, folder=tmp_path, live=live)


@pytest.mark.parametrize("live", [False, True])
def test_proteins_longer_than_the_teachers_window_are_covered(tmp_path, live):
    lengths = [1, 63, 64, 65, 200, 1500]  # the window has 64 residues, a shard 700
    proteins = [(f"p{n}", random_proteins(1, seed=n, longest=1)[0][1] * n) for n in lengths]
    corpus, teacher = corpus_of(tmp_path, proteins), FakeEncoder()
    assert teacher.max_length == 64
    features = features_of(teacher, corpus, folder=tmp_path, share=1.0, live=live)
    values, known = features.crops(np.arange(6), np.zeros(6, int), 1500)
    assert known.sum(1).tolist() == lengths
    for protein, length in enumerate(lengths):
        np.testing.assert_allclose(values[protein, :length], halves(teacher, corpus, protein), rtol=1e-3)
    np.testing.assert_allclose(features.proteins(np.arange(6)), teacher.encode([s for _, s in proteins]), atol=1e-6)


def test_features_that_do_not_fit_the_disk_are_refused_at_once(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 5))
    teacher = FakeEncoder(dimension=200_000)
    monkeypatch.setattr(teacher, "forward", lambda windows: [np.zeros((len(w), 200_000), np.float32) for w in windows])
    with pytest.raises(InputError, match=r"features of fake need \d+\.\d GB more in .* 0\.0 MB free; choose another"):
        CachedFeatures(tmp_path, teacher, corpus, share=1.0)
    assert all(content == b"" for content in files(tmp_path).values())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file size")
def test_disk_that_fills_meanwhile_keeps_what_is_whole(corpus, tmp_path):
    import resource

    whole = CachedFeatures(tmp_path / "whole", FakeEncoder(), corpus, share=1.0)
    largest = max(len(content) for name, content in files(whole.folder).items() if name.startswith("residues"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, limits[1]))
    try:
        with pytest.raises(
            InputError, match=r"no room left in .* \(File too large\); make room and repeat the command"
        ):
            CachedFeatures(tmp_path / "full", FakeEncoder(), corpus, share=1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (folder,) = (tmp_path / "full").iterdir()
    assert not list(folder.glob("*.partial"))
    assert (folder / "residues-00000.npy").exists()
    resumed = CachedFeatures(tmp_path / "full", FakeEncoder(), corpus, share=1.0)
    assert files(resumed.folder) == files(whole.folder)


def test_no_space_left_is_one_line(corpus, tmp_path, monkeypatch):
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "sync", full)
    with pytest.raises(InputError, match=r"no room left in .* \(No space left on device\); make room") as caught:
        CachedFeatures(tmp_path, FakeEncoder(), corpus)
    assert "\n" not in str(caught.value)
    calls.extend([0] * 9)
    features = CachedFeatures(tmp_path, FakeEncoder(), corpus)
    assert features.crops(np.array([0]), np.array([0]), 200)[1].any()


def test_a_folder_that_cannot_be_written_is_one_line(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"(cannot write in .*|manifest.json: )Not a directory"):
        CachedFeatures(tmp_path / "file", FakeEncoder(), corpus)


@pytest.mark.parametrize("live", [False, True])
def test_encoders_of_whole_proteins_teach_by_pooled_vectors(corpus, tmp_path, live):
    teacher = limbeck.load("composition")
    assert not has_residue_features(teacher)
    assert has_residue_features(FakeEncoder())
    with pytest.raises(InputError, match="composition describes whole proteins and has no features of single residues"):
        features_of(teacher, corpus, folder=tmp_path / "none", share=0.2, live=live)
    assert not (tmp_path / "none").exists()
    features = features_of(teacher, corpus, folder=tmp_path, share=0.0, live=live)
    everything = teacher.encode([corpus.sequence(i) for i in range(40)])
    np.testing.assert_array_equal(features.proteins(np.array([39, 0, 39])), everything[[39, 0, 39]])
    np.testing.assert_allclose(features.protein_mean, everything.mean(0), atol=1e-6)
    np.testing.assert_allclose(features.protein_scale, everything.std(0), atol=1e-6)
    np.testing.assert_array_equal(features.sample_proteins(99), everything)
    assert features.sample_proteins(7).shape == (7, 20)
    assert (features.mean, features.scale) == (pytest.approx(np.zeros(20)), pytest.approx(np.ones(20)))
    with pytest.raises(InputError, match=r"only pooled vectors of teacher composition are held \(share 0\)"):
        features.crops(np.array([0]), np.array([0]), 10)
    with pytest.raises(InputError, match="only pooled vectors"):
        features.sample(5)


def test_pooled_vectors_are_the_teachers_own(corpus, tmp_path):
    teacher = limbeck.load(write_library(tmp_path / "contexts.safetensors"))
    assert teacher.pooling == "sqrt-mean"
    expected = teacher.encode([corpus.sequence(i) for i in range(40)])
    for live in (False, True):
        features = features_of(teacher, corpus, folder=tmp_path, live=live)
        np.testing.assert_allclose(features.proteins(np.arange(40)), expected, atol=1e-6)


@pytest.mark.parametrize("live", [False, True])
def test_a_mean_is_taken_of_the_residues_and_not_computed_twice(corpus, tmp_path, live):
    teacher = FakeEncoder()
    features = features_of(teacher, corpus, folder=tmp_path, live=live)
    vectors = features.proteins(np.arange(40))
    assert teacher.calls == []  # of `encode`
    np.testing.assert_allclose(vectors, teacher.encode([corpus.sequence(i) for i in range(40)]), atol=1e-6)


def test_live_features_of_a_protein_are_computed_once(corpus, monkeypatch):
    features = LiveFeatures(FakeEncoder(), corpus)
    asked = []
    whole = features._teacher.encode_residues
    monkeypatch.setattr(features._teacher, "encode_residues", lambda s: asked.extend(s) or whole(s))
    features._residues = type(features._residues)(2**20)
    rows = np.array([5, 5, 8, 5])
    features.crops(rows, np.array([0, 3, 0, 9]), 20)
    features.crops(rows, np.array([1, 2, 1, 0]), 20)
    assert sorted(asked) == sorted(corpus.sequence(p) for p in (5, 8))
    # What is remembered is bounded.
    features._residues = type(features._residues)(100)
    features.crops(rows, np.zeros(4, int), 20)
    assert features._residues._bytes <= 100
    assert len(asked) == 4


@pytest.mark.parametrize("live", [False, True])
def test_statistics_are_those_of_the_sample(corpus, tmp_path, live):
    features = features_of(FakeEncoder(), corpus, folder=tmp_path, share=0.5, live=live)
    sample = features.sample(10**6)
    residues = int(corpus.offsets[-1])
    assert len(sample) == (residues if live else pytest.approx(residues / 2, rel=0.05))
    np.testing.assert_allclose(features.mean, sample.mean(0), atol=1e-5)
    np.testing.assert_allclose(features.scale, sample.std(0), rtol=1e-4)
    np.testing.assert_allclose(features.protein_mean, features.sample_proteins(40).mean(0), atol=1e-6)
    np.testing.assert_allclose(features.protein_scale, features.sample_proteins(40).std(0), rtol=1e-4)
    few = features.sample(50)
    assert few.shape == (50, WIDTH)
    np.testing.assert_array_equal(few, features.sample(50))
    assert (few[:, None] == sample[None]).all(-1).any(1).all()


def test_a_dimension_that_never_varies_is_not_blown_up():
    rng = np.random.default_rng(0)
    values = rng.normal(3, [1, 2, 4, 0, 0, 0], size=(5000, 6)).astype(np.float32)
    values[:, 4] = 1000 + 0.1 * (rng.random(5000) < 0.5)  # less than float16 resolves there
    values[:, 5] = 1e-6 * rng.normal(size=5000)
    mean, scale = statistics.moments([values[:17], values[17:]], 6, 2**-10)
    np.testing.assert_allclose(mean, values.astype(np.float64).mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scale[:3], values[:, :3].std(0), rtol=1e-4)
    median = np.median(np.append(values[:, :3].std(0), values[:, 5].std()))
    np.testing.assert_allclose(scale[3:], median, rtol=1e-4)
    np.testing.assert_array_equal(statistics.moments([np.full((9, 2), 0.1, np.float32)], 2, 2**-10)[1], 1)


@many
@given(total=st.integers(0, 500), count=st.integers(0, 60))
def test_a_sample_has_no_index_twice(total, count):
    chosen = statistics.spread(total, count)
    assert len(chosen) == min(total, count)
    assert (np.diff(chosen) > 0).all()
    assert ((chosen >= 0) & (chosen < total)).all()


def test_the_choice_is_even_and_depends_on_share_and_seed_alone(monkeypatch):
    bits = np.unpackbits(choice.choose(80_000, 0.25, 1))
    assert bits.mean() == pytest.approx(0.25, abs=0.01)
    assert (bits[:-1] & bits[1:]).mean() == pytest.approx(0.25**2, abs=0.01)  # neighbours are chosen independently
    assert (np.unpackbits(choice.choose(80_000, 0.25, 2)) & bits).mean() == pytest.approx(0.25**2, abs=0.01)
    monkeypatch.setattr(choice, "_BLOCK", 64)
    np.testing.assert_array_equal(np.packbits(bits), choice.choose(80_000, 0.25, 1))


@many
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), share=st.floats(0, 1))
def test_held_residues_are_counted_across_blocks(lengths, share):
    offsets = np.cumsum([0, *lengths])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_BLOCK", 16)
        packed = choice.choose(int(offsets[-1]), share, 0)
        known = choice.KnownResidues(packed, offsets)
    bits = np.unpackbits(packed)[: offsets[-1]]
    np.testing.assert_array_equal(known.first, [bits[:o].sum() for o in offsets])
    for protein, length in enumerate(lengths):
        np.testing.assert_array_equal(known.of(protein, length), bits[offsets[protein] : offsets[protein + 1]])


@many
@given(lengths=st.lists(st.integers(1, 900), max_size=40))
def test_batches_hold_every_protein_once(lengths):
    found = list(teaching.batches(range(len(lengths)), np.array(lengths), FakeEncoder(dimension=WIDTH)))
    assert sorted(p for batch in found for p in batch) == list(range(len(lengths)))
    assert [lengths[p] for batch in found for p in batch] == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or sum(lengths[p] for p in batch) <= 65_536 for batch in found)


def test_the_estimate_is_near_the_size_on_disk(corpus, tmp_path):
    for share in (0.0, 0.25, 1.0):
        teacher = FakeEncoder(dimension=64)
        features = CachedFeatures(tmp_path, teacher, corpus, share=share)
        arrays = [p.stat().st_size for p in features.folder.glob("*.npy")]
        without_headers = sum(arrays) - 128 * len(arrays) - 4 * 64 * 4  # and without the statistics
        assert estimate(teacher, corpus, share) == pytest.approx(without_headers, rel=0.05)
    with pytest.raises(InputError, match=r"share of the residues must be between 0 and 1, not 1\.5"):
        estimate(teacher, corpus, 1.5)


def test_few_files_are_open_and_another_process_opens_its_own(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "_OPEN_FILES", 2)
    features = CachedFeatures(tmp_path, FakeEncoder(), corpus)
    rows, starts = np.arange(40), np.zeros(40, int)
    copy = pickle.loads(pickle.dumps(features))
    for a, b in zip(features.crops(rows, starts, 50), copy.crops(rows, starts, 50), strict=True):
        np.testing.assert_array_equal(a, b)
    assert features._map.cache_info().currsize == 2
    live = LiveFeatures(FakeEncoder(), corpus)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(live)).proteins(rows), live.proteins(rows))
