"""The next plate: posteriors against brute force, strategies against their definitions, the verb as a user gives it."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models import MeanModel, RidgeModel
from limbeck.landscapes.models.gaussian_process import GaussianProcessModel
from limbeck.landscapes.models.posterior import Conditioned, Posterior
from limbeck.landscapes.plates import Beliefs, Plan, choose, shortlist
from limbeck.landscapes.proposing import propose
from limbeck.landscapes.trained import save_trained
from limbeck.residues import RESIDUES

WILD = "MKTAYIAKQRQISF"
FIRST = 21


def training(count=80, seed=0, positions=8):
    """Variants of up to three mutations at the first positions; no tryptophan."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(-0.3, 1, (len(WILD), 20))
    rows = {WILD}
    while len(rows) < count:
        letters = list(WILD)
        for p in rng.choice(positions, rng.integers(1, 4), replace=False):
            letters[p] = rng.choice(list(RESIDUES.replace("W", "")))
        rows.add("".join(letters))
    rows = sorted(rows)
    scores = [sum(effects[p, RESIDUES.index(r)] for p, r in enumerate(row) if r != WILD[p]) for row in rows]
    scores = np.array(scores) + rng.normal(0, 0.1, count)
    return Assay("toy", rows, scores, np.full(count, "toy", object), {"toy": WILD}, first_position={"toy": FIRST})


def unmeasured(assay, count=60):
    """Single mutants at all positions with all letters, those that training has never shown among them."""
    rng = np.random.default_rng(1)
    singles = [WILD[:p] + r + WILD[p + 1 :] for p in range(len(WILD)) for r in RESIDUES]
    left = sorted(set(singles) - set(assay.rows))
    return [left[i] for i in rng.choice(len(left), count, replace=False)]


MODELS = {
    "gaussian process": GaussianProcessModel("one-hot"),
    "ridge": RidgeModel("one-hot", alpha=1.0),
    "ridge of few rows": RidgeModel("one-hot", alpha=0.3),
    "composition": GaussianProcessModel("composition"),
    "side by side": GaussianProcessModel(("one-hot", "composition")),
}


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    assay = training(30 if "few" in request.param else 80)
    return MODELS[request.param].fit(assay.rows, assay.scores), assay


# --- posteriors


def test_a_posterior_is_what_predict_says_of_each(fitted):
    model, assay = fitted
    rows = unmeasured(assay)
    posterior = model.posterior(rows)
    mean, sd = model.predict(rows, return_std=True)
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-8)
    np.testing.assert_allclose(np.diag(posterior.covariance) + posterior.noise, sd**2, rtol=1e-5)
    np.testing.assert_allclose(posterior.covariance, posterior.covariance.T, atol=1e-10)
    assert np.linalg.eigvalsh(posterior.covariance).min() > -1e-6 * posterior.variance.max()


@pytest.fixture(scope="module")
def process():
    """A Gaussian process, and what it was fitted to."""
    assay = training()
    return GaussianProcessModel("one-hot").fit(assay.rows, assay.scores), assay


def test_conditioning_on_a_measurement_is_fitting_to_it(process):
    """A Gaussian process that is told of some more rows knows as much of the others as the posterior foresaw."""
    model, assay = process
    rows = unmeasured(assay)
    state = Conditioned(model.posterior(rows))
    for index in (3, 10, 11):
        state.measure(index)
    s, l2, t, noise = model.hyperparameters_
    block = model.features_._blocks["one-hot"]
    origin = np.array([[letter == ord(r) for r in RESIDUES] for letter in block._reference], float)

    def covariance(left, right):
        a, b = (
            np.array([[[x == r for r in RESIDUES] for x in row] for row in rows]) - origin for rows in (left, right)
        )
        a, b = (x.reshape(len(x), -1) * block._scale for x in (a, b))
        distances = ((a[:, None] - b) ** 2).sum(axis=2)
        return s * np.exp(-distances / (2 * l2)) + t * a @ b.T

    known = [*assay.rows, *(rows[i] for i in (3, 10, 11))]
    within = covariance(known, known) + noise * np.eye(len(known))
    across = covariance(rows, known)
    expected = np.diag(covariance(rows, rows)) - np.einsum("ij,ji->i", across, np.linalg.solve(within, across.T))
    np.testing.assert_allclose(state.variance, expected * model.spread_**2, rtol=1e-6, atol=1e-9)


def test_letters_that_training_never_showed_are_known_together(process):
    """Two variants with the same new letter are alike; with two new letters of one position they are less so."""
    model, _ = process
    end = len(WILD) - 1
    same, other = (WILD[:end] + r for r in "WA")
    covariance = model.posterior([same, same, other]).covariance
    assert covariance[0, 1] == pytest.approx(covariance[0, 0])
    assert covariance[0, 2] < covariance[0, 1]


def test_a_model_without_a_posterior_says_what_to_use():
    model = MeanModel().fit(["AA", "AC"], [0, 1])
    with pytest.raises(InputError, match="Gaussian process or ridge"):
        model.posterior(["AA"])


def test_draws_have_the_mean_and_covariance():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(5, 3))  # of rank 3: singular
    posterior = Posterior(rng.normal(size=5), factor @ factor.T, 0.1)
    draws = posterior.draws(40_000, rng)
    np.testing.assert_allclose(draws.mean(axis=0), posterior.mean, atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), posterior.covariance, atol=0.12)


def test_draws_of_no_covariance_are_refused():
    with pytest.raises(InputError, match="no covariance"):
        Posterior(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), 0.1).draws(1, np.random.default_rng(0))


# --- plates


@st.composite
def posteriors(draw):
    n = draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    factor = rng.normal(size=(n, draw(st.integers(1, n))))
    return Posterior(rng.normal(size=n), factor @ factor.T, draw(st.sampled_from([0.0, 0.01, 1.0])))


def exact_variance(posterior, index, above):
    """Of a true score given measurements, by inverting their covariance."""
    within = posterior.covariance[np.ix_(above, above)] + (posterior.noise + 1e-12) * np.eye(len(above))
    across = posterior.covariance[index, above]
    return posterior.covariance[index, index] - across @ np.linalg.solve(within, across)


@settings(max_examples=40, deadline=None)
@given(posteriors(), st.sampled_from(["greedy", "thompson", "ucb"]), st.integers(1, 14))
def test_a_plate_holds_each_variant_once(posterior, strategy, size):
    wells = choose(posterior, Plan(size, strategy))
    chosen = [well.candidate for well in wells]
    assert len(set(chosen)) == len(chosen) == min(size, len(posterior))
    assert all(well.why for well in wells)
    assert choose(posterior, Plan(size, strategy)) == wells


@settings(max_examples=40, deadline=None)
@given(posteriors().filter(lambda p: p.noise > 0), st.floats(0, 4))
def test_ucb_is_the_bound_given_the_wells_above(posterior, beta):
    chosen = [well.candidate for well in choose(posterior, Plan(5, "ucb", beta=beta))]
    for i, index in enumerate(chosen):
        left = [j for j in range(len(posterior)) if j not in chosen[:i]]
        bounds = {j: posterior.mean[j] + beta * max(exact_variance(posterior, j, chosen[:i]), 0.0) ** 0.5 for j in left}
        assert bounds[index] >= max(bounds.values()) - 1e-5


@settings(max_examples=40, deadline=None)
@given(posteriors().filter(lambda p: p.noise > 0), st.floats(0.1, 3))
def test_greedy_is_the_greedy_map_of_a_determinantal_process(posterior, diversity):
    """Each well is the one that raises log det of qualities times correlations most."""
    total = posterior.covariance + posterior.noise * np.eye(len(posterior))
    sd = np.sqrt(np.diag(total))
    price = 0.5 * diversity * np.median(sd)
    quality = np.exp(posterior.mean / (2 * price))
    kernel = quality[:, None] * (total / np.outer(sd, sd)) * quality
    chosen = [well.candidate for well in choose(posterior, Plan(4, "greedy", diversity=diversity))]
    for i, index in enumerate(chosen):
        gains = {
            j: np.linalg.slogdet(kernel[np.ix_([*chosen[:i], j], [*chosen[:i], j])])[1]
            for j in range(len(posterior))
            if j not in chosen[:i]
        }
        assert gains[index] >= max(gains.values()) - 1e-5


@settings(max_examples=20, deadline=None)
@given(posteriors(), st.sampled_from(["greedy", "ucb"]), st.integers(1, 6))
def test_a_smaller_plate_is_the_start_of_a_larger_one(posterior, strategy, size):
    larger = choose(posterior, Plan(10, strategy))
    assert choose(posterior, Plan(size, strategy)) == larger[:size]


def test_greedy_without_diversity_is_the_ranking():
    posterior = Posterior(np.array([1.0, 3.0, 2.0]), np.eye(3), 0.1)
    assert [w.candidate for w in choose(posterior, Plan(3, "greedy", diversity=0))] == [1, 2, 0]
    assert choose(posterior, Plan(2, "greedy", diversity=0))[1].why.startswith("2nd highest mean, 2")


@pytest.mark.parametrize("strategy", ["greedy", "thompson", "ucb"])
def test_a_plate_does_not_crowd_what_is_alike(strategy):
    """Ten variants rise and fall together, and are a little better than ten others, each on its own."""
    covariance = np.eye(20)
    covariance[:10, :10] = 0.999
    covariance[range(20), range(20)] = 1.0
    posterior = Posterior(np.repeat([0.2, 0.0], 10), covariance, 0.01)
    plain = [w.candidate for w in choose(posterior, Plan(10, "greedy", diversity=0))]
    assert sorted(plain) == list(range(10))
    spread = [w.candidate for w in choose(posterior, Plan(10, strategy))]
    assert sum(index >= 10 for index in spread) >= 5


def test_no_position_has_more_wells_than_allowed():
    rng = np.random.default_rng(0)
    mutated = rng.random((40, 6)) < 0.3
    posterior = Posterior(rng.normal(size=40), np.eye(40), 0.1)
    for strategy in ("greedy", "thompson", "ucb"):
        chosen = [w.candidate for w in choose(posterior, Plan(40, strategy, per_position=3), mutated)]
        assert mutated[chosen].sum(axis=0).max() == 3
        left = [i for i in range(40) if i not in chosen]
        # Greedy in the sense of a maximal set: none that is left would fit.
        assert all((mutated[chosen].sum(axis=0) + mutated[i]).max() > 3 for i in left if mutated[i].any())


def test_thompson_draws_by_its_seed():
    posterior = Posterior(np.zeros(30), np.eye(30), 0.1)
    plates = [[w.candidate for w in choose(posterior, Plan(5, "thompson", seed=seed))] for seed in (0, 0, 1)]
    assert plates[0] == plates[1] != plates[2]


def test_the_shortlist_keeps_who_may_come_out_on_top(monkeypatch):
    monkeypatch.setattr("limbeck.landscapes.plates.SHORTLIST", 20)
    rng = np.random.default_rng(0)
    beliefs = Beliefs(rng.normal(size=500), np.sqrt(rng.random(500) + 0.01), 0.01)
    highest = set(np.argsort(-beliefs.mean)[:20])
    assert set(shortlist(beliefs, Plan(2, "greedy"))) == highest
    bounds = beliefs.mean + 3 * beliefs.sd
    assert set(shortlist(beliefs, Plan(2, "ucb"))) == set(np.argsort(-bounds)[:20])
    assert len(shortlist(beliefs, Plan(30, "ucb"))) == 300


# --- the verb


@pytest.fixture(scope="module")
def folder(tmp_path_factory, process):
    path = tmp_path_factory.mktemp("proposing") / "model"
    save_trained(process[0], path, process[1], "one-hot, Gaussian process")
    return path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_plate_of_the_models_own_mutants(folder, tmp_path, capsys):
    output = tmp_path / "plate.csv"
    assert main(["propose", str(folder), "--saturate", "--plate", "24", "-o", str(output)]) == 0
    rows = read(output)
    assert list(rows[0]) == ["rank", "mutations", "sequence", "mean", "uncertainty", "why"]
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 25)]
    measured = set(training().sequences)
    for row in rows:
        assert row["sequence"] not in measured
        letters = list(WILD)
        for mutation in row["mutations"].split(":"):
            assert letters[int(mutation[1:-1]) - FIRST] == mutation[0]
            letters[int(mutation[1:-1]) - FIRST] = mutation[-1]
        assert "".join(letters) == row["sequence"]
        assert " mean, " in row["why"]
    said = capsys.readouterr().err
    assert "24 of " in said
    assert "proposed by greedy with one-hot, Gaussian process" in said
    assert "were measured already" in said


def test_what_a_table_says_is_what_predict_says(folder, tmp_path):
    from limbeck.landscapes import predict

    plate = propose(folder, plan=Plan(12, "thompson", seed=3)).table
    path = tmp_path / "plate.csv"
    plate[["sequence"]].to_csv(path, index=False)
    again = predict(folder, path).table
    np.testing.assert_allclose(plate["mean"], again["prediction"])
    np.testing.assert_allclose(plate["uncertainty"], again["sd"])
    assert plate["why"].str.contains("draw").all()


def test_candidates_of_a_file(folder, tmp_path):
    assay = training()
    new = unmeasured(assay, 20)
    path = tmp_path / "candidates.csv"
    rows = [*new, *assay.rows[:10], new[0]]
    pd.DataFrame({"id": [f"v{i}" for i in range(31)], "sequence": rows}).to_csv(path, index=False)
    found = propose(folder, path, plan=Plan(15, "greedy"), id_column="id")
    assert set(found.table["sequence"]) <= set(new)
    assert "Of 31 candidates 10 were measured already and 1 repeat another; 20 are left." in found.notes
    assert [rows[int(name[1:])] for name in found.table["id"]] == found.table["sequence"].tolist()
    every = propose(folder, path, plan=Plan(96, "ucb"))
    assert len(every.table) == 20
    assert "96 were asked for: no others were left." in every.notes


def test_what_a_file_says_was_measured_is_not_proposed(folder, tmp_path):
    first = propose(folder, plan=Plan(10)).table
    path = tmp_path / "first.csv"
    first[["mutations"]].to_csv(path, index=False)
    second = propose(folder, plan=Plan(10), measured=[path]).table
    assert not set(first["sequence"]) & set(second["sequence"])


def test_what_the_report_holds_is_not_proposed(folder, tmp_path):
    """A model that reads vectors may have been fitted to a sample of it."""
    from landscape_fixture import make_comparison

    report = tmp_path / "report"
    shutil.copytree(folder, report / "model")
    first = propose(report / "model", plan=Plan(10)).table
    rows = [*training().rows, *first["sequence"]]
    parents = np.full(len(rows), "toy", object)
    full = Assay("toy", rows, np.arange(len(rows)) / 10, parents, {"toy": WILD}, first_position={"toy": FIRST})
    make_comparison(full, splits=1, models=3).write(report)
    assert not set(first["sequence"]) & set(propose(report / "model", plan=Plan(10)).table["sequence"])


def test_a_limit_for_positions(folder, tmp_path, capsys):
    output = tmp_path / "plate.csv"
    given = ["propose", str(folder), "--saturate", "-o", str(output), "--per-position", "2"]
    assert main([*given, "--plate", "12"]) == 0
    counts = pd.Series([m[1:-1] for row in read(output) for m in row["mutations"].split(":")]).value_counts()
    assert counts.max() <= 2
    assert main([*given, "--plate", "40"]) == 0
    assert "40 were asked for: --per-position leaves no others." in capsys.readouterr().err


def test_a_model_without_a_posterior_is_used_greedily(tmp_path, monkeypatch):
    class Ranks(MeanModel):
        def predict(self, X, return_std=False):
            values = np.array([RESIDUES.index(row[0]) for row in self.fitted_rows(X)], float)
            return (values, np.zeros(len(values))) if return_std else values

    assay = training(40)
    model = Ranks().fit(assay.rows, assay.scores)
    monkeypatch.setattr("limbeck.landscapes.models.saved.MODELS", {"Ranks": Ranks})
    save_trained(model, tmp_path / "model", assay, "ranks")
    with pytest.raises(InputError, match="ranks does not say; use --strategy greedy"):
        propose(tmp_path / "model", plan=Plan(5, "ucb"))
    found = propose(tmp_path / "model", plan=Plan(5, "greedy"))
    assert found.table["mean"].tolist() == sorted(found.table["mean"], reverse=True)
    assert any("highest predictions" in note for note in found.notes)


def test_a_model_with_nothing_to_choose_by_is_refused(tmp_path):
    assay = training(40)
    save_trained(MeanModel().fit(assay.rows, assay.scores), tmp_path / "model", assay, "mean of training")
    with pytest.raises(InputError, match="mean of training predicts the same for every candidate"):
        propose(tmp_path / "model", plan=Plan(5, "greedy"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--saturate", "--strategy", "lucky"], "'lucky' is unknown; use one of greedy, thompson, ucb"),
        (["--saturate", "--plate", "0"], "--plate must be at least 1, not 0"),
        (["--saturate", "--per-position", "-1"], "--per-position must be at least 1"),
        (["--saturate", "--beta", "1"], "--beta is of --strategy ucb, not of greedy"),
        (["--saturate", "--strategy", "ucb", "--beta", "nan"], "--beta must be a number from 0 up, not nan"),
        (["--saturate", "--strategy", "ucb", "--diversity", "1"], "--diversity is of --strategy greedy, not of ucb"),
        (["--saturate", "--seed", "1"], "--seed is of --strategy thompson"),
        ([], "give either a file of candidates or --saturate"),
        (["--saturate", "-o", "plate.xlsx"], ".csv, .tsv or .parquet"),
    ],
)
def test_bad_options(folder, tmp_path, monkeypatch, capsys, given, message):
    monkeypatch.chdir(tmp_path)
    assert main(["propose", str(folder), *given]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_left_to_propose(folder, tmp_path, capsys):
    path = tmp_path / "candidates.csv"
    pd.DataFrame({"sequence": training().rows[:5]}).to_csv(path, index=False)
    assert main(["propose", str(folder), str(path), "-o", str(tmp_path / "plate.csv")]) == 2
    assert "all 5 candidates were measured already" in capsys.readouterr().err
    assert not (tmp_path / "plate.csv").exists()


def test_no_model(tmp_path, capsys):
    assert main(["propose", str(tmp_path), "--saturate"]) == 2
    assert "no saved model" in capsys.readouterr().err


def test_the_docs(folder, tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "docs" / "propose.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    shutil.copytree(folder, tmp_path / "report" / "model")
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(block, scope)
    assert len(scope["plate"].table) == 24
    for name in ("rank", "mutations", "sequence", "mean", "uncertainty", "why"):
        assert f"`{name}`" in text
        assert name in scope["plate"].table


def test_the_page_of_the_documentation(folder, tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs/propose.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "report").symlink_to(folder.parent)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(block, scope)
    assert len(scope["plate"].table) == 24
