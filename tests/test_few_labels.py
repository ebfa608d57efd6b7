"""Zero labels, in-context linear regression and ranking losses: against formulas written out and known answers."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.linear_model import Ridge

import limbeck
from fake_encoder import FakeEncoder
from limbeck import InputError, load, progress
from limbeck.landscapes import few_labels, ladder, zero_labels
from limbeck.landscapes.assay import Assay, expressed
from limbeck.landscapes.ladder import rungs
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
    assert held.penalty_ > 0
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


# The recommendation


def assay(count, wild_types=1):
    rows = (singles(step=1) * 10)[:count]
    parents = np.array([f"protein {i % wild_types}" for i in range(count)], dtype=object)
    found = {f"protein {i}": WILD_TYPE for i in range(wild_types)}
    return Assay("some", rows, np.zeros(count), parents, found)


def table(monkeypatch, *rows):
    """Have the rule read (labels, method, value, gain_low) instead of what was measured."""
    made = [few_labels.Measured(n, m, v, v - 0.1, v + 0.1, low + 0.02, low, low + 0.04) for n, m, v, low in rows]
    monkeypatch.setattr(few_labels, "_table", lambda: (30, tuple(made)))


ROWS = [
    (8, "ridge on one-hot", 0.1, -0.02),
    (8, "better", 0.3, -0.01),
    (64, "ridge on one-hot", 0.3, -0.02),
    (64, "better", 0.4, 0.01),
    (64, "best, perhaps", 0.5, 0.0),
    (64, "zero-label homology", 0.45, 0.01),
]


def test_only_what_wins_is_recommended(monkeypatch):
    table(monkeypatch, *ROWS)
    assert few_labels.recommend(8).method == "ridge on one-hot"
    assert few_labels.recommend(64).method == "better"
    assert few_labels.recommend(64, relatives=True).method == "zero-label homology"


def test_only_what_can_be_had_is_recommended(monkeypatch):
    table(monkeypatch, *ROWS)
    assert few_labels.recommend(64, among=["ridge on composition"]).method == "ridge on one-hot"
    assert few_labels.recommend(64, among=["better"]).method == "better"
    # What searches for relatives needs their file, not a place among the methods at hand.
    assert few_labels.recommend(64, relatives=True, among=[]).method == "zero-label homology"
    text = few_labels.advice(assay(40), ["better", "zero-label homology"])
    assert "use zero-label homology: from 64 labels" in text
    assert "--encoder" not in text


def test_the_nearest_number_of_labels_counts_by_ratio(monkeypatch):
    table(monkeypatch, *ROWS)
    # sqrt(8 * 64) = 22.6
    assert [few_labels.recommend(n).labels for n in (1, 22, 23, 96)] == [8, 8, 64, 64]
    assert few_labels.recommend(97) is None
    assert few_labels.is_few(96)
    assert not few_labels.is_few(97)
    with pytest.raises(ValueError, match="no labels"):
        few_labels.recommend(0)


def test_advice_says_what_was_measured(monkeypatch):
    table(monkeypatch, *ROWS)
    text = few_labels.advice(assay(40))
    assert text.startswith("With 40 variants of one protein, use better: from 64 labels it reached a Spearman ")
    assert (
        "correlation of 0.40 on average over 30 assays of single mutants (0.30 to 0.50, +0.03 over ridge on one-hot)."
        in text
    )
    assert "(--encoder homology:FILE), use zero-label homology: 0.45" in text
    assert few_labels.advice(assay(10)).endswith("assays of single mutants (0.00 to 0.20).")
    assert few_labels.advice(assay(100)) == ""
    assert few_labels.advice(assay(40, wild_types=2)) == ""


def test_the_shipped_table_is_that_of_the_results():
    results = Path(__file__).parents[1] / "results" / "few_labels" / "few_labels.json"
    measured = json.loads(results.read_text())
    assays, rows = few_labels._table()
    assert assays == len(measured["assays"]) >= 20
    wanted = [row for row in measured["summary"] if row["metric"] == "spearman"]
    wanted = {(row["labels"], row["method"]): {k: v for k, v in row.items() if k != "metric"} for row in wanted}
    assert [asdict(row) for row in rows] == [wanted[row.labels, row.method] for row in rows]
    # The summary is that of the raw scores beside it.
    for row in rows:
        at = "0" if row.method.startswith("zero-label") else str(row.labels)
        means = [np.mean(by[at][row.method]["spearman"]) for by in measured["scores"].values()]
        assert row.value == pytest.approx(np.mean(means), abs=1e-4)
        assert row.low <= row.value <= row.high


def test_what_is_recommended_is_a_rung_of_the_ladder():
    few = assay(40)
    names = {rung.name for rung in rungs(few, seed=0)[0]}
    for labels in (8, 16, 32, 64, 128, 256, 512, 700):
        assert few_labels.recommend(labels).method in names
        relatives = few_labels.recommend(labels, relatives=True).method
        assert relatives in names or relatives.endswith("zero-label homology")


def test_the_ladder_scores_without_labels_where_the_encoder_can(monkeypatch):
    names = [rung.name for rung in rungs(assay(40), encoders=["limbeck-contexts", "one-hot"])[0]]
    scored = [name for name in names if "zero-label" in name]
    assert scored == [f"{kind}zero-label {name}" for name in ("limbeck-9m", "limbeck-contexts")
                      for kind in ("", "ridge on one-hot + ")]  # fmt: skip

    def headless(*given):
        raise InputError("the weights lack a head")

    monkeypatch.setattr(ladder, "check_likelihoods", headless)
    found, left_out = rungs(assay(40), encoders=["limbeck-contexts"], default_encoder=False)
    assert not [rung for rung in found if "zero-label" in rung.name]
    assert [(item.name, item.reason) for item in left_out][-1] == (
        "zero-label scores of limbeck-contexts", "the weights lack a head"
    )  # fmt: skip


class Watched(Believer):
    """Tells how far it is, as an encoder does that masks each residue in turn."""

    def log_probabilities(self, sequences, on_batch=None):
        for sequence in sequences:
            for _ in sequence:
                on_batch(1, len(sequence))
        return super().log_probabilities(sequences)


def test_building_the_ladder_computes_nothing(monkeypatch):
    def refuse(*given):
        pytest.fail("computed")

    monkeypatch.setattr(type(load("limbeck-contexts")), "log_probabilities", refuse)
    found, _ = rungs(assay(40), encoders=["limbeck-contexts"], default_encoder=False)
    assert "zero-label limbeck-contexts" in [rung.name for rung in found]


@pytest.mark.parametrize("masked", [False, True])
def test_zero_label_scores_show_where_they_are(masked, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    encoder = Watched() if not masked else Believer()
    monkeypatch.setattr(zero_labels, "PASSES_AT_ONCE", 1)
    scores = ZeroLabels(sources(encoder), masked)
    scores.prepare(shown=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(WILD_TYPE)
    assert lines[5].startswith(f"zero-label scores of {encoder.name}: 25.0 % of 24 residues, ")
    asked = len(encoder.asked)
    scores.prepare(shown=True)
    scores.scores([WILD_TYPE])
    assert capsys.readouterr().err == ""
    assert len(encoder.asked) == asked


def test_zero_label_scores_are_kept_in_a_folder(tmp_path):
    encoder, other = Believer(), Believer(1)
    kept = [site_scores(e, [WILD_TYPE, WILD_TYPE[:9]], cache=tmp_path) for e in (encoder, other)]
    hidden = site_scores(encoder, [WILD_TYPE], True, cache=tmp_path)
    asked = len(encoder.asked)
    zero_labels.forget()
    for e, wanted in zip((encoder, other), kept, strict=True):
        for found, each in zip(site_scores(e, [WILD_TYPE, WILD_TYPE[:9]], cache=tmp_path), wanted, strict=True):
            np.testing.assert_array_equal(found, each)
    np.testing.assert_array_equal(site_scores(encoder, [WILD_TYPE], True, cache=tmp_path)[0], hidden[0])
    assert len(encoder.asked) == asked
    # Damaged, cut short, or another's.
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5
    content = files[0].read_bytes()  # never the same twice: safetensors shuffles its notes
    for damage in (content[:-1] + bytes([content[-1] ^ 1]), content[:20], b"", files[1].read_bytes()):
        zero_labels.forget()
        files[0].write_bytes(damage)
        for e, wanted in zip((encoder, other), kept, strict=True):
            np.testing.assert_array_equal(site_scores(e, [WILD_TYPE], cache=tmp_path)[0], wanted[0])
            np.testing.assert_array_equal(site_scores(e, [WILD_TYPE[:9]], cache=tmp_path)[0], wanted[1])
        site_scores(encoder, [WILD_TYPE], True, cache=tmp_path)
        # Mended, not only computed.
        zero_labels.forget()
        asked = len(encoder.asked) + len(other.asked)
        for e in (encoder, other):
            site_scores(e, [WILD_TYPE, WILD_TYPE[:9]], cache=tmp_path)
        site_scores(encoder, [WILD_TYPE], True, cache=tmp_path)
        assert len(encoder.asked) + len(other.asked) == asked
    assert sorted(tmp_path.iterdir()) == files


def test_a_second_run_asks_for_no_probabilities(tmp_path, monkeypatch, capsys):
    """Not even for a split that is new; and the first says how far it is."""
    few = assay(200)
    few.scores[:] = np.random.default_rng(0).normal(size=200)
    options = {"encoders": ["limbeck-contexts"], "default_encoder": False, "replicates": 100, "curves": False}
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    limbeck.landscape(few, tmp_path / "report", splits=["random"], progress=True, **options)
    assert "zero-label scores of limbeck-contexts: 100.0 % of 24 residues" in capsys.readouterr().err
    zero_labels.forget()
    monkeypatch.setattr(type(load("limbeck-contexts")), "log_probabilities", lambda *given: pytest.fail("computed"))
    found = limbeck.landscape(few, tmp_path / "report", splits=["random", "position-modulo"], **options)
    assert "zero-label limbeck-contexts" in set(found.scores["model"])


def test_the_python_in_the_docs_runs():
    scope = {}
    page = (Path(__file__).parents[1] / "docs" / "few-labels.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(block, scope)
    assert scope["ratios"].shape == (3,)
    for name in ("augmented", "in_context", "ranker"):
        assert np.isfinite(scope[name].predict(scope["variants"])).all()
