import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

import limbeck
from limbeck.errors import InputError
from limbeck.residues import RESIDUES
from limbeck.sklearn import ProteinEmbedder

SEQUENCES = ["MKTAYIAKQR", "GGSGGSGGSG", "MKUX*", "acdefghik"]

NUMBERS = "feeds a table of numbers, which no protein can be read from"
EXPECTED_FAILURES = {
    "check_fit_score_takes_y": NUMBERS,
    "check_estimators_dtypes": NUMBERS,
    "check_dtype_object": NUMBERS,
    "check_pipeline_consistency": NUMBERS,
    "check_estimators_pickle": NUMBERS,
    "check_f_contiguous_array_estimator": NUMBERS,
    "check_transformer_data_not_an_array": NUMBERS,
    "check_transformer_general": NUMBERS,
    "check_methods_sample_order_invariance": NUMBERS,
    "check_methods_subset_invariance": NUMBERS,
    "check_dict_unchanged": NUMBERS,
    "check_fit_idempotent": NUMBERS,
    "check_fit2d_predict1d": NUMBERS,
    "check_n_features_in": "one column of sequences always, so there is no number of columns to remember",
    "check_n_features_in_after_fitting": "as check_n_features_in",
    "check_complex_data": "fit does not look at the data: nothing is learned from it",
    "check_estimators_empty_data_messages": "as check_complex_data",
    "check_estimators_nan_inf": "as check_complex_data",
    "check_estimator_sparse_tag": "as check_complex_data",
    "check_fit1d": "one dimension is the usual form of sequences",
}


class NumbersAsProteins(ProteinEmbedder):
    """Spells rows of numbers as proteins, so that scikit-learn's checks of behaviour can feed an embedder."""

    def fit(self, X, y=None):
        validate_data(self, X)
        return super().fit(X)

    def transform(self, X):
        if not self.__sklearn_is_fitted__():
            return super().transform(X)
        rows = validate_data(self, X, reset=False, dtype=np.float64)
        return super().transform(["".join(RESIDUES[int(abs(10 * x)) % 20] for x in row) for row in rows])


@pytest.fixture
def embedder():
    return ProteinEmbedder("composition").fit()


def test_only_the_listed_checks_of_scikit_learn_fail():
    results = check_estimator(ProteinEmbedder("composition"), on_fail=None, on_skip=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    assert failed == set(EXPECTED_FAILURES)


def test_every_check_of_scikit_learn_passes_when_it_feeds_proteins():
    results = check_estimator(NumbersAsProteins("composition"), on_fail=None, on_skip=None)
    assert {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"} == {}
    assert sum(r["status"] == "passed" for r in results) > 35


def test_transform_gives_what_the_encoder_gives(embedder):
    encoder = limbeck.load("composition")
    vectors = embedder.transform(SEQUENCES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(SEQUENCES), encoder.dimension)
    np.testing.assert_array_equal(vectors, encoder.encode(SEQUENCES))


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(tuple, id="tuple"),
        pytest.param(iter, id="iterator"),
        pytest.param(np.array, id="array"),
        pytest.param(lambda s: np.array(s, dtype=object), id="object array"),
        pytest.param(lambda s: np.array(s)[:, None], id="column"),
    ],
)
def test_every_form_of_input_gives_the_same_vectors(embedder, form):
    np.testing.assert_array_equal(embedder.transform(form(SEQUENCES)), embedder.transform(SEQUENCES))


def test_fit_transform_takes_an_iterator():
    assert ProteinEmbedder("composition").fit_transform(iter(SEQUENCES)).shape == (4, 20)


def test_pandas_in_and_out():
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(SEQUENCES, index=list("abcd"))
    embedder = ProteinEmbedder("composition").set_output(transform="pandas").fit(series)
    vectors = embedder.transform(series)
    assert list(vectors.columns) == list(embedder.get_feature_names_out())
    assert list(vectors.index) == list(series.index)
    np.testing.assert_array_equal(vectors, ProteinEmbedder("composition").fit_transform(SEQUENCES))
    np.testing.assert_array_equal(embedder.transform(series.to_frame()), vectors)


def test_feature_names_number_the_dimensions(embedder):
    names = embedder.get_feature_names_out()
    assert list(names[:2]) == ["proteinembedder0", "proteinembedder1"]
    assert len(names) == embedder.encoder_.dimension


def test_in_a_pipeline_under_a_grid_search():
    proteins = ["MKKLLK" * k for k in range(1, 7)] + ["GSGSGG" * k for k in range(1, 7)]
    labels = [1] * 6 + [0] * 6
    pipeline = make_pipeline(ProteinEmbedder(), LogisticRegression())
    grid = {"proteinembedder__encoder": ["composition", "dipeptides"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(proteins, labels)
    assert list(search.predict(["MKKLLKMK", "GGGSGS"])) == [1, 0]


def test_init_only_stores_and_clone_drops_what_was_fitted(embedder):
    copy = clone(embedder)
    assert copy.get_params() == embedder.get_params()
    assert not hasattr(copy, "encoder_")
    assert ProteinEmbedder("no such encoder").get_params()["encoder"] == "no such encoder"


def test_transform_before_fit_raises():
    with pytest.raises(NotFittedError):
        ProteinEmbedder("composition").transform(SEQUENCES)


def test_fit_with_an_unknown_encoder_raises():
    with pytest.raises(InputError, match="no such encoder"):
        ProteinEmbedder("no such encoder").fit()


def test_a_pickled_copy_holds_no_encoder_and_reloads_it(embedder):
    # An encoder may hold a compiled model, which cannot be pickled.
    embedder.encoder_.handle = lambda: None
    copy = pickle.loads(pickle.dumps(embedder))
    assert not hasattr(copy, "encoder_")
    assert len(copy.get_feature_names_out()) == embedder.encoder_.dimension
    np.testing.assert_array_equal(copy.transform(SEQUENCES), embedder.transform(SEQUENCES))


def test_a_pickled_copy_refuses_another_encoder(embedder):
    embedder.fingerprint_ = "0" * 64
    copy = pickle.loads(pickle.dumps(embedder))
    with pytest.raises(InputError, match="not the one that this embedder was fitted with"):
        copy.transform(SEQUENCES)


def test_joblib_file_and_workers(embedder, tmp_path):
    joblib.dump(embedder, tmp_path / "embedder.joblib")
    copy = joblib.load(tmp_path / "embedder.joblib")
    halves = joblib.Parallel(n_jobs=2)(joblib.delayed(copy.transform)(SEQUENCES[k : k + 2]) for k in (0, 2))
    np.testing.assert_array_equal(np.vstack(halves), embedder.transform(SEQUENCES))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ("MKTAYIAK", TypeError, r"pass \[sequence\]"),
        (["MKT", 7], TypeError, "row 1: expected a sequence"),
        (["MKT", None], TypeError, "row 1: expected a sequence"),
        (np.array([["MKT", "AYI"]]), ValueError, r"one column of sequences, got an array of shape \(1, 2\)"),
        (["MKT", "MK7"], InputError, "row 1: character '7' at position 3"),
        (["MKT", "--"], InputError, "row 1: the sequence has no residues"),
    ],
)
def test_what_is_no_protein_is_refused_by_row(embedder, data, error, message):
    with pytest.raises(error, match=message):
        embedder.transform(data)


def test_without_scikit_learn_the_import_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None\nimport limbeck.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("needs scikit-learn: pip install 'limbeck[sklearn]'")
