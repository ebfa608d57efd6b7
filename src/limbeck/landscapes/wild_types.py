"""The wild types of an assay: as the user gives them, or found out from the variants."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from limbeck import records
from limbeck.errors import InputError
from limbeck.landscapes.alignment import distance, place
from limbeck.landscapes.assay import STOP
from limbeck.landscapes.columns import find_wild_type_table, read_table
from limbeck.landscapes.mutations import Edit
from limbeck.residues import InvalidResidue, clean

__all__ = ["consensus", "nearest", "read_wild_types", "rebuild"]

FARTHEST = 0.25
"""Median distance to the consensus, as a share of its length, up to which sequences are variants of one wild type."""

_FILES = (
    ".fa", ".faa", ".fas", ".fasta", ".pep", ".seq", ".txt", ".csv", ".tsv", ".parquet", ".gz", ".bz2", ".xz", ".zst"
)  # fmt: skip
_FEWEST = 10
_MOST = 20_000
_REBUILT_FROM = 500
_ALIGNED = 200


def read_wild_types(
    given: str | os.PathLike[str], option: str = "--wild-type", other: str = "no column"
) -> dict[str, str]:
    """Wild types by name, from a sequence (whose name is ``""``) or from a file.

    The file is FASTA, or a table with a column of names and one of sequences.

    Args:
        given: the sequence, or the file's path.
        option: by which the user gave it, for messages.
        other: what it might have been, too, and is not, for messages; may be empty.

    Raises:
        InputError: if ``given`` is neither, or the file cannot be used.
    """
    text = os.fspath(given)
    neither = f"is no file, {other} and no sequence" if other else "is no file and no sequence"
    if not os.path.exists(text):
        # Most file names would pass for a sequence, in which a dot is a gap.
        if os.path.basename(text) != text or text.lower().endswith(_FILES):
            raise InputError(f"{option} {text!r} {neither}; check the path")
        try:
            return {"": _sequence(text, option)}
        except InvalidResidue as error:
            shown = text if len(text) <= 40 else text[:37] + "..."
            raise InputError(f"{option} {shown!r} {neither} ({error}); check it") from None
    if records.format_of(text) == "fasta":
        locator = records.Locator(text)
        named = [(record.id, records.clean_record(record, locator)) for record in records.read_records(text)]
    else:
        table = read_table(text)
        names, sequences = (table.column(column) for column in find_wild_type_table(table))
        try:
            named = [(name, _sequence(sequence, text)) for name, sequence in zip(names, sequences, strict=True)]
        except InvalidResidue as error:
            raise InputError(f"{text}: a wild type cannot be used: {error}; correct it") from None
    result = dict(named)
    if any(result[name] != sequence for name, sequence in named):
        doubled = next(name for name, sequence in named if result[name] != sequence)
        raise InputError(f"{text}: holds several wild types called {doubled!r}; remove all but one")
    return result


def _sequence(text: str, source: str) -> str:
    sequence = clean(text)
    if not sequence:
        raise InputError(f"{source}: a wild type has no residues; correct it")
    return sequence


def nearest(text: str, wild_types: Mapping[str, str]) -> str:
    """Name of the wild type from which a sequence differs least."""
    if len(wild_types) == 1:
        return next(iter(wild_types))
    alike = {name: other for name, other in wild_types.items() if len(other) == len(text)} or wild_types
    return min(alike, key=lambda name: distance(place(text, alike[name]), alike[name]))


def rebuild(
    texts: Sequence[str], variants: Sequence[tuple[Edit, ...]], source: str, first: int | None = None
) -> str | None:
    """The wild type that undoing the mutations of variants leads to; None if they do not agree on one.

    Only variants of the most frequent length with nothing but substitutions serve, 500 at most. The number of
    the first residue is the one with which the mutated residues stand where they should.

    Args:
        texts: sequences of variants.
        variants: their mutations.
        source: what to call the file in the message.
        first: number of the first residue; found out if not given.

    Raises:
        InputError: if several numbers of the first residue lead to different wild types.
    """
    plain = [i for i, edits in enumerate(variants) if edits and all(_is_substitution(edit) for edit in edits)]
    plain = [i for i in plain if STOP not in texts[i]]
    if not plain:
        return None
    length = Counter(len(texts[i]) for i in plain).most_common(1)[0][0]
    plain = [i for i in plain if len(texts[i]) == length][:_REBUILT_FROM]
    places = [(k, edit) for k, i in enumerate(plain) for edit in variants[i]]
    letters = np.frombuffer("".join(texts[i] for i in plain).encode(), np.uint8).reshape(len(plain), length)
    rows = np.array([k for k, _ in places])
    numbers = np.array([edit.start for _, edit in places])
    new = np.frombuffer("".join(edit.text for _, edit in places).encode(), np.uint8)
    firsts = np.arange(numbers.max() - length + 1, numbers.min() + 1) if first is None else np.array([first])
    inside = [f for f in firsts if numbers.min() >= f and numbers.max() < f + length]
    fits = {int(f): float((letters[rows, numbers - f] == new).mean()) for f in inside}
    best = [f for f, share in fits.items() if share == max(fits.values()) and share > 0.5]
    return _undone([texts[i] for i in plain], [variants[i] for i in plain], best, source)


def _is_substitution(edit: Edit) -> bool:
    return edit.stop == edit.start + 1 and len(edit.text) == 1 and edit.text != STOP


def _undone(texts: list[str], variants: list[tuple[Edit, ...]], firsts: list[int], source: str) -> str | None:
    """The sequence on which most variants agree once their mutations are undone."""
    found: dict[int, tuple[int, str]] = {}
    for first in firsts:
        undone: Counter[str] = Counter()
        for text, edits in zip(texts, variants, strict=True):
            letters = list(text)
            for edit in edits:
                letters[edit.start - first] = edit.anchors[0][0]
            undone["".join(letters)] += 1
        wild_type, count = undone.most_common(1)[0]
        found[first] = (count, wild_type)
    most = max((count for count, _ in found.values()), default=0)
    best = {first: wild_type for first, (count, wild_type) in found.items() if count == most}
    if most <= len(texts) / 2:
        return None
    if len(set(best.values())) > 1 and 1 not in best:
        numbers = " or ".join(str(first) for first in list(best)[:3])
        raise InputError(
            f"{source}: the mutations fit the sequences whether the first residue is number {numbers}; "
            "say which with --offset, or give --wild-type"
        )
    return best.get(1) or next(iter(best.values()))


def consensus(texts: Sequence[str]) -> str | None:
    """The most frequent residue at each position, if these sequences are variants of one protein; else None.

    It is taken over the sequences of the most frequent length, which at least half must have. Their median
    distance to it, and that of the others once aligned, must be at most a quarter of that length.
    """
    plain = [text for text in texts if STOP not in text]
    if len(plain) < _FEWEST:
        return None
    length, count = Counter(map(len, plain)).most_common(1)[0]
    if count < len(plain) / 2:
        return None
    same = [text for text in plain if len(text) == length]
    same = same[:: -(-len(same) // _MOST)]
    letters = np.frombuffer("".join(same).encode(), np.uint8).reshape(len(same), length)
    kinds = np.unique(letters)
    counts = np.stack([(letters == kind).sum(axis=0) for kind in kinds])
    common = kinds[counts.argmax(axis=0)]
    if np.median((letters != common).sum(axis=1)) > FARTHEST * length:
        return None
    wild_type = common.tobytes().decode()
    others = [text for text in plain if len(text) != length]
    others = others[:: -(-len(others) // _ALIGNED) or 1]
    if others and np.median([distance(place(text, wild_type), wild_type) for text in others]) > FARTHEST * length:
        return None
    return wild_type
