"""Homology profiles and the context library fitted to them."""

import numpy as np
import pytest

from limbeck.homology.profiles import (
    MOST_RELATIVES,
    background,
    profile,
    read_alignments,
    read_profiles,
    substitution_probabilities,
)
from limbeck.residues import RESIDUES

A, C, W = (RESIDUES.index(letter) for letter in "ACW")


def test_background_and_substitutions_are_distributions():
    assert background().sum() == pytest.approx(1)
    rows = substitution_probabilities()
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)
    assert (rows.argmax(axis=1) == np.arange(20)).mean() > 0.9  # most residues are most often kept
    assert rows[W, W] == rows[W].max()


def test_profile_without_relatives_is_the_smoothed_sequence():
    result = profile("ACW", [])
    assert result.shape == (3, 20)
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)
    assert result.argmax(axis=1).tolist() == [A, C, W]


def test_profile_follows_the_relatives():
    alone = profile("AAAA", [])
    changed = profile("AAAA", [(1, "AA", "CC")] * 3)
    assert changed[1, C] > 3 * alone[1, C]
    np.testing.assert_allclose(changed[0], alone[0], rtol=1e-5)  # not aligned there
    np.testing.assert_allclose(changed.sum(axis=1), 1, rtol=1e-5)


def test_insertions_in_the_relative_are_dropped_and_gaps_count_nothing():
    plain = profile("ACAC", [(0, "ACAC", "WCAC")])
    inserted = profile("ACAC", [(0, "A-CAC", "WWCAC")])
    np.testing.assert_allclose(inserted, plain, rtol=1e-6)
    gapped = profile("ACAC", [(0, "ACAC", "-CAC")])
    assert gapped[0, A] == pytest.approx(profile("ACAC", [])[0, A], rel=1e-5)


def test_copies_of_one_relative_weigh_less_than_as_many_different_ones():
    """Henikoff weights: ten copies of one sequence do not outvote the two that differ."""
    copies = profile("AAAA", [(0, "AAAA", "CCCC")] * 10 + [(0, "AAAA", "WWWW")])
    assert copies[0, W] > 0.5 * copies[0, C] * (background()[W] / background()[C])


def test_letters_of_relatives_follow_the_rule_of_residues():
    assert np.isfinite(profile("ACD", [(0, "ACD", "UBZ"), (0, "ACD", "XXX")])).all()


def test_read_alignments_groups_by_query():
    lines = ["q1\tt1\t3\t1e-9\t0.5\tAC\tA-\n", "q1\tt2\t1\t1e-5\t0.4\tMA\tMA\n", "q2\tt1\t1\t1e-4\t1\tM\tM\n"]
    assert list(read_alignments(lines)) == [
        ("q1", [("t1", 1e-9, (2, "AC", "A-")), ("t2", 1e-5, (0, "MA", "MA"))]),
        ("q2", [("t1", 1e-4, (0, "M", "M"))]),
    ]


def test_a_column_that_never_varies_is_sharper_in_a_deep_alignment_than_an_orphans():
    """Its evidence is that of the columns around it; by itself it would look like a protein without relatives."""
    query, middle = "AAAAAWAAAAA", 5
    others = [letter * middle + "W" + letter * middle for letter in "CDEFGHIK"]
    deep = profile(query, [(0, query, other) for other in others])
    orphan = profile(query, [])
    assert deep[middle, W] > orphan[middle, W] + 0.2
    assert deep[middle].argmax() == W
    np.testing.assert_allclose(deep.sum(axis=1), 1, rtol=1e-5)


def test_evidence_is_that_of_the_neighbourhood_alone():
    """Relatives of one end of a long protein say nothing about the conservation of the other."""
    query = "W" * 100
    relatives = [(0, "W" * 40, letter * 20 + "W" * 20) for letter in "ACDEFGHIK"]
    found, orphan = profile(query, relatives), profile(query, [])
    assert found[25, W] > orphan[25, W] + 0.1
    np.testing.assert_array_equal(found[60:], orphan[60:])


def alignment(query, target, aligned):
    return f"{query}\t{target}\t1\t1e-9\t0.5\t{aligned[0]}\t{aligned[1]}\n"


def test_a_query_among_its_own_relatives_and_copies_of_a_relative_count_once():
    lines = [alignment("q", "q", ("ACD", "ACD")), *[alignment("q", "t", ("ACD", "WCD"))] * 3]
    found = dict(read_profiles(lines, {"q": "ACD", "lonely": "WWW"}))
    np.testing.assert_array_equal(found["q"], profile("ACD", [(0, "ACD", "WCD")]))
    np.testing.assert_array_equal(found["lonely"], profile("WWW", []))


def test_only_the_most_significant_relatives_count():
    many = [alignment("q", str(i), ("ACD", "ACD")) for i in range(MOST_RELATIVES)]
    beyond = alignment("q", "last", ("ACD", "WWW"))
    ((_, found),) = read_profiles([*many, beyond], {"q": "ACD"})
    ((_, without),) = read_profiles(many, {"q": "ACD"})
    np.testing.assert_array_equal(found, without)
