"""Same protein, same vector: for every encoder, whatever shares its batch."""

import numpy as np
import pytest

from limbeck import InputError, load
from limbeck.encoders import ResidueEncoder, available
from limbeck.residues import RESIDUES, InvalidResidue
from tiny_encoders import (
    protein,
    write_ankh,
    write_esm1b,
    write_esm2,
    write_esmc,
    write_hmm,
    write_library,
    write_protbert,
    write_prott5,
    write_roberta,
    write_unirep,
)

TOLERANCE = 1e-5
LENGTHS = [1, 2, 33, 33, 64, 65, 100, 7, 150, 12]
SEQUENCES = [protein(length, seed, RESIDUES + "X") for seed, length in enumerate(LENGTHS)] + ["acX-U*", "WWWW"]
FILES = {
    "unirep": (write_unirep, "unirep.safetensors", {}),
    "unirep all layers": (write_unirep, "unirep.safetensors", {"layer": "all"}),
    "context HMM": (write_hmm, "contexts.hmm", {}),
    "context library": (write_library, "contexts.safetensors", {"pooling": "mean"}),
    "ESM-2": (write_esm2, "esm2", {}),
    "ESM-2 middle layer": (write_esm2, "esm2", {"layer": 1}),
    "ESM-1b two layers": (write_esm1b, "esm1b", {"layer": (1, 3)}),
    "ESM C": (write_esmc, "esmc", {}),
    "ProtT5": (write_prott5, "prott5", {}),
    "ProtBert": (write_protbert, "protbert", {}),
    "Ankh": (write_ankh, "ankh", {}),
    "AutoModel": (write_roberta, "roberta", {}),
}
# What has an owner is a model of the hub that happens to be in this machine's cache.
NAMES = [info.name for info in available() if info.on_this_machine and "PATH" not in info.name and "/" not in info.name]


@pytest.fixture(scope="module", params=[*NAMES, *FILES])
def encoder(request, tmp_path_factory):
    if request.param in NAMES:
        return load(request.param, precision="f32")
    write, file, options = FILES[request.param]
    return load(write(tmp_path_factory.mktemp("weights") / file), device="cpu", precision="f32", **options)


@pytest.fixture
def whole(encoder):
    return encoder.encode(SEQUENCES)


def residues(encoder, sequences):
    try:
        return encoder.encode_residues(sequences)
    except InputError:
        pytest.skip("no features of single residues")


def test_shapes_and_types(encoder, whole):
    assert whole.shape == (len(SEQUENCES), encoder.dimension)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_batch_of_one_is_batch_of_many(encoder, whole):
    for sequence, vector in zip(SEQUENCES, whole, strict=True):
        np.testing.assert_allclose(encoder.encode([sequence])[0], vector, atol=TOLERANCE)


def test_order_does_not_matter(encoder, whole):
    order = np.random.default_rng(0).permutation(len(SEQUENCES))
    np.testing.assert_allclose(encoder.encode([SEQUENCES[i] for i in order]), whole[order], atol=TOLERANCE)


@pytest.mark.parametrize("budget", [1, 70, 200])
def test_token_budget_does_not_matter(encoder, whole, budget, monkeypatch):
    monkeypatch.setattr(encoder, "token_budget", budget)
    np.testing.assert_allclose(encoder.encode(SEQUENCES), whole, atol=TOLERANCE)


def test_the_same_call_gives_the_same_bits(encoder, whole):
    np.testing.assert_array_equal(encoder.encode(SEQUENCES), whole)


def test_residues_alone_and_together(encoder):
    for sequence, features in zip(SEQUENCES, residues(encoder, SEQUENCES), strict=True):
        (alone,) = encoder.encode_residues([sequence])
        assert features.dtype == np.float32
        assert features.shape == alone.shape
        np.testing.assert_allclose(alone, features, atol=TOLERANCE)


def test_mean_pooling_is_the_mean_of_the_residues(encoder, whole):
    if encoder.pooling != "mean":
        pytest.skip(f"pools by {encoder.pooling}")
    for features, vector in zip(residues(encoder, SEQUENCES), whole, strict=True):
        np.testing.assert_allclose(features.mean(axis=0), vector, atol=TOLERANCE)


def test_letters_follow_the_one_rule(encoder):
    raw, plain = encoder.encode(["mkuO-BzJ.*", "M K"]), encoder.encode(["MKCKXXX", "MK"])
    np.testing.assert_allclose(raw, plain, atol=TOLERANCE)


def test_windows_are_the_proteins_own(encoder, monkeypatch):
    """A protein of several windows gives the same alone, among others and in batches of another make-up."""
    if not isinstance(encoder, ResidueEncoder) or encoder.max_length is None:
        pytest.skip("encodes any length in one window")
    monkeypatch.setattr(encoder, "max_length", min(encoder.max_length, encoder.overlap + 96))
    long = protein(3 * encoder.max_length + 5)
    alone, features = encoder.encode([long])[0], encoder.encode_residues([long])[0]
    assert features.shape == (len(long), encoder.dimension)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(encoder.encode([*SEQUENCES, long])[-1], alone, atol=TOLERANCE)
    monkeypatch.setattr(encoder, "token_budget", 1)
    np.testing.assert_allclose(encoder.encode([long, *SEQUENCES])[0], alone, atol=TOLERANCE)
    np.testing.assert_allclose(encoder.encode_residues([long])[0], features, atol=TOLERANCE)


def test_progress_counts_every_residue_once(encoder):
    seen = []
    encoder.encode(SEQUENCES, lambda done, tokens: seen.append((done, tokens)))
    assert sum(done for done, _ in seen) == sum(LENGTHS) + 8
    assert all(tokens >= done > 0 for done, tokens in seen)


@pytest.mark.parametrize("bad", ["MK7V", "MKé", "M?K"])
def test_a_character_that_is_no_residue_is_refused(encoder, bad):
    with pytest.raises(InvalidResidue, match=r"^sequence 1: character .* is not a residue$"):
        encoder.encode(["MKV", bad])


@pytest.mark.parametrize("bad", [None, float("nan"), b"MKV"])
def test_what_is_no_string_is_refused(encoder, bad):
    with pytest.raises(TypeError, match=r"^sequence 1: expected a string, got (NoneType|float|bytes)$"):
        encoder.encode(["MKV", bad])


@pytest.mark.parametrize("empty", ["", "-", "*"])
def test_an_empty_protein_is_refused(encoder, empty):
    with pytest.raises(ValueError, match="sequence 1 has no residues"):
        encoder.encode(["MKV", empty])


def test_a_bare_string_is_refused(encoder):
    with pytest.raises(TypeError, match="expected a list"):
        encoder.encode("MKV")
