"""Convolutions with fewer multiplications give what the plain ones give."""

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openvino import opset13 as op

import limbeck
from limbeck.encoders import minimal_filtering
from limbeck.encoders.batches import Piece
from limbeck.encoders.student_graph import compile_graph, network_graph
from limbeck.encoders.student_pooling import counted, shares_of
from limbeck.residues import to_ids
from tiny_encoders import protein

CHANNELS, FILTERS = 3, 4


@pytest.fixture(scope="module")
def convolve():
    """Compiled once for each shape of filters, as it is used."""
    compiled = {}

    def run(x, weight, dilation):
        key = (weight.tobytes(), weight.shape, dilation)
        if key not in compiled:
            node = op.parameter([-1, -1, weight.shape[1]], np.float32)
            parts = minimal_filtering.convolution(node, weight, np.zeros(FILTERS), dilation)
            together = minimal_filtering.interleaved(parts, minimal_filtering.length_of(node), FILTERS)
            graph = ov.Model([together], [node], "convolution")
            compiled[key] = compile_graph(graph, "f32", 1, measured=True)
        return compiled[key]([x])[0]

    return run


def plain(x, weight, dilation):
    taps = weight.shape[2]
    reach = dilation * (taps // 2)
    padded = np.pad(x.astype(np.float64), ((0, 0), (reach, reach), (0, 0)))
    length = x.shape[1]
    return sum(padded[:, k * dilation : k * dilation + length] @ weight[:, :, k].T for k in range(taps))


@pytest.mark.parametrize("taps", [2, 3, 4, 5, 6])
def test_transforms_are_exact(taps):
    a, g, b = minimal_filtering.transforms(taps)
    rng = np.random.default_rng(taps)
    x, w = rng.normal(size=len(b)), rng.normal(size=taps)
    np.testing.assert_allclose(a.T @ ((g @ w) * (b @ x)), np.correlate(x, w, "valid"), atol=1e-12)


def test_filters_that_do_not_gain_are_left_alone():
    assert [taps for taps in range(1, 10) if minimal_filtering.fits(taps)] == [2, 3, 4, 5, 6]
    assert minimal_filtering.products_per_output(5) == 2


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 90),
    shape=st.sampled_from([(3, 1), (5, 1), (5, 2), (5, 16)]),
    seed=st.integers(0, 1000),
)
def test_convolution_is_the_plain_one(convolve, batch, length, shape, seed):
    taps, dilation = shape
    weight = np.random.default_rng(taps).normal(size=(FILTERS, CHANNELS, taps)).astype(np.float32)
    x = np.random.default_rng(seed).normal(size=(batch, length, CHANNELS)).astype(np.float32)
    expected = plain(x, weight, dilation)
    found = convolve(x, weight, dilation)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_vectors_are_those_of_plain_convolutions():
    encoder = limbeck.load(precision="f32", threads=1)
    ids = np.array([to_ids(protein(160))], dtype=np.int32)
    shares = shares_of([Piece(slice(0, ids.size), 0, ids.size)], ids.size)
    graphs = (network_graph(encoder._weights, encoder._dilations, "combined", minimal) for minimal in (False, True))
    sums = [compile_graph(graph, "f32", 1)([ids, shares])[0] for graph in graphs]
    counts = counted(protein(160), slice(0, 160))[None]
    plain_vector, vector = (
        encoder.finish(np.concatenate([s, counts], axis=1).astype(float), np.array([160.0])) for s in sums
    )
    np.testing.assert_allclose(vector, plain_vector, atol=1e-5 * np.abs(plain_vector).max())
