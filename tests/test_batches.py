"""Windows and batches: every residue is owned once, every item packed once, within the budget."""

from itertools import pairwise
from math import log

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from limbeck.encoders.batches import Window, pack, split

lengths = st.lists(st.integers(1, 300), max_size=80)
budgets = st.integers(1, 2000)


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(1, 300), st.data())
def test_every_residue_is_owned_exactly_once(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    windows = split(7, length, size, overlap)
    owned = [i for w in windows for i in range(w.own_start, w.own_stop)]
    assert owned == list(range(length))
    assert {w.protein for w in windows} == {7}


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(1, 300), st.data())
def test_windows_lie_in_the_protein_and_are_full(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    windows = split(0, length, size, overlap)
    for window in windows:
        assert 0 <= window.start <= window.own_start <= window.own_stop <= window.stop <= length
        assert len(window) == min(size, length)
        residues = list(range(window.start, window.stop))[window.owned]
        assert residues == list(range(window.own_start, window.own_stop))
    assert all(w.own_start < w.own_stop for w in windows) or length == 0


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 300), st.data())
def test_owned_residues_have_half_the_overlap_as_context(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    for window in split(0, length, size, overlap):
        assert window.start == 0 or window.own_start - window.start >= overlap // 2
        assert window.stop == length or window.stop - window.own_stop >= overlap // 2


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 300), st.data())
def test_no_window_is_needless(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    step = size - overlap
    assert len(split(0, length, size, overlap)) == 1 + max(0, -(-(length - size) // step))


@pytest.mark.parametrize("size", [None, 100, 1000])
def test_short_protein_is_one_window(size: int | None) -> None:
    assert split(3, 100, size, 10) == [Window(3, 0, 100, 0, 100)]


def test_windows_of_a_known_protein() -> None:
    assert split(0, 25, 10, 4) == [
        Window(0, 0, 10, 0, 8),
        Window(0, 6, 16, 8, 14),
        Window(0, 12, 22, 14, 18),
        Window(0, 15, 25, 18, 25),
    ]


@pytest.mark.parametrize("overlap", [-1, 10, 11])
def test_overlap_must_leave_room_to_advance(overlap: int) -> None:
    with pytest.raises(ValueError, match=f"overlap {overlap} must be at least 0 and below the window size 10"):
        split(0, 100, 10, overlap)


@settings(deadline=None)
@given(lengths, budgets)
def test_every_index_is_packed_exactly_once(lengths: list[int], budget: int) -> None:
    batches = pack(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(batches)


@settings(deadline=None)
@given(lengths, budgets)
def test_budget_is_kept(lengths: list[int], budget: int) -> None:
    for batch in pack(lengths, budget):
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@settings(deadline=None)
@given(lengths, budgets)
def test_batches_are_closed_only_when_full_or_when_the_next_would_be_padding(lengths: list[int], budget: int) -> None:
    batches = pack(lengths, budget, padding=0.1)
    for batch, following in pairwise(batches):
        grown = (len(batch) + 1) * lengths[batch[0]]
        padding = grown - sum(lengths[i] for i in [*batch, following[0]])
        assert grown > budget or padding > 0.1 * grown


@settings(deadline=None)
@given(lengths, budgets, st.floats(0, 0.5))
def test_padding_of_every_batch_is_bounded(lengths: list[int], budget: int, padding: float) -> None:
    for batch in pack(lengths, budget, padding):
        size = len(batch) * max(lengths[i] for i in batch)
        assert size - sum(lengths[i] for i in batch) <= padding * size


@settings(deadline=None)
@given(lengths, budgets)
def test_order_is_longest_first_and_stable(lengths: list[int], budget: int) -> None:
    order = [i for batch in pack(lengths, budget) for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: -lengths[i])


@settings(deadline=None)
@given(lengths, budgets)
def test_padding_is_bounded(lengths: list[int], budget: int) -> None:
    # A batch of n items as wide as w pads at most n * (w - w'), w' being the next batch's width. As n * w is
    # within the budget and 1 - w' / w <= log(w / w'), the sum over batches telescopes.
    assume(lengths)
    batches = pack(lengths, budget)
    padding = sum(len(batch) * max(lengths[i] for i in batch) - sum(lengths[i] for i in batch) for batch in batches)
    assert padding <= budget * log(max(lengths) / min(lengths)) + 1e-6


@settings(deadline=None)
@given(lengths, budgets)
def test_empty_items_are_packed_too(lengths: list[int], budget: int) -> None:
    batches = pack([*lengths, 0, 0], budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths) + 2))


def test_item_beyond_the_budget_has_a_batch_of_its_own() -> None:
    assert pack([5, 50, 5, 40], 20) == [[1], [3], [0, 2]]
