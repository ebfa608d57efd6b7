"""Ridge, Gaussian process and mean: against scikit-learn, against formulas written out, and by scikit-learn's rules."""

import inspect
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score

import limbeck
from fake_encoder import FakeEncoder
from limbeck import InputError
from limbeck.landscapes import vectors
from limbeck.landscapes.assay import expressed
from limbeck.landscapes.models import MODELS, gaussian_process, ridge
from limbeck.landscapes.models.base import hold_out, letters
from limbeck.landscapes.models.features import SPECS, Design, Features, composition
from limbeck.landscapes.models.gaussian_process import GaussianProcessModel
from limbeck.landscapes.models.in_context import InContextLinearModel
from limbeck.landscapes.models.mean import MeanModel
from limbeck.landscapes.models.ridge import ALPHAS, RidgeModel
from limbeck.landscapes.models.zero_labels import ZeroLabelModel
from limbeck.landscapes.vectors import Source, Vectors, mutated_residues, nearest_wild_types
from limbeck.residues import RESIDUES
from tiny_encoders import protein

WILD_TYPE = protein(24)
ALPHABET = RESIDUES + "-*"


@pytest.fixture(autouse=True)
def fresh_tables():
    vectors.forget()
    yield
    vectors.forget()


def library(count, seed=0, most=4, wild_type=WILD_TYPE, positions=None):
    """Variants with 1 to ``most`` mutations, and the wild type."""
    rng = np.random.default_rng(seed)
    rows = [wild_type]
    while len(rows) < count:
        row = list(wild_type)
        for position in rng.choice(positions or len(row), size=rng.integers(1, most + 1), replace=False):
            row[position] = RESIDUES[rng.integers(20)]
        rows.append("".join(row))
    return rows


def effects(rows, noise=0.1, seed=1):
    """Scores that are a sum over the mutations, (n,), with measurement noise."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(len(rows[0]), 256))
    sums = table[np.arange(len(rows[0])), letters(rows)].sum(axis=1)
    return sums + noise * np.random.default_rng([seed, len(rows)]).normal(size=len(rows))


def full_one_hot(rows):
    return (
        (letters(rows)[:, :, None] == np.frombuffer(ALPHABET.encode(), np.uint8)).reshape(len(rows), -1).astype(float)
    )


def models():
    embedding = {"encoder": "limbeck-contexts", "wild_types": (WILD_TYPE,)}
    return [
        MeanModel(),
        RidgeModel(),
        RidgeModel("composition"),
        RidgeModel(("one-hot", "composition"), alpha=1.0),
        RidgeModel("embedding:mean", encoder="one-hot"),
        RidgeModel(("one-hot", "embedding:mutated"), **embedding),
        GaussianProcessModel("one-hot", most=40),
        GaussianProcessModel(("composition", "embedding:mutated"), most=40, **embedding),
        RidgeModel(("one-hot", "zero-label"), **embedding),
        InContextLinearModel("embedding:mutated", **embedding),
        ZeroLabelModel("limbeck-contexts", wild_types=(WILD_TYPE,)),
    ]


@pytest.fixture(params=range(len(models())), ids=lambda i: repr(models()[i]).replace(" ", "")[:60])
def model(request):
    return models()[request.param]


# scikit-learn's rules


def test_constructor_only_stores(model):
    signature = inspect.signature(type(model))
    assert set(model.get_params()) == set(signature.parameters)
    json.dumps(model.get_params())
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert all(copy.get_params()[name] is value for name, value in model.get_params().items() if value is None)
    assert vars(copy).keys() == model.get_params().keys()
    assert model.set_params(**model.get_params()) is model
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(nonsense=1)


def test_not_fitted(model):
    with pytest.raises(NotFittedError):
        model.predict([WILD_TYPE])


def test_fit_predict_and_state(model):
    rows = library(60)
    scores = effects(rows)
    before = {name: value for name, value in model.get_params().items()}
    assert model.fit(rows, scores) is model
    assert model.get_params() == before
    assert all(name.endswith("_") for name in vars(model).keys() - before.keys())
    unseen = [*library(30, seed=5), WILD_TYPE[:10] + "*" + "-" * 13, WILD_TYPE[:-3] + "---", "X" * 24]
    predicted, deviation = model.predict(unseen, return_std=True)
    assert predicted.shape == deviation.shape == (33,)
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()
    assert (deviation > 0).all()
    np.testing.assert_array_equal(model.predict(np.array(unseen)), predicted)
    again = clone(model).fit(rows, scores)
    np.testing.assert_array_equal(again.predict(unseen), predicted)
    restored = clone(model).restore(
        load_bytes(save_bytes({k: np.ascontiguousarray(v).reshape(v.shape) for k, v in model.state().items()}))
    )
    for one, other in zip(restored.predict(unseen, return_std=True), (predicted, deviation), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.predict([], return_std=True)[0].shape == (0,)


def test_extreme_data(model):
    same = [WILD_TYPE] * 3
    assert model.fit(same, [1.0, 1.0, 1.0]).predict([WILD_TYPE])[0] == pytest.approx(1.0)
    assert model.fit([WILD_TYPE], [2.0]).predict([WILD_TYPE])[0] == pytest.approx(2.0)
    assert np.isfinite(model.fit(library(2), [0.0, 1.0]).predict(library(5), return_std=True)).all()


def test_wrong_data(model):
    rows = library(8)
    with pytest.raises(InputError, match="row 1 has 3 columns, not 24"):
        model.fit([WILD_TYPE, "ACD"], [1.0, 2.0])
    with pytest.raises(InputError, match="one score for each"):
        model.fit(rows, [1.0])
    with pytest.raises(InputError, match="row 2 is not a number"):
        model.fit(rows[:3], [1.0, 2.0, np.nan])
    with pytest.raises(InputError, match="no variants"):
        model.fit([], [])
    with pytest.raises(TypeError, match="one string"):
        model.fit(WILD_TYPE, [1.0])
    with pytest.raises(TypeError, match="row 0"):
        model.fit([3], [1.0])
    model.fit(rows, effects(rows))
    with pytest.raises(InputError, match="row 0 has 2 columns"):
        model.predict(["AC"])


def test_sklearn_tools_work_with_models():
    rows = library(80)
    scores = effects(rows, noise=0.0)
    assert cross_val_score(RidgeModel(alpha=0.01), rows, scores, cv=3).shape == (3,)
    search = GridSearchCV(RidgeModel(), {"alpha": [1e-2, 1e4]}, cv=3).fit(rows, scores)
    assert search.best_params_ == {"alpha": 1e-2}


def test_strange_letters_are_refused():
    with pytest.raises(InputError, match="row 1: 'b' is no residue"):
        RidgeModel().fit(["ACD", "AbD"], [1.0, 2.0])


def test_models_by_name():
    assert MODELS["RidgeModel"] is RidgeModel
    assert {"MeanModel", "RidgeModel", "GaussianProcessModel", "MaxPoolCNN", "BiLSTM"} <= set(MODELS)


# Ridge


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(3, 60), alpha=st.sampled_from([0.01, 1.0, 100.0]))
def test_ridge_is_sklearns_on_the_same_one_hots(seed, count, alpha):
    rows = library(count, seed)
    scores = effects(rows, seed=seed)
    expected = Ridge(alpha=alpha).fit(full_one_hot(rows), scores)
    unseen = library(20, seed + 1)
    fitted = RidgeModel(alpha=alpha).fit(rows, scores, validation=(unseen, effects(unseen)))
    np.testing.assert_allclose(fitted.predict(unseen), expected.predict(full_one_hot(unseen)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("count", [30, 400])
def test_standard_deviation_is_the_bayesian_posteriors(count):
    """Written out over all 22 letters of every position, seen or not; rows fewer and more than columns."""
    rows, held = library(count), library(60, seed=3)
    fitted = RidgeModel(alpha=2.0).fit(rows, effects(rows), validation=(held, effects(held)))
    X, mean = full_one_hot(rows), full_one_hot(rows).mean(axis=0)
    inverse = np.linalg.inv((X - mean).T @ (X - mean) + 2.0 * np.eye(X.shape[1]))

    def leverage(variants):
        centred = full_one_hot(variants) - mean
        return 1 / count + np.einsum("ij,jk,ik->i", centred, inverse, centred)

    residuals = effects(held) - fitted.predict(held)
    noise = np.mean(residuals**2 / (1 + leverage(held)))
    assert fitted.noise_ == pytest.approx(noise, rel=1e-4)
    unseen = library(40, seed=9)
    expected = np.sqrt(noise * (1 + leverage(unseen)))
    np.testing.assert_allclose(fitted.predict(unseen, return_std=True)[1], expected, rtol=1e-4)


def test_leave_one_out_noise_is_that_of_refitting():
    rows = library(25)
    scores = effects(rows, noise=0.5)
    fitted = RidgeModel(alpha=1.5).fit(rows, scores)
    # Columns of letters that one variant alone has don't vanish when it is left out.
    X = full_one_hot(rows)
    weighted = []
    for left in range(len(rows)):
        kept = np.arange(len(rows)) != left
        line = Ridge(alpha=1.5).fit(X[kept], scores[kept])
        residual = scores[left] - line.predict(X[[left]])[0]
        centred = X[kept] - X[kept].mean(axis=0)
        inverse = np.linalg.inv(centred.T @ centred + 1.5 * np.eye(X.shape[1]))
        away = X[left] - X[kept].mean(axis=0)
        weighted.append(residual**2 / (1 + 1 / kept.sum() + away @ inverse @ away))
    assert fitted.noise_ == pytest.approx(np.mean(weighted), rel=1e-4)


def test_standard_deviations_are_calibrated_on_linear_data():
    rng = np.random.default_rng(0)
    scaled = []
    for seed in range(5):
        rows, held, unseen = library(300, seed), library(150, seed + 50), library(400, seed + 100)
        table = rng.normal(size=(24, 256)) * 0.5
        truth = [table[np.arange(24), letters(part)].sum(axis=1) for part in (rows, held, unseen)]
        y, y_held, y_unseen = (t + rng.normal(size=len(t)) * 0.5 for t in truth)
        fitted = RidgeModel(alpha=1.0).fit(rows, y, validation=(held, y_held))
        predicted, deviation = fitted.predict(unseen, return_std=True)
        scaled.append((y_unseen - predicted) / deviation)
    scaled = np.concatenate(scaled)
    assert scaled.std() == pytest.approx(1.0, abs=0.12)
    assert np.mean(np.abs(scaled) < 1.645) == pytest.approx(0.90, abs=0.04)


def test_letters_that_were_not_seen_are_uncertain():
    rows = [row for row in library(200) if "W" not in row[:3]]
    fitted = RidgeModel(alpha=1.0).fit(rows, effects(rows))
    deviation = fitted.predict([WILD_TYPE, "W" + WILD_TYPE[1:], "WW" + WILD_TYPE[2:]], return_std=True)[1]
    assert deviation[0] < deviation[1] < deviation[2]
    never = RidgeModel(alpha=1.0).fit(library(200, positions=10), effects(library(200, positions=10)))
    assert np.diff(never.predict([WILD_TYPE, WILD_TYPE[:-1] + "W"], return_std=True)[1])[0] > 0


def chosen_by_hand(rows, scores, held, held_scores):
    ranks, errors = [], []
    for alpha in ALPHAS:
        predicted = Ridge(alpha=alpha).fit(full_one_hot(rows), scores).predict(full_one_hot(held))
        ranks.append(round(float(spearmanr(predicted, held_scores)[0]), 2))
        errors.append(np.mean((predicted - held_scores) ** 2))
    best = [i for i in range(len(ALPHAS)) if ranks[i] == max(ranks)]
    return ALPHAS[min(best, key=lambda i: errors[i])]


@pytest.mark.parametrize(("count", "noise"), [(40, 0.5), (150, 1.0), (300, 5.0)])
def test_penalty_is_chosen_on_validation_data(count, noise):
    rows, held = library(count), library(80, seed=4)
    data = rows, effects(rows, noise), held, effects(held, noise)
    fitted = RidgeModel().fit(*data[:2], validation=data[2:])
    assert fitted.alpha_ == pytest.approx(chosen_by_hand(*data))
    same = RidgeModel(alpha=fitted.alpha_).fit(*data[:2], validation=data[2:])
    np.testing.assert_allclose(fitted.coef_, same.coef_)


@pytest.mark.parametrize("noise", [0.1, 1.0, 5.0])
def test_without_validation_rows_left_out_one_by_one_choose(noise):
    rows = library(30)
    scores, table = effects(rows, noise), full_one_hot(rows)
    errors = []
    for alpha in ALPHAS:
        kept = [np.delete(np.arange(30), i) for i in range(30)]
        missed = [
            scores[i] - Ridge(alpha=alpha).fit(table[k], scores[k]).predict(table[[i]])[0] for i, k in enumerate(kept)
        ]
        errors.append(np.mean(np.square(missed)))
    assert RidgeModel().fit(rows, scores).alpha_ == pytest.approx(ALPHAS[int(np.argmin(errors))])


def test_one_row_speaks_for_no_slope():
    fitted = RidgeModel().fit(library(2)[1:], [3.0])
    assert fitted.alpha_ == max(ALPHAS)
    np.testing.assert_allclose(fitted.predict(library(5)), 3.0)


def test_without_validation_a_fifth_of_many_chooses_and_all_are_fitted(monkeypatch):
    monkeypatch.setattr(ridge, "FEW", 99)
    rows = library(100)
    scores = effects(rows, noise=1.0)
    kept, held = hold_out(100, 0.2, 7)
    fitted = RidgeModel(random_state=7).fit(rows, scores)
    pick = [rows[i] for i in kept], scores[kept], [rows[i] for i in held], scores[held]
    assert fitted.alpha_ == pytest.approx(chosen_by_hand(*pick))
    whole = Ridge(alpha=fitted.alpha_).fit(full_one_hot(rows), scores)
    np.testing.assert_allclose(fitted.predict(rows), whole.predict(full_one_hot(rows)), atol=1e-7)


def test_krylov_space_gives_the_same_line(monkeypatch):
    rows, held = library(200), library(60, seed=2)
    validation = held, effects(held)
    exact = RidgeModel(alpha=1.0).fit(rows, effects(rows), validation)
    monkeypatch.setattr(ridge, "LARGEST", 10)
    krylov = RidgeModel(alpha=1.0).fit(rows, effects(rows), validation)
    np.testing.assert_allclose(krylov.predict(held), exact.predict(held), atol=1e-6)
    monkeypatch.setattr(ridge, "STEPS", 40)
    short = RidgeModel(alpha=1.0).fit(rows, effects(rows), validation)
    np.testing.assert_allclose(short.predict(held), exact.predict(held), atol=1e-2)
    assert (short.posterior_.leverage(short.features_.transform(held)) > 0).all()


def test_alpha_must_be_positive():
    with pytest.raises(InputError, match="alpha must be above 0"):
        RidgeModel(alpha=0.0).fit(library(5), np.arange(5))


# Features


def test_composition_counts_what_is_expressed():
    rows = ["ACDA", "AC-A", "AC*-", "XXAA", "----", "*---"]
    expected = [[r.count(a) / max(1, len(r)) for a in RESIDUES] for r in ["ACDA", "ACA", "AC", "XXAA", "", ""]]
    np.testing.assert_allclose(composition(rows), expected)


def test_blocks_side_by_side_weigh_the_same():
    rows = library(150)
    design = Features(("one-hot", "composition", "embedding:mean"), Source("dipeptides")).fit(rows)
    for block in design.blocks:
        dense = block if isinstance(block, np.ndarray) else block.toarray()
        assert dense.var(axis=0).sum() == pytest.approx(1.0)


def test_constant_columns_of_embeddings_are_left_out():
    encoder = FakeEncoder()
    rows = library(30)
    raw = Vectors(Source(encoder)).pooled(rows)
    design = Features("embedding:mean", Source(encoder)).fit(rows)
    np.testing.assert_allclose(design.blocks[0].std(axis=0), 8**-0.5, rtol=1e-6)
    assert raw.shape == design.blocks[0].shape


def test_one_hot_is_sparse_and_an_offset_of_zeros_and_ones():
    rows = library(50)
    block = Features("one-hot", Source()).fit(rows).blocks[0]
    assert block.nnz < 10 * len(rows)
    dense, full = block.toarray(), full_one_hot(rows)
    full = full[:, full.std(axis=0) > 0]
    np.testing.assert_allclose(
        (dense - dense.mean(axis=0)) @ (dense - dense.mean(axis=0)).T,
        (full - full.mean(axis=0)) @ (full - full.mean(axis=0)).T,
        atol=1e-10,
    )


def test_design_products():
    rows = library(20)
    design = Features(("one-hot", "composition"), Source()).fit(rows)
    dense = np.hstack([b if isinstance(b, np.ndarray) else b.toarray() for b in design.blocks])
    np.testing.assert_allclose(design.gram(), dense.T @ dense, atol=1e-12)
    np.testing.assert_allclose(design.kernel(design.take(slice(0, 5))), dense @ dense[:5].T, atol=1e-12)
    np.testing.assert_allclose(design.squared_lengths(), (dense**2).sum(axis=1))
    back = Design.of_state(design.state())
    np.testing.assert_array_equal(back.gram(), design.gram())


def test_wrong_features():
    for features, problem in [
        ("onehot", "no features 'onehot'"),
        ((), "at least one"),
        (("one-hot",) * 2, "each once"),
    ]:
        with pytest.raises(InputError, match=problem):
            RidgeModel(features).fit(library(5), np.arange(5))
    with pytest.raises(InputError, match="give wild_types"):
        RidgeModel("embedding:mutated", encoder="one-hot").fit(library(5), np.arange(5))
    with pytest.raises(InputError, match="no features of single residues"):
        RidgeModel("embedding:mutated", encoder="composition", wild_types=(WILD_TYPE,)).fit(library(5), np.arange(5))
    assert set(SPECS) == {"composition", "one-hot", "embedding:mean", "embedding:mutated", "zero-label"}


# Vectors


@pytest.mark.parametrize(
    ("row", "wild_type", "expected"),
    [
        ("ACDE", "ACDE", []),
        ("AWDE", "ACDE", [1]),
        ("A-DE", "ACDE", [0, 1]),
        ("--DE", "ACDE", [0]),
        ("AC--", "ACDE", [1]),
        ("AC*-", "ACDE", [1]),
        ("*---", "ACDE", [0]),
        ("ACWDE", "AC-DE", [2]),
        ("ACWWE", "AC--E", [2, 3]),
        ("A-W*--", "ACDEFG", [0, 1]),
    ],
)
def test_mutated_residues(row, wild_type, expected):
    found = mutated_residues(row, wild_type)
    assert found == [p for p in expected if p < len(row.split("*")[0].replace("-", ""))]


def test_vectors_against_single_encodings():
    encoder = limbeck.load("limbeck-contexts")
    other = protein(24, seed=8)
    rows = [
        *library(12),
        *library(6, wild_type=other),
        WILD_TYPE[:9] + "*" + "-" * 14,
        WILD_TYPE[:5] + "--" + WILD_TYPE[7:],
    ]
    source = Source(encoder, wild_types=(WILD_TYPE, other))
    parents = nearest_wild_types(rows, source.wild_types)
    assert parents.tolist() == [0] * 12 + [1] * 6 + [0] * 2
    sequences = [expressed(row) for row in rows]
    np.testing.assert_allclose(Vectors(source).pooled(rows), encoder.encode(sequences), atol=1e-6)
    features = encoder.encode_residues(sequences)
    places = [mutated_residues(row, source.wild_types[p]) for row, p in zip(rows, parents, strict=True)]
    expected = [f[p or slice(None)].mean(axis=0) for f, p in zip(features, places, strict=True)]
    np.testing.assert_allclose(Vectors(source).mutated(rows), expected, atol=1e-6)


def test_each_variant_is_embedded_once():
    encoder = FakeEncoder()
    rows = library(40)
    for part in (rows[:25], rows[10:], rows, rows[::-1]):
        RidgeModel("embedding:mean", encoder=encoder).fit(part, effects(part)).predict(rows[:3])
    assert sorted(s for call in encoder.calls for s in call) == sorted(set(rows))


def test_folder_keeps_vectors_for_later_runs(tmp_path):
    rows = library(30)
    source = Source(FakeEncoder(), wild_types=(WILD_TYPE,), cache=tmp_path / "cache")
    pooled, mutated = Vectors(source).pooled(rows), Vectors(source).mutated(rows)
    vectors.forget()
    later = FakeEncoder()
    later.forward = None  # type: ignore[assignment]
    source = Source(later, wild_types=(WILD_TYPE,), cache=tmp_path / "cache")
    np.testing.assert_array_equal(Vectors(source).pooled(rows), pooled)
    np.testing.assert_array_equal(Vectors(source).mutated(rows), mutated)
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_damaged_and_foreign_files_of_a_folder_are_passed_over(tmp_path):
    rows = library(10)
    expected = Vectors(Source(FakeEncoder(), cache=tmp_path)).pooled(rows)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    (tmp_path / file.name.replace(".safetensors", "x.safetensors")).write_bytes(b"no safetensors")
    vectors.forget()
    encoder = FakeEncoder()
    np.testing.assert_array_equal(Vectors(Source(encoder, cache=tmp_path)).pooled(rows), expected)
    assert encoder.calls
    vectors.forget()
    other = FakeEncoder(scale=2.0)
    np.testing.assert_allclose(Vectors(Source(other, cache=tmp_path)).pooled(rows), 2 * expected, rtol=1e-5)


# Gaussian process


def test_gaussian_process_is_the_textbooks():
    rows, unseen = library(40), library(15, seed=6)
    scores = effects(rows)
    fitted = GaussianProcessModel("one-hot").fit(rows, scores)
    smooth, squared_scale, linear, noise = fitted.hyperparameters_
    features = Features("one-hot", Source(), scaled=True)
    train = features.fit(rows).blocks[0].toarray()
    scale = abs(train[train != 0][0])
    # Letters that training has not seen have no column but count for distances.
    full, full_unseen = full_one_hot(rows) * scale, full_one_hot(unseen) * scale
    test = features.transform(unseen)

    def covariance(a, b, products):
        squared = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
        return smooth * np.exp(-squared / (2 * squared_scale)) + linear * products

    known = covariance(full, full, train @ train.T) + noise * np.eye(40)
    cross = covariance(full_unseen, full, test.blocks[0].toarray() @ train.T)
    targets = (scores - scores.mean()) / scores.std()
    predicted, deviation = fitted.predict(unseen, return_std=True)
    np.testing.assert_allclose(
        predicted, cross @ np.linalg.solve(known, targets) * scores.std() + scores.mean(), rtol=1e-5
    )
    prior = smooth + linear * (test.squared_lengths() + test.outside)
    variance = prior - np.einsum("ij,ji->i", cross, np.linalg.solve(known, cross.T)) + noise
    np.testing.assert_allclose(deviation, scores.std() * np.sqrt(variance), rtol=1e-5)


def test_gradient_of_the_likelihood():
    rng = np.random.default_rng(0)
    design = Design([rng.normal(size=(20, 3))], np.zeros(20))
    pairs = gaussian_process._Pairs.of(design, design)
    targets, units, logs = rng.normal(size=20), np.ones(4), rng.normal(size=4)
    loss, gradient = gaussian_process._loss(logs, pairs, targets, units)
    numeric = []
    for step in 1e-5 * np.eye(4):
        up, down = (gaussian_process._loss(logs + sign * step, pairs, targets, units)[0] for sign in (1, -1))
        numeric.append((up - down) / 2e-5)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)
    covariance = gaussian_process._covariance(pairs, np.exp(logs)) + np.exp(logs[3]) * np.eye(20)
    _, determinant = np.linalg.slogdet(2 * np.pi * covariance)
    assert loss == pytest.approx((0.5 * targets @ np.linalg.solve(covariance, targets) + 0.5 * determinant) / 20)


def test_gaussian_process_learns_what_a_line_cannot():
    rows = ["".join(letters) + WILD_TYPE[4:] for letters in itertools.product("AGLW", repeat=4)]
    rng = np.random.default_rng(0)
    sums = effects(rows, noise=0.0)
    scores = (sums - sums.mean()) ** 2 + 0.05 * rng.normal(size=len(rows))
    train, test = np.split(rng.permutation(len(rows)), [128])
    pick = [rows[i] for i in train], scores[train]
    smooth = GaussianProcessModel("one-hot").fit(*pick)
    line = RidgeModel().fit(*pick)
    unseen = [rows[i] for i in test]
    predicted, deviation = smooth.predict(unseen, return_std=True)
    assert np.mean((predicted - scores[test]) ** 2) < 0.5 * np.mean((line.predict(unseen) - scores[test]) ** 2)
    assert 0.5 < np.std((scores[test] - predicted) / deviation) < 1.5


def test_gaussian_process_draws_a_sample():
    rows = library(50)
    fitted = GaussianProcessModel("one-hot", most=20, random_state=3).fit(rows, effects(rows))
    assert len(fitted.rows_) == 20
    other = GaussianProcessModel("one-hot", most=20, random_state=4).fit(rows, effects(rows))
    assert fitted.rows_.tolist() != other.rows_.tolist()
    alone = GaussianProcessModel("one-hot").fit([rows[i] for i in fitted.rows_], effects(rows)[fitted.rows_])
    np.testing.assert_allclose(fitted.predict(rows), alone.predict(rows))
    with pytest.raises(InputError, match="most must be at least 1"):
        GaussianProcessModel(most=0).fit(rows, effects(rows))
