"""What a student pools over a protein, against the definition written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.network import Student
from limbeck.encoders.batches import Piece, split
from limbeck.encoders.student_pooling import (
    ENDS,
    GAPS,
    counted,
    counted_rows,
    part_sizes,
    parts,
    shares_of,
)
from limbeck.residues import PAD_ID, RESIDUES, to_ids

PROTEINS = st.text(alphabet=RESIDUES + "X", min_size=1, max_size=90)


@given(protein=PROTEINS, data=st.data())
def test_counts_of_pieces_are_those_of_the_protein(protein, data):
    seam = data.draw(st.integers(0, len(protein)))
    whole = counted(protein, slice(0, len(protein)))
    np.testing.assert_array_equal(counted(protein, slice(0, seam)) + counted(protein, slice(seam, len(protein))), whole)
    np.testing.assert_array_equal(counted_rows(protein).sum(axis=0), whole)
    assert list(whole[:20]) == [protein.count(letter) for letter in RESIDUES]
    pairs = whole[20:].reshape(len(GAPS), 20, 20)
    for gap, found in zip(GAPS, pairs, strict=True):
        together = [a + b for a, b in zip(protein, protein[gap:], strict=False)]
        assert found[0, 3] == together.count(RESIDUES[0] + RESIDUES[3])
        assert found.sum() == sum("X" not in pair for pair in together)


@given(length=st.integers(1, 200), size=st.integers(30, 80))
def test_every_residue_counts_once_and_the_ends_at_the_ends(length, size):
    found = np.zeros((3, length))
    for window in split(0, length, size, overlap=12):
        piece = Piece(window.owned, window.start, length)
        found[:, window.start : window.stop] += shares_of([piece], len(window) + 5)[0, :, : len(window)]
    np.testing.assert_array_equal(found[0], np.ones(length))
    np.testing.assert_array_equal(found[1], np.arange(length) < ENDS)
    np.testing.assert_array_equal(found[2], np.arange(length) >= length - ENDS)


@settings(deadline=None, max_examples=25)
@given(proteins=st.lists(PROTEINS, min_size=1, max_size=4), seed=st.integers(0, 100))
def test_the_network_pools_the_same(proteins, seed):
    """NumPy on one side, PyTorch on padded batches on the other."""
    torch.manual_seed(seed)
    config = StudentConfig(width=6, inner=5, kernel=3, states=7, dilations=(1, 2))
    student = Student(config).eval()
    longest = max(map(len, proteins))
    ids = np.full((len(proteins), longest), PAD_ID)
    for row, protein in enumerate(proteins):
        ids[row, : len(protein)] = to_ids(protein)
    mask = torch.from_numpy(ids != PAD_ID)[..., None].float()
    with torch.no_grad():
        outputs = student(torch.from_numpy(ids), mask)
    features = outputs.features.double().numpy()
    contexts = outputs.contexts.double().exp().numpy()
    shares = shares_of([Piece(slice(0, len(p)), 0, len(p)) for p in proteins], longest)
    sums = [np.einsum("nl,nlk->nk", shares[:, 0], contexts)]
    sums += [np.einsum("nl,nlk->nk", shares[:, i], features) for i in range(3)]
    sums.append(np.stack([counted(p, slice(0, len(p))) for p in proteins]))
    pooled = parts(np.concatenate(sums, axis=1), np.array([float(len(p)) for p in proteins]), 6, 7)
    assert pooled.shape[1] == sum(part_sizes(6, 7)) == len(student.center)
    np.testing.assert_allclose(pooled, outputs.pooled.numpy(), atol=2e-6)


def test_ends_are_told_apart_and_short_proteins_are_all_end():
    width, states = 2, 3
    sizes = part_sizes(width, states)
    places = np.cumsum(sizes)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, width))
    sums = np.concatenate(
        [np.ones(states), features.sum(0), features[:ENDS].sum(0), features[-ENDS:].sum(0), np.zeros(20 + sizes[5])]
    )
    found = np.split(parts(sums[None], np.array([50.0]), width, states)[0], places[:-1])
    np.testing.assert_allclose(found[3], features[:ENDS].mean(0) - features.mean(0))
    np.testing.assert_allclose(found[4], features[-ENDS:].mean(0) - features.mean(0))
    assert found[6] == pytest.approx(np.log(50))
    short = np.concatenate([np.ones(states), *3 * [features[:7].sum(0)], np.zeros(20 + sizes[5])])
    found = np.split(parts(short[None], np.array([7.0]), width, states)[0], places[:-1])
    np.testing.assert_allclose(np.concatenate(found[3:5]), 0, atol=1e-12)
