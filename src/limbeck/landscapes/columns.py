"""Tables of variants: their rows with line numbers, and which column is what."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from limbeck import records
from limbeck.errors import InputError
from limbeck.landscapes.mutations import Misfit, parse_mutations
from limbeck.residues import InvalidResidue, clean

__all__ = [
    "MISSING",
    "Chosen",
    "Table",
    "choose_columns",
    "find_wild_type_table",
    "is_true",
    "listed",
    "read_table",
    "split_part",
]

MISSING = {"", "nan", "na", "n/a", "none", "null", "<na>"}
"""What stands for no value; capitals do not matter."""

SEQUENCE_COLUMNS = (
    ("mutated_sequence", "mutant_sequence", "mutant_seq", "mutated_seq", "mut_seq", "mt_seq", "variant_sequence"),
    (*records.SEQUENCE_COLUMNS, "amino_acid_sequence", "full_sequence", "combo", "aas"),
)
MUTATION_COLUMNS = (
    (
        "mutant",
        "mutants",
        "mutation",
        "mutations",
        "variant",
        "variants",
        "mutation_string",
        "mutant_string",
        "mutation_code",
        "mutcode",
        "aa_mutation",
        "aa_mutations",
        "aa_substitution",
        "aa_substitutions",
        "substitution",
        "substitutions",
        "mut_type",
        "hgvs_pro",
        "hgvs_p",
    ),
)
SCORE_COLUMNS = (
    (
        "score",
        "fitness",
        "target",
        "dms_score",
        "log_fluorescence",
        "fluorescence",
        "brightness",
        "activity",
        "stability_score",
        "stability",
        "scaled_effect",
        "enrichment",
        "log_enrichment",
        "ddg",
        "deltag",
        "dg",
        "tm",
    ),
    ("measurement", "measured", "value", "y", "label", "effect", "phenotype", "signal", "response"),
)
WILD_TYPE_COLUMNS = (
    (
        "wild_type",
        "wildtype",
        "wt",
        "wild_type_sequence",
        "wildtype_sequence",
        "wt_sequence",
        "wt_seq",
        "wt_aa_seq",
        "target_seq",
        "target_sequence",
        "reference_sequence",
        "ref_seq",
        "parent",
        "parent_sequence",
        "parent_seq",
    ),
)
PROTEIN_COLUMNS = (
    "protein",
    "protein_name",
    "protein_id",
    "dms_id",
    "dms",
    "assay",
    "gene",
    "gene_name",
    "wt_name",
    "wt_id",
    "wild_type",
    "wildtype",
    "wt",
    "parent",
    "parent_name",
    "parent_id",
    "parent_cluster",
    "uniprot_id",
    "uniprot",
    "pdb_id",
    "pdb",
)
COUNT_COLUMNS = (
    "num_mutations",
    "n_mutations",
    "mutation_count",
    "num_mut",
    "n_mut",
    "hd",
    "hamming",
    "hamming_distance",
    "edit_distance",
)
FLAG_COLUMNS = ("is_wt", "is_wild_type", "is_wildtype")

_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys((*MISSING, "unused"), ""),
}
_TRUE = {"true", "1", "1.0", "yes"}
_FALSE = {"false", "0", "0.0", "no", *MISSING}
# As spreadsheets write numbers: a comma as decimal mark, thousands set apart, a typographic minus, percent.
_WRITTEN_NUMBER = re.compile(r"[+\N{MINUS SIGN}\N{EN DASH}-]?\d[\d\s.,'\N{RIGHT SINGLE QUOTATION MARK}]*%?")
_SAMPLE = 2000
_LEAST_BESIDE_NAMES = 10


@dataclass(frozen=True)
class Table:
    """The rows of a file that have a field for each column name.

    Attributes:
        source: the file as the user named it.
        unit: what ``lines`` count: ``"line"``, or ``"row"`` in Parquet.
        names: of the columns.
        lines: where each row starts.
        fields: by column the values of all rows.
        malformed: line and reason of each row with too few or too many fields.
    """

    source: str
    unit: str
    names: list[str]
    lines: list[int]
    fields: list[Sequence[str]]
    malformed: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> list[str]:
        """Values of one column, white space around them removed."""
        return [value.strip() for value in self.fields[self.names.index(name)]]

    def sample(self, name: str) -> list[str]:
        """Values of one column that are not missing, of some rows from all over the table."""
        values = self.fields[self.names.index(name)]
        some = (value.strip() for value in values[:: max(1, len(values) // _SAMPLE)])
        return [value for value in some if value.lower() not in MISSING]

    def among(self, known: Iterable[str]) -> list[str]:
        """Names of the columns that are called so, capitals and blanks apart, in the order of ``known``."""
        folded = {name: name.lower().replace(" ", "_").replace("-", "_") for name in self.names}
        return [name for wanted in known for name, fold in folded.items() if fold == wanted]


@dataclass(frozen=True)
class Chosen:
    """Which column is what; ``None`` where the table has none."""

    sequence: str | None = None
    mutation: str | None = None
    score: str | None = None
    wild_type: str | None = None
    protein: str | None = None
    splits: tuple[str, ...] = ()
    validation: Mapping[str, str] = field(default_factory=dict)
    """By split column FLIP's column of true and false that tells the validation part of the training part."""
    count: str | None = None
    """Number of mutations: 0 tells the wild type."""
    flag: str | None = None
    """True for the wild type."""


def read_table(path: str | os.PathLike[str], format: str | None = None) -> Table:
    """Read CSV, TSV or Parquet, plain or compressed, whole.

    Raises:
        InputError: if the file cannot be read, is no table, or has no rows or one column name twice.
    """
    source = os.fspath(path)
    rows = records.read_rows(path, format=format)
    _, names = next(rows, (0, []))
    doubled = next((name for name in names if name and names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"{source}: several columns are called {doubled!r}; rename them")
    if len(names) == 1 and ";" in names[0]:
        # As spreadsheets write it where a comma is the decimal mark.
        problem = "its columns seem to be separated by ';'"
        raise InputError(f"{source}: {problem}; save it with commas or tabs between them, and points in numbers")
    lines, fields, malformed = [], [], []
    for line, row in rows:
        if len(row) == len(names):
            lines.append(line)
            fields.append(row)
        else:
            malformed.append((line, f"has {len(row)} fields where the column names are {len(names)}"))
    if not lines and malformed:
        line, reason = malformed[0]
        raise InputError(f"{source}: none of its rows can be used; the first, on line {line}, {reason}; correct them")
    if not lines:
        raise InputError(f"{source}: holds no rows; expected column names and, below them, one variant a line")
    columns = list(zip(*fields, strict=True))
    # Spreadsheets write empty columns behind the others.
    kept = [i for i, name in enumerate(names) if name or any(value.strip() for value in columns[i])]
    if sum(not names[i] for i in kept) > 1:
        raise InputError(f"{source}: several columns have no name; name them")
    unit = "row" if records.format_of(path, format) == "parquet" else "line"
    return Table(source, unit, [names[i] for i in kept], lines, [columns[i] for i in kept], malformed)


def choose_columns(
    table: Table,
    *,
    sequence: str | None = None,
    mutation: str | None = None,
    score: str | None = None,
    wild_type: str | None = None,
    protein: str | None = None,
    splits: Sequence[str] | None = None,
    measured: bool = True,
) -> Chosen:
    """Find out which column is what, by the usual names and by what stands in the columns.

    Args:
        table: the table.
        sequence: name of that column; ``""`` for none, whatever the table has. So for the others.
        mutation: of mutations.
        score: of what was measured.
        wild_type: of wild-type sequences.
        protein: of names of proteins.
        splits: of splits into train, valid and test.
        measured: whether the table must have scores.

    Raises:
        InputError: if a column is missing or several may be meant; it names the option to say so.
    """
    for name, option in (
        (sequence, "--sequence-column"),
        (mutation, "--mutation-column"),
        (score, "--score-column"),
        (wild_type, "--wild-type"),
        (protein, "--protein-column"),
        *((name, "--split-column") for name in splits or ()),
    ):
        if name and name not in table.names:
            raise InputError(f"{table.source}: no column called {name!r}; {option} must name one of {_all(table)}")
    if wild_type is None:
        wild_type = _find(table, WILD_TYPE_COLUMNS, _looks_like_residues, "the wild type", "--wild-type")
    if mutation is None:
        mutation = _find(table, MUTATION_COLUMNS, _looks_like_mutations, "mutations", "--mutation-column")
    if sequence is None:
        sequence = _find_sequences(table, {wild_type, mutation, protein})
    if not sequence and not mutation:
        raise InputError(
            f"{table.source}: no column is called 'sequence' or 'mutant' or the like and holds such; its columns are "
            f"{_all(table)}; choose one with --sequence-column or --mutation-column"
        )
    taken = {sequence, mutation, wild_type, protein, *(splits or ())}
    if measured and score is None:
        score = _find_scores(table, taken)
    taken.add(score)
    if protein is None:
        protein = _find_proteins(table, taken)
        taken.add(protein)
    if splits is None:
        splits = _find_splits(table, taken)
    return Chosen(
        sequence=sequence or None,
        mutation=mutation or None,
        score=score or None,
        wild_type=wild_type or None,
        protein=protein or None,
        splits=tuple(splits),
        validation=_find_validation(table, splits, taken),
        count=next((n for n in table.among(COUNT_COLUMNS) if n not in taken), None),
        flag=next((n for n in table.among(FLAG_COLUMNS) if n not in taken), None),
    )


def find_wild_type_table(table: Table) -> tuple[str, str]:
    """Names of the columns of names and of sequences in a table of wild types.

    Raises:
        InputError: if either is missing or several may be meant.
    """
    tiers = (*WILD_TYPE_COLUMNS, *SEQUENCE_COLUMNS)
    sequence = _find(table, tiers, _looks_like_residues, "the wild types", "a FASTA file")
    names = [name for name in table.among((*PROTEIN_COLUMNS, *records.ID_COLUMNS)) if name != sequence]
    if sequence is None or not names:
        raise InputError(
            f"{table.source}: a table of wild types must have the columns 'protein' and 'sequence'; its columns are "
            f"{_all(table)}"
        )
    return names[0], sequence


def split_part(value: str) -> str | None:
    """``"train"``, ``"valid"``, ``"test"`` or ``""`` for one value of a split column; None if it is none of them."""
    return _PARTS.get(value.lower())


def is_true(value: str) -> bool:
    """Whether a value of a column of flags says yes."""
    return value.lower() in _TRUE


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names for a message."""
    return ", ".join(repr(name) for name in names[:most]) + (", ..." if len(names) > most else "")


def _looks_like_residues(values: Sequence[str], name: str) -> bool:
    """Whether at least half of these values are sequences of more than one residue.

    ``GFP`` is a name made of residues, so where names may stand a sequence must be longer.
    """
    least = _LEAST_BESIDE_NAMES if name.lower() in PROTEIN_COLUMNS else 2
    return bool(values) and sum(_is_sequence(value, least) for value in values) >= len(values) / 2


def _is_sequence(value: str, least: int) -> bool:
    try:
        return len(clean(value)) >= least
    except InvalidResidue:
        return False


def _looks_like_mutations(values: Sequence[str], name: str) -> bool:
    """Whether at least half of these values are mutations, and any is not just the wild type."""
    found = total = 0
    for value in values:
        try:
            edits = parse_mutations(value)
        except Misfit:
            total += 1
            continue
        found += bool(edits)
        total += bool(edits)
    return 0 < found >= total / 2


def _looks_like_names(values: Sequence[str], name: str) -> bool:
    """Whether these values can name proteins; what is called a wild type may also be its sequence or one residue."""
    if name.lower() in WILD_TYPE_COLUMNS[0] and any(len(value) < 2 or _is_number(value) for value in values):
        return False
    return bool(values) and not _looks_like_residues(values, name)


def _looks_like_numbers(values: Sequence[str], name: str) -> bool:
    """Whether at least half of these values are numbers."""
    return bool(values) and sum(_is_number(value) for value in values) >= len(values) / 2


def _looks_like_scores(values: Sequence[str], name: str) -> bool:
    """Whether at least half of these values are numbers, however they are written.

    What cannot be read is then an error of its row: another column must not be taken for the scores instead.
    """
    written = sum(_is_number(value) or _WRITTEN_NUMBER.fullmatch(value) is not None for value in values)
    return bool(values) and written >= len(values) / 2


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _find(
    table: Table,
    tiers: Iterable[Sequence[str]],
    looks: Callable[[Sequence[str], str], bool],
    what: str,
    option: str,
    taken: Iterable[str | None] = (),
) -> str | None:
    """The one column of the first tier of names that has any whose values look right."""
    for tier in tiers:
        found = [name for name in table.among(tier) if name not in taken and looks(table.sample(name), name)]
        if len(found) > 1:
            raise InputError(f"{table.source}: several columns may hold {what}: {listed(found)}; choose with {option}")
        if found:
            return found[0]
    return None


def _find_sequences(table: Table, taken: set[str | None]) -> str | None:
    # What is called a variant may be written out, or be the residues at the few sites that vary.
    tiers = (*SEQUENCE_COLUMNS, *MUTATION_COLUMNS)
    found = _find(table, tiers, _looks_like_residues, "the sequence", "--sequence-column", taken)
    if found is not None or taken - {None, ""}:
        return found
    others = [name for name in table.names if _is_made_of_sequences(table.sample(name))]
    return others[0] if len(others) == 1 else None


def _is_made_of_sequences(values: Sequence[str]) -> bool:
    """Whether these values, whatever their column is called, can be nothing but sequences of variants."""
    return (
        len(set(values)) > len(values) / 2
        and all(value.isalpha() and value.isupper() for value in values)
        and all(_is_sequence(value, 2) for value in values)
    )


def _find_scores(table: Table, taken: set[str | None]) -> str:
    found = _find(table, SCORE_COLUMNS, _looks_like_scores, "the score", "--score-column", taken)
    if found is not None:
        return found
    described = (*COUNT_COLUMNS, *FLAG_COLUMNS, *PROTEIN_COLUMNS, "id", "index", "position", "pos", "unnamed:_0", "")
    rest = [name for name in table.names if name not in {*taken, *table.among(described)}]
    numbers = [name for name in rest if _looks_like_numbers(table.sample(name), name)]
    if len(numbers) == 1:
        return numbers[0]
    problem = f"no column holds scores; its columns are {_all(table)}"
    if numbers:
        problem = f"several columns may hold the score: {listed(numbers)}"
    raise InputError(f"{table.source}: {problem}; choose one with --score-column")


def _find_proteins(table: Table, taken: set[str | None]) -> str | None:
    """The column that names proteins; columns that say the same in other words count as one."""
    found = [name for name in table.among(PROTEIN_COLUMNS) if name not in taken]
    found = [name for name in dict.fromkeys(found) if _looks_like_names(table.sample(name), name)]
    telling = [name for name in found if len(set(table.column(name))) > 1]
    for name in telling[1:]:
        pairs = set(zip(table.column(telling[0]), table.column(name), strict=True))
        if not len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
            raise InputError(
                f"{table.source}: several columns may name the protein: {listed(telling)}; "
                "choose one with --protein-column"
            )
    return next(iter(telling or found), None)


def _find_splits(table: Table, taken: set[str | None]) -> list[str]:
    """Columns in which every value is a part, with training and test."""
    splits = []
    for name in table.names:
        if name in taken or not all(split_part(value) is not None for value in table.sample(name)):
            continue
        parts = {split_part(value) for value in set(table.column(name))}
        if None not in parts and {"train", "test"} <= parts:
            splits.append(name)
    return splits


def _find_validation(table: Table, splits: Sequence[str], taken: set[str | None]) -> dict[str, str]:
    """FLIP's ``validation`` beside ``set``, or beside the only split there is."""
    split = next((name for name in splits if name.lower() == "set"), splits[0] if len(splits) == 1 else None)
    flags = [name for name in table.among(("validation", "is_validation")) if name not in {*taken, *splits}]
    flags = [name for name in flags if {value.lower() for value in table.column(name)} <= _TRUE | _FALSE]
    return {split: flags[0]} if split and flags else {}


def _all(table: Table) -> str:
    return listed(table.names)
