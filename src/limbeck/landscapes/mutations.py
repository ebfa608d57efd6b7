"""Mutations as people write them: ``A108D:K120R``, ``p.Ala108Asp``, ``A108*``, ``A108_K109insGS``, ``WT``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from limbeck.errors import InputError
from limbeck.landscapes.alignment import Placed
from limbeck.landscapes.assay import GAP, STOP
from limbeck.residues import RESIDUES

__all__ = ["Edit", "Misfit", "Mutator", "anchors", "find_first_position", "parse_mutations"]

_NAMES = "AlaCysAspGluPheGlyHisIleLysLeuMetAsnProGlnArgSerThrValTrpTyr"
_THREE_LETTERS = {
    **{_NAMES[3 * i : 3 * i + 3]: letter for i, letter in enumerate(RESIDUES)},
    **{"Sec": "C", "Pyl": "K", "Xaa": "X", "Ter": STOP, "Stop": STOP},
}
_CAPITALS = {code.upper(): letter for code, letter in _THREE_LETTERS.items()}
_WILD_TYPE = {"", "wt", "_wt", "wildtype", "wild-type", "wild_type", "wild type", "=", "_sy"}
_LETTERS = set(RESIDUES + "X" + STOP)
_SEPARATORS = re.compile(r"[\s:,;/+|&]+")
_CODE = re.compile("|".join(_THREE_LETTERS))
_CAPITAL_CODES = re.compile(r"([A-Z]{3,4})(-?\d+)([A-Z]{3,4})")
_JOINED = re.compile(r"[A-Z*]-?\d+[A-Z*](?:[_-][A-Z*]-?\d+[A-Z*])+")
_SUBSTITUTION = re.compile(r"([A-Z*])(-?\d+)([A-Z*=-])")
_RANGE = re.compile(r"([A-Z*])(-?\d+)(?:_([A-Z*])(-?\d+))?(delins|del|ins|dup)([A-Z*]*)")


class Misfit(ValueError):
    """A mutation that cannot be read, or that does not fit its wild type; the message says why."""


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """The residues numbered ``start`` to ``stop - 1`` become ``text``.

    A substitution replaces one residue by one, a deletion by nothing; an insertion replaces none
    (``start == stop``: it stands before ``start``). A stop codon is ``*``.
    """

    start: int
    stop: int
    text: str
    anchors: tuple[tuple[str, int], ...]
    """Letters that the wild type must have, with their numbers."""
    written: str
    """The mutation as it stands in the file."""


def parse_mutations(text: str) -> tuple[Edit, ...]:
    """The mutations of one variant, empty for the wild type.

    Mutations stand side by side with ``:``, ``,``, ``;``, ``/``, ``+``, ``|``, ``&`` or white space between them.

    Raises:
        Misfit: if one of them is none of the notations known.
    """
    bare = text.strip().removeprefix("p.").strip("()[]{}")
    if bare.lower() in _WILD_TYPE:
        return ()
    return tuple(edit for token in _SEPARATORS.split(bare) if token for edit in _parse_token(token))


@lru_cache(maxsize=1 << 16)
def _parse_token(token: str) -> tuple[Edit, ...]:
    if match := _SUBSTITUTION.fullmatch(token):
        return (_substitution(token, *match.groups()),)
    bare = token.removeprefix("p.").strip("()[]{}")
    if bare.lower() in _WILD_TYPE:
        return ()
    bare = _one_letter(bare)
    if _JOINED.fullmatch(bare):
        return tuple(edit for part in re.findall(r"[A-Z*]-?\d+[A-Z*]", bare) for edit in _parse_token(part))
    if match := _SUBSTITUTION.fullmatch(bare):
        return (_substitution(token, *match.groups()),)
    if match := _RANGE.fullmatch(bare):
        return (_range(token, *match.groups()),)
    if "fs" in bare:
        raise Misfit(f"mutation {token!r} is a frameshift, whose residues are not known; give the sequence instead")
    raise Misfit(f"mutation {token!r} is not understood; write it as A108D, A108*, A108del or A108_K109insGS")


def _one_letter(token: str) -> str:
    """``Ala108Asp``, ``ALA108ASP`` and ``a108d`` as ``A108D``."""
    match = _CAPITAL_CODES.fullmatch(token)
    if match and match[1] in _CAPITALS and match[3] in _CAPITALS:
        return f"{_CAPITALS[match[1]]}{match[2]}{_CAPITALS[match[3]]}"
    token = _CODE.sub(lambda code: _THREE_LETTERS[code[0]], token)
    if re.fullmatch(r"[a-z*]-?\d+[a-z*=-]", token):
        return token.upper()
    return token


def _substitution(token: str, letter: str, number: str, new: str) -> Edit:
    new = letter if new == "=" else "" if new == GAP else new
    _check_letters(token, letter + new)
    return Edit(int(number), int(number) + 1, new, ((letter, int(number)),), token)


def _range(token: str, letter: str, number: str, end_letter: str | None, end: str | None, kind: str, text: str) -> Edit:
    first, last = int(number), int(end or number)
    anchors = ((letter, first),) if end_letter is None else ((letter, first), (end_letter, last))
    _check_letters(token, "".join(anchor for anchor, _ in anchors) + text)
    if last < first or (end is not None and last == first):
        raise Misfit(f"mutation {token!r} ends before it starts")
    if kind == "del":
        return Edit(first, last + 1, "", anchors, token)
    if kind == "dup":
        # Which residues are doubled is known only with the wild type at hand.
        return Edit(last + 1, last + 1, f"{first}:{last}", anchors, token)
    if not text:
        raise Misfit(f"mutation {token!r} does not say which residues are inserted")
    if kind == "delins":
        return Edit(first, last + 1, text, anchors, token)
    if end is None or last != first + 1:
        raise Misfit(f"mutation {token!r} must name the two neighbours between which it inserts, as A108_K109insGS")
    return Edit(last, last, text, anchors, token)


def _check_letters(token: str, letters: str) -> None:
    for letter in letters:
        if letter not in _LETTERS:
            raise Misfit(f"mutation {token!r} has the letter {letter!r}, which is no residue")


class Mutator:
    """Puts mutations into one wild type whose first residue is numbered ``first``."""

    def __init__(self, wild_type: str, first: int) -> None:
        self.wild_type = wild_type
        self.first = first
        self._fitting: dict[Edit, tuple[int, int, str]] = {}

    def __call__(self, edits: Iterable[Edit]) -> Placed:
        """The variant, with everything behind a stop codon still there.

        Raises:
            Misfit: if the wild type has another letter there or is too short, or a residue is changed twice.
        """
        pieces: list[str] = []
        insertions: list[tuple[int, str]] = []
        done = 0
        for (start, stop, text), edit in sorted((self._fitting.get(e) or self._fit(e), e) for e in edits):
            if start < done or (start == stop and insertions and insertions[-1][0] == start):
                raise Misfit(f"mutation {edit.written!r}: another mutation of the variant changes the same residues")
            if start < stop:
                pieces += [self.wild_type[done:start], text[: stop - start].ljust(stop - start, GAP)]
                done = stop
            if len(text) > stop - start:
                insertions.append((stop, text[stop - start :]))
        return Placed("".join([*pieces, self.wild_type[done:]]), tuple(insertions))

    def _fit(self, edit: Edit) -> tuple[int, int, str]:
        """Start and stop as indices into the wild type, and the text; remembered, as mutations recur."""
        for letter, number in edit.anchors:
            index = number - self.first
            if not 0 <= index < len(self.wild_type):
                last = self.first + len(self.wild_type) - 1
                raise Misfit(
                    f"mutation {edit.written!r}: the wild type has positions {self.first} to {last}, not {number}"
                )
            if self.wild_type[index] != letter:
                raise Misfit(
                    f"mutation {edit.written!r}: the wild type has {self.wild_type[index]} at position {number}, "
                    f"not {letter}"
                )
        text = edit.text
        if ":" in text:
            start, end = (int(number) - self.first for number in text.split(":"))
            text = self.wild_type[start : end + 1]
        self._fitting[edit] = fitting = (edit.start - self.first, edit.stop - self.first, text)
        return fitting


def anchors(variants: Iterable[tuple[Edit, ...]]) -> Counter[tuple[str, int]]:
    """The wild-type letters that the mutations of some variants name, with how often each is named."""
    return Counter(anchor for edits in variants for edit in edits for anchor in edit.anchors)


def find_first_position(named: Counter[tuple[str, int]], wild_type: str, source: str) -> int:
    """The number of the wild type's first residue with which the letters that mutations name fit it.

    Taken is the one number with which all fit; 1 if that is one of several. If none fits all, the one with
    which most letters fit, if that is at least half: the others are then single mistakes.

    Args:
        named: letters and numbers, as :func:`anchors` counts them.
        wild_type: its sequence.
        source: what to call the file in the message.

    Raises:
        InputError: if no number fits, or several do and 1 is not among them.
    """
    if not named:
        return 1
    letters = np.frombuffer("".join(letter for letter, _ in named).encode(), np.uint8)
    numbers = np.array([number for _, number in named])
    weights = np.array(list(named.values()), dtype=np.int64)
    reference = np.frombuffer(wild_type.encode(), np.uint8)
    # With these, at least one letter stands inside the wild type.
    firsts = np.arange(numbers.min() - len(wild_type) + 1, numbers.max() + 1)
    fits = np.empty(len(firsts), dtype=np.int64)
    for i, first in enumerate(firsts):
        index = numbers - first
        inside = (index >= 0) & (index < len(wild_type))
        fits[i] = weights[inside][reference[index[inside]] == letters[inside]].sum()
    best = firsts[fits == fits.max()]
    if fits.max() < weights.sum() / 2:
        raise InputError(
            f"{source}: the mutations do not fit the wild type: counting its residues from {best[0]}, which fits best, "
            f"{fits.max()} of {weights.sum()} letters agree; check --wild-type, or give --offset"
        )
    if len(best) > 1 and 1 not in best:
        raise InputError(
            f"{source}: the mutations fit the wild type whether its first residue is number "
            f"{' or '.join(map(str, best[:3]))}; say which with --offset"
        )
    return 1 if 1 in best else int(best[0])
