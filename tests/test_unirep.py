import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from limbeck import InputError, load
from limbeck.residues import RESIDUES
from tiny_encoders import protein, write_unirep

LETTERS = "MRHKDESTNQCUGPAVIFYWLOX"


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def times(vector, matrix):
    return [sum(v * matrix[i][j] for i, v in enumerate(vector)) for j in range(len(matrix[0]))]


def normalised(weight, gain):
    norms = [math.sqrt(sum(row[j] ** 2 for row in weight)) for j in range(len(gain))]
    return [[value / norms[j] * gain[j] for j, value in enumerate(row)] for row in weight]


def slow_states(tensors, ids):
    """Every layer's state after each token: layers x tokens x units, in plain Python."""
    inputs = [list(map(float, tensors["embed"][i])) for i in ids]
    all_states = []
    for layer in range(4):
        part = {k.split(".")[2]: v.astype(float).tolist() for k, v in tensors.items() if f"layers.{layer}." in k}
        wx, wh, wmx, wmh = (normalised(part[w], part[w.replace("w", "g")]) for w in ("wx", "wh", "wmx", "wmh"))
        units = len(wmh)
        h, c, states = [0.0] * units, [0.0] * units, []
        for x in inputs:
            m = [a * b for a, b in zip(times(x, wmx), times(h, wmh), strict=True)]
            z = [sum(t) for t in zip(times(x, wx), times(m, wh), part["b"], strict=True)]
            i, f, o, u = (z[n * units : (n + 1) * units] for n in range(4))
            c = [sigmoid(f[n]) * c[n] + sigmoid(i[n]) * math.tanh(u[n]) for n in range(units)]
            h = [sigmoid(o[n]) * math.tanh(c[n]) for n in range(units)]
            states.append(h)
        all_states.append(states)
        inputs = states
    return np.array(all_states)


@pytest.fixture
def weights(tmp_path):
    return write_unirep(tmp_path / "weights.safetensors")


# Lengths on both sides of the block of 64 steps.
SEQUENCES = ["A", protein(30, letters=RESIDUES + "X"), protein(64), protein(65), protein(150)]


@pytest.fixture
def slow(weights):
    tensors = load_file(weights)
    return [slow_states(tensors, [24] + [LETTERS.index(r) + 1 for r in s]) for s in SEQUENCES]


@pytest.mark.parametrize(
    ("layer", "places"),
    [(None, [1]), (1, [0]), (2, [1]), (3, [2]), (4, [3]), (-1, [3]), (-4, [0]), ("all", [0, 1, 2, 3])],
)
def test_features_are_the_states_after_each_residue(weights, slow, layer, places):
    encoder = load(weights, layer=layer)
    expected = [np.concatenate([states[p, 1:] for p in places], axis=1) for states in slow]
    for features, wanted in zip(encoder.encode_residues(SEQUENCES), expected, strict=True):
        np.testing.assert_allclose(features, wanted, atol=2e-6)
    means = [wanted.mean(axis=0) for wanted in expected]
    np.testing.assert_allclose(encoder.encode(SEQUENCES), means, atol=2e-6)


def test_log_probabilities_of_the_next_residue(weights, slow):
    tensors = load_file(weights)
    columns = [LETTERS.index(r) for r in RESIDUES]
    for found, states in zip(load(weights).log_probabilities(SEQUENCES), slow, strict=True):
        logits = (states[-1, :-1] @ tensors["head.weight"] + tensors["head.bias"])[:, columns]
        expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(found, expected, atol=5e-6)


def test_features_know_nothing_of_later_residues(weights):
    encoder = load(weights)
    first, second = encoder.encode_residues(["ACDEF", "ACDWW"])
    np.testing.assert_array_equal(first[:3], second[:3])
    assert np.abs(first[3:] - second[3:]).max() > 1e-3


def test_description(weights):
    encoder = load(weights, layer="all")
    tensors = load_file(weights)
    assert encoder.parameters == sum(t.size for t in tensors.values())
    assert (encoder.dimension, encoder.layers, encoder.max_length) == (24, 4, None)
    assert encoder.license == "unknown"
    prints = {load(weights, layer=layer).fingerprint for layer in (1, 2, "all")}
    assert len(prints) == 3
    assert load(weights).fingerprint == load(weights, layer=2).fingerprint


@pytest.mark.parametrize("layer", [0, 5, -5, "last", 1.0])
def test_unknown_layer(weights, layer):
    with pytest.raises(InputError, match=r"there is no layer .* choose 1 to 4"):
        load(weights, layer=layer)


def test_missing_tensor(weights):
    tensors = load_file(weights)
    del tensors["layers.2.gmx"]
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"weights.safetensors: .*'layers.2.gmx' is missing"):
        load(weights)


def test_tensor_of_another_shape(weights):
    tensors = load_file(weights)
    tensors["layers.1.b"] = tensors["layers.1.b"][:-1]
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"'layers.1.b' has shape \(23,\), expected \(24,\)"):
        load(weights)
