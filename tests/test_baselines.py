from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import InputError, load
from limbeck.residues import RESIDUES, clean

NAMES = {"composition": 1, "dipeptides": 2, "kmers-3": 3}
texts = st.text(alphabet=RESIDUES + "XBUacd*-", min_size=1, max_size=60).filter(clean)


def slow_frequencies(text, k):
    sequence = clean(text)
    kmers = [sequence[i : i + k] for i in range(len(sequence) - k + 1)]
    counts = Counter(kmer for kmer in kmers if "X" not in kmer)
    total = max(1, counts.total())
    return np.array([counts["".join(kmer)] / total for kmer in product(RESIDUES, repeat=k)])


@pytest.mark.parametrize("name", NAMES)
@given(sequences=st.lists(texts, max_size=3))
def test_frequencies_equal_plain_counting(name, sequences):
    k = NAMES[name]
    vectors = load(name).encode(sequences)
    assert vectors.shape == (len(sequences), 20**k)
    assert vectors.dtype == np.float32
    for vector, sequence in zip(vectors, sequences, strict=True):
        np.testing.assert_allclose(vector, slow_frequencies(sequence, k), atol=1e-7)


@given(text=texts)
def test_one_hot_marks_each_residue_and_pools_by_the_mean(text):
    encoder = load("one-hot")
    (rows,) = encoder.encode_residues([text])
    expected = [[float(residue == letter) for letter in RESIDUES] for residue in clean(text)]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(encoder.encode([text])[0], rows.mean(axis=0), atol=1e-7)


def test_unknown_residue_breaks_a_kmer():
    vector = load("dipeptides").encode(["ACXCA"])[0]
    assert {RESIDUES[i // 20] + RESIDUES[i % 20] for i in np.flatnonzero(vector)} == {"AC", "CA"}


def test_protein_without_kmers_is_zero():
    assert not load("kmers-3").encode(["AC", "XXXX"]).any()


@pytest.mark.parametrize("name", NAMES)
def test_kmers_have_no_residue_features(name):
    with pytest.raises(InputError, match=f"{name} describes whole proteins .* use one-hot"):
        load(name).encode_residues(["ACD"])


@pytest.mark.parametrize("name", [*NAMES, "one-hot"])
@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"layer": 1}, "no choice of layers"),
        ({"pooling": "mean"}, "no choice of pooling"),
        ({"precision": "bf16"}, "no precision 'bf16'"),
        ({"device": "cuda"}, "no device 'cuda'"),
    ],
)
def test_options_that_a_baseline_lacks_are_refused(name, option, problem):
    with pytest.raises(InputError, match=f"{name} has {problem}"):
        load(name, **option)
