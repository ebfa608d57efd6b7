"""Scores against SciPy and scikit-learn; the bootstrap against resampling rows and scoring them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import ndcg_score

from limbeck.landscapes.scores import METRICS, Bootstrap, bootstrap, score

Floats = NDArray[np.float64]


def pairs(values: st.SearchStrategy[float], least: int = 3) -> st.SearchStrategy[tuple[Floats, Floats]]:
    """Measured and predicted, of one length."""
    pair = st.lists(st.tuples(values, values), min_size=least, max_size=60)
    return pair.map(lambda p: (np.array([a for a, _ in p], float), np.array([b for _, b in p], float)))


TIED = pairs(st.integers(-4, 4))
ANY = pairs(st.floats(-1e3, 1e3, width=32))


def membership(values: Floats, size: int) -> Floats:
    """Chance of each to be among the ``size`` highest, if ties are broken by lot."""
    greater = (values[None, :] > values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return np.clip((size - greater) / equal, 0, 1)


@given(TIED | ANY)
def test_correlations_and_error_are_scipys(pair: tuple[Floats, Floats]) -> None:
    measured, predicted = pair
    assume(min(np.ptp(measured), np.ptp(predicted)) > 1e-2)
    found = score(measured, predicted)
    assert found["spearman"] == pytest.approx(stats.spearmanr(measured, predicted).statistic, abs=1e-9)
    assert found["pearson"] == pytest.approx(stats.pearsonr(measured, predicted).statistic, abs=1e-6)
    assert found["mse"] == pytest.approx(((measured - predicted) ** 2).mean())


@given(TIED)
def test_ndcg_is_that_of_the_top_tenth_with_scaled_gains_and_ties_averaged(pair: tuple[Floats, Floats]) -> None:
    measured, predicted = pair
    assume(np.ptp(measured) > 0)
    gains = (measured - measured.min()) / np.ptp(measured)
    expected = ndcg_score([gains], [predicted], k=math.ceil(len(measured) / 10))
    assert score(measured, predicted)["ndcg"] == pytest.approx(expected)


@given(TIED)
def test_recall_is_the_share_of_the_top_tenth_found_with_ties_broken_by_lot(pair: tuple[Floats, Floats]) -> None:
    measured, predicted = pair
    size = math.ceil(len(measured) / 10)
    expected = (membership(measured, size) * membership(predicted, size)).sum() / size
    assert score(measured, predicted)["recall"] == pytest.approx(expected)


@given(TIED, st.randoms())
def test_the_order_of_rows_does_not_matter(pair: tuple[Floats, Floats], random: object) -> None:
    measured, predicted = pair
    order = list(range(len(measured)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert score(measured[order], predicted[order]) == pytest.approx(score(measured, predicted))


def test_constant_predictions_score_zero_and_find_a_tenth() -> None:
    measured = np.arange(50.0)
    found = score(measured, np.full(50, 0.1))
    assert found["spearman"] == found["pearson"] == 0
    assert found["recall"] == pytest.approx(0.1)
    assert 0 < found["ndcg"] < 1
    assert score(np.full(50, 0.1), measured) == pytest.approx(
        {"spearman": 0, "pearson": 0, "mse": ((measured - 0.1) ** 2).mean(), "ndcg": 0, "recall": 0.1}
    )


def test_perfect_and_reversed_predictions() -> None:
    measured = np.random.default_rng(0).normal(size=100)
    assert score(measured, measured) == pytest.approx({"spearman": 1, "pearson": 1, "mse": 0, "ndcg": 1, "recall": 1})
    assert score(measured, -measured)["spearman"] == pytest.approx(-1)
    assert score(measured, -measured)["recall"] == 0


def test_scores_survive_large_offsets() -> None:
    random = np.random.default_rng(0)
    measured = random.normal(size=200)
    predicted = measured + random.normal(size=200)
    expected = score(measured, predicted)
    assert score(measured, predicted + 1e6)["pearson"] == pytest.approx(expected["pearson"], abs=1e-6)


@pytest.mark.parametrize(
    ("measured", "predicted", "message"),
    [([], [], "not empty"), ([1, 2], [1], "one length"), ([1, 2], [1, math.nan], "finite")],
)
def test_bad_input_is_refused(measured: list[float], predicted: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(measured, predicted)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("units", ["variants", "positions", "uneven"])
def test_bootstrap_equals_scoring_resampled_rows(units: str, tied: bool) -> None:
    random = np.random.default_rng(1)
    n = 57
    unit = {"variants": np.arange(n), "positions": random.integers(0, 9, n), "uneven": np.arange(n) ** 2 // 500}[units]
    values = random.normal(size=(4, n))
    if tied:
        values = np.round(values)
    measured, predictions = values[0], {"a": values[0] + values[1], "b": values[2], "constant": np.full(n, 0.3)}
    found = bootstrap(measured, predictions, unit, 40, seed=3)
    labels = np.unique(unit)
    draws = np.random.default_rng(3)
    for sample in found.samples:
        drawn = labels[draws.integers(0, len(labels), len(labels))]
        rows = np.concatenate([np.flatnonzero(unit == label) for label in drawn])
        for values_of_model, predicted in zip(sample, predictions.values(), strict=True):
            expected = score(measured[rows], predicted[rows])
            np.testing.assert_allclose(values_of_model, list(expected.values()), atol=1e-9)
    for model, predicted in predictions.items():
        assert found.value(model, "mse") == pytest.approx(score(measured, predicted)["mse"])


def three_models(n: int = 120) -> tuple[Floats, dict[str, Floats], NDArray[np.intp]]:
    random = np.random.default_rng(5)
    measured = random.normal(size=n)
    noise = {"good": 0.5, "fair": 1.0, "bad": 3.0}
    return measured, {k: measured + s * random.normal(size=n) for k, s in noise.items()}, np.arange(n) // 4


def test_samples_are_the_same_for_every_set_of_models_and_metrics() -> None:
    measured, predictions, units = three_models()
    together = bootstrap(measured, predictions, units, 50, seed=1)
    alone = bootstrap(measured, {"fair": predictions["fair"]}, units, 50, seed=1, metrics=("spearman",))
    np.testing.assert_allclose(alone.samples[:, 0, 0], together.samples[:, 1, METRICS.index("spearman")])
    other = bootstrap(measured, predictions, units, 50, seed=2)
    assert not np.allclose(other.samples, together.samples)


def test_a_difference_is_paired_and_turns_its_sign() -> None:
    measured, predictions, units = three_models()
    found = bootstrap(measured, predictions, units, 400)
    value, low, high = found.difference("good", "bad", "spearman")
    assert low < value < high
    assert found.difference("bad", "good", "spearman") == pytest.approx((-value, -high, -low))
    assert found.difference("good", "good", "spearman") == (0, 0, 0)
    assert value == pytest.approx(found.value("good", "spearman") - found.value("bad", "spearman"))
    low, high = found.interval("good", "spearman")
    assert low < found.value("good", "spearman") < high


def few_units(units: NDArray[np.intp]) -> Bootstrap:
    measured, predictions, _ = three_models(len(units))
    return bootstrap(measured, predictions, units, 200, metrics=("spearman",))


def test_few_units_widen_the_interval_and_are_not_trusted() -> None:
    found = few_units(np.arange(120) // 20)
    low, high = found.interval("fair", "spearman")
    plain = np.quantile(found.samples[:, 1, 0], [0.025, 0.975])
    assert low < plain[0] < plain[1] < high
    assert (found.units, found.trusted) == (6, False)
    assert few_units(np.arange(120) // 10).trusted


def test_a_unit_that_holds_most_variants_makes_few_of_many() -> None:
    found = few_units(np.maximum(np.arange(120) - 90, 0))
    assert found.units == 30
    assert found.effective == pytest.approx(120**2 / (91**2 + 29))
    assert not found.trusted


def test_one_unit_has_no_interval() -> None:
    assert all(map(math.isnan, few_units(np.zeros(120, np.intp)).interval("good", "spearman")))


def test_intervals_hold_the_true_difference_as_often_as_they_promise() -> None:
    """Two equally good models whose errors are shared within 15 positions."""
    random = np.random.default_rng(0)
    outside, trials = 0, 120
    for _ in range(trials):
        position = np.repeat(np.arange(15), 8)
        measured = random.normal(size=15)[position] + random.normal(size=120)
        a, b = (measured + random.normal(size=15)[position] + random.normal(size=120) for _ in range(2))
        _, low, high = bootstrap(measured, {"a": a, "b": b}, position, 100, metrics=("spearman",)).difference(
            "a", "b", "spearman"
        )
        outside += not low <= 0 <= high
    assert outside / trials <= 0.09


def test_units_must_belong_to_the_rows() -> None:
    with pytest.raises(ValueError, match="3 variants but units of shape"):
        bootstrap([1, 2, 3], {"a": [1, 2, 3]}, [0, 1])
    with pytest.raises(ValueError, match="unknown metrics: auc"):
        bootstrap([1, 2, 3], {"a": [1, 2, 3]}, [0, 1, 2], metrics=("auc",))
