"""Corpus, teachers' features, objectives, the training loop and what it writes."""

import dataclasses
import gzip
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

import limbeck  # noqa: E402
from limbeck.distillation import corpus as corpus_module  # noqa: E402
from limbeck.distillation.config import StudentConfig, TrainingConfig  # noqa: E402
from limbeck.distillation.context_library import fit, fit_library  # noqa: E402
from limbeck.distillation.corpus import BatchDraw, Corpus, write_corpus  # noqa: E402
from limbeck.distillation.distill import distill  # noqa: E402
from limbeck.distillation.network import Student  # noqa: E402
from limbeck.distillation.objectives import Contexts, FamilyContrast  # noqa: E402
from limbeck.distillation.projection import fit_projection, principal_components  # noqa: E402
from limbeck.distillation.training import learning_rate, train  # noqa: E402
from limbeck.errors import InputError  # noqa: E402
from limbeck.homology.profiles import profile  # noqa: E402
from limbeck.residues import RESIDUES, UNKNOWN_ID, to_ids  # noqa: E402

EXAMPLE = Path(__file__).parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"
TINY = StudentConfig(width=16, inner=16, kernel=5, dilations=(1, 2), states=24)
QUICK = TrainingConfig(
    steps=6, batch_residues=1024, warmup=2, evaluate_every=3, precision="f32", compile=False, student=TINY
)


def real_proteins(n: int) -> list[tuple[str, str]]:
    records: list[tuple[str, str]] = []
    with gzip.open(EXAMPLE, "rt") as lines:
        for line in lines:
            if line.startswith(">"):
                records.append((line[1:].split()[0], ""))
            else:
                records[-1] = (records[-1][0], records[-1][1] + line.strip())
    return [(name, sequence) for name, sequence in records if 60 <= len(sequence) <= 400][:n]


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.h5"
    proteins = [(name, f"family{i // 3}", s, profile(s, [])) for i, (name, s) in enumerate(real_proteins(90))]
    assert write_corpus(path, proteins) == (90, sum(len(p[2]) for p in proteins))
    return path


def write_and_open(path, number):
    proteins = [(name, name, s, profile(s, [])) for name, s in real_proteins(number)]
    write_corpus(path, proteins)
    return Corpus(path)


@pytest.fixture(scope="module")
def corpus(corpus_file):
    return Corpus(corpus_file, held_out=0.2)


@pytest.fixture(scope="module")
def library(corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "contexts.safetensors"
    fit_library(corpus, path, states=24, n_windows=3000, iterations=4, license="CC0-1.0")
    return path


def test_corpus_gives_back_what_was_written(corpus):
    for index, (_, sequence) in enumerate(real_proteins(90)):
        assert corpus.sequence(index) == sequence
    assert 0 < corpus.is_validation.sum() < len(corpus)
    for family in np.unique(corpus.families):
        assert len(set(corpus.is_validation[corpus.families == family])) == 1  # families are held out whole


def test_corpus_from_fasta(tmp_path):
    path = tmp_path / "few.fasta"
    path.write_text(">a\nMKTU\n>b\nacd\n")
    corpus = Corpus(path)
    assert [corpus.sequence(i) for i in range(2)] == ["MKTC", "ACD"]
    assert corpus.profiles is None


def test_corpus_refuses_another_hdf5_file(tmp_path):
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match=r"other\.h5: not a corpus of profiles"):
        Corpus(tmp_path / "other.h5")


def test_crops_are_parts_of_their_proteins_with_their_profiles(corpus):
    batch = BatchDraw(corpus, 2048, seed=3).draw(5, margin=4, masked=0.2)
    for row, (protein, start) in enumerate(zip(batch.proteins, batch.starts, strict=True)):
        n = int(batch.mask[row].sum())
        whole = to_ids(corpus.sequence(protein))
        assert batch.residues[row, :n].tolist() == whole[start : start + n].tolist()
        assert (batch.ids[row][batch.hidden[row]] == UNKNOWN_ID).all()
        shown = batch.mask[row] & ~batch.hidden[row]
        assert (batch.ids[row][shown] == batch.residues[row][shown]).all()
        offset = corpus.offsets[protein]
        for column in (0, 4, n + 3, n + 7):
            position = start + column - 4
            inside = 0 <= position < len(whole)
            expected = corpus.profiles[offset + position] if inside else np.zeros(20)
            np.testing.assert_array_equal(batch.profiles[row, column], expected)
    assert 0.1 < batch.hidden.sum() / batch.mask.sum() < 0.3


def test_batches_depend_on_seed_and_step_alone(corpus):
    a, b = BatchDraw(corpus, 2048, seed=1), BatchDraw(corpus, 2048, seed=1)
    b.draw(0, margin=0)
    np.testing.assert_array_equal(a.draw(7, margin=0).ids, b.draw(7, margin=0).ids)
    other = BatchDraw(corpus, 2048, seed=2).draw(7, margin=0)
    assert a.draw(7, margin=0).proteins.tolist() != other.proteins.tolist()


def test_training_batches_hold_no_validation_protein(corpus):
    training, held = BatchDraw(corpus, 2048, 0), BatchDraw(corpus, 2048, 0, validation=True)
    for step in range(20):
        assert not corpus.is_validation[training.draw(step, margin=0).proteins].any()
        assert corpus.is_validation[held.draw(step, margin=0).proteins].all()


def test_library_recovers_planted_contexts():
    """Profiles made of three sharply different contexts: each planted context is closest to a state of its own."""
    rng = np.random.default_rng(0)
    planted = np.full((3, 5, 20), 0.2 / 19)
    for k in range(3):
        planted[k, np.arange(5), (5 * k + np.arange(5)) % 20] = 0.8
    profiles = [np.concatenate(planted[rng.permutation(3)]).astype(np.float32) for _ in range(200)]
    _, log_columns = fit(profiles, states=24, width=5, n_windows=3000, iterations=15, prior=0.1)
    distance = [[np.abs(np.exp(state) - context).max() for state in log_columns] for context in planted]
    nearest = np.argmin(distance, axis=1)
    assert len(set(nearest)) == 3
    assert np.min(distance, axis=1).max() < 0.05


def test_library_likelihood_never_falls(corpus):
    seen = []
    profiles = np.split(corpus.profiles, corpus.offsets[1:-1])
    fit(profiles, states=24, n_windows=2000, iterations=6, prior=1e-6, report=lambda i, value: seen.append(value))
    assert all(after >= before - 1e-2 for before, after in pairwise(seen))
    assert seen[-1] > seen[0]


def test_learning_rate_warms_up_and_decays():
    rates = [learning_rate(step, dataclasses.replace(QUICK, steps=100, warmup=10)) for step in range(100)]
    assert max(rates) == pytest.approx(QUICK.learning_rate)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 0.06 * QUICK.learning_rate


def test_network_ignores_padding_and_sees_no_further_than_its_radius():
    torch.manual_seed(0)
    student = Student(TINY).eval()
    ids = torch.randint(0, 20, (1, 40))
    alone = student.residues(ids, torch.ones(1, 40, 1))
    padded_ids = torch.cat([ids, torch.full((1, 25), 21)], dim=1)
    mask = torch.cat([torch.ones(1, 40, 1), torch.zeros(1, 25, 1)], dim=1)
    torch.testing.assert_close(student.residues(padded_ids, mask)[:, :40], alone)
    changed = ids.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 20
    difference = (student.residues(changed, torch.ones(1, 40, 1)) - alone).abs().amax(-1)[0]
    assert (difference > 1e-6).nonzero().max() == TINY.radius


def test_training_lowers_the_loss_on_held_out_families(corpus, library, tmp_path):
    config = dataclasses.replace(QUICK, steps=40, evaluate_every=10, learning_rate=5e-3)
    seen = []
    objectives = [Contexts(library, TINY), FamilyContrast(TINY.width, weight=0.3)]
    train(config, corpus, objectives, tmp_path / "run", report=seen.append)
    validations = [p.evaluation["validation"] for p in seen if p.evaluation]
    assert validations[-1]["contexts"] < 0.95 * validations[0]["contexts"]
    assert set(seen[0].losses) == {"contexts", "profile", "protein", "contrast"}


def test_resumed_run_ends_where_an_uninterrupted_one_does(corpus, library, tmp_path):
    def run(folder, stop_after=None, resume=False):
        def report(progress):
            if progress.step == stop_after:
                raise KeyboardInterrupt

        return train(QUICK, corpus, [Contexts(library, TINY)], folder, resume=resume, report=report)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_after=4)
    resumed = run(tmp_path / "parts", resume=True)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)


def test_unfinished_run_is_not_overwritten(corpus, library, tmp_path):
    objectives = [Contexts(library, TINY)]
    train(QUICK, corpus, objectives, tmp_path)
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        train(QUICK, corpus, objectives, tmp_path)
    with pytest.raises(InputError, match="was trained with another steps"):
        train(dataclasses.replace(QUICK, steps=7), corpus, objectives, tmp_path, resume=True)


def test_distilled_student_loads_and_equals_its_network(corpus_file, library, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    folder = distill(corpus_file, tmp_path / "student", contexts=library, config=QUICK, license="CC0-1.0")
    encoder = limbeck.load(str(folder), precision="f32")
    assert (encoder.dimension, encoder.license) == (16, "CC0-1.0")
    card = (folder / "README.md").read_text()
    assert "contexts.safetensors" in card
    assert "license: cc0-1.0" in card

    from safetensors.torch import load_file

    network = Student(TINY).eval()
    assert encoder.pooling == "combined"
    network.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    sequences = [s for _, s in real_proteins(5)]
    for sequence, vector, residues, log_p in zip(
        sequences,
        encoder.encode(sequences),
        encoder.encode_residues(sequences),
        encoder.log_probabilities(sequences),
        strict=True,
    ):
        with torch.no_grad():
            out = network(torch.from_numpy(to_ids(sequence).astype(np.int64))[None], torch.ones(1, len(sequence), 1))
        np.testing.assert_allclose(vector, out.vectors[0].numpy(), atol=2e-4)
        np.testing.assert_allclose(residues, out.features[0].numpy(), atol=2e-4)
        np.testing.assert_allclose(log_p, out.profile[0].numpy(), atol=2e-4)


def test_any_encoder_can_teach_and_its_features_are_computed_once(corpus_file, tmp_path, monkeypatch):
    seen = []
    settings = {"teachers": ["one-hot"], "config": QUICK, "cache": tmp_path / "cache"}
    distill(corpus_file, tmp_path / "a", on_features=lambda *what: seen.append(what), **settings)
    total = int(Corpus(corpus_file).offsets[-1])
    assert seen == [("one-hot", total, total)]
    distill(corpus_file, tmp_path / "b", on_features=lambda *what: seen.append(what), **settings)
    assert len(seen) == 1
    losses = json.loads((tmp_path / "a/training/log.jsonl").read_text().splitlines()[-1])["validation"]
    assert set(losses) == {"one-hot residues", "one-hot proteins", "hidden"}


def test_pretraining_from_scratch_needs_only_proteins(tmp_path):
    path = tmp_path / "proteins.fasta"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in real_proteins(60)))
    distill(path, tmp_path / "student", config=QUICK)
    assert limbeck.load(str(tmp_path / "student")).encode([RESIDUES]).shape == (1, 16)


def test_projection_evens_out_the_components(corpus, library):
    torch.manual_seed(0)
    student = Student(TINY)
    before = student.project.weight.clone()
    fit_projection(student, corpus)
    assert not torch.equal(before, student.project.weight)
    training = np.flatnonzero(~corpus.is_validation)
    vectors = []
    for protein in training:
        ids = torch.from_numpy(to_ids(corpus.sequence(protein)).astype(np.int64))[None]
        with torch.no_grad():
            vectors.append(student(ids, torch.ones(1, ids.shape[1], 1)).vectors[0].numpy())
    vectors = np.array(vectors)
    deviations = np.sort(vectors.std(axis=0))[::-1]
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=0.5 * deviations[0])
    correlations = np.corrcoef(vectors[:, :4].T) - np.eye(4)
    assert np.abs(correlations).max() < 0.4  # of all members; fitted to one a family
    _, _, plain = principal_components(torch.from_numpy(vectors), 4)
    assert plain[0] / plain[3] < 30


def test_same_seed_gives_the_same_student(corpus_file, tmp_path):
    settings = {"teachers": ["one-hot"], "config": QUICK, "cache": tmp_path / "cache"}
    weights = [(distill(corpus_file, tmp_path / n, **settings) / "model.safetensors").read_bytes() for n in "ab"]
    assert weights[0] == weights[1]


def test_resume_notices_another_corpus_and_another_teacher(corpus, corpus_file, library, tmp_path):
    train(QUICK, corpus, [Contexts(library, TINY)], tmp_path / "run")
    other = write_and_open(tmp_path / "other.h5", 40)
    with pytest.raises(InputError, match="was trained with another corpus"):
        train(QUICK, other, [Contexts(library, TINY)], tmp_path / "run", resume=True)
    fit_library(corpus, tmp_path / "second.safetensors", states=24, n_windows=3000, iterations=2, seed=1)
    with pytest.raises(InputError, match="was trained with another teachers"):
        train(QUICK, corpus, [Contexts(tmp_path / "second.safetensors", TINY)], tmp_path / "run", resume=True)


def test_damaged_checkpoint_is_one_line(corpus, library, tmp_path):
    train(QUICK, corpus, [Contexts(library, TINY)], tmp_path)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged .*; remove it to begin anew"):
        train(QUICK, corpus, [Contexts(library, TINY)], tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps must be at least 1, not 0"),
        ({"evaluate_every": 0}, "--evaluate-every must be at least 1"),
        ({"masked": 1.0}, "--masked must be at least 0 and below 1"),
        ({"precision": "fp16"}, "--precision must be auto, bf16 or f32, not 'fp16'"),
        ({"subset": 0}, "--subset must be above 0 and at most 1"),
        ({"objectives": ("match", "l2")}, "--objectives must be match, kl or relational, not 'l2'"),
        ({"teachers_used": "best"}, "--teachers-used must be all, dropping or selector, not 'best'"),
        ({"warmup": -1}, "--warmup must be at least 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [({"kernel": 4}, "--kernel must be odd"), ({"dilations": (0, 1)}, "--dilations must be at least 1")],
)
def test_shapes_are_checked(shape, message):
    with pytest.raises(InputError, match=message):
        StudentConfig(**shape)


def test_cheap_checks_come_before_features(corpus_file, tmp_path):
    proteins = tmp_path / "proteins.fasta"
    proteins.write_text(f">a\n{RESIDUES * 4}\n")
    with pytest.raises(InputError, match="has no profiles for a context library"):
        distill(proteins, tmp_path / "s", contexts="any.safetensors", teachers=["one-hot"], config=QUICK)
    with pytest.raises(InputError, match="teacher one-hot is named twice"):
        distill(corpus_file, tmp_path / "s", teachers=["one-hot", "one-hot"], config=QUICK)
    with pytest.raises(InputError, match="use --masked above 0"):
        distill(corpus_file, tmp_path / "s", config=dataclasses.replace(QUICK, masked=0.0))
    assert not (tmp_path / "s").exists()


def test_equal_sequences_are_one_family(tmp_path):
    path = tmp_path / "copies.fasta"
    path.write_text("".join(f">{copy}{name}\n{s}\n" for name, s in real_proteins(20) for copy in "ab"))
    corpus = Corpus(path, held_out=0.3)
    assert len(set(corpus.families)) == 20
    for family in set(corpus.families):
        assert len(set(corpus.is_validation[corpus.families == family])) == 1


def test_corpus_too_small_for_validation_is_refused(tmp_path):
    path = tmp_path / "one.fasta"
    path.write_text(f">a\n{RESIDUES * 4}\n")
    with pytest.raises(
        InputError, match=f"no (training|validation) protein of at least {corpus_module.MINIMUM_LENGTH}"
    ):
        distill(path, tmp_path / "student", config=QUICK)


def test_teachers_are_named_by_the_end_of_their_path(tmp_path):
    from limbeck.distillation.distill import _labels

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights.safetensors").touch()
    a, b = (str(tmp_path / folder / "weights.safetensors") for folder in ("a", "b"))
    hub = "facebook/esm2_t33_650M_UR50D@20,33"
    assert _labels([a + "@all", hub]) == {a + "@all": "weights.safetensors@all", hub: hub}
    assert list(_labels([a, b]).values()) == ["a/weights.safetensors", "b/weights.safetensors"]
    assert list(_labels([f"homology:{a}?license=MIT"]).values()) == ["homology:weights.safetensors"]


def test_the_licence_of_the_start_counts(tmp_path):
    path = tmp_path / "proteins.fasta"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in real_proteins(60)))
    start = distill(path, tmp_path / "start", config=QUICK)
    with pytest.raises(InputError, match="it has no licence note"):
        distill(path, tmp_path / "next", start=start, config=QUICK, license="MIT")
    stated = [f"{start}=CC-BY-4.0"]
    folder = distill(path, tmp_path / "next", start=start, config=QUICK, license="CC-BY-4.0", teacher_licenses=stated)
    assert str(start) in (folder / "README.md").read_text()
    other = dataclasses.replace(QUICK, student=dataclasses.replace(TINY, width=8))
    with pytest.raises(InputError, match="in its shape; leave --width and its like out"):
        distill(path, tmp_path / "third", start=start, config=other)
