"""The letter rule: one test for each line of its table, and properties that hold for any text."""

import pickle
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from limbeck.residues import PAD_ID, RESIDUES, UNKNOWN_ID, InvalidResidue, clean, to_ids

ACCEPTED = RESIDUES + "XUOBZJ"
SPACE = " \t\r\n\v\f"
raw = st.text(ACCEPTED + ACCEPTED.lower() + "*-." + SPACE, max_size=60)
canonical = st.text(RESIDUES + "X", max_size=60)


@pytest.mark.parametrize(
    ("text", "sequence", "counts"),
    [
        (RESIDUES + "X", RESIDUES + "X", {}),
        ("", "", {}),
        ("mkT", "MKT", {"lower case": 2}),
        ("MUK", "MCK", {"U": 1}),
        ("MOK", "MKK", {"O": 1}),
        ("BZJ", "XXX", {"B": 1, "Z": 1, "J": 1}),
        ("MK*", "MK", {"*": 1}),
        ("MK**", "MK", {"*": 2}),
        ("M*K", "MXK", {"*": 1}),
        ("M*K*", "MXK", {"*": 2}),
        ("*MK", "XMK", {"*": 1}),
        ("MK*--", "MK", {"*": 1, "-": 2}),
        ("M-K.T", "MKT", {"-": 1, ".": 1}),
        ("-*-", "", {"*": 1, "-": 2}),
        (" M K\tT\r\n", "MKT", {}),
        ("mu", "MC", {"lower case": 2, "U": 1}),
    ],
)
def test_rule(text: str, sequence: str, counts: dict[str, int]) -> None:
    changed: Counter[str] = Counter()
    assert clean(text, changed) == sequence
    assert changed == counts


@settings(deadline=None)
@given(raw)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text)
    changed: Counter[str] = Counter()
    assert clean(once, changed) == once
    assert not changed


@settings(deadline=None)
@given(raw)
def test_result_is_canonical(text: str) -> None:
    assert set(clean(text)) <= set(RESIDUES + "X")


@settings(deadline=None)
@given(raw)
def test_counts_add_up(text: str) -> None:
    changed: Counter[str] = Counter()
    sequence = clean(text, changed)
    assert changed["lower case"] == sum(c.islower() for c in text)
    assert all(changed[letter] == text.upper().count(letter) for letter in "UOBZJ*-.")
    letters = sum(c not in SPACE for c in text)
    ungapped = text.translate(dict.fromkeys(map(ord, SPACE + "-.")))
    stops = len(ungapped) - len(ungapped.rstrip("*"))
    assert len(sequence) == letters - changed["-"] - changed["."] - stops
    assert sequence.count("X") == text.upper().count("X") + sum(changed[c] for c in "BZJ*") - stops


@settings(deadline=None)
@given(raw)
def test_case_does_not_matter(text: str) -> None:
    assert clean(text.lower()) == clean(text.upper())


@settings(deadline=None)
@given(st.lists(raw, max_size=5))
def test_counts_of_several_sequences_add_up(texts: list[str]) -> None:
    together: Counter[str] = Counter()
    apart: Counter[str] = Counter()
    for text in texts:
        clean(text, together)
        one: Counter[str] = Counter()
        clean(text, one)
        apart += one
    assert +together == apart


@settings(deadline=None)
@given(raw, st.characters(), raw)
@example("MK", "1", "T")
@example(" m-", "é", "")
@example("", "ß", "M")
@example("M", "\u0131", "M")
@example("M", "\x1c", "M")
@example("M", "\u00a0", "M")
@example("MKT", "\0", "")
def test_offender_is_named_with_its_position(before: str, character: str, after: str) -> None:
    assume(character not in ACCEPTED + ACCEPTED.lower() + "*-." + SPACE)
    with pytest.raises(InvalidResidue) as caught:
        clean(before + character + after)
    assert (caught.value.character, caught.value.offset) == (character, len(before))
    assert str(caught.value) == f"character {character!r} at position {len(before) + 1} is not a residue"


def test_first_offender_is_the_one_named() -> None:
    with pytest.raises(InvalidResidue, match=r"^character '1' at position 2 "):
        clean("M1é")


@settings(deadline=None)
@given(raw, st.sampled_from(string.digits + "@>#;é"))
def test_refused_sequence_counts_nothing(text: str, character: str) -> None:
    changed: Counter[str] = Counter()
    with pytest.raises(InvalidResidue):
        clean(text + character, changed)
    assert not changed


@settings(deadline=None)
@given(canonical)
def test_ids_are_places_in_the_alphabet(sequence: str) -> None:
    ids = to_ids(sequence)
    assert (ids.dtype, ids.shape) == (np.uint8, (len(sequence),))
    assert "".join((RESIDUES + "X")[i] for i in ids) == sequence


def test_id_of_padding_is_no_residue() -> None:
    assert sorted({*to_ids(RESIDUES + "X").tolist(), PAD_ID}) == list(range(22))
    assert to_ids("X").tolist() == [UNKNOWN_ID]


@pytest.mark.parametrize(("sequence", "offset"), [("MKu", 2), ("U", 0), ("M T", 1), ("Mé", 1), ("AC*", 2)])
def test_ids_of_what_was_not_cleaned(sequence: str, offset: int) -> None:
    with pytest.raises(InvalidResidue) as caught:
        to_ids(sequence)
    assert (caught.value.character, caught.value.offset) == (sequence[offset], offset)


@pytest.mark.parametrize("sequence", [None, 3])
def test_error_of_a_worker_process_arrives_whole(sequence):
    error = InvalidResidue("1", 6, sequence)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.character, copy.offset, copy.sequence) == (str(error), "1", 6, sequence)
