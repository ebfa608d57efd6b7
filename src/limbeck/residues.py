"""The alphabet: which letters are residues, and what happens to all the others.

One rule holds for every encoder, so two encoders always see the same protein:

==================  ==========================================================
letter              becomes
==================  ==========================================================
20 standard, ``X``  itself
lower case          its upper case
``U``               ``C`` (selenocysteine: cysteine with Se for S)
``O``               ``K`` (pyrrolysine: a lysine derivative)
``B`` ``Z`` ``J``   ``X`` (ambiguous between two residues)
``*``               removed at the end (stop codon), ``X`` elsewhere
``-`` ``.``         removed (alignment gaps)
white space         removed (layout of the file)
anything else       an error
==================  ==========================================================

Every change but white space is counted, by letter.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAD_ID", "RESIDUES", "UNKNOWN_ID", "InvalidResidue", "clean", "to_ids"]

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
UNKNOWN_ID = len(RESIDUES)
PAD_ID = UNKNOWN_ID + 1

_SPACE = b" \t\r\n\v\f"
_SUBSTITUTES = bytes.maketrans(b"UOBZJ*", b"CKXXXX")
_REMOVED = b"-."
_ACCEPTED = set(RESIDUES + "XUOBZJ*-." + (RESIDUES + "XUOBZJ").lower() + _SPACE.decode())
_IDS = np.full(256, 255, dtype=np.uint8)
for _index, _letter in enumerate((RESIDUES + "X").encode()):
    _IDS[_letter] = _index


class InvalidResidue(ValueError):
    """A character that is no residue; ``character`` and ``offset`` (0-based, in the raw text) say which.

    ``sequence`` is the place (0-based) of its protein among several.
    """

    def __init__(self, character: str, offset: int, sequence: int | None = None) -> None:
        where = "" if sequence is None else f"sequence {sequence}: "
        super().__init__(f"{where}character {character!r} at position {offset + 1} is not a residue")
        self.character = character
        self.offset = offset
        self.sequence = sequence

    def __reduce__(self) -> tuple[Any, ...]:
        # An error of a worker process gets to its parent as a pickle; by default it would hold the message alone.
        return type(self), (self.character, self.offset, self.sequence)


def clean(text: str, changed: Counter[str] | None = None) -> str:
    """Apply the rule of this module to one sequence.

    Args:
        text: a sequence as it stands in a file.
        changed: if given, gains one count for each changed letter, under the letter as it was
            (lower-case letters under ``"lower case"``).

    Returns:
        The sequence in the 20 standard letters and ``X``; possibly empty.

    Raises:
        InvalidResidue: for a digit, a non-ASCII letter or any other character outside the table.
    """
    if not text.isascii():
        raise _offender(text)
    raw = text.encode("ascii")
    # Nearly every protein is already canonical; this is the fast path.
    if not raw.translate(None, RESIDUES.encode() + b"X"):
        return text

    letters = raw.translate(None, _SPACE)
    upper = letters.upper()
    noted: Counter[str] = Counter()
    if upper != letters:
        noted["lower case"] = sum(a != b for a, b in zip(letters, upper, strict=True))
    for letter in b"UOBZJ*-.":
        if count := upper.count(letter):
            noted[chr(letter)] = count
    # Gaps may follow the stop ("MK*--"), so they go first.
    result = upper.translate(None, _REMOVED).rstrip(b"*").translate(_SUBSTITUTES)
    if result.translate(None, RESIDUES.encode() + b"X"):
        raise _offender(text)
    if changed is not None:
        changed.update(noted)
    return result.decode("ascii")


def _offender(text: str) -> InvalidResidue:
    """The error for the first character outside the table."""
    offset = next(i for i, character in enumerate(text) if character not in _ACCEPTED)
    return InvalidResidue(text[offset], offset)


def to_ids(sequence: str) -> NDArray[np.uint8]:
    """Ids of a cleaned sequence: (length,) uint8, 0-19 in the order of ``RESIDUES``, 20 for ``X``.

    Raises:
        InvalidResidue: if the sequence was not cleaned.
    """
    ids = _IDS[np.frombuffer(sequence.encode("ascii", errors="replace"), dtype=np.uint8)]
    if ids.size and ids.max() == 255:
        offset = int(np.argmax(ids == 255))
        raise InvalidResidue(sequence[offset], offset)
    return ids
