"""Variants of one protein get the vectors that ``encode`` gives, whatever is computed for them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck import InputError, load
from limbeck.encoders.base import ResidueEncoder
from limbeck.encoders.batches import Piece
from limbeck.encoders.registry import Options
from limbeck.encoders.student import StudentEncoder, expected_shapes
from limbeck.encoders.variants import encode_variants
from limbeck.residues import RESIDUES, to_ids
from tiny_encoders import protein, write_hmm, write_library, write_unirep

SHAPE = {"width": 8, "inner": 6, "kernel": 3, "states": 12, "dilations": [1, 2]}
CONFIG = {"version": "1", "license": "CC0-1.0", "pooling": "combined", "limbeck": SHAPE, "nested_dimensions": [4]}
WILD_TYPE = protein(70)


def student(pooling, dimension=None, dilations=(1, 2)):
    rng = np.random.default_rng(0)
    shape = SHAPE | {"dilations": list(dilations)}
    weights = {key: rng.normal(size=size) * 0.5 for key, size in expected_shapes(shape).items()}
    options = Options(pooling=pooling, precision="f32", dimension=dimension)
    return StudentEncoder("tiny", CONFIG | {"limbeck": shape}, weights, options)


class Counting(ResidueEncoder):
    """Sees one letter on each side; counts what it computes."""

    name = version = fingerprint = "counting"
    license = "CC0-1.0"
    parameters = 0
    dimension = 3
    radius = 1

    def __init__(self, max_length=None):
        self.max_length, self.overlap, self.token_budget = max_length, 8, 256
        self.computed = 0

    def forward(self, windows):
        self.computed += sum(map(len, windows))
        table = np.random.default_rng(1).normal(size=(3, 21, 3)).astype(np.float32)
        results = []
        for window in windows:
            ids = np.pad(to_ids(window), 1, constant_values=20)
            results.append(sum(table[j][ids[j : j + len(window)]] * (j + 1) for j in range(3)) ** 2)
        return results


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {
        "student, combined": student("combined"),
        "student, mean": student("mean"),
        "student, one block": student("combined", dilations=(1,)),
        "context library": load(write_library(folder / "library.safetensors")),
        "context HMM, mean": load(write_hmm(folder / "contexts.hmm"), pooling="mean"),
        "one-hot": load("one-hot"),
        "counting": Counting(),
        "counting, windows": Counting(max_length=30),
        "unirep": load(write_unirep(folder / "unirep.safetensors")),
    }


NAMES = [
    "student, combined",
    "student, mean",
    "student, one block",
    "context library",
    "context HMM, mean",
    "one-hot",
    "counting",
    "counting, windows",
    "unirep",
]
POSITIONS = st.one_of(st.integers(0, len(WILD_TYPE) - 1), st.integers(0, 3), st.integers(66, len(WILD_TYPE) - 1))


@st.composite
def variants(draw):
    letters = list(WILD_TYPE)
    for position in draw(st.lists(POSITIONS, max_size=4)):
        letters[position] = draw(st.sampled_from(RESIDUES + "X"))
    edit = draw(st.sampled_from(["none", "none", "delete", "insert", "cut"]))
    start = draw(st.integers(0, len(letters) - 2))
    if edit == "delete":
        del letters[start : start + draw(st.integers(1, 5))]
    elif edit == "insert":
        letters[start:start] = draw(st.lists(st.sampled_from(RESIDUES), min_size=1, max_size=4))
    elif edit == "cut":
        del letters[start + 1 :]
    return "".join(letters)


def expected_averages(encoder, sequences, positions):
    features = encoder.encode_residues(sequences)
    return np.stack([f[sorted(set(p)) or slice(None)].mean(axis=0) for f, p in zip(features, positions, strict=True)])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences=st.lists(variants(), min_size=1, max_size=6), data=st.data())
def test_vectors_are_those_of_encode(name, encoders, sequences, data):
    encoder = encoders[name]
    sequences = [*sequences, WILD_TYPE, WILD_TYPE, "A" + WILD_TYPE[1:]]
    positions = [data.draw(st.lists(st.integers(0, len(s) - 1), max_size=3)) for s in sequences]
    pooled, averages = encode_variants(encoder, WILD_TYPE, sequences, positions)
    alone, none = encode_variants(encoder, WILD_TYPE, sequences)
    expected = encoder.encode(sequences)
    assert pooled.dtype == averages.dtype == np.float32
    assert none is None
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(pooled, expected, atol=3e-6 * scale)
    np.testing.assert_allclose(alone, expected, atol=3e-6 * scale)
    wanted = expected_averages(encoder, sequences, positions)
    np.testing.assert_allclose(averages, wanted, atol=3e-6 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("name", [name for name in NAMES if "windows" not in name and name != "unirep"])
def test_radius_is_how_far_a_residue_sees(name, encoders):
    encoder = encoders[name]
    before = encoder.encode_residues([WILD_TYPE])[0]
    changed = WILD_TYPE[:35] + ("A" if WILD_TYPE[35] != "A" else "W") + WILD_TYPE[36:]
    after = encoder.encode_residues([changed])[0]
    moved = np.flatnonzero((np.abs(after - before) > 1e-6).any(axis=1))
    assert moved.min() >= 35 - encoder.radius
    assert moved.max() <= 35 + encoder.radius


def test_only_windows_are_computed():
    encoder = Counting()
    wild_type = protein(300)
    singles = [wild_type[:i] + "G" + wild_type[i + 1 :] for i in range(0, 300, 3)]
    encode_variants(encoder, wild_type, singles)
    assert encoder.computed <= len(wild_type) + 5 * len(singles)


def test_only_owned_residues_are_averaged_by_a_context_library(encoders):
    encoder = encoders["context library"]
    whole = encoder.pooled_sums([WILD_TYPE], [Piece(slice(3, 40), 0, len(WILD_TYPE))])[0]
    np.testing.assert_allclose(whole, encoder.encode_residues([WILD_TYPE])[0][3:40].sum(axis=0), rtol=1e-5)


def test_unlike_proteins_are_computed_whole():
    encoder = Counting()
    others = [protein(40, seed) for seed in range(1, 4)]
    encode_variants(encoder, WILD_TYPE, others)
    assert encoder.computed == 120


def test_progress_counts_every_residue_that_is_computed(encoders):
    seen = []
    sequences = [protein(30, 1), protein(20, 2)]
    encode_variants(encoders["unirep"], WILD_TYPE, sequences, on_batch=lambda residues, tokens: seen.append(residues))
    assert sum(seen) == 50


def test_no_variants(encoders):
    for encoder in encoders.values():
        pooled, averages = encode_variants(encoder, WILD_TYPE, [], [])
        assert pooled.shape == averages.shape == (0, encoder.dimension)


def test_wrong_arguments(encoders):
    with pytest.raises(ValueError, match="positions of 1"):
        encode_variants(encoders["unirep"], WILD_TYPE, ["AC", "AD"], [[0]])
    with pytest.raises(TypeError, match="one string"):
        encode_variants(encoders["unirep"], WILD_TYPE, "AC")
    with pytest.raises(InputError, match="features of single residues"):
        encode_variants(load("composition"), WILD_TYPE, ["AC"], [[0]])
    with pytest.raises(InputError, match="leave the dimension out"):
        encode_variants(student("combined", 4), WILD_TYPE, ["AC"], [[0]])


def test_nested_dimensions_of_protein_vectors():
    encoder = student("combined", 4)
    sequences = [WILD_TYPE, "W" + WILD_TYPE[1:], WILD_TYPE[:-1] + "W"]
    pooled, _ = encode_variants(encoder, WILD_TYPE, sequences)
    np.testing.assert_allclose(pooled, encoder.encode(sequences), atol=1e-5)


def test_student_starts_from_the_wild_types_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(precision="f32")
    calls = []
    computed = encoder.changed_sums_and_features

    def spy(states, variants, spans):
        calls.extend(spans)
        return computed(states, variants, spans)

    monkeypatch.setattr(encoder, "changed_sums_and_features", spy)
    wild_type = protein(160)
    variants = [wild_type[:i] + "W" + wild_type[i + 1 :] for i in (0, 7, 80, 159) if wild_type[i] != "W"]
    positions = [[i for i, letter in enumerate(v) if letter != wild_type[i]] for v in variants]
    pooled, averages = encode_variants(encoder, wild_type, variants, positions)
    assert sorted(calls) == sorted((p[0], p[0] + 1) for p in positions)
    np.testing.assert_allclose(pooled, encoder.encode(variants), atol=2e-5)
    features = encoder.encode_residues(variants)
    expected = [f[p].mean(axis=0) for f, p in zip(features, positions, strict=True)]
    np.testing.assert_allclose(averages, expected, atol=2e-4)


def test_student_starts_from_the_wild_types_layers_as_exactly_as_its_precision() -> None:
    """Between blocks bf16's states are kept in f32: another way to round, not another result."""
    encoder = load()
    wild_type = protein(160)
    variants = [wild_type[:i] + "W" + wild_type[i + 1 :] for i in (7, 80) if wild_type[i] != "W"]
    positions = [[i for i, letter in enumerate(v) if letter != wild_type[i]] for v in variants]
    pooled, _ = encode_variants(encoder, wild_type, variants, positions)
    expected = encoder.encode(variants)
    assert np.abs(pooled - expected).max() < (1e-2 if encoder.precision == "bf16" else 1e-5) * np.abs(expected).max()
