"""Adapting a student to one family: what is learned, what stays, what is refused, and what is written."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

from safetensors.numpy import load_file  # noqa: E402

import limbeck  # noqa: E402
from limbeck.distillation import adapt as adapt_module  # noqa: E402
from limbeck.distillation.adapt import TEACHER, FixedProjection, SelfDistillation, adapt, perplexity  # noqa: E402
from limbeck.distillation.config import ADAPTATION, StudentConfig  # noqa: E402
from limbeck.distillation.corpus import Corpus  # noqa: E402
from limbeck.distillation.export import export  # noqa: E402
from limbeck.distillation.network import Student  # noqa: E402
from limbeck.distillation.objectives import HiddenResidues  # noqa: E402
from limbeck.distillation.start import Start, load_weights  # noqa: E402
from limbeck.distillation.training import train  # noqa: E402
from limbeck.errors import InputError  # noqa: E402
from limbeck.residues import RESIDUES  # noqa: E402

TINY = StudentConfig(width=16, inner=16, kernel=5, dilations=(1, 2), states=24)
QUICK = dataclasses.replace(
    ADAPTATION, steps=6, batch_residues=1024, warmup=2, evaluate_every=3, precision="f32", learning_rate=5e-3
)
SEQUENCE = "".join(np.random.default_rng(0).choice(list(RESIDUES), size=120))


def mutants(count, changes=12, seed=0):
    """A family: one protein with residues exchanged at a few sites, all of one length."""
    rng = np.random.default_rng(seed)
    family = []
    for _ in range(count):
        letters = np.array(list(SEQUENCE))
        sites = rng.choice(len(letters), size=changes, replace=False)
        letters[sites] = rng.choice(list(RESIDUES), size=changes)
        family.append("".join(letters))
    return family


def write(path, sequences):
    path.write_text("".join(f">p{i}\n{sequence}\n" for i, sequence in enumerate(sequences)))
    return path


def write_start(folder, pooling="combined", license="CC-BY-4.0", nested=(8,)):
    torch.manual_seed(3)
    student = Student(TINY)
    student.center.uniform_(0.1, 0.3)
    export(student, folder, name="first", version="1", license=license, pooling=pooling, card="", nested=nested)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return write_start(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return write(tmp_path_factory.mktemp("family") / "family.fasta", mutants(40))


@pytest.fixture(scope="module")
def adapted(family, start, tmp_path_factory):
    seen = []
    folder = adapt(
        family,
        tmp_path_factory.mktemp("adapted") / "student",
        start=start,
        config=dataclasses.replace(QUICK, steps=60),
        license="CC-BY-4.0",
        command=["limbeck", "adapt"],
        report=lambda run, progress: seen.append((run, progress.step)),
    )
    assert seen == [(run, step + 1) for run in ("further-pretraining", "self-distillation") for step in range(60)]
    return folder


def facts_of(folder):
    return json.loads((folder / "training.json").read_text())["adaptation"]


def test_held_out_relatives_become_less_surprising(adapted):
    values = facts_of(adapted)["perplexity"]
    assert set(values) == {"start", "further-pretrained", "adapted"}
    assert values["further-pretrained"] < 0.95 * values["start"]
    assert values["adapted"] < 0.95 * values["start"]


def test_the_projection_of_the_start_is_kept(adapted, start):
    before = load_file(start / "model.safetensors")
    for folder in (adapted, adapted / "training" / TEACHER):
        after = load_file(folder / "model.safetensors")
        for name in ("project.weight", "center"):
            np.testing.assert_array_equal(before[name], after[name])
        for name in ("embed.weight", "blocks.0.conv.weight", "profile.weight"):
            assert (before[name] != after[name]).any()
    # Nothing but the distance between protein vectors reaches the contexts.
    further = load_file(adapted / "training" / TEACHER / "model.safetensors")
    np.testing.assert_array_equal(before["contexts.weight"], further["contexts.weight"])
    assert (before["contexts.weight"] != load_file(adapted / "model.safetensors")["contexts.weight"]).any()


def test_both_students_load_and_say_what_they_are(adapted, start):
    first, encoder = limbeck.load(start, precision="f32"), limbeck.load(adapted, precision="f32")
    further = limbeck.load(adapted / "training" / TEACHER, precision="f32")
    assert (encoder.dimension, encoder.pooling, encoder.license) == (16, "combined", "CC-BY-4.0")
    vectors = [e.encode([SEQUENCE]) for e in (first, further, encoder)]
    assert not np.allclose(vectors[0], vectors[1])
    assert not np.allclose(vectors[1], vectors[2])
    assert json.loads((adapted / "config.json").read_text())["nested_dimensions"] == [8, 16]
    card = (adapted / "README.md").read_text()
    for text in ("## Adaptation to a family", "arXiv 2210.02871", "family.fasta", str(start), "| adapted |"):
        assert text in card
    run = json.loads((adapted / "training.json").read_text())
    assert (run["started_from"], run["command"]) == (str(start), ["limbeck", "adapt"])
    assert run["teachers"][0]["fingerprint"] == first.fingerprint
    assert run["corpus"]["held_out_proteins"] == Corpus(adapted / "training" / "family.fasta", 0.1).is_validation.sum()


def test_the_second_run_starts_from_the_first_weights_and_the_weight_holds_it_near_the_teacher(family, start, tmp_path):
    config = dataclasses.replace(QUICK, steps=30, evaluate_every=30)
    at_first, at_last = {}, {}
    for weight in (1e-3, 10.0):
        losses = []
        folder = adapt(
            family,
            tmp_path / str(weight),
            start=start,
            config=config,
            weight=weight,
            report=lambda run, progress, losses=losses: losses.append(progress.losses),
        )
        assert [set(step) for step in losses[:30]] == [{"hidden"}] * 30
        at_first[weight] = {key: value / (1 if key == "hidden" else weight) for key, value in losses[30].items()}
        log = [json.loads(x) for x in (folder / "training/self-distillation/log.jsonl").read_text().splitlines()]
        at_last[weight] = log[-1]["validation"][f"{TEACHER} residues"] / weight
    assert at_first[10.0] == pytest.approx(at_first[1e-3], rel=1e-4)
    assert at_first[10.0][f"{TEACHER} residues"] > at_last[10.0]
    assert at_last[10.0] < 0.5 * at_last[1e-3]


def test_the_distance_is_between_views_with_nothing_hidden(family):
    torch.manual_seed(0)
    student, network = FixedProjection(TINY), FixedProjection(TINY)
    objective = SelfDistillation(student, network, weight=2.0)
    corpus = Corpus(family)
    batch = corpus.crop(np.array([0, 3, 5]), 128, np.random.default_rng(0), margin=0, masked=0.3)
    mask = torch.from_numpy(batch.mask)[..., None].float()
    whole, hidden = (torch.from_numpy(i.astype(np.int64)) for i in (batch.residues, batch.ids))
    losses = objective(student(hidden, mask), objective.targets(batch))
    one, other = student(whole, mask), network(whole, mask)
    squares = (one.features - other.features).square().sum(-1)
    expected = [2 * squares[row][batch.mask[row]].sum() / (batch.mask.sum() / 3) for row in range(3)]
    torch.testing.assert_close(losses[f"{TEACHER} residues"], torch.stack(expected))
    vectors = 2 * (one.vectors - other.vectors).square().sum(-1)
    torch.testing.assert_close(losses[f"{TEACHER} proteins"], vectors)
    sum(loss.sum() for loss in losses.values()).backward()
    assert student.embed.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(name.startswith("_student") for name in objective.state_dict())


def test_the_distance_to_oneself_is_zero(family):
    student = FixedProjection(TINY)
    objective = SelfDistillation(student, FixedProjection.of(student))
    batch = Corpus(family).crop(np.array([1, 2]), 128, np.random.default_rng(0), margin=0, masked=0.3)
    ids, mask = torch.from_numpy(batch.ids.astype(np.int64)), torch.from_numpy(batch.mask)[..., None].float()
    assert all(loss.abs().max() < 1e-8 for loss in objective(student(ids, mask), objective.targets(batch)).values())


def test_students_that_pool_by_the_mean_are_matched_in_their_mean(family):
    torch.manual_seed(0)
    student, network = FixedProjection(TINY), FixedProjection(TINY)
    objective = SelfDistillation(student, network, pooling="mean")
    batch = Corpus(family).crop(np.array([1, 2]), 128, np.random.default_rng(0), margin=0)
    ids, mask = torch.from_numpy(batch.ids.astype(np.int64)), torch.from_numpy(batch.mask)[..., None].float()
    losses = objective(student(ids, mask), objective.targets(batch))
    means = [n(ids, mask).features[:, :120].mean(1) for n in (student, network)]
    torch.testing.assert_close(losses[f"{TEACHER} proteins"], (means[0] - means[1]).square().sum(-1))


def test_a_fixed_projection_gives_what_the_student_gives(family):
    torch.manual_seed(0)
    student = Student(TINY).eval()
    fixed = FixedProjection.of(student)
    ids, mask = torch.randint(0, 20, (2, 30)), torch.ones(2, 30, 1)
    torch.testing.assert_close(fixed(ids, mask).vectors, student(ids, mask).vectors)
    before = fixed.center.clone()
    fixed.train().follow(torch.ones(TINY.states))
    torch.testing.assert_close(fixed.center, before, rtol=0, atol=0)


def test_perplexity_of_ignorance_is_twenty_and_does_not_depend_on_when_it_is_asked(family):
    student = Student(TINY)
    corpus = Corpus(family, 0.2)
    assert perplexity(student, corpus, QUICK) == perplexity(student, corpus, QUICK)
    torch.nn.init.zeros_(student.profile.weight)
    torch.nn.init.zeros_(student.profile.bias)
    assert perplexity(student, corpus, QUICK) == pytest.approx(20, rel=1e-5)


def test_alignments_copies_and_fragments(start, tmp_path):
    """Gaps go, copies count once, fragments are left out; ten sequences suffice."""
    ten = mutants(10)
    aligned = [f"{s[:50]}---{s[50:].lower()}..." for s in ten]
    path = write(tmp_path / "alignment.fasta", [*aligned, ten[0], ten[3], SEQUENCE[:39]])
    folder = adapt(path, tmp_path / "student", start=start, config=dataclasses.replace(QUICK, steps=2))
    corpus = Corpus(folder / "training" / "family.fasta", 0.1)
    assert [corpus.sequence(i) for i in range(len(corpus))] == ten
    assert facts_of(folder)["left_out"] == 3
    assert corpus.is_validation.sum() >= 1
    assert (~corpus.is_validation).sum() >= 1


def test_two_sequences_that_differ_by_one_residue_suffice(start, tmp_path):
    path = write(tmp_path / "two.fasta", [SEQUENCE, SEQUENCE[:-1] + "W"])
    folder = adapt(path, tmp_path / "student", start=start, config=dataclasses.replace(QUICK, steps=1))
    assert all(np.isfinite(list(facts_of(folder)["perplexity"].values())))


@pytest.mark.parametrize("sequences", [[SEQUENCE] * 5, [SEQUENCE, SEQUENCE[:30]]])
def test_too_few_sequences_are_refused(sequences, start, tmp_path):
    path = write(tmp_path / "few.fasta", sequences)
    with pytest.raises(
        InputError, match=r"few\.fasta: holds 1 distinct sequences of at least 40 residues; .* 2 or more"
    ):
        adapt(path, tmp_path / "student", start=start, config=QUICK)
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0}, "weight of the distance .* must be above 0, not 0"),
        ({"held_out": 1.0}, "held out must be above 0 and below 1"),
        ({"config": dataclasses.replace(QUICK, masked=0.0)}, "use --masked above 0"),
        ({"license": "MIT"}, None),
        ({"start": "no-such-student"}, "no-such-student"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message, family, start, tmp_path):
    settings = {"start": start, "config": QUICK} | options
    if message is None:  # a permissive start leaves the licence to the user
        settings["config"] = dataclasses.replace(QUICK, steps=1)
        assert limbeck.load(adapt(family, tmp_path / "student", **settings)).license == "MIT"
        return
    with pytest.raises(InputError, match=message):
        adapt(family, tmp_path / "student", **settings)
    assert not (tmp_path / "student").exists()


def test_the_terms_of_the_start_bind(family, tmp_path):
    start = write_start(tmp_path / "start", license="CC-BY-NC-4.0")
    with pytest.raises(InputError, match="labelled MIT"):
        adapt(family, tmp_path / "student", start=start, config=QUICK, license="MIT")


def test_a_finished_student_is_not_overwritten(family, adapted, start):
    with pytest.raises(InputError, match="already holds a student"):
        adapt(family, adapted, start=start, config=QUICK)


@pytest.mark.parametrize("stop", [("further-pretraining", 4), ("self-distillation", 5)])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(stop, family, start, tmp_path):
    def interrupt(run, progress):
        if (run, progress.step) == stop:
            raise KeyboardInterrupt

    settings = {"start": start, "config": QUICK}
    whole = adapt(family, tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        adapt(family, tmp_path / "parts", report=interrupt, **settings)
    with pytest.raises(InputError, match="add --resume"):
        adapt(family, tmp_path / "parts", **settings)
    other = write(tmp_path / "other.fasta", mutants(12, seed=1))
    with pytest.raises(InputError, match="with other sequences"):
        adapt(other, tmp_path / "parts", resume=True, **settings)
    adapt(family, tmp_path / "parts", resume=True, **settings)
    for name in ("model.safetensors", f"training/{TEACHER}/model.safetensors"):
        one, other_weights = load_file(whole / name), load_file(tmp_path / "parts" / name)
        for key, value in one.items():
            np.testing.assert_array_equal(value, other_weights[key], err_msg=key)


def test_the_first_run_is_plain_further_pretraining(family, start, tmp_path):
    """The engine given the start and the hidden residues alone ends at the very same weights."""
    folder = adapt(family, tmp_path / "student", start=start, config=QUICK)
    plain = FixedProjection.of(load_weights(start))
    config = dataclasses.replace(QUICK, student=TINY)
    train(
        config, Corpus(folder / "training" / "family.fasta", 0.1), [HiddenResidues()], tmp_path / "run", student=plain
    )
    further = load_file(folder / "training" / TEACHER / "model.safetensors")
    for key, value in plain.state_dict().items():
        np.testing.assert_array_equal(further[key], value.half().numpy(), err_msg=key)


def test_the_default_start_is_the_shipped_student(family, tmp_path):
    import inspect

    assert inspect.signature(adapt).parameters["start"].default is None
    first = Start.of(adapt_module.DEFAULT_NAME)
    assert (first.teacher.name, first.teacher.license, first.pooling) == ("limbeck-9m", "CC-BY-4.0", "combined")
    assert first.network.config == StudentConfig()
