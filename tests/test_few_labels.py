"""Zero labels, in-context linear regression and ranking losses: against formulas written out and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.linear_model import Ridge

from fake_encoder import FakeEncoder
from limbeck import InputError, load
from limbeck.landscapes import zero_labels
from limbeck.landscapes.assay import expressed
from limbeck.landscapes.models.features import Features
from limbeck.landscapes.models.in_context import InContextLinearModel, optimal, risk
from limbeck.landscapes.models.ranker import LOSSES, LinearRanker, concordance
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.models.zero_labels import ZeroLabelModel
from limbeck.landscapes.vectors import Source
from limbeck.landscapes.zero_labels import ZeroLabels, has_likelihoods, site_scores
from limbeck.residues import RESIDUES
from tiny_encoders import protein, write_unirep

WILD_TYPE = protein(24)


class Believer(FakeEncoder):
    """Expects fixed residues at each position, and leans to what it reads there unless that is hidden."""

    def __init__(self, seed=0, lean=0.0):
        super().__init__(f"believer {seed} {lean}")
        self.precision = "f32"
        self._logs = np.log(np.random.default_rng(seed).dirichlet(np.ones(20), size=200))
        self._lean = lean
        self.asked = []

    def log_probabilities(self, sequences):
        self.asked.append(list(sequences))
        result = []
        for sequence in sequences:
            logs = self._logs[: len(sequence)].copy()
            for place, letter in enumerate(sequence):
                if letter in RESIDUES:
                    logs[place, RESIDUES.index(letter)] += self._lean
            result.append((logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))).astype(np.float32))
        return result


def sources(*encoders, wild_types=(WILD_TYPE,)):
    return [Source(encoder, wild_types=wild_types) for encoder in encoders]


def mutated(*mutations, wild_type=WILD_TYPE):
    row = list(wild_type)
    for place, letter in mutations:
        row[place] = letter
    return "".join(row)


def singles(wild_type=WILD_TYPE, step=3):
    return [mutated((i, a), wild_type=wild_type) for i in range(24) for a in RESIDUES[::step] if a != wild_type[i]]


@pytest.fixture(autouse=True)
def fresh():
    zero_labels.forget()
    yield
    zero_labels.forget()


# Zero labels


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.integers(0, 23), st.sampled_from(RESIDUES), max_size=5))
def test_score_is_the_sum_of_log_ratios(changes):
    encoder = Believer()
    (logs,) = encoder.log_probabilities([WILD_TYPE])
    wanted = sum(
        logs[i, RESIDUES.index(a)].astype(float) - logs[i, RESIDUES.index(WILD_TYPE[i])] for i, a in changes.items()
    )
    (found,) = ZeroLabels(sources(encoder)).scores([mutated(*changes.items())])
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_variant_scores_the_same_whatever_is_scored_beside_it():
    scores = ZeroLabels(sources(Believer(), Believer(1)))
    rows = singles()
    together = scores.scores(rows)
    np.testing.assert_array_equal([scores.scores([row])[0] for row in rows[:20]], together[:20])


def test_average_is_in_nats():
    one, other = Believer(1), Believer(2)
    rows = singles()
    each = [ZeroLabels(sources(encoder)).scores(rows) for encoder in (one, other)]
    np.testing.assert_allclose(ZeroLabels(sources(one, other)).scores(rows), np.mean(each, axis=0))


def test_masked_hides_the_residue_from_its_own_position_alone():
    encoder = Believer(lean=5.0)
    (plain,), (hidden,) = (site_scores(encoder, [WILD_TYPE], masked) for masked in (False, True))
    without = site_scores(Believer(), [WILD_TYPE])[0]
    np.testing.assert_allclose(hidden, without, atol=1e-5)
    own = [RESIDUES.index(letter) for letter in WILD_TYPE]
    others = np.ones((24, 20), bool)
    others[np.arange(24), own] = False
    np.testing.assert_allclose((hidden - plain)[others], 5.0, atol=1e-5)
    np.testing.assert_array_equal(plain[np.arange(24), own], 0.0)


def test_every_shipped_encoder_masks_as_it_says():
    # A context library never sees the residue itself; the student reads it.
    contexts, student = load("limbeck-contexts"), load("limbeck-9m")
    plain, masked = (site_scores(contexts, [WILD_TYPE], m)[0] for m in (False, True))
    np.testing.assert_allclose(masked, plain, atol=1e-4)
    plain, masked = (site_scores(student, [WILD_TYPE], m)[0] for m in (False, True))
    assert np.abs(masked - plain).max() > 0.5


def test_a_letter_that_is_no_residue():
    wild_type = "AC-DX"
    encoder = Believer()
    (sites,) = site_scores(encoder, [expressed(wild_type)])
    rows = ["AC-DX", "A--DX", "AC*--", "ACWDX", "AC-DW", "AX-DX"]
    found = ZeroLabels(sources(encoder, wild_types=(wild_type,))).scores(rows)
    deleted, stopped = sites[1].min(), sites[2].min() + sites[3].min()
    np.testing.assert_allclose(found, [0, deleted, stopped, -np.log(20), 0, 0], atol=1e-6)
    # A stop in a column that is a gap in the wild type takes what follows, and nothing for itself.
    assert stopped < 0


def test_several_wild_types_are_asked_about_in_one_call():
    encoder, other = Believer(), protein(24, seed=5)
    rows = [mutated((3, "W")), mutated((3, "W"), wild_type=other)]
    found = ZeroLabels(sources(encoder, wild_types=(WILD_TYPE, other))).scores(rows)
    assert encoder.asked == [[WILD_TYPE, other]]
    alone = [
        ZeroLabels(sources(encoder, wild_types=(w,))).scores([r])[0]
        for w, r in zip((WILD_TYPE, other), rows, strict=True)
    ]
    np.testing.assert_allclose(found, alone)
    assert len(encoder.asked) == 1


def test_unirep_expects_the_next_residue(tmp_path):
    encoder = load(write_unirep(tmp_path / "unirep.safetensors"))
    (logs,) = encoder.log_probabilities([WILD_TYPE])
    (sites,) = site_scores(encoder, [WILD_TYPE])
    assert sites[4, 7] == pytest.approx(logs[4, 7] - logs[4, RESIDUES.index(WILD_TYPE[4])], abs=1e-5)


def test_an_encoder_without_likelihoods():
    assert has_likelihoods(load("limbeck-contexts"))
    assert not has_likelihoods(load("one-hot"))
    with pytest.raises(InputError, match="one-hot has no probabilities of residues"):
        ZeroLabels(sources("one-hot")).scores([WILD_TYPE])
    with pytest.raises(InputError, match="give wild_types"):
        ZeroLabels([Source("limbeck-contexts")])
    with pytest.raises(InputError, match="give wild_types"):
        ZeroLabels([])


def test_the_order_is_the_encoders_whatever_labels_say():
    rows = singles()
    ratios = ZeroLabelModel("limbeck-contexts", wild_types=(WILD_TYPE,)).ratios(rows)
    for scores in (ratios * 3 + 1, -ratios, np.zeros(len(rows))):
        model = ZeroLabelModel("limbeck-contexts", wild_types=(WILD_TYPE,)).fit(rows, scores)
        assert spearmanr(model.predict(rows), ratios)[0] == pytest.approx(1.0)
    model = ZeroLabelModel("limbeck-contexts", wild_types=(WILD_TYPE,)).fit(rows, ratios * 3 + 1)
    np.testing.assert_allclose(model.predict(rows), ratios * 3 + 1)
    assert model.noise_ == pytest.approx(0.0, abs=1e-12)


def test_augmented_ridge_hardly_penalises_the_zero_label_score():
    rows = singles()
    ratios = ZeroLabelModel("limbeck-contexts", wild_types=(WILD_TYPE,)).ratios(rows)
    known = {"encoder": "limbeck-contexts", "wild_types": (WILD_TYPE,)}
    model = RidgeModel(("one-hot", "zero-label"), alpha=1e3, **known).fit(rows[::4], 2 * ratios[::4])
    np.testing.assert_allclose(model.predict(rows), 2 * ratios, rtol=0.1, atol=0.3)
    named = RidgeModel(("one-hot", "zero-label:limbeck-contexts"), alpha=1e3, wild_types=(WILD_TYPE,))
    np.testing.assert_allclose(named.fit(rows[::4], 2 * ratios[::4]).predict(rows), model.predict(rows))
    assert named.embedder() is None
    both = Features("zero-label:limbeck-9m,limbeck-contexts", Source(wild_types=(WILD_TYPE,))).fit(rows).blocks[0]
    average = ZeroLabels(sources("limbeck-9m", "limbeck-contexts")).scores(rows)
    assert np.corrcoef(both[:, 0], average)[0, 1] == pytest.approx(1.0)
    with pytest.raises(InputError, match="no features 'zero-label:'"):
        RidgeModel("zero-label:").fit(rows, ratios)


# In-context linear regression


def tasks(spectrum, count, ratio, repeats, seed=0):
    """Rows, scores, a new row and its score without noise, of many regression tasks with psi = 1."""
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        rows, new = (rng.normal(size=(n, len(spectrum))) * np.sqrt(spectrum) for n in (count, 1))
        weights = rng.normal(size=len(spectrum))
        yield rows, rows @ weights + rng.normal(size=count) * ratio**0.5, new[0], float(new[0] @ weights)


@pytest.mark.parametrize(("count", "ratio"), [(4, 0.5), (20, 2.0)])
def test_the_preconditioner_is_the_best_and_its_risk_known(count, ratio):
    spectrum = np.array([3.0, 1.0, 0.3])
    best = optimal(spectrum, count, ratio)
    known = list(tasks(spectrum, count, ratio, 20_000))
    steps = np.array([x * (rows.T @ y) / count for rows, y, x, _ in known])
    truth = np.array([wanted for *_, wanted in known])
    error = np.mean((steps @ best - truth) ** 2)
    assert error == pytest.approx(risk(spectrum, count, ratio), rel=0.05)
    # The least squares fit over tasks, which is what pretraining finds, is the closed form.
    np.testing.assert_allclose(np.linalg.lstsq(steps, truth, rcond=None)[0], best, rtol=0.1)
    bayes = [x @ Ridge(alpha=ratio, fit_intercept=False).fit(rows, y).coef_ for rows, y, x, _ in known[:2000]]
    assert np.mean((np.array(bayes) - truth[:2000]) ** 2) < error < spectrum.sum()


def test_the_step_is_bayes_optimal_ridge_where_the_sample_covariance_is_known():
    # With many examples X'X / n is H, and both invert the same matrix.
    spectrum, count, ratio = np.array([2.0, 0.5, 0.1]), 20_000, 5_000.0
    rows, y, *_ = next(tasks(spectrum, count, ratio, 1))
    step = optimal(spectrum, count, ratio) * (rows.T @ y) / count
    np.testing.assert_allclose(step, Ridge(alpha=ratio, fit_intercept=False).fit(rows, y).coef_, rtol=0.05, atol=0.01)


def test_model_takes_the_step_written_out():
    rows = singles()
    scores = np.random.default_rng(0).normal(size=len(rows))
    known = {"features": "embedding:mutated", "encoder": "limbeck-contexts", "wild_types": (WILD_TYPE,)}
    model = InContextLinearModel(ratio=0.7, context=rows, **known).fit(rows[:15], scores[:15])
    design = model.features_.transform(rows).blocks[0]
    x = design[:15] - design[:15].mean(axis=0)
    covariance, n = np.cov(design.T, bias=True), 15
    matrix = (np.trace(covariance) + 0.7) / n * np.eye(len(covariance)) + (n + 1) / n * covariance
    step = np.linalg.solve(matrix, x.T @ (scores[:15] - scores[:15].mean()) / n)
    wanted = (design - design[:15].mean(axis=0)) @ step + scores[:15].mean()
    np.testing.assert_allclose(model.predict(rows), wanted, atol=1e-8)
    with pytest.raises(InputError, match="ratio must be 0 or more"):
        clone(model).set_params(ratio=-1.0).fit(rows, scores)


def test_ratio_is_chosen_by_leaving_each_row_out():
    rows = singles()[:12]
    scores = np.random.default_rng(1).normal(size=12)
    known = {"features": "embedding:mutated", "encoder": "limbeck-contexts", "wild_types": (WILD_TYPE,)}
    model = InContextLinearModel(context=rows, **known).fit(rows, scores)
    missed = []
    for i in range(12):
        kept = [k for k in range(12) if k != i]
        other = InContextLinearModel(ratio=model.ratio_, context=rows, **known).fit(
            [rows[k] for k in kept], scores[kept]
        )
        missed.append(scores[i] - other.predict([rows[i]])[0])
    assert model.noise_ == pytest.approx(np.mean(np.square(missed)))


# Ranking losses


@pytest.mark.parametrize("loss", LOSSES)
def test_slopes_and_bends_are_those_of_the_loss(loss):
    rng = np.random.default_rng(0)
    scores, at = np.round(rng.normal(size=9), 0), rng.normal(size=9)
    curve = LOSSES[loss]
    assert check_grad(lambda f: curve(f, scores)[0], lambda f: curve(f, scores)[1], at) < 1e-6
    bends = np.array([(curve(at + e, scores)[1] - curve(at - e, scores)[1]) / 2e-5 for e in np.eye(9) * 1e-5])
    np.testing.assert_allclose(curve(at, scores)[2], bends, atol=1e-5)


def test_pairs_are_counted_once_and_equal_scores_not_at_all():
    value, *_ = LOSSES["pairwise"](np.array([0.3, 0.1, 0.2]), np.array([1.0, 0.0, 1.0]))
    wanted = np.log1p(np.exp(-0.2)) + np.log1p(np.exp(-0.1))
    assert value == pytest.approx(wanted / 3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [0.05, 5.0])
def test_ranker_finds_the_minimum(loss, alpha):
    rows = singles()[:40]
    scores = np.random.default_rng(2).normal(size=40)
    known = {"features": ("one-hot", "zero-label"), "encoder": "limbeck-contexts", "wild_types": (WILD_TYPE,)}
    model = LinearRanker(loss=loss, alpha=alpha, **known).fit(rows, scores)
    design = np.hstack(
        [b if isinstance(b, np.ndarray) else b.toarray() for b in model.features_.transform(rows).blocks]
    )
    x = design - design.mean(axis=0)

    def objective(weights):
        value, slope, _ = LOSSES[loss](x @ weights, scores)
        return value + alpha / 2 * weights @ weights, x.T @ slope + alpha * weights

    found = minimize(
        objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14}
    )
    assert np.corrcoef(model.predict(rows), x @ found.x)[0, 1] == pytest.approx(1.0, abs=1e-5)


def test_a_ranker_sees_the_order_alone_where_squares_see_the_tail():
    rng = np.random.default_rng(0)
    rows = singles(step=1)
    truth = rng.normal(size=(24, 256))
    additive = np.array([sum(truth[i, ord(a)] for i, a in enumerate(row)) for row in rows])
    stretched = np.sign(additive) * np.exp(2 * np.abs(additive))
    train, test = rng.permutation(len(rows))[:150], rng.permutation(len(rows))[150:]
    fit = {}
    for name, scores in (("as measured", additive), ("stretched", stretched)):
        fit[name] = LinearRanker(alpha=1.0).fit([rows[i] for i in train], scores[train]).predict(rows)
    assert spearmanr(fit["as measured"], fit["stretched"])[0] == pytest.approx(1.0)
    ridge = RidgeModel().fit([rows[i] for i in train], stretched[train]).predict(rows)
    assert spearmanr(fit["stretched"][test], additive[test])[0] > spearmanr(ridge[test], additive[test])[0]


def test_ranker_chooses_its_penalty_and_is_restored():
    rows = singles()
    scores = np.random.default_rng(3).normal(size=len(rows))
    model = LinearRanker("composition").fit(rows[:60], scores[:60])
    again = clone(model).restore(model.state())
    np.testing.assert_array_equal(again.predict(rows), model.predict(rows))
    held = LinearRanker("composition").fit(rows[:60], scores[:60], validation=(rows[60:], scores[60:]))
    assert held.alpha_ > 0
    assert len(LinearRanker(most=10, alpha=1.0).fit(rows, scores).predict(rows)) == len(rows)
    assert np.isfinite(LinearRanker().fit(rows[:1], [1.0]).predict(rows)).all()
    for wrong, problem in (
        ({"loss": "hinge"}, "no ranking loss"),
        ({"alpha": 0.0}, "above 0"),
        ({"most": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=problem):
            LinearRanker(**wrong).fit(rows, scores)
    with pytest.raises(InputError, match="no standard deviation"):
        model.predict(rows, return_std=True)


def test_concordance():
    scores = np.array([0.0, 1.0, 2.0, 2.0])
    assert concordance(scores, scores) == 1.0
    assert concordance(-scores, scores) == 0.0
    assert concordance(np.zeros(4), scores) == 0.5
    assert concordance(np.array([0.0, 2.0, 1.0, 3.0]), scores) == pytest.approx(4 / 5)
    assert concordance(np.array([1.0, 0.0, 2.0, 3.0]), scores, np.array([3])) == 1.0
