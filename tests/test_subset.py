"""Choosing proteins: facility location, informative subsets, and how batches are balanced."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_encoder import FakeEncoder, write_fasta
from limbeck.distillation.corpus import MINIMUM_LENGTH, SHORT_CROPS, BatchDraw, Corpus, write_corpus
from limbeck.distillation.subset import cosines, dipeptides, facility_location, informative, taylor_softmax
from limbeck.errors import InputError
from limbeck.residues import RESIDUES

BOUND = 1 - 1 / np.e


def protein(length, seed=0):
    return "".join(np.random.default_rng([seed, length]).choice(list(RESIDUES), size=length))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "proteins.fasta"
    proteins = [(f"p{i}", protein(20 + 7 * i % 90, i)) for i in range(230)]
    return Corpus(write_fasta(path, proteins), held_out=0.1)


def value(kernel, members):
    return kernel[:, list(members)].max(1).sum() if len(members) else 0.0


def random_kernel(seed, size, dimension=3):
    return cosines(np.random.default_rng(seed).normal(size=(size, dimension)).astype(np.float32))


# Facility location


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 8), data=st.data())
def test_greedy_comes_as_near_the_best_as_theory_says(seed, size, data):
    budget = data.draw(st.integers(1, size))
    kernel = random_kernel(seed, size)
    order, gains = facility_location(kernel, budget, np.random.default_rng(0))
    best = max(value(kernel, members) for members in combinations(range(size), budget))
    assert len(set(order.tolist())) == budget
    assert gains.sum() == pytest.approx(value(kernel, order), rel=1e-5)
    assert value(kernel, order) >= BOUND * best - 1e-5
    assert (np.diff(gains) <= 1e-5).all()  # submodular: what comes later adds less


def test_greedy_takes_at_each_step_what_adds_most():
    kernel = random_kernel(1, 12)
    order, gains = facility_location(kernel, 12, np.random.default_rng(0))
    for step in range(12):
        rest = [j for j in range(12) if j not in order[:step]]
        added = [value(kernel, [*order[:step], j]) - value(kernel, order[:step]) for j in rest]
        assert gains[step] == pytest.approx(max(added), abs=1e-4)


def test_stochastic_greedy_is_nearly_as_good():
    kernel = random_kernel(2, 200, dimension=8)
    whole = facility_location(kernel, 20, np.random.default_rng(0))[1].sum()
    values = [facility_location(kernel, 20, np.random.default_rng(s), candidates=46)[1].sum() for s in range(5)]
    assert min(values) > 0.95 * whole
    chance = [value(kernel, np.random.default_rng(s).choice(200, 20, replace=False)) for s in range(5)]
    assert min(values) > max(chance)


def test_a_duplicate_is_chosen_only_when_nothing_else_adds():
    vectors = np.random.default_rng(3).normal(size=(6, 5)).astype(np.float32)
    kernel = cosines(np.concatenate([vectors, vectors]))
    order, gains = facility_location(kernel, 12, np.random.default_rng(0))
    assert len(set((order[:6] % 6).tolist())) == 6
    np.testing.assert_allclose(gains[6:], 0, atol=1e-5)


def test_facility_location_ranks_by_similarity_to_others_not_from_them():
    """f sums over rows, so in a kernel that is not symmetric the columns compete."""
    kernel = np.array([[1.0, 0.0, 0.9], [0.0, 1.0, 0.9], [0.0, 0.0, 1.0]])
    assert facility_location(kernel, 1, np.random.default_rng(0))[0].tolist() == [2]


def test_taylor_softmax_rises_with_the_gain_and_leaves_some_to_none():
    gains = np.array([0.0, 1.0, 400.0])
    np.testing.assert_allclose(taylor_softmax(gains), np.array([1, 2.5, 80401]) / (1 + 2.5 + 80401))


def test_unlike_proteins_count_as_nothing_in_the_kernel():
    kernel = cosines(np.array([[1, 0], [-1, 0], [3, 4], [0, 0]], dtype=np.float32))
    expected = [[1, 0, 0.6, 0], [0, 1, 0, 0], [0.6, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(kernel, expected, atol=1e-6)


# Subsets


def test_dipeptides_are_square_roots_of_frequencies(tmp_path):
    path = write_fasta(tmp_path / "p.fasta", [("a", "ACACX" * 10), ("b", "X"), ("c", "A")])
    vectors = dipeptides(Corpus(path), np.array([0, 1, 2]))
    a, c = RESIDUES.index("A"), RESIDUES.index("C")
    # AC AC CA and CX, XA, of which those with X don't count: two thirds are AC.
    assert vectors[0, 20 * a + c] ** 2 == pytest.approx(2 / 3)
    assert vectors[0, 20 * c + a] ** 2 == pytest.approx(1 / 3)
    np.testing.assert_allclose((vectors**2).sum(1), [1, 0, 0], rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.001, 1), seed=st.integers(0, 99), partition=st.integers(1, 400))
def test_the_share_is_kept_whatever_the_partition(corpus, share, seed, partition):
    chosen = informative(corpus, share, seed=seed, partition=partition)
    eligible = ~corpus.is_validation & (corpus.lengths >= MINIMUM_LENGTH)
    assert chosen.shape == (len(corpus),)
    assert chosen[~eligible].all()  # nothing is decided about held-out and short proteins
    assert chosen[eligible].sum() == max(1, round(share * eligible.sum()))


def test_each_partition_gives_its_share(corpus, monkeypatch):
    from limbeck.distillation import subset

    parts = []

    def recording(corpus, proteins):
        parts.append(proteins)
        return dipeptides(corpus, proteins)

    monkeypatch.setattr(subset, "dipeptides", recording)
    chosen = informative(corpus, 0.3, seed=1, partition=50)
    eligible = ~corpus.is_validation & (corpus.lengths >= MINIMUM_LENGTH)
    parts = parts[1:]  # the first is read once more, for the mean
    assert len(parts) == -(-eligible.sum() // 50)
    assert sorted(np.concatenate(parts).tolist()) == np.flatnonzero(eligible).tolist()
    for part in parts:
        assert len(part) <= 50
        assert abs(chosen[part].sum() - 0.3 * len(part)) < 1


def test_subsets_depend_on_the_seed_alone(corpus):
    one, again, other = (informative(corpus, 0.3, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_copies_are_chosen_less_often_than_what_differs(tmp_path):
    """Half of the corpus are mutants of one protein; every protein of the other half is like no other."""
    rng = np.random.default_rng(0)
    original, proteins = protein(300), []
    for index in range(60):
        mutant = list(original)
        mutant[rng.integers(300)] = "W"
        proteins += [(f"copy{index}", "".join(mutant)), (f"other{index}", protein(300, index + 1))]
    corpus = Corpus(write_fasta(tmp_path / "p.fasta", proteins))
    copies = np.arange(120) % 2 == 0
    training = ~corpus.is_validation
    chosen = np.array([informative(corpus, 0.3, seed=seed) for seed in range(20)])
    # A gain near one makes a draw about twice as likely as a gain of zero.
    assert chosen[:, copies & training].mean() < 0.75 * chosen[:, ~copies & training].mean()


def test_an_encoder_may_compare_the_proteins_and_its_vectors_are_kept(corpus, tmp_path):
    encoder = FakeEncoder()
    chosen = informative(corpus, 0.3, seed=1, encoder=encoder, cache=tmp_path / "cache")
    assert encoder.calls
    encoder.calls.clear()
    np.testing.assert_array_equal(informative(corpus, 0.3, seed=1, encoder=encoder, cache=tmp_path / "cache"), chosen)
    assert not encoder.calls
    np.testing.assert_array_equal(informative(corpus, 0.3, seed=1, encoder=encoder), chosen)
    assert (informative(corpus, 0.3, seed=1) != chosen).any()


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(corpus, share):
    with pytest.raises(InputError, match="above 0 and at most 1"):
        informative(corpus, share, seed=0)


def test_training_draws_only_what_was_chosen_and_validation_what_it_always_did(corpus):
    chosen = informative(corpus, 0.2, seed=0)
    draw = BatchDraw(corpus, 1024, seed=0, chosen=chosen)
    seen = np.unique(np.concatenate([draw.draw(step, margin=0).proteins for step in range(60)]))
    assert chosen[seen].all()
    held = BatchDraw(corpus, 1024, seed=1, validation=True)
    same = BatchDraw(corpus, 1024, seed=1, validation=True, chosen=chosen)
    np.testing.assert_array_equal(held.draw(3, margin=0).ids, same.draw(3, margin=0).ids)


# Batches


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Families of 2, 4, 8, ... 64 members, all of one crop length."""
    path = tmp_path_factory.mktemp("families") / "corpus.h5"
    members = [(f"{f}-{m}", f"family{f}", protein(60 + f, m)) for f in range(1, 7) for m in range(2**f)]
    profile = np.full((1, 20), 0.05)
    write_corpus(path, [(n, f, s, np.repeat(profile, len(s), axis=0)) for n, f, s in members])
    return Corpus(path, held_out=0.0)


def drawn(corpus, **options):
    """How often each family that is not held out was drawn, and how often each protein was."""
    draw = BatchDraw(corpus, 4096, seed=0, **options)
    proteins = np.concatenate([draw.draw(step, margin=0).proteins for step in range(250)])
    kept = np.unique(corpus.families[~corpus.is_validation])
    return np.bincount(corpus.families[proteins])[kept], proteins


def test_families_are_drawn_evenly_whatever_their_size(families):
    counts, proteins = drawn(families, by_family=True)
    expected = counts.sum() / len(counts)
    # Pairs and singles are both even; six binomial deviations.
    assert np.abs(counts - expected).max() < 6 * expected**0.5
    for family in np.unique(families.families[proteins]):
        members = np.bincount(proteins[families.families[proteins] == family])
        members = members[members > 0]
        size = (families.families == family).sum()
        assert len(members) == size
        assert np.abs(members - members.mean()).max() < 6 * members.mean() ** 0.5


def test_without_balance_large_families_are_drawn_more_often(families):
    counts, _ = drawn(families)
    sizes = np.bincount(families.families)[np.unique(families.families[~families.is_validation])]
    assert np.corrcoef(counts, sizes)[0, 1] > 0.95
    assert counts.max() > 2 * counts.min()


def test_chosen_proteins_alone_make_up_the_size_of_a_family(families):
    """Of the largest family two members may be drawn: each is drawn as often as a member of a family of two."""
    chosen = np.ones(len(families), dtype=np.bool_)
    largest = np.flatnonzero(families.families == np.bincount(families.families).argmax())
    chosen[largest[2:]] = False
    counts, proteins = drawn(families, by_family=True, chosen=chosen)
    assert chosen[proteins].all()
    assert np.abs(counts - counts.mean()).max() < 6 * counts.mean() ** 0.5


@pytest.mark.parametrize("multiple", [1, 2, 3, 5])
def test_rows_are_a_multiple_and_parts_keep_pairs_together(families, multiple):
    draw = BatchDraw(families, 3000, seed=0, multiple=multiple)
    for step in range(4):
        batch = draw.draw(step, margin=2, masked=0.1)
        assert len(batch) % (2 * multiple) == 0
        parts = batch.parts(multiple)
        assert [len(part) for part in parts] == [len(batch) // multiple] * multiple
        for name in ("ids", "mask", "hidden", "residues", "profiles", "proteins", "starts", "families"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(batch, name))
        assert {part.residues_per_row for part in parts} == {batch.residues_per_row}
        assert {part.hidden_per_row for part in parts} == {batch.hidden_per_row}
        pairs = min(len(batch) // 4, len(np.unique(families.families[~families.is_validation])))
        # Pairs begin at even rows, and every part does.
        assert all(len(part) % 2 == 0 for part in parts)
        together = batch.families[: 2 * pairs].reshape(-1, 2)
        assert (together[:, 0] == together[:, 1]).all()
        assert (batch.proteins[0 : 2 * pairs : 2] != batch.proteins[1 : 2 * pairs : 2]).all()


def test_a_batch_is_not_split_unevenly(families):
    batch = BatchDraw(families, 1024, seed=0).draw(0, margin=0)
    with pytest.raises(ValueError, match="cannot be split into 3"):
        batch.parts(3)


def test_means_over_parts_are_those_of_the_batch(families):
    batch = BatchDraw(families, 2048, seed=0, multiple=4).draw(1, margin=0, masked=0.2)
    scaled = [(part.mask.sum(1) / part.residues_per_row).mean() for part in batch.parts(4)]
    assert np.mean(scaled) == pytest.approx(1)
    scaled = [(part.hidden.sum(1) / part.hidden_per_row).mean() for part in batch.parts(4)]
    assert np.mean(scaled) == pytest.approx(1)


def test_lengths_occur_as_often_as_their_residues(tmp_path):
    """Residues of long and of short proteins are drawn in proportion to what the corpus has at each crop length, but
    for the share of short crops, which are pieces of both."""
    proteins = [(f"s{i}", protein(128, i)) for i in range(60)] + [(f"l{i}", protein(512, i)) for i in range(20)]
    corpus = Corpus(write_fasta(tmp_path / "p.fasta", proteins), held_out=0.0)
    draw = BatchDraw(corpus, 4096, seed=0)
    batches = [draw.draw(step, margin=0) for step in range(400)]
    lengths = np.array([batch.ids.shape[1] for batch in batches])
    training = corpus.lengths[~corpus.is_validation]
    expected = training[training == 512].sum() / training.sum()
    assert abs((lengths[lengths > 64] == 512).mean() - expected) < 0.1
    assert abs((lengths == 64).mean() - SHORT_CROPS) < 0.05
    assert set(lengths.tolist()) == {64, 128, 512}
    cut = np.concatenate([corpus.lengths[batch.proteins] for batch in batches if batch.ids.shape[1] == 64])
    assert set(cut.tolist()) == {128, 512}
    assert all(batch.mask.all() for batch in batches if batch.ids.shape[1] == 64)
