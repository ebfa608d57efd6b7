import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.explaining import (
    METHODS,
    Attribution,
    Smoother,
    check,
    exemplar_svm,
    explain,
    nearest_neighbours,
)
from limbeck.landscapes.models import MeanModel, RidgeModel
from limbeck.landscapes.trained import save_trained
from limbeck.residues import RESIDUES

WILD = "MKTAYIAKQRQISFVKSHFS"


def variants(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        letters = list(WILD)
        for p in rng.choice(len(WILD), rng.integers(1, 4), replace=False):
            letters[p] = rng.choice(list(RESIDUES))
        rows.append("".join(letters))
    return rows


def toy(count=150, seed=0):
    rows = variants(count, seed)
    effects = np.random.default_rng(1).normal(size=(len(WILD), 128))
    scores = np.array([sum(effects[p, ord(r)] for p, r in enumerate(row)) for row in rows])
    scores += 0.3 * np.random.default_rng(2).normal(size=count)
    return Assay("toy", rows, scores, np.full(count, "toy", object), {"toy": WILD})


@pytest.fixture(scope="module", params=["one-hot", ("one-hot", "composition"), "composition"])
def attribution(request):
    assay = toy()
    return Attribution(RidgeModel(request.param, alpha=2.0).fit(assay.rows, assay.scores), assay)


@pytest.mark.parametrize("shape", [(60, 8), (30, 80)])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_weights_mix_training_scores_to_ridge_predictions(shape, kind):
    rng = np.random.default_rng(0)
    features, scores, others = rng.normal(size=shape) + 1, rng.normal(size=shape[0]), rng.normal(size=(7, shape[1]))
    expected = Ridge(alpha=0.7).fit(features, scores)
    smoother = Smoother(kind(features), scores, 0.7)
    weights = smoother.weights(kind(others))
    assert weights @ scores == pytest.approx(expected.predict(others))
    assert weights.sum(axis=1) == pytest.approx(np.ones(7))
    assert smoother.residuals == pytest.approx(scores - expected.predict(features))
    assert smoother.leverages == pytest.approx(np.diag(smoother.weights(kind(features))))


@pytest.mark.parametrize("shape", [(60, 8), (30, 80)])
def test_removals_are_what_fitting_again_gives(shape):
    rng = np.random.default_rng(3)
    features, scores, other = rng.normal(size=shape) - 2, rng.normal(size=shape[0]), rng.normal(size=(1, shape[1]))
    smoother = Smoother(features, scores, 1.5)
    weights = smoother.weights(other)[0]

    def falls(gone):
        kept = np.delete(np.arange(shape[0]), gone)
        return (weights @ scores - Ridge(alpha=1.5).fit(features[kept], scores[kept]).predict(other))[0]

    assert smoother.removals(weights) == pytest.approx([falls([i]) for i in range(shape[0])])
    several = np.array([3, 11, 12, 25])
    assert smoother.without(weights, several) == pytest.approx(falls(several))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_neighbours_are_ranked_by_distance(kind):
    rng = np.random.default_rng(0)
    training, variant = rng.normal(size=(40, 6)), rng.normal(size=(1, 6))
    found = nearest_neighbours(kind(training), kind(variant))
    assert found == pytest.approx(-np.linalg.norm(training - variant, axis=1))


def test_the_exemplar_svm_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    training = rng.normal(size=(80, 5))
    variant = training[:1] + 0.01
    labels = np.r_[1, np.zeros(80)]
    machine = LinearSVC(class_weight="balanced", max_iter=10000, tol=1e-6, C=0.1)
    expected = machine.fit(np.vstack([variant, training]), labels).decision_function(training)
    dense = exemplar_svm(training, variant)
    assert dense == pytest.approx(expected, abs=1e-4)
    assert exemplar_svm(sp.csr_array(training), sp.csr_array(variant)) == pytest.approx(dense, abs=1e-4)
    assert dense[0] > np.median(dense)


def test_the_space_is_that_of_the_model(attribution):
    rows = variants(20, seed=5)
    model, assay = attribution.model, attribution.training
    weights = attribution.smoother.weights(attribution.features(rows))
    assert weights @ assay.scores == pytest.approx(model.predict(rows), abs=1e-6)
    assert attribution.methods == METHODS
    assert attribution.space in {"one-hot", "composition", "one-hot + composition"}


def test_removing_what_is_named_moves_the_prediction_back(attribution):
    row = variants(1, seed=9)[0]
    model, assay = attribution.model, attribution.training
    before, mean = model.predict([row])[0], assay.scores.mean()
    order = attribution.ranking("removal", row)
    values = attribution.values("removal", row)
    for i in order[:3]:
        kept = assay.take(np.delete(np.arange(len(assay)), i))
        after = clone(model).fit(kept.rows, kept.scores).predict([row])[0]
        # Composition is scaled anew when the model is fitted again.
        tolerance = 1e-6 if attribution.space == "one-hot" else 0.1 * values[i]
        assert np.sign(before - mean) * (before - after) == pytest.approx(values[i], abs=tolerance)
    assert (np.diff(values[order]) <= 0).all()


def test_a_model_without_features_is_explained_in_one_hot_space():
    assay = toy(60)
    attribution = Attribution(MeanModel().fit(assay.rows, assay.scores), assay)
    assert attribution.space == "one-hot"
    assert attribution.methods == ("neighbours", "exemplar-svm")
    order = attribution.ranking("neighbours", assay.rows[7])
    assert assay.rows[order[0]] == assay.rows[7]
    with pytest.raises(InputError, match="for ridge models"):
        attribution.values("weights", assay.rows[0])
    with pytest.raises(InputError, match="no attribution 'magic'"):
        attribution.values("magic", assay.rows[0])


@pytest.mark.slow
def test_check_refits_and_compares_with_random_removals():
    assay = toy()
    model = RidgeModel("one-hot").fit(assay.rows, assay.scores)
    rows = variants(6, seed=4)
    found = check(Attribution(model, assay), rows, removed=(5, 20), repeats=3)
    assert len(found) == 6 * 2 * len(METHODS)
    assert (found["repeats"] == 3).all()
    again = check(Attribution(model, assay), rows, removed=(5, 20), repeats=3)
    assert (found["random"] == again["random"]).all()
    moved = found["moved"].abs().groupby(found["method"]).mean()
    assert moved["removal"] > found["random"].mean()
    assert moved["weights"] > found["random"].mean()
    assert (found["random_most"] >= found["random"]).all()
    # The penalty that was chosen stays, so the exact formula holds.
    attribution = Attribution(model, assay)
    line = found[(found["method"] == "weights") & (found["removed"] == 5)].iloc[0]
    weights = attribution.smoother.weights(attribution.features([line["row"]]))[0]
    fall = attribution.smoother.without(weights, attribution.ranking("weights", line["row"])[:5])
    assert line["moved"] == pytest.approx(-fall, abs=1e-6)


def test_more_than_there_are_cannot_be_removed():
    assay = toy(30)
    attribution = Attribution(MeanModel().fit(assay.rows, assay.scores), assay)
    with pytest.raises(InputError, match="30 of 30"):
        check(attribution, assay.rows[:1], removed=(30,))


def test_explain_says_which_rows_it_passed_over(tmp_path):
    assay = toy()
    save_trained(RidgeModel("one-hot", alpha=1.0).fit(assay.rows, assay.scores), tmp_path / "model", assay, "ridge")
    (tmp_path / "v.csv").write_text("mutant\nK2R\nK999R\n")
    said = []
    table, _ = explain(tmp_path / "model", tmp_path / "v.csv", listed=1, say=said.append, skip_invalid=True)
    assert set(table["id"]) == {"K2R"}
    assert said[0] == "Columns: mutations 'mutant'."
    assert said[-1].startswith("line 3: mutation 'K999R'")
    assert said[-1].endswith("; passed over")


def test_explain_names_training_variants_of_a_file(tmp_path):
    assay = toy()
    save_trained(RidgeModel("one-hot", alpha=1.0).fit(assay.rows, assay.scores), tmp_path / "model", assay, "ridge")
    (tmp_path / "v.csv").write_text("mutant\nK2R\nA4C:Y5F\n")
    table, moved = explain(tmp_path / "model", tmp_path / "v.csv", listed=3, checked=True, repeats=2)
    assert len(table) == 2 * len(METHODS) * 3
    assert list(table.columns) == [
        "id", "prediction", "method", "rank", "training_variant", "measured", "differences", "value",
    ]  # fmt: skip
    assert set(table["id"]) == {"K2R", "A4C:Y5F"}
    for row in table.itertuples():
        assert row.measured in assay.scores
    nearest = table[(table["method"] == "neighbours") & (table["rank"] == 1)]
    row = WILD[0] + "R" + WILD[2:]
    distance = min(sum(a != b for a, b in zip(row, other, strict=True)) for other in assay.rows)
    assert nearest["differences"].iloc[0] == distance
    assert moved["id"].tolist() == ["K2R"] * len(METHODS) + ["A4C:Y5F"] * len(METHODS)
    only, nothing = explain(tmp_path / "model", tmp_path / "v.csv", methods=["neighbours"], listed=2)
    assert nothing is None
    assert set(only["method"]) == {"neighbours"}
    with pytest.raises(InputError, match="can be named, not 0"):
        explain(tmp_path / "model", tmp_path / "v.csv", listed=0)
