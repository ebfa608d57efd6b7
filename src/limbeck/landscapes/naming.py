"""Names of variants, as people write them and :func:`limbeck.landscapes.mutations.parse_mutations` reads them."""

from __future__ import annotations

from collections.abc import Iterable

from limbeck.landscapes.assay import GAP, STOP, Assay

__all__ = ["WILD_TYPE", "names_of", "variant_name"]

WILD_TYPE = "WT"
SHOWN = 24
"""Residues shown of a protein that has no wild type."""


def names_of(assay: Assay, rows: Iterable[int]) -> list[str]:
    """The variants in these rows by their mutations, ``A108D:K120R``, or by the start of their sequence.

    The name of the wild type stands before them where there are several.
    """
    result = []
    for i in rows:
        parent = str(assay.parents[i])
        if parent not in assay.wild_types:
            sequence = assay.sequences[i]
            result.append(sequence if len(sequence) <= SHOWN else f"{sequence[:SHOWN]}... ({len(sequence)} residues)")
            continue
        name = variant_name(assay.rows[i], assay.wild_types[parent], assay.first_position.get(parent, 1))
        result.append(f"{parent} {name}" if len(assay.wild_types) > 1 else name)
    return result


def variant_name(row: str, wild_type: str, first: int = 1) -> str:
    """What differs between a row and its wild type's row, as mutations; ``"WT"`` if nothing.

    Args:
        row: of the variant.
        wild_type: in the same frame of columns.
        first: number of the wild type's first residue.
    """
    runs = _runs(row, wild_type)
    reference = wild_type.replace(GAP, "")
    names = []
    for start, stop, text in runs:
        if stop - start == len(text) == 1:
            names.append(f"{reference[start]}{first + start}{text}")
        elif start == stop:
            names.append(_insertion(reference, start, text, first))
        else:
            names.append(f"{_span(reference, start, stop, first)}del")
    return ":".join(names) or WILD_TYPE


def _runs(row: str, wild_type: str) -> list[tuple[int, int, str]]:
    """Residues of the wild type (0-based, ``start`` to ``stop - 1``) and what the variant has in their place."""
    found: list[tuple[int, int, str]] = []
    index = 0
    # Columns where both have a gap are other variants' affair.
    for letter, reference in zip(row, wild_type, strict=True):
        here = index
        index += reference != GAP
        if letter == reference:
            continue
        last = found[-1] if found else (-1, -1, "-")
        if reference == GAP and last[0] == last[1] == here:
            found[-1] = (here, here, last[2] + letter)
        elif letter == GAP and last[1] == here and not last[2]:
            found[-1] = (last[0], here + 1, "")
        else:
            found.append((here, here + (reference != GAP), letter.replace(GAP, "")))
        if letter == STOP:
            break
    return found


def _span(reference: str, start: int, stop: int, first: int) -> str:
    last = f"_{reference[stop - 1]}{first + stop - 1}" if stop - start > 1 else ""
    return f"{reference[start]}{first + start}{last}"


def _insertion(reference: str, index: int, text: str, first: int) -> str:
    if index == 0:
        return f"{reference[0]}{first}delins{text}{reference[0]}"
    if index == len(reference):
        return f"{reference[-1]}{first + index - 1}delins{reference[-1]}{text}"
    return f"{_span(reference, index - 1, index + 1, first)}ins{text}"
