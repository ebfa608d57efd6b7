"""Reading assays and variants from tables: any usual notation in, rows of one frame out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import eq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck import records
from limbeck.errors import InputError
from limbeck.landscapes.alignment import Frame, Placed, cut, place, residues
from limbeck.landscapes.assay import GAP, STOP, Assay
from limbeck.landscapes.columns import (
    MISSING,
    Chosen,
    Table,
    choose_columns,
    is_true,
    listed,
    read_table,
    split_part,
)
from limbeck.landscapes.mutations import Edit, Misfit, Mutator, anchors, find_first_position, parse_mutations
from limbeck.landscapes.wild_types import consensus, nearest, read_wild_types, rebuild
from limbeck.residues import InvalidResidue, clean

__all__ = ["FEWEST", "STOPS", "Variants", "read_assay", "read_variants"]

STOPS = ("keep", "drop")
"""What ``stops`` may be."""

FEWEST = 10
"""Variants that an assay must have."""

UNNAMED = "wild type"
"""Name of a wild type that has none."""

_SHOWN = 5
_ALIKE = 0.3


def read_assay(
    path: str | os.PathLike[str],
    *,
    sequence_column: str | None = None,
    score_column: str | None = None,
    mutation_column: str | None = None,
    wild_type: str | os.PathLike[str] | None = None,
    protein_column: str | None = None,
    split_columns: Sequence[str] | None = None,
    position_offset: int | None = None,
    stops: str = "keep",
    skip_invalid: bool = False,
    input_format: str | None = None,
    name: str | None = None,
) -> Assay:
    """Read an assay from a CSV, TSV or Parquet file, plain or compressed.

    Variants are sequences, or mutations with a wild type, or both, which are then checked against each other.
    Columns not named are found by their usual names; a column named ``""`` is none at all. ``Assay.notes`` says
    what was taken for what.

    Args:
        path: the file, with column names and one measurement a row.
        sequence_column: of variants' sequences.
        score_column: of what was measured; larger is better.
        mutation_column: of mutations, as ``A108D:K120R``, ``p.Ala108Asp``, ``A108*``, ``A108del``,
            ``A108_K109insGS``; empty or ``WT`` is the wild type.
        wild_type: a sequence, a FASTA file or table (one, or several by the names in the protein column), or a
            column. Without it the wild type is found out: from the row that has no mutations, by undoing the
            mutations of sequences, or as the consensus of sequences that are near it.
        protein_column: of names of proteins, each with a wild type of its own.
        split_columns: of splits into train, valid and test.
        position_offset: number of the wild type's first residue; found by the mutations' wild-type letters.
        stops: ``"keep"`` variants with a stop codon before the end, or ``"drop"`` them.
        skip_invalid: leave out rows that cannot be used, and list them in ``Assay.skipped``.
        input_format: ``"csv"``, ``"tsv"`` or ``"parquet"``; by default told by the file.
        name: of the assay; by default the file's, without its ending.

    Raises:
        InputError: if the file cannot be read, a column or the wild type is missing or ambiguous, rows cannot be
            used (unless ``skip_invalid``), fewer than ten variants are left, or all scores are equal.
    """
    if stops not in STOPS:
        raise InputError(f"--stops {stops!r} is unknown; use one of {', '.join(STOPS)}")
    table = read_table(path, input_format)
    in_column = wild_type is not None and os.fspath(wild_type) in table.names
    chosen = choose_columns(
        table,
        sequence=sequence_column,
        mutation=mutation_column,
        score=score_column,
        wild_type=wild_type if wild_type is None else os.fspath(wild_type) if in_column else "",
        protein=protein_column,
        splits=split_columns,
    )
    draft = _Draft(table, notes=_describe(chosen))
    draft.read(chosen)
    scores = _read_scores(draft, chosen)
    given = None if wild_type is None or in_column else read_wild_types(wild_type)
    title = name or records.stem_of(path)
    wild_types = _find_wild_types(draft, chosen, given, title, position_offset, bool(protein_column))
    first = _place_all(draft, wild_types, position_offset)
    layout, rows, wild_rows = _lay_out(draft, wild_types)
    splits = {column: _read_split(draft, column, chosen.validation.get(column)) for column in chosen.splits}
    dropped = _drop_stops(draft, rows) if stops == "drop" else set()
    kept = np.array([i for i in range(len(table)) if i not in draft.bad and i not in dropped], np.intp)
    groups, kept = _replicates(draft, rows, splits, kept)
    draft.refuse(skip_invalid)
    assay = Assay(
        name=title,
        rows=[rows[i] for i in kept],
        scores=scores[kept],
        parents=np.array([draft.proteins[i] if draft.proteins[i] in wild_types else "" for i in kept], dtype=object),
        wild_types=wild_rows,
        layout=layout,
        splits={column: part[kept] for column, part in splits.items()},
        lines=np.array(table.lines, np.int64)[kept],
        first_position=first,
        notes=draft.notes,
        skipped=draft.skipped(),
    )
    return _checked(_merged(assay, groups, draft), table)


@dataclass(frozen=True)
class Variants:
    """n variants without scores, in the frame of an assay.

    Attributes:
        rows: as in :class:`~limbeck.landscapes.assay.Assay`.
        labels: (n) the id column or FASTA id, else the mutations as given, else ``row-17``.
        parents: (n,) the name of each variant's wild type, ``""`` where it has none.
        lines: (n,) line (in Parquet row) of the file where each stands.
        first_position: by wild type the number of its first residue in the file.
        notes: what was taken from the file.
        skipped: line and reason of each row that was left out.
    """

    rows: list[str]
    labels: list[str]
    parents: NDArray[Any]
    lines: NDArray[np.int64]
    first_position: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)


def read_variants(
    path: str | os.PathLike[str],
    wild_types: Mapping[str, str],
    *,
    width: int | None = None,
    first_position: Mapping[str, int] | None = None,
    sequence_column: str | None = None,
    mutation_column: str | None = None,
    protein_column: str | None = None,
    id_column: str | None = None,
    position_offset: int | None = None,
    skip_invalid: bool = False,
    input_format: str | None = None,
) -> Variants:
    """Read variants to predict, from FASTA, CSV, TSV or Parquet, into the frame of an assay.

    Args:
        path: the file.
        wild_types: rows of the frame by name, as ``Assay.wild_types``; empty for unrelated proteins.
        width: columns of the frame; needed where there is no wild type.
        first_position: by wild type the number of its first residue, as ``Assay.first_position``; what is not
            there is found by the mutations' wild-type letters.
        sequence_column: as :func:`read_assay` takes it.
        mutation_column: as :func:`read_assay` takes it.
        protein_column: names of the wild types. Without it a sequence belongs to the one from which it differs least.
        id_column: of labels.
        position_offset: number of the first residue in this file, if it counts otherwise than the assay.
        skip_invalid: leave out variants that cannot be used or have no room in the frame, and list them.
        input_format: as :func:`limbeck.records.read_records` takes it.

    Raises:
        InputError: if the file cannot be read, columns are missing or ambiguous, or rows cannot be used.
    """
    if not wild_types and width is None:
        raise ValueError("without wild types the width of the frame must be given")
    is_fasta = records.format_of(path, input_format) == "fasta"
    table = _fasta_table(path) if is_fasta else read_table(path, input_format)
    chosen = choose_columns(
        table,
        sequence=sequence_column,
        mutation=mutation_column,
        wild_type="",
        protein=protein_column if wild_types else "",
        splits=(),
        measured=False,
    )
    draft = _Draft(table, notes=_describe(chosen))
    draft.read(chosen)
    sequences = {parent: row.replace(GAP, "") for parent, row in wild_types.items()}
    _assign_parents(draft, chosen, sequences, bool(protein_column))
    given = dict(first_position or {}) if position_offset is None else dict.fromkeys(sequences, position_offset)
    first = _place_all(draft, sequences, given)
    frames = {parent: Frame.of(row) for parent, row in wild_types.items()}
    rows = _rows_in(draft, frames, width or len(next(iter(wild_types.values()))))
    draft.refuse(skip_invalid)
    kept = [i for i in range(len(table)) if i not in draft.bad]
    if not kept:
        raise InputError(f"{table.source}: no variant is left; the first row: {draft.skipped()[0][1]}")
    labels = _labels(draft, chosen, id_column)
    return Variants(
        rows=[rows[i] for i in kept],
        labels=[labels[i] for i in kept],
        parents=np.array([draft.proteins[i] if draft.proteins[i] in sequences else "" for i in kept], dtype=object),
        lines=np.array(table.lines, np.int64)[kept],
        first_position=first,
        notes=draft.notes,
        skipped=draft.skipped(),
    )


@dataclass
class _Draft:
    """The rows of a table on their way to an assay."""

    table: Table
    notes: list[str]
    texts: list[str] | None = None
    """Sequences, stop codons where they stand; ``""`` where there is none."""
    edits: list[tuple[Edit, ...]] | None = None
    proteins: list[str] = field(default_factory=list)
    """Name of each row's protein, later of its wild type."""
    placed: list[Placed] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    """Why a row cannot be used, the first reason found."""

    def __len__(self) -> int:
        return len(self.table)

    def fail(self, row: int, reason: str) -> None:
        self.bad.setdefault(row, reason)

    def read(self, chosen: Chosen) -> None:
        """Sequences, mutations and names of proteins as they stand in their columns."""
        if chosen.sequence:
            self.texts = _read_sequences(self, chosen.sequence)
        if chosen.mutation:
            self.edits = _read_mutations(self, chosen.mutation)
        self.proteins = self.table.column(chosen.protein) if chosen.protein else [UNNAMED] * len(self)

    def groups(self) -> dict[str, list[int]]:
        """Rows that can be used, by protein."""
        result: dict[str, list[int]] = {}
        for row, protein in enumerate(self.proteins):
            if row not in self.bad:
                result.setdefault(protein, []).append(row)
        return result

    def skipped(self) -> list[tuple[int, str]]:
        """Line and reason of each row that cannot be used."""
        return sorted([*self.table.malformed, *((self.table.lines[row], why) for row, why in self.bad.items())])

    def refuse(self, skip_invalid: bool) -> None:
        """Raise if rows cannot be used, or note that they are left out."""
        skipped, count = self.skipped(), len(self) + len(self.table.malformed)
        if not skipped:
            return
        if skip_invalid:
            self.notes.append(f"{len(skipped):,} of {count:,} rows cannot be used and were left out.")
            return
        shown = "; ".join(f"{self.table.unit} {line}: {reason}" for line, reason in skipped[:_SHOWN])
        more = f"; and {len(skipped) - _SHOWN:,} more" if len(skipped) > _SHOWN else ""
        raise InputError(
            f"{self.table.source}: {len(skipped):,} of {count:,} rows cannot be used ({shown}{more}); "
            "correct them, or leave them out with --skip-invalid"
        )


def _describe(chosen: Chosen) -> list[str]:
    """Notes on which column was taken for what."""
    roles = {
        "sequences": chosen.sequence,
        "mutations": chosen.mutation,
        "scores": chosen.score,
        "wild types": chosen.wild_type,
        "proteins": chosen.protein,
    }
    notes = [f"Columns: {', '.join(f'{role} {name!r}' for role, name in roles.items() if name)}."]
    if chosen.splits:
        notes.append(f"Splits of the file: {listed(chosen.splits)}.")
    for split, marks in chosen.validation.items():
        notes.append(f"Rows of the training part of {split!r} that {marks!r} marks are its validation part.")
    return notes


# What stands in the columns


def _read_scores(draft: _Draft, chosen: Chosen) -> NDArray[np.float64]:
    assert chosen.score is not None
    values = draft.table.column(chosen.score)
    try:
        scores = np.array(values, dtype=np.float64)
    except ValueError:
        scores = np.array([_number(value) for value in values])
    for row in np.flatnonzero(~np.isfinite(scores)).tolist():
        value = values[row]
        fault = "is missing" if value.lower() in MISSING else f"{value!r} is no finite number like -1234.5"
        draft.fail(row, f"its score {fault}")
    return scores


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return np.nan


def _read_sequences(draft: _Draft, column: str) -> list[str]:
    letters = set("".join(draft.table.sample(column)).upper())
    if letters <= set("ACGTUN") and max(map(len, draft.table.sample(column)), default=0) >= 30:
        raise InputError(
            f"{draft.table.source}: column {column!r} holds DNA or RNA; translate it, or choose another with "
            "--sequence-column"
        )
    result = []
    for row, value in enumerate(draft.table.column(column)):
        text = ""
        try:
            text = _clean(value)
            if not text.strip(STOP):
                draft.fail(row, "has no sequence")
        except InvalidResidue as error:
            draft.fail(row, f"sequence: {error}")
        result.append(text)
    return result


def _clean(value: str) -> str:
    """As :func:`limbeck.residues.clean`, but with the first stop codon, and what follows it, kept."""
    cleaned = clean(value)
    if STOP not in value:
        return cleaned
    body, _, rest = value.partition(STOP)
    return clean(body) + STOP + "".join(map(clean, rest.split(STOP)))


def _read_mutations(draft: _Draft, column: str) -> list[tuple[Edit, ...]]:
    result: list[tuple[Edit, ...]] = []
    for row, value in enumerate(draft.table.column(column)):
        edits: tuple[Edit, ...] = ()
        try:
            edits = parse_mutations(value)
        except Misfit as misfit:
            draft.fail(row, str(misfit))
        result.append(edits)
    return result


def _read_split(draft: _Draft, column: str, validation: str | None) -> NDArray[Any]:
    values = draft.table.column(column)
    parts = {value: split_part(value) for value in set(values)}
    unknown = sorted(value for value, part in parts.items() if part is None)
    if unknown:
        raise InputError(
            f"{draft.table.source}: column {column!r} holds {listed(unknown, 3)}; a split (--split-column) has train, "
            "valid and test"
        )
    result = np.array([parts[value] for value in values], dtype=object)
    if validation is not None:
        marked = np.array([is_true(value) for value in draft.table.column(validation)])
        result[(result == "train") & marked] = "valid"
    return result


# Wild types


def _find_wild_types(
    draft: _Draft, chosen: Chosen, given: dict[str, str] | None, title: str, first: int | None, explicit: bool
) -> dict[str, str]:
    """Sequences of the wild types by name, to which ``draft.proteins`` then refers."""
    repeated = _wild_types_beside_mutations(draft)
    if given is not None:
        if len(given) > 1 and not chosen.protein:
            given = {k: v for k, v in given.items() if k.lower() == title.lower()} or given
        return _assign_parents(draft, chosen, given, explicit)
    if chosen.wild_type:
        return _wild_types_in_column(draft, chosen.wild_type, bool(chosen.protein))
    if repeated:
        draft.notes.append("The sequences are the wild types, to which the mutations are applied.")
        return repeated
    if draft.texts is None:
        raise InputError(
            f"{draft.table.source}: mutations need their wild type; give --wild-type (a sequence, a FASTA file or a "
            "column)"
        )
    if draft.edits is None and not explicit and len(set(draft.proteins)) > len(draft) / FEWEST:
        draft.proteins = [UNNAMED] * len(draft)
    return _guess_wild_types(draft, chosen, first)


def _wild_types_beside_mutations(draft: _Draft) -> dict[str, str]:
    """The sequences, where each protein's mutations all stand beside the same one; they are then no variants."""
    if draft.texts is None or draft.edits is None:
        return {}
    sequences: dict[str, set[str]] = {}
    variants: dict[str, set[tuple[Edit, ...]]] = {}
    for text, edits, protein in zip(draft.texts, draft.edits, draft.proteins, strict=True):
        if text:
            sequences.setdefault(protein, set()).add(text)
            variants.setdefault(protein, set()).add(edits)
    several = any(len(found) > 1 for found in variants.values())
    if not several or any(len(found) > 1 for found in sequences.values()):
        return {}
    draft.texts = None
    return {protein: found.pop().replace(STOP, "") for protein, found in sequences.items()}


def _assign_parents(draft: _Draft, chosen: Chosen, wild_types: dict[str, str], explicit: bool) -> dict[str, str]:
    """Tell which row is a variant of which of the wild types given; the wild types under their final names."""
    source = draft.table.source
    names = set(draft.proteins)
    if len(wild_types) == 1:
        ((name, sequence),) = wild_types.items()
        if len(names) == 1:
            name = name or draft.proteins[0]
            draft.proteins = [name] * len(draft)
            return {name: sequence}
        if not name:
            raise InputError(
                f"{source}: column {chosen.protein!r} names {len(names)} proteins, but --wild-type is one sequence; "
                "give a FASTA file with one for each, or --protein-column '' if all are variants of that one"
            )
    known = {name.lower(): name for name in wild_types}
    if chosen.protein and (explicit or draft.texts is None or known.keys() & {name.lower() for name in names}):
        for row, protein in enumerate(draft.proteins):
            if protein.lower() not in known:
                draft.fail(row, f"protein {protein!r} has no wild type; known are {listed(list(wild_types), 3)}")
        draft.proteins = [known.get(protein.lower(), protein) for protein in draft.proteins]
    elif draft.texts is not None and wild_types:
        found = {text: nearest(text, wild_types) for text in set(draft.texts) if text}
        draft.proteins = [found.get(text, UNNAMED) for text in draft.texts]
    elif wild_types:
        raise InputError(
            f"{source}: there are {len(wild_types)} wild types ({listed(list(wild_types), 3)}), but no column says "
            "which a variant has; name it with --protein-column"
        )
    used = set(draft.proteins)
    return {name: sequence for name, sequence in wild_types.items() if name in used}


def _wild_types_in_column(draft: _Draft, column: str, named: bool) -> dict[str, str]:
    result: dict[str, str] = {}
    names: dict[str, str] = {}
    cleaned: dict[str, str] = {}
    for row, value in enumerate(draft.table.column(column)):
        try:
            sequence = cleaned.setdefault(value, clean(value)) if value not in cleaned else cleaned[value]
        except InvalidResidue as error:
            draft.fail(row, f"wild type: {error}")
            continue
        if not sequence:
            draft.fail(row, "has no wild type")
            continue
        if not named:
            number = len(names) + 1
            draft.proteins[row] = names.setdefault(sequence, UNNAMED if number == 1 else f"{UNNAMED} {number}")
        if result.setdefault(draft.proteins[row], sequence) != sequence:
            draft.fail(row, f"its wild type is not the one that protein {draft.proteins[row]!r} has above")
    return result


def _guess_wild_types(draft: _Draft, chosen: Chosen, first: int | None) -> dict[str, str]:
    """Wild types found out from the sequences; proteins that have none are left out."""
    assert draft.texts is not None
    counts = draft.table.column(chosen.count) if chosen.count else None
    flags = draft.table.column(chosen.flag) if chosen.flag else None
    result: dict[str, str] = {}
    ways: Counter[str] = Counter()
    found: str | None
    for protein, rows in draft.groups().items():
        texts = [draft.texts[row] for row in rows]
        marked = {draft.texts[row] for row in rows if flags and is_true(flags[row])}
        marked = marked or {draft.texts[row] for row in rows if counts and _number(counts[row]) == 0}
        if draft.edits is not None:
            marked = {draft.texts[row] for row in rows if not draft.edits[row]}
        marked = {text.rstrip(STOP) for text in marked}
        if len(marked) == 1:
            way, found = "the variant that the file says has no mutations", marked.pop()
        elif draft.edits is not None:
            way = "rebuilt by undoing the mutations"
            found = rebuild(texts, [draft.edits[row] for row in rows], draft.table.source, first)
        else:
            found = consensus(texts)
            among = (
                "the variant that equals the consensus of all" if found in texts else "the consensus of all variants"
            )
            way = f"{among}, as none was given"
        if found:
            result[protein] = found
            ways[way] += 1
        elif draft.edits is not None:
            raise InputError(
                f"{draft.table.source}: undoing the mutations leads to no common wild type; give it with --wild-type, "
                "or leave one of the columns out with --mutation-column '' or --sequence-column ''"
            )
    for way, count in ways.items():
        draft.notes.append(f"Wild type: {way}." if count == 1 else f"Wild types of {count} proteins: {way}.")
    return result


# Variants on their wild types


def _place_all(draft: _Draft, wild_types: Mapping[str, str], first: int | Mapping[str, int] | None) -> dict[str, int]:
    """Put each row on its wild type; the number of each wild type's first residue."""
    draft.placed = [Placed("")] * len(draft)
    positions: dict[str, int] = {}
    for protein, rows in draft.groups().items():
        wild_type = wild_types.get(protein)
        given = first if first is None or isinstance(first, int) else first.get(protein)
        if wild_type is None:
            _place_alone(draft, rows)
        elif draft.edits is None:
            positions[protein] = 1 if given is None else given
            _place_sequences(draft, rows, wild_type)
        else:
            edits = [draft.edits[row] for row in rows]
            if given is None:
                given = find_first_position(anchors(edits), wild_type, draft.table.source)
            positions[protein] = given
            _place_mutations(draft, rows, Mutator(wild_type, given))
    numbers = sorted(set(positions.values()))
    if draft.edits is not None and numbers:
        shown = ", ".join(map(str, numbers[:3])) + (", ..." if len(numbers) > 3 else "")
        draft.notes.append(f"The wild type's first residue is number {shown}.")
    return {protein: positions.get(protein, 1) for protein in wild_types}


def _place_alone(draft: _Draft, rows: Iterable[int]) -> None:
    for row in rows:
        if draft.texts is None or not draft.texts[row]:
            draft.fail(row, "has no sequence, and its protein has no wild type")
            continue
        body, stop, rest = draft.texts[row].partition(STOP)
        draft.placed[row] = Placed(body + stop if rest else body)


def _place_sequences(draft: _Draft, rows: Iterable[int], wild_type: str) -> None:
    assert draft.texts is not None
    known: dict[str, Placed] = {}
    for row in rows:
        text = draft.texts[row]
        placed = known.get(text)
        if placed is None:
            known[text] = placed = place(text, wild_type)
        if len(text) != len(wild_type) and (fault := _stranger(placed, wild_type)):
            draft.fail(row, fault)
        draft.placed[row] = placed


def _stranger(placed: Placed, wild_type: str) -> str | None:
    """Why an aligned sequence is no variant of the wild type, if so."""
    length = len(residues(placed).rstrip(STOP))
    alike = sum(map(eq, placed.letters, wild_type))
    if alike >= _ALIKE * min(length, len(wild_type)):
        return None
    return f"is no variant of the wild type: of its {length} residues {alike} are alike"


def _place_mutations(draft: _Draft, rows: Iterable[int], mutator: Mutator) -> None:
    assert draft.edits is not None
    deleted = 0
    for row in rows:
        try:
            whole = mutator(draft.edits[row])
        except Misfit as misfit:
            draft.fail(row, str(misfit))
            continue
        if draft.texts is not None and draft.texts[row] != whole.letters:
            fault = _contradiction(draft.texts[row], whole)
            if fault:
                draft.fail(row, fault)
            deleted += STOP in whole.letters and len(draft.texts[row]) == len(residues(whole)) - 1
        draft.placed[row] = cut(whole) if STOP in whole.letters or whole.insertions else whole
    if deleted:
        draft.notes.append(f"In {deleted:,} sequences the stop codon that their mutations name was passed over.")


def _contradiction(text: str, whole: Placed) -> str | None:
    """How a sequence differs from what its mutations say, if it does; it may go on behind a stop codon, or not."""
    expected = residues(whole)
    body, stop, _ = expected.partition(STOP)
    if text.rstrip(STOP) in {expected, body} or (stop and text in {expected.replace(STOP, ""), body + STOP}):
        return None
    if stop and text.partition(STOP)[:2] == (body, STOP):
        return None
    if len(text) != len(expected):
        return f"its sequence has {len(text)} residues, its mutations make {len(expected)}"
    index = next(i for i, (a, b) in enumerate(zip(text, expected, strict=True)) if a != b)
    return f"its sequence has {text[index]} as residue {index + 1}, its mutations say {expected[index]}"


# Rows of one frame


def _lay_out(draft: _Draft, wild_types: Mapping[str, str]) -> tuple[str, list[str], dict[str, str]]:
    """Layout, row of each variant, and row of each wild type."""
    groups = draft.groups()
    frames = {
        protein: Frame.around(len(wild_type), (draft.placed[row] for row in groups.get(protein, ())))
        for protein, wild_type in wild_types.items()
    }
    alone = [row for protein, rows in groups.items() if protein not in frames for row in rows]
    width = max([frame.width for frame in frames.values()] + [len(draft.placed[row].letters) for row in alone] or [0])
    indels = sum(
        bool(draft.placed[row].insertions) or GAP in draft.placed[row].letters.partition(STOP)[0]
        for protein in frames
        for row in groups.get(protein, ())
    )
    layout = "substitutions"
    if indels:
        layout = "aligned"
        columns = sum(sum(frame.slots.values()) for frame in frames.values())
        draft.notes.append(
            f"{indels:,} variants have insertions or deletions; they are aligned to the wild type, in {width} columns "
            f"of which {columns} are for insertions."
        )
    elif alone or len({frame.width for frame in frames.values()}) > 1:
        layout = "padded"
        what = "Some or all proteins have no wild type" if alone else "Wild types differ in length"
        draft.notes.append(f"{what}: rows start at the first residue and are padded to {width} columns.")
    frames = {protein: replace(frame, width=width) for protein, frame in frames.items()}
    rows = _rows_in(draft, frames, width)
    stops = sum(STOP in row for row in rows)
    if stops:
        draft.notes.append(f"{stops:,} rows have a stop codon before the end.")
    return layout, rows, {protein: frames[protein].row(Placed(wild_types[protein])) for protein in frames}


def _rows_in(draft: _Draft, frames: Mapping[str, Frame], width: int) -> list[str]:
    """The row of each variant; one for which there is no room fails."""
    rows = [""] * len(draft)
    for protein, members in draft.groups().items():
        frame = frames.get(protein)
        for row in members:
            placed = draft.placed[row]
            if frame is not None:
                try:
                    rows[row] = frame.row(placed)
                except ValueError as error:
                    draft.fail(row, str(error))
            elif len(placed.letters) > width:
                draft.fail(row, f"has {len(placed.letters)} residues, where the frame has room for {width}")
            else:
                rows[row] = placed.letters.ljust(width, GAP)
    return rows


def _drop_stops(draft: _Draft, rows: Sequence[str]) -> set[int]:
    dropped = {i for i, row in enumerate(rows) if STOP in row}
    if dropped:
        draft.notes.append(f"They were left out, as --stops drop says: {len(dropped):,} rows.")
    return dropped


def _replicates(
    draft: _Draft, rows: Sequence[str], splits: Mapping[str, NDArray[Any]], kept: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each row kept the place of its variant among all variants, and the rows kept.

    A row that stands in another part of a split than its replicates fails. Genes that differ only behind a stop
    codon make one protein, but a file may well have them in several parts; there they stay apart.
    """
    first: dict[tuple[str, ...], int] = {}
    places: dict[int, int] = {}
    good, groups = [], []
    for row in kept.tolist():
        key = (draft.proteins[row], rows[row])
        if splits and STOP in rows[row]:
            key += tuple(part[row] for part in splits.values())
        earliest = first.setdefault(key, row)
        if earliest != row and (fault := _other_part(draft, splits, earliest, row)):
            draft.fail(row, fault)
            continue
        good.append(row)
        groups.append(places.setdefault(earliest, len(places)))
    return np.array(groups, np.intp), np.array(good, np.intp)


def _other_part(draft: _Draft, splits: Mapping[str, NDArray[Any]], earliest: int, row: int) -> str | None:
    """How a row contradicts the parts of its first replicate; where that is in no part, it joins this one's."""
    for column, part in splits.items():
        part[earliest] = part[earliest] or part[row]
        if part[row] and part[row] != part[earliest]:
            where = f"{draft.table.unit} {draft.table.lines[earliest]}"
            return f"the same variant as on {where}, but {part[row]!r} and not {part[earliest]!r} in {column!r}"
    return None


def _merged(assay: Assay, groups: NDArray[np.intp], draft: _Draft) -> Assay:
    """Each variant once: its mean score, how often it was measured, and how its scores spread."""
    if not len(groups):
        return assay
    counts = np.bincount(groups)
    if len(counts) == len(groups):
        return assay
    means = np.bincount(groups, assay.scores) / counts
    squares = np.bincount(groups, (assay.scores - means[groups]) ** 2)
    spread = np.sqrt(squares / np.maximum(counts - 1, 1))
    spread[counts == 1] = np.nan
    draft.notes.append(
        f"{len(groups):,} measurements of {len(counts):,} variants; those of one variant were merged to their mean."
    )
    once = assay.take(np.unique(groups, return_index=True)[1])
    return replace(once, scores=means, replicates=counts.astype(np.int64), spread=spread)


def _checked(assay: Assay, table: Table) -> Assay:
    if len(assay) < FEWEST:
        raise InputError(f"{table.source}: {len(assay)} usable variants; a landscape needs at least {FEWEST}")
    if np.ptp(assay.scores) == 0:
        raise InputError(f"{table.source}: every score is {assay.scores[0]:g}, so there is nothing to predict")
    return assay


# Variants to predict


def _fasta_table(path: str | os.PathLike[str]) -> Table:
    found = list(records.read_records(path, format="fasta"))
    locator = records.Locator(path, "fasta")
    fields: list[Sequence[str]] = [[record.id for record in found], [record.text for record in found]]
    lines = [locator.line(record.number) for record in found]
    return Table(os.fspath(path), "line", ["id", "sequence"], lines, fields)


def _labels(draft: _Draft, chosen: Chosen, id_column: str | None) -> list[str]:
    table = draft.table
    if id_column is not None and id_column not in table.names:
        raise InputError(
            f"{table.source}: no column called {id_column!r}; --id-column must name one of {listed(table.names)}"
        )
    taken = {chosen.sequence, chosen.mutation, chosen.protein}
    known = [name for name in table.among(records.ID_COLUMNS) if name not in taken]
    column = id_column or next(iter(known), chosen.mutation)
    numbered = [f"row-{number}" for number in range(1, len(draft) + 1)]
    if column is None:
        return numbered
    return [value or label for value, label in zip(table.column(column), numbered, strict=True)]
