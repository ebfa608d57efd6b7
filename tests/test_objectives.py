"""Objectives: one value a row, and the same whichever way a batch is divided; choices of teachers; scales."""

import dataclasses
import datetime
import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

import torch.nn.functional as F  # noqa: E402

from limbeck.distillation.config import StudentConfig  # noqa: E402
from limbeck.distillation.context_library import PROFILE_SHARPNESS, fit_library, windows  # noqa: E402
from limbeck.distillation.corpus import Corpus, write_corpus  # noqa: E402
from limbeck.distillation.network import Outputs, Student  # noqa: E402
from limbeck.distillation.objectives import (  # noqa: E402
    Contexts,
    Everyone,
    FamilyContrast,
    FeatureMatching,
    HiddenResidues,
    Identity,
    LossBalance,
    PerDimension,
    PhiS,
    PooledKL,
    Relational,
    Selector,
    TeacherDropping,
    build,
    build_choice,
)
from limbeck.distillation.objectives.choice import _at_least_one, _log_probability  # noqa: E402
from limbeck.distillation.objectives.standardise import hadamard, levelling_rotation  # noqa: E402
from limbeck.encoders.contexts import position_weights  # noqa: E402
from limbeck.errors import InputError  # noqa: E402
from limbeck.records import read_records  # noqa: E402

EXAMPLE = Path(__file__).parents[1] / "examples" / "mycoplasma_genitalium.fasta.gz"
TINY = StudentConfig(width=16, inner=16, kernel=5, dilations=(1, 2), states=24)
ROWS, LENGTH = 8, 96


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.h5"
    rng = np.random.default_rng(0)
    records = itertools.islice((r for r in read_records(EXAMPLE) if 60 <= len(r.text) <= 300), 40)
    proteins = [
        (r.id, f"family{i // 3}", r.text, rng.dirichlet(np.full(20, 0.3), len(r.text))) for i, r in enumerate(records)
    ]
    write_corpus(path, proteins)
    return Corpus(path, held_out=0.1)


@pytest.fixture(scope="module")
def library(corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "contexts.safetensors"
    fit_library(corpus, path, states=24, n_windows=1500, iterations=3)
    return path


class Teacher:
    """Features drawn at random for every residue of a corpus, of which seven in ten are kept."""

    name, fingerprint = "oracle", "0f"

    def __init__(self, corpus, dimension=12, pooled=10, kept=0.7):
        rng = np.random.default_rng(1)
        total = int(corpus.offsets[-1])
        self.corpus, self.dimension = corpus, dimension
        self.values = (rng.normal(size=(total, dimension)) * np.arange(1, dimension + 1) + 3).astype(np.float32)
        self.vectors = (rng.normal(size=(len(corpus), pooled)) + 1).astype(np.float32)
        self.kept, self.share = rng.random(total) < kept, kept
        self.mean, self.scale = self.values.mean(0), self.values.std(0)
        self.protein_mean, self.protein_scale = self.vectors.mean(0), self.vectors.std(0)

    def crops(self, proteins, starts, length):
        values = np.zeros((len(proteins), length, self.dimension), dtype=np.float32)
        known = np.zeros((len(proteins), length), dtype=np.bool_)
        for row, (protein, start) in enumerate(zip(proteins, starts, strict=True)):
            first = self.corpus.offsets[protein] + start
            n = min(length, self.corpus.offsets[protein + 1] - first)
            values[row, :n], known[row, :n] = self.values[first : first + n], self.kept[first : first + n]
        return values, known

    def proteins(self, proteins):
        return self.vectors[proteins]

    def sample(self, n):
        return self.values[:n]

    def sample_proteins(self, n):
        return self.vectors[:n]


@pytest.fixture(scope="module")
def teacher(corpus):
    return Teacher(corpus)


@pytest.fixture(scope="module")
def batch(corpus):
    proteins = np.array([0, 1, 3, 4, 9, 12, 15, 16])
    return corpus.crop(proteins, LENGTH, np.random.default_rng(0), margin=6, masked=0.3)


@pytest.fixture(scope="module")
def outputs(batch):
    torch.manual_seed(0)
    with torch.no_grad():
        return Student(TINY).eval()(*inputs(batch))


def inputs(batch):
    return torch.from_numpy(batch.ids.astype(np.int64)), torch.from_numpy(batch.mask)[..., None].float()


def only_vectors(vectors):
    """Outputs of a student for an objective that looks at nothing but the protein vectors."""
    nothing = torch.zeros(len(vectors), 1, 1)
    return Outputs(**dict.fromkeys(Outputs._fields, nothing) | {"vectors": vectors})


def rows_of(batch, chosen):
    """The batch with some rows only, or in another order."""
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    return dataclasses.replace(batch, **{k: v[chosen] for k, v in fields.items() if isinstance(v, np.ndarray)})


MAKERS = {
    "contexts": lambda library, teacher: Contexts(library, TINY),
    "hidden": lambda library, teacher: HiddenResidues(),
    "match": lambda library, teacher: FeatureMatching(teacher, TINY),
    "match phi-s mlp": lambda library, teacher: FeatureMatching(teacher, TINY, "phi-s", "mlp"),
    "match raw": lambda library, teacher: FeatureMatching(teacher, TINY, "none"),
    "kl": lambda library, teacher: PooledKL(teacher, TINY),
    "relational": lambda library, teacher: Relational(teacher),
    "contrast": lambda library, teacher: FamilyContrast(TINY.width, memory=16),
}
ALONE = [name for name in MAKERS if name not in ("relational", "contrast")]
"""Objectives in which a row has nothing to do with the other rows."""


@pytest.fixture
def objective(request, corpus, library, teacher):
    torch.manual_seed(1)
    result = MAKERS[request.param](library, teacher)
    result.prepare(Student(TINY), corpus)
    return result


@pytest.mark.parametrize("objective", MAKERS, indirect=True)
def test_rows_in_another_order_have_the_same_losses(objective, batch, outputs):
    order = np.random.default_rng(0).permutation(ROWS)
    before = objective(outputs, objective.targets(batch))
    if isinstance(objective, FamilyContrast):
        objective = FamilyContrast(TINY.width, memory=16)
    after = objective(Outputs(*(x[order] for x in outputs)), objective.targets(rows_of(batch, order)))
    assert before
    assert before.keys() == after.keys()
    for name, loss in before.items():
        assert loss.shape == (ROWS,)
        assert loss.isfinite().all()
        assert loss.std() > 0
        torch.testing.assert_close(after[name], loss[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", ALONE, indirect=True)
def test_two_halves_average_to_the_whole(objective, batch, outputs):
    whole = objective(outputs, objective.targets(batch))
    halves = []
    for part in (slice(0, ROWS // 2), slice(ROWS // 2, ROWS)):
        halves.append(objective(Outputs(*(x[part] for x in outputs)), objective.targets(rows_of(batch, part))))
    for name, loss in whole.items():
        average = (halves[0][name].mean() + halves[1][name].mean()) / 2
        torch.testing.assert_close(average, loss.mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("objective", ALONE, indirect=True)
def test_padding_never_changes_a_loss(objective, batch, outputs):
    assert not batch.mask.all()
    padding = outputs.mask == 0
    noise = torch.full_like(outputs.mask, 7.0)
    of_residues = ("features", "contexts", "profile")
    filled = {name: torch.where(padding, noise, getattr(outputs, name)) for name in of_residues}
    targets = objective.targets(batch)
    expected = objective(outputs, targets)
    for index, target in enumerate(targets):
        if target.shape[:2] == padding.shape[:2] and target.dtype == torch.float32 and target.ndim == 3:
            empty = padding if not isinstance(objective, FeatureMatching) else ~targets[2][..., None]
            targets[index] = torch.where(empty, noise, target)
    changed = objective(outputs._replace(**filled), targets)
    for name, loss in expected.items():
        torch.testing.assert_close(changed[name], loss)


@pytest.mark.parametrize("objective", ALONE, indirect=True)
def test_compiles_without_a_break(objective, batch, outputs):
    assert not objective.eager
    targets = objective.targets(batch)
    compiled = torch.compile(objective, backend="eager", fullgraph=True, dynamic=False)
    for name, loss in compiled(outputs, targets).items():
        torch.testing.assert_close(loss, objective(outputs, targets)[name])


def test_mean_over_rows_is_the_mean_over_hidden_residues(batch, outputs):
    share = float(batch.hidden.sum(1).mean())
    objective = HiddenResidues()
    residues, hidden, _ = objective.targets(batch)
    loss = objective(outputs, [residues, hidden, torch.tensor(share)])["hidden"].mean()
    where = torch.from_numpy(batch.hidden)
    expected = F.nll_loss(outputs.profile[where], torch.from_numpy(batch.residues.astype(np.int64))[where])
    torch.testing.assert_close(loss, expected)


# --- context libraries


def test_posterior_is_the_library_read_window_by_window(corpus, library):
    from safetensors.numpy import load_file

    objective = Contexts(library, TINY)
    some = corpus.profiles[:30].astype(np.float32)
    padded = np.pad(some, ((6, 6), (0, 0)))[None]
    tensors = load_file(library)
    weighted = PROFILE_SHARPNESS * position_weights(13)[:, None] * tensors["log_columns"]
    logits = np.einsum("lwa,kwa->lk", windows(some, 13), weighted) + tensors["log_prior"]
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    got = objective.posterior(torch.from_numpy(padded))[0].numpy()
    np.testing.assert_allclose(got, expected, atol=0.05)  # matrix product in bfloat16


def test_student_needs_the_librarys_number_of_states(library):
    with pytest.raises(InputError, match="has 24 contexts, the student 20; use --states 24"):
        Contexts(library, dataclasses.replace(TINY, states=20))


def test_student_starts_from_the_teachers_principal_components(corpus, library):
    """With the teacher's own posteriors as its assignments, the untrained student's vector is the teacher's."""
    torch.manual_seed(0)
    student, objective = Student(TINY).eval(), Contexts(library, TINY)
    objective.prepare(student, corpus)
    batch = corpus.crop(np.arange(20), 512, np.random.default_rng(0), margin=objective.margin)
    ids, mask = inputs(batch)
    targets = objective.targets(batch)
    mean = (targets[0] * mask).sum(1) / mask.sum(1)
    with torch.no_grad():
        outputs = student(ids, mask)
        pooled = torch.cat([mean.clamp_min(1e-12).sqrt(), outputs.pooled[:, mean.shape[1] :]], dim=1)
        vectors = student.project(pooled - student.center)
        same = outputs._replace(vectors=vectors, contexts=targets[0].clamp_min(1e-30).log())
        losses, other = objective(same, targets), objective(outputs, targets)
    assert losses["protein"].max() == pytest.approx(0, abs=1e-4)
    assert losses["contexts"].max() == pytest.approx(0, abs=1e-4)
    assert other["protein"].mean() > 0.3


# --- families


def contrast(objective, vectors, families):
    return objective(only_vectors(vectors), [families])["contrast"]


def test_contrast_prefers_families_together():
    families = torch.tensor([0, 0, 1, 1])
    together = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    apart = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert contrast(FamilyContrast(2, memory=8), together, families).max() < 0.1
    assert contrast(FamilyContrast(2, memory=8), apart, families).min() > 0.1


def test_contrast_without_relatives_is_zero_and_remembers():
    objective = FamilyContrast(2, memory=3)
    assert contrast(objective, torch.eye(2), torch.tensor([0, 1])).tolist() == [0, 0]
    assert objective.families.tolist() == [0, 1, -1]
    contrast(objective, torch.eye(2), torch.tensor([2, 3]))
    assert objective.families.tolist() == [3, 1, 2]
    contrast(objective, torch.eye(2).repeat(3, 1), torch.arange(10, 16))  # more rows than it can remember
    assert sorted(objective.families.tolist()) == [13, 14, 15]


def test_contrast_is_the_mean_over_rows_with_a_relative():
    """Against the formula of supervised contrast, with one remembered negative and one remembered relative."""
    objective = FamilyContrast(3, memory=2, temperature=0.5)
    torch.manual_seed(0)
    old, z = (F.normalize(torch.randn(n, 3), dim=-1) for n in (2, 4))
    contrast(objective, old, torch.tensor([0, 9]))
    loss = contrast(objective, z, torch.tensor([0, 0, 0, 5]))
    expected = []
    for i in range(3):
        others = [z[j] for j in range(4) if j != i] + [old[1]]  # the remembered relative, old[0], has no part
        log_sum = torch.logsumexp(torch.stack([z[i] @ o for o in others]) / 0.5, 0)
        expected.append(torch.stack([log_sum - z[i] @ z[j] / 0.5 for j in range(3) if j != i]).mean())
    torch.testing.assert_close(loss.mean(), torch.stack(expected).mean())
    assert loss[3] == 0
    assert objective.eval()(None, [torch.zeros(0)]) == {}


# --- features


def test_matching_is_unics_loss_where_features_are_known(corpus, batch, outputs):
    teacher = Teacher(corpus, kept=1.0)
    objective = FeatureMatching(teacher, TINY)
    _, values, known, _ = targets = objective.targets(batch)
    np.testing.assert_array_equal(known, batch.mask)
    per_row = torch.tensor(float(batch.mask.sum(1).mean()))
    loss = objective(outputs, [*targets[:3], per_row])
    student = objective.residue_head(outputs.features)[known]
    wanted = ((values - torch.from_numpy(teacher.mean)) / torch.from_numpy(teacher.scale))[known]
    expected = 0.5 * (1 - F.cosine_similarity(student, wanted)).mean() + 0.5 * F.smooth_l1_loss(student, wanted)
    torch.testing.assert_close(loss["oracle residues"].mean(), expected)
    student = objective.protein_head(outputs.vectors)
    wanted = torch.from_numpy((teacher.vectors[batch.proteins] - teacher.protein_mean) / teacher.protein_scale)
    expected = 0.5 * (1 - F.cosine_similarity(student, wanted)).mean() + 0.5 * F.smooth_l1_loss(student, wanted)
    torch.testing.assert_close(loss["oracle proteins"].mean(), expected)


def test_known_residues_stand_for_those_that_the_cache_lacks(batch, outputs, teacher):
    """A student that is wrong by the same everywhere has the same loss whichever residues are known."""
    objective = FeatureMatching(teacher, TINY)
    proteins, values, known, per_row = objective.targets(batch)
    flat = outputs._replace(features=torch.ones_like(outputs.features))
    same = values[:1, :1].expand_as(values)
    everything = torch.from_numpy(batch.mask)
    some, all_of_them = (objective(flat, [proteins, same, k, per_row]) for k in (known, everything))
    assert known.sum() < 0.8 * everything.sum()
    torch.testing.assert_close(some["oracle residues"], all_of_them["oracle residues"])
    none = objective(flat, [proteins, same, torch.zeros_like(known), per_row])
    assert none["oracle residues"].abs().max() == 0


def test_a_teacher_of_proteins_alone_can_be_matched(batch, outputs):
    vectors = Vectors(np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32))
    objective = FeatureMatching(vectors, TINY, "phi-s")
    assert set(objective(outputs, objective.targets(batch))) == {"vectors proteins"}


@pytest.mark.parametrize("standardise", ["dimension", "phi-s"])
def test_training_the_heads_lowers_the_loss(batch, outputs, teacher, standardise):
    torch.manual_seed(0)
    objective = FeatureMatching(teacher, TINY, standardise, "mlp")
    targets = objective.targets(batch)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    seen = []
    for _ in range(120):
        loss = torch.stack([x.mean() for x in objective(outputs, targets).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < 0.7 * seen[0]


@pytest.mark.parametrize("what", ["values", "vectors", "mean", "sample"])
def test_features_that_are_not_finite_name_their_teacher(corpus, batch, what):
    teacher = Teacher(corpus, kept=1.0)
    if what == "sample":
        teacher.sample = lambda n: np.full((5, teacher.dimension), np.inf, dtype=np.float32)
    else:
        getattr(teacher, what)[:] = np.nan
    with pytest.raises(InputError, match="features of teacher oracle are not finite"):
        FeatureMatching(teacher, TINY, "phi-s" if what == "sample" else "dimension").targets(batch)


def test_values_that_are_not_known_may_be_anything(corpus, batch, outputs):
    teacher = Teacher(corpus)
    teacher.values[~teacher.kept] = np.nan
    objective = FeatureMatching(teacher, TINY)
    objective_loss = objective(outputs, objective.targets(batch))["oracle residues"]
    assert objective_loss.isfinite().all()
    objective_loss.sum().backward()
    assert all(p.grad.isfinite().all() for p in objective.residue_head.parameters())


def test_pooled_divergence_is_torchs_own(batch, outputs, teacher):
    objective = PooledKL(teacher, TINY)
    loss = objective(outputs, objective.targets(batch))["oracle kl"]
    student = F.log_softmax(objective.head(outputs.vectors), dim=1)
    wanted = torch.softmax(torch.from_numpy(teacher.vectors[batch.proteins]), dim=1)
    torch.testing.assert_close(loss.mean(), torch.nn.KLDivLoss(reduction="batchmean")(student, wanted))


def test_relations_are_cosines_between_the_rows(batch, outputs, teacher):
    objective = Relational(teacher)
    targets = objective.targets(batch)
    loss = objective(outputs, targets)["oracle relations"]
    wanted = (targets[0] - torch.from_numpy(teacher.protein_mean)) / torch.from_numpy(teacher.protein_scale)
    for i in range(ROWS):
        others = [j for j in range(ROWS) if j != i]
        difference = [
            F.cosine_similarity(outputs.vectors[i], outputs.vectors[j], dim=0)
            - F.cosine_similarity(wanted[i], wanted[j], dim=0)
            for j in others
        ]
        torch.testing.assert_close(loss[i], torch.stack(difference).square().mean(), rtol=1e-4, atol=1e-6)
    rotation = torch.linalg.qr(torch.randn(10, 10, generator=torch.Generator().manual_seed(0)))[0]
    rotated = objective(outputs._replace(vectors=3 * wanted @ rotation), targets)["oracle relations"]
    assert rotated.max() < 1e-6


def test_objectives_are_composed_by_name(corpus, teacher):
    other = Teacher(corpus)
    other.name, other.fingerprint = "second", "1f"
    made = build(["match", "kl", "relational"], [teacher, other], TINY, standardise="phi-s", head="mlp")
    assert [type(o) for o in made] == 2 * [FeatureMatching, PooledKL, Relational]
    assert [o.teacher for o in made] == 3 * ["oracle"] + 3 * ["second"]
    assert len({o.fingerprint for o in made}) == 6
    assert build(["match"], [teacher], TINY)[0].fingerprint != made[0].fingerprint


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["mse"], {}, "objectives are match, kl, relational, not 'mse'"),
        (["kl", "kl"], {}, "objective kl is named twice"),
        (["match"], {"head": "deep"}, "heads are linear or mlp, not 'deep'"),
        (["match"], {"standardise": "whiten"}, "standardised by dimension, phi-s, none, not 'whiten'"),
    ],
)
def test_unknown_names_are_refused(teacher, names, options, message):
    with pytest.raises(InputError, match=message):
        build(names, [teacher], TINY, **options)


# --- scales


@pytest.mark.parametrize("order", [1, 2, 4, 12, 16, 20, 28, 36, 40, 320])
def test_hadamard_matrices(order):
    matrix = hadamard(order)
    assert set(np.unique(matrix)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(matrix @ matrix.T, order * np.eye(order))


def test_orders_without_a_construction():
    assert [n for n in range(1, 60) if n % 4 == 0 and hadamard(n) is None] == [52]
    assert hadamard(6) is None
    assert hadamard(92) is None


@pytest.mark.parametrize("order", [3, 6, 7, 30, 52])
def test_variances_are_levelled_where_there_is_no_hadamard_matrix(order):
    variances = np.random.default_rng(order).exponential(size=order) ** 4
    rotation = levelling_rotation(variances)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(order), atol=1e-10)
    levelled = np.diag(rotation @ np.diag(variances) @ rotation.T)
    np.testing.assert_allclose(levelled, variances.mean(), rtol=1e-9)


@pytest.mark.parametrize("dimension", [1, 5, 20, 28, 32])
@pytest.mark.parametrize("rank", [None, 3])
def test_phi_s_evens_variances_and_keeps_distances(dimension, rank):
    generator = torch.Generator().manual_seed(dimension)
    inner = min(rank or dimension, dimension)
    raw = torch.randn(400, inner, generator=generator) @ torch.randn(inner, dimension, generator=generator) ** 3 + 5
    phi = PhiS(raw)
    z = phi(raw)
    torch.testing.assert_close(z.mean(0), torch.zeros(dimension), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(dimension), atol=1e-3, rtol=0)
    torch.testing.assert_close(phi.inverse(z), raw, rtol=1e-4, atol=1e-3)
    before, after = ((x[:, None] - x[None, :7]).norm(dim=-1) for x in (raw, z))
    torch.testing.assert_close(after * phi.scale, before, rtol=1e-3, atol=1e-3)


def test_phi_s_of_a_constant_does_not_blow_up():
    assert PhiS(torch.full((50, 4), 2.0))(torch.full((1, 4), 2.01)).abs().max() < 1e3


def test_per_dimension_and_identity(teacher):
    raw = torch.from_numpy(teacher.values)
    scale = PerDimension(torch.from_numpy(teacher.mean), torch.from_numpy(teacher.scale))
    torch.testing.assert_close(scale(raw).var(0, correction=0), torch.ones(12), atol=1e-3, rtol=0)
    torch.testing.assert_close(scale.inverse(scale(raw)), raw, rtol=1e-4, atol=1e-4)
    assert Identity().inverse(Identity()(raw)) is raw


def test_scales_are_kept_in_the_state_dict(corpus, teacher):
    first = FeatureMatching(teacher, TINY, "phi-s")
    other = Teacher(corpus)
    other.values *= 3
    second = FeatureMatching(other, TINY, "phi-s")
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.residue_scale(torch.ones(1, 12)), first.residue_scale(torch.ones(1, 12)))


# --- choices


def random_losses(seed, rows=400, teachers=("a", "b", "c")):
    generator = torch.Generator().manual_seed(seed)
    return {teacher: torch.rand(rows, generator=generator) for teacher in teachers}


def test_everyone_counts():
    assert all((w == 1).all() for w in Everyone()(torch.zeros(400, 3), random_losses(0)).values())


def test_the_worst_teacher_is_kept_and_half_of_the_others_dropped():
    losses = random_losses(0)
    table = torch.stack(list(losses.values()), 1)
    kept = torch.stack(list(TeacherDropping()(torch.zeros(400, 3), losses).values()), 1)
    highest = F.one_hot(table.argmax(1), 3).bool()
    assert (kept[highest] == 1).all()
    assert 0.45 < kept[~highest].mean() < 0.55


@pytest.mark.parametrize("name", ["all", "dropping", "selector"])
def test_choices_depend_on_seed_and_state_alone(name):
    def run(choice, steps):
        return [(choice(torch.ones(400, 3), random_losses(step)), choice.extra())[0] for step in steps]

    a, b = build_choice(name, ["a", "b", "c"], 3, seed=5), build_choice(name, ["a", "b", "c"], 3, seed=5)
    whole = run(a, range(4))
    run(b, range(2))
    resumed = build_choice(name, ["a", "b", "c"], 3, seed=5)
    resumed.load_state_dict(b.state_dict())
    for expected, got in zip(whole[2:], run(resumed, range(2, 4)), strict=True):
        assert all(torch.equal(expected[t], got[t]) for t in "abc")
    before = {k: v.clone() for k, v in a.state_dict().items()}
    assert all((w == 1).all() for w in a.eval()(torch.ones(400, 3), random_losses(0)).values())
    assert a.extra() == {}
    assert all(torch.equal(v, before[k]) for k, v in a.state_dict().items())
    if name != "all":
        other = build_choice(name, ["a", "b", "c"], 3, seed=6)
        assert not torch.equal(run(other, range(1))[0]["a"], whole[0]["a"])


def test_unknown_choice_is_refused():
    with pytest.raises(InputError, match="chosen by all, dropping, selector, not 'best'"):
        build_choice("best", ["a"], 3)


def test_selectors_draws_are_bernoulli_given_one_at_least():
    p = torch.tensor([[0.1, 0.3, 0.05]])
    outcomes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))[1:])
    probability = _log_probability(outcomes, p.expand(7, 3)).exp()
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    uniform = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0))
    drawn = _at_least_one(p.expand(20_000, 3), uniform)
    assert drawn.sum(1).min() == 1
    frequency = (drawn[:, None] == outcomes[None]).all(2).float().mean(0)
    torch.testing.assert_close(frequency, probability, atol=0.015, rtol=0)


def test_selector_learns_to_avoid_a_teacher_that_is_noise():
    """A linear student of two teachers: one is a function of the input, the other is drawn anew at every step."""
    torch.manual_seed(0)
    truth, student = torch.nn.Linear(6, 4), torch.nn.Linear(6, 8)
    selector = Selector(8, ["truth", "noise"])
    optimizer = torch.optim.Adam([*student.parameters(), *selector.parameters()], lr=2e-2)

    def step():
        x = torch.randn(64, 6)
        vectors = student(x)
        losses = {
            "noise": (vectors[:, :4] - torch.randn(64, 4)).square().mean(1),
            "truth": (vectors[:, 4:] - truth(x).detach()).square().mean(1),
        }
        detached = {name: loss.detach() for name, loss in losses.items()}
        weights = selector(vectors.detach(), detached)
        total = sum((weights[name] * loss).mean() for name, loss in losses.items()) + selector.extra()["policy"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return selector.probabilities(vectors.detach(), detached).mean(0), weights

    before, _ = step()
    for _ in range(200):
        after, weights = step()
    torch.testing.assert_close(before, torch.full((2,), 0.5), atol=0.05, rtol=0)
    assert after[0] > 0.8
    assert after[1] < 0.2
    assert weights["truth"].mean() > 0.8


def test_selector_takes_a_reward_from_outside():
    selector = Selector(4, ["a", "b"])
    losses = {"a": torch.ones(256), "b": torch.ones(256)}
    optimizer = torch.optim.Adam(selector.parameters(), lr=5e-2)
    state = torch.zeros(256, 4)
    for _ in range(80):
        reward = selector(state, losses)["b"]
        optimizer.zero_grad()
        selector.extra(reward)["policy"].backward()
        optimizer.step()
    probability = selector.probabilities(state, losses).mean(0)
    assert probability[1] > 0.8


# --- balance


def test_balance_gives_each_teacher_the_same_weight():
    balance = LossBalance(["a", "b", ""], momentum=0.5)
    losses = {"a": torch.full((4,), 100.0), "b": torch.full((4,), 0.01), "": torch.full((4,), 3.0)}
    factors = balance(losses)
    assert {k: float(factors[k] * losses[k].mean()) for k in "ab"} == pytest.approx({"a": 1, "b": 1})
    assert factors[""] == 1
    factors = balance(losses | {"a": torch.full((4,), 50.0)})
    assert float(1 / factors["a"]) == pytest.approx(75)
    resumed = LossBalance(["a", "b", ""], momentum=0.5)
    resumed.load_state_dict(balance.state_dict())
    assert resumed(losses)["a"] == balance(losses)["a"]
    assert balance.eval()({"a": torch.full((4,), 1e6)})["a"] == resumed.eval()({"a": torch.ones(4)})["a"]


def test_no_balance_is_one():
    balance = LossBalance(["a"], mode="none")
    assert balance({"a": torch.full((4,), 7.0)})["a"] == 1
    with pytest.raises(InputError, match="balanced by none or running, not 'best'"):
        LossBalance(["a"], mode="best")


# --- several processes


class Vectors:
    """A teacher of protein vectors alone."""

    name, fingerprint, dimension, share = "vectors", "2f", 5, 0.0

    def __init__(self, vectors):
        self.vectors = vectors
        self.mean = self.protein_mean = vectors.mean(0)
        self.scale = self.protein_scale = vectors.std(0)

    def proteins(self, proteins):
        return self.vectors[proteins]

    def sample_proteins(self, n):
        return self.vectors[:n]


def shared_run(rank, number):
    """Two steps of what looks across processes: losses, gradient of the parameters, draws and balance."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 5, generator=generator))
    teacher = torch.randn(12, 5, generator=generator)
    contrast, relational = FamilyContrast(4, memory=8), Relational(Vectors(teacher.numpy()))
    dropping, balance = TeacherDropping(), LossBalance(["a", "b"])
    gradients, losses, draws = [], [], []
    for x in torch.randn(2, 12, 5, generator=generator):
        part = slice(rank * 12 // number, (rank + 1) * 12 // number)
        vectors = x[part] @ weight.T
        outputs = only_vectors(vectors)
        rows = contrast(outputs, [torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 2, 6, 7])[part]])
        rows |= relational(outputs, [teacher[part]])
        loss = torch.stack([value.mean() for value in rows.values()])
        gradients.append(torch.autograd.grad(loss.sum(), weight)[0])
        losses.append(loss.detach())
        state = {"a": rows["contrast"].detach(), "b": rows["vectors relations"].detach()}
        draws.append(dropping(vectors.detach(), {"a": x[part, 0], "b": x[part, 1]})["a"])
        factors = balance(state)
    memory = contrast.vectors.clone()
    return torch.stack(losses), torch.stack(gradients), torch.stack(draws), torch.stack([*factors.values()]), memory


def join(rank, folder):
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=120)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=wait
    )
    try:
        torch.save(shared_run(rank, 2), f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_two_processes_are_one(tmp_path):
    other = torch.multiprocessing.get_context("spawn").Process(target=join, args=(1, tmp_path.as_posix()), daemon=True)
    other.start()
    join(0, tmp_path.as_posix())
    other.join()
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    losses, gradients, draws, factors, memory = shared_run(0, 1)
    torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, losses)
    torch.testing.assert_close((parts[0][1] + parts[1][1]) / 2, gradients)
    torch.testing.assert_close(torch.cat([parts[0][2], parts[1][2]], dim=1), draws)
    for part in parts:
        torch.testing.assert_close(part[3], factors)
        torch.testing.assert_close(part[4], memory)
