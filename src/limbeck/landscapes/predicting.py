"""Use a model: score the variants of a file, or all single mutants of a protein and the best doubles."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.figures import in_short
from limbeck.files import whole
from limbeck.landscapes.alignment import Frame, place
from limbeck.landscapes.assay import GAP, STOP, Assay, expressed
from limbeck.landscapes.compare import prepare
from limbeck.landscapes.effects import GROUPS, STRONGEST, Effects, effects
from limbeck.landscapes.models.base import Model
from limbeck.landscapes.naming import variant_name
from limbeck.landscapes.pictures import SHADES, heat_map
from limbeck.landscapes.plots import draw_heatmap
from limbeck.landscapes.reading import UNNAMED, read_variants
from limbeck.landscapes.trained import is_saved, open_model
from limbeck.landscapes.wild_types import nearest, read_wild_types
from limbeck.pages import write_page
from limbeck.progress import Progress
from limbeck.residues import RESIDUES
from limbeck.version import __version__

__all__ = [
    "COMBINED",
    "DOUBLES",
    "Predictions",
    "Saturation",
    "Scan",
    "Seen",
    "base_row",
    "check_needed",
    "check_output",
    "framed",
    "named",
    "predict",
    "saturate",
    "scores",
    "write_table",
]

ROWS_AT_ONCE = 512
DIGITS = "%.6g"
"""How numbers are written as text: no assay has more digits."""
COMBINED = 50
"""Positions whose best single mutants are combined in pairs."""
DOUBLES = 1000
"""Double mutants that are listed."""
TOP = 25
"""Mutants that the page lists."""
ALIKE = 0.3
"""Share of a wild type's residues that a protein must have to be scanned as its relative."""

Floats = NDArray[np.float64]


# --- the variants of a file


@dataclass(frozen=True)
class Predictions:
    """Scored variants.

    Attributes:
        table: in the order of the file: ``id`` (as given, or the mutations), ``variant`` (its mutations, or the
            sequence), ``prediction``, ``sd`` (standard deviation of a new measurement; NaN where the model has none),
            ``mutations`` (how many; missing without a wild type), ``note`` (what training never showed, else empty);
            ``wild_type`` names it where there are several.
        notes: what was taken from the file, and what is to be known of the predictions.
        skipped: line and reason of each row that was left out.
    """

    table: pd.DataFrame
    notes: list[str]
    skipped: list[tuple[int, str]]


def predict(
    model: str | os.PathLike[str],
    variants: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    wild_type: str | os.PathLike[str] | None = None,
    sequence_column: str | None = None,
    mutation_column: str | None = None,
    protein_column: str | None = None,
    id_column: str | None = None,
    position_offset: int | None = None,
    skip_invalid: bool = False,
    input_format: str | None = None,
    progress: bool = False,
) -> Predictions:
    """Score the variants of a file with a saved model, or without a label.

    Args:
        model: what :func:`limbeck.landscape` saved; or a name, as :func:`limbeck.landscapes.trained.open_model` takes
            it.
        variants: FASTA, CSV, TSV or Parquet of sequences or mutations, as
            :func:`limbeck.landscapes.reading.read_variants` takes it, and so the options that follow.
        output: CSV, TSV or Parquet by its ending; ``"-"`` is CSV on standard output; ``None`` writes nothing.
        wild_type: for a name the protein: a sequence, or a FASTA file with one.
        progress: show progress on standard error.

    Raises:
        InputError: if there is no such model or protein, the file cannot be read, or rows cannot be used (unless
            ``skip_invalid``).
    """
    if output is not None:
        check_output(output)
    check_needed(model, wild_type)
    saved = open_model(model, wild_type, position_offset)
    training = saved.assay
    found = read_variants(
        variants,
        training.wild_types,
        width=training.width,
        first_position=training.first_position,
        sequence_column=sequence_column,
        mutation_column=mutation_column,
        protein_column=protein_column,
        id_column=id_column,
        position_offset=position_offset,
        skip_invalid=skip_invalid,
        input_format=input_format,
    )
    frame = framed(training, found.rows, found.parents, found.first_position)
    predicted, sd = scores(saved.model, found.rows, progress)
    columns: dict[str, Any] = {"id": found.labels}
    if len(training.wild_types) > 1:
        columns["wild_type"] = found.parents
    columns["variant"] = [named(frame, i) for i in range(len(frame))]
    counts = pd.array(frame.mutations, dtype="Int64")
    counts[frame.mutations < 0] = pd.NA
    columns |= {"prediction": predicted, "sd": sd, "mutations": counts, "note": Seen(training).notes(frame)}
    result = Predictions(pd.DataFrame(columns), [*found.notes, *saved.notes], found.skipped)
    if output is not None:
        write_table(result.table, output)
    return result


def check_needed(model: str | os.PathLike[str], wild_type: str | os.PathLike[str] | None) -> None:
    """Refuse a wild type for the variants of a file where the model knows its own.

    Raises:
        InputError: if one is given for a saved model.
    """
    if wild_type is not None and is_saved(model):
        raise InputError(f"{os.fspath(model)}: a saved model knows its wild types; leave --wild-type out")


def framed(
    training: Assay, rows: list[str], parents: NDArray[Any], first_position: Mapping[str, int] | None = None
) -> Assay:
    """Variants as an assay, their scores zeros; numbered as training was, or else from these first positions."""
    return Assay(
        training.name,
        rows,
        np.zeros(len(rows)),
        parents,
        training.wild_types,
        first_position={**(first_position or {}), **training.first_position},
    )


def named(assay: Assay, row: int) -> str:
    """A variant's mutations, or its sequence where it has no wild type."""
    parent = str(assay.parents[row])
    if parent not in assay.wild_types:
        return assay.sequences[row]
    return variant_name(assay.rows[row], assay.wild_types[parent], assay.first_position.get(parent, 1))


def scores(model: Model, rows: Sequence[str], shown: bool, stage: str = "predicting") -> tuple[Floats, Floats]:
    """Predictions and standard deviations of new measurements, (n,) each; the latter NaN where the model has none."""
    predicted, sd = np.empty(len(rows)), np.full(len(rows), np.nan)
    prepare(model, shown)
    with Progress(stage, "variants", len(rows), shown) as progress:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            predicted[part], sd[part] = _with_sd(model, rows[part])
            progress.update(len(rows[part]))
    return predicted, sd


def _with_sd(model: Model, rows: Sequence[str]) -> tuple[Floats, Floats]:
    try:
        predicted, sd = model.predict(rows, return_std=True)
    except InputError:
        # The model has no standard deviation; what is wrong with the rows comes up again.
        return model.predict(rows), np.full(len(rows), np.nan)
    return predicted, sd


class Seen:
    """What the training variants showed.

    Args:
        training: the variants that the model was fitted to; of a model without labels none, and nothing is missed then.
    """

    def __init__(self, training: Assay) -> None:
        self._training = training
        self._letters = np.zeros((training.width, 256), bool)
        # Gaps behind a stop codon are no deletions.
        stops = np.logical_or.accumulate(training.letters == ord(STOP), axis=1)
        shown = ~stops | (training.letters == ord(STOP))
        for column in range(training.width):
            self._letters[column, training.letters[shown[:, column], column]] = True
        known = training.wild_types if len(training) else ()
        self._mutated = {name: training.differs[training.parents == name].any(axis=0) for name in known}

    def notes(self, variants: Assay) -> list[str]:
        """For each variant the positions and residues that training never had mutated or shown; ``""`` for none."""
        return [self._note(variants, row) for row in range(len(variants))]

    def _note(self, variants: Assay, row: int) -> str:
        parent = str(variants.parents[row])
        if parent not in self._mutated:
            return ""
        wild_type = self._training.wild_types[parent]
        numbers = _numbers(wild_type, self._training.first_position.get(parent, 1))
        positions, letters = [], []
        for column in np.flatnonzero(variants.differs[row]):
            letter = variants.rows[row][column]
            if not self._mutated[parent][column]:
                positions.append(str(numbers[column]))
            elif not self._letters[column, ord(letter)]:
                letters.append(f"{letter} at position {numbers[column]}")
        parts = []
        if positions:
            word = "position" if len(positions) == 1 else "positions"
            parts.append(f"{word} {', '.join(dict.fromkeys(positions))} never mutated in training")
        if letters:
            parts.append(f"{', '.join(letters)} not seen in training")
        return "; ".join(parts)


def _numbers(row: str, first: int) -> NDArray[np.int64]:
    """(width,) number of the residue in each column; in a gap that of the residue before."""
    residues = np.frombuffer(row.encode("ascii"), np.uint8) != ord(GAP)
    return first - 1 + np.cumsum(residues)


# --- tables

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet"}


def _table_format(output: str | os.PathLike[str]) -> str:
    ending = Path(output).suffix.lower()
    if os.fspath(output) == "-":
        return "csv"
    if ending not in _FORMATS:
        raise InputError(
            f"{os.fspath(output)}: tables are written as .csv, .tsv or .parquet; choose one of these endings"
        )
    return _FORMATS[ending]


def write_table(table: pd.DataFrame, output: str | os.PathLike[str]) -> None:
    """Write a table as its file's ending says, whole or not at all; ``"-"`` is CSV on standard output.

    Raises:
        InputError: if the ending is another one, or the file cannot be written.
    """
    kind = _table_format(output)
    if os.fspath(output) == "-":
        table.to_csv(sys.stdout, index=False, float_format=DIGITS)
        return
    try:
        with whole(Path(output)) as partial:
            if kind == "parquet":
                table.to_parquet(partial, index=False)
            else:
                table.to_csv(partial, index=False, sep="," if kind == "csv" else "\t", float_format=DIGITS)
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise InputError(f"{os.fspath(output)}: {problem}; choose another output") from None


def check_output(output: str | os.PathLike[str]) -> None:
    """Refuse a file that :func:`write_table` could not write, before what takes long.

    Raises:
        InputError: if the ending is another one, it is a folder, or its folder does not exist.
    """
    _table_format(output)
    path = Path(output)
    if os.fspath(output) != "-" and path.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it, or choose another output")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror}); choose another output") from None


# --- all single mutants, and doubles


@dataclass(frozen=True)
class Saturation:
    """All single mutants of a protein, scored, and the best doubles of them.

    Attributes:
        name: of the protein.
        model: name of the model.
        base: prediction of the protein itself.
        singles: best first: ``rank``, ``variant``, ``position``, ``wild_type``, ``residue``, ``prediction``, ``sd``,
            ``gain`` (over the prediction of the protein itself), ``measured`` (NaN where training had none), ``note``.
        doubles: best first: ``rank``, ``variant``, ``prediction``, ``sd``, ``gain``, ``additive`` (what the two gains
            add up to), ``measured``, ``note``.
        predicted: the singles by position and residue.
        measured: the same of the training variants; ``None`` if it had none of this protein.
        notes: what was done, in sentences.
    """

    name: str
    model: str
    base: float
    singles: pd.DataFrame
    doubles: pd.DataFrame
    predicted: Effects
    measured: Effects | None
    notes: list[str] = field(default_factory=list)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``singles.csv``, ``doubles.csv`` (if there are any), ``heatmap.svg`` and ``scan.html`` into a folder.

        Raises:
            InputError: if it cannot be written.
        """
        folder = Path(folder)
        _make_folder(folder)
        # Those of an earlier scan would be taken for this one's.
        (folder / "doubles.csv").unlink(missing_ok=True)
        write_table(self.singles, folder / "singles.csv")
        if len(self.doubles):
            write_table(self.doubles, folder / "doubles.csv")
        self._draw(folder / "heatmap.svg")
        write_page(folder / "scan.html", "limbeck.landscapes", "scan.html", self._content())

    def _draw(self, path: Path) -> None:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        width = max(6.0, 2.0 + 0.085 * len(self.predicted.positions))
        # A picture of the same numbers is to be the same file.
        with mpl.rc_context({"svg.hashsalt": self.name, "svg.fonttype": "none"}):
            figure = Figure(figsize=(width, 4.2), layout="constrained")
            axes = figure.subplots()
            draw_heatmap(axes, self.predicted)
            axes.set_title(f"{self.name}: predictions of {self.model}")
            with whole(path) as partial:
                figure.savefig(partial, format="svg", metadata={"Date": None})

    def _content(self) -> dict[str, Any]:
        found = self.predicted
        shades = [*(f"h{i}n" for i in range(SHADES, 0, -1)), "h0", *(f"h{i}p" for i in range(1, SHADES + 1))]
        label = f"single mutants of {self.name}"
        return {
            "title": f"Saturation scan of {self.name}",
            "model": self.model,
            "notes": self.notes,
            "shades": shades,
            "low": in_short(found.centre - found.limit),
            "high": in_short(found.centre + found.limit),
            "centre": f"{in_short(found.centre)} ({found.centred_at})",
            "groups": ", ".join(name for name, letters in GROUPS.items() if letters[0] in found.letters),
            "predicted": heat_map(found, f"Predictions of {label}"),
            "measured": heat_map(self.measured, f"Measured means of {label}") if self.measured else "",
            "tables": [
                ("Best single mutants", _cells(self.singles)),
                ("Best double mutants", _cells(self.doubles)),
            ],
            "total": {"Best single mutants": len(self.singles), "Best double mutants": len(self.doubles)},
            "version": __version__,
        }


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Column names and text of the first rows."""
    columns = [c for c in table.columns if c not in {"position", "wild_type", "residue"}]
    rows = [[_text(row[c]) for c in columns] for row in table.head(TOP).to_dict("records")]
    return columns, rows


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else ""
    return str(value)


def saturate(
    model: str | os.PathLike[str],
    wild_type: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    position_offset: int | None = None,
    doubles: int = DOUBLES,
    combined: int = COMBINED,
    progress: bool = False,
) -> Saturation:
    """Score all single mutants of a protein, and double mutants made of the best of them.

    Of the ``combined`` positions whose best single mutant is predicted highest, these best ones are combined in pairs.

    Args:
        model: what :func:`limbeck.landscape` saved; or a name, as :func:`limbeck.landscapes.trained.open_model` takes
            it.
        wild_type: a sequence, a FASTA file with one, or the name of one that the model knows; by default the one that
            it knows.
        output: folder for the tables, a picture and a page; ``None`` writes nothing.
        position_offset: number of the first residue where no assay says it, without labels.
        doubles: most double mutants to list; 0 for none.
        combined: positions that are combined.
        progress: show progress on standard error.

    Raises:
        InputError: if there is no such model or protein, or the protein doesn't fit the model's frame of positions.
    """
    if doubles < 0 or combined < 2:
        raise InputError("--doubles must be 0 or more, and at least 2 positions are combined")
    saved = open_model(model, wild_type, position_offset)
    scan = Scan(saved.model, saved.assay, *base_row(saved.assay, wild_type), progress)
    if output is not None:
        _make_folder(Path(output))
    singles = scan.singles
    pairs = scan.doubles(combined, doubles) if doubles else scan.table([])
    mutants = len(scan.single_rows)
    notes = [
        *saved.notes,
        f"{mutants:,} single mutants of {scan.name} ({len(scan.columns)} residues), scored by {saved.name}.",
        f"The protein itself is predicted to score {in_short(scan.base, 4)}.",
    ]
    if doubles:
        used = min(combined, len(scan.columns))
        notes.append(
            f"The best single mutants of the {used} positions with the best ones were combined in "
            f"{used * (used - 1) // 2:,} pairs; the best {len(pairs):,} are listed."
        )
    flagged = int((singles["note"] != "").sum())
    if flagged:
        notes.append(
            f"Of {flagged:,} of the single mutants training never showed the residue or the position: see their notes."
        )
    predicted = scan.effects()
    result = Saturation(scan.name, saved.name, scan.base, singles, pairs, predicted, scan.measured(predicted), notes)
    if output is not None:
        result.write(output)
    return result


def base_row(training: Assay, given: str | os.PathLike[str] | None) -> tuple[str, str, str]:
    """Name of the protein to mutate, its row in the training frame, and its training wild type (``""`` for none)."""
    known = training.wild_types
    if given is None:
        if len(known) != 1:
            choice = f"one of {', '.join(map(repr, list(known)[:5]))}" if known else "a sequence or a FASTA file"
            raise InputError(f"the model has {len(known) or 'no'} wild types; say which protein to scan: {choice}")
        name = next(iter(known))
        return _called(name, training), known[name], name
    if os.fspath(given) in known:
        name = os.fspath(given)
        return _called(name, training), known[name], name
    found = read_wild_types(given, "--saturate", "no name")
    if len(found) != 1:
        raise InputError(f"{os.fspath(given)}: holds {len(found)} proteins; give the one to scan")
    name, sequence = next(iter(found.items()))
    if not known:
        if len(sequence) > training.width:
            raise InputError(f"{name or 'the protein'} has {len(sequence)} residues; the model reads {training.width}")
        return name or "the protein", sequence.ljust(training.width, GAP), ""
    sequences = {parent: expressed(row) for parent, row in known.items()}
    parent = nearest(sequence, sequences)
    placed = place(sequence, sequences[parent])
    alike = sum(map(eq, placed.letters, sequences[parent]))
    known_as = _called(parent, training)
    if alike < ALIKE * len(sequences[parent]):
        raise InputError(
            f"{name or 'the protein'} is no variant of {known_as}, which the model knows: it has {alike} of "
            f"its {len(sequences[parent])} residues; scan a relative of it"
        )
    try:
        row = Frame.of(known[parent].rstrip(GAP)).row(placed).ljust(training.width, GAP)
    except ValueError as error:
        raise InputError(
            f"{name or 'the protein'} doesn't fit {known_as}, which the model knows: it {error}; scan a protein with "
            "no such insertion"
        ) from None
    return name or parent or "the wild type", row, parent


def _called(name: str, training: Assay) -> str:
    """A name for people; a reader gives a wild type without one a name that says no more than that."""
    return f"the wild type of {training.name}" if name in ("", UNNAMED) else name


class Scan:
    """One protein and its mutants.

    Args:
        model: scores rows.
        training: what it was fitted to.
        name: of the protein.
        row: of the protein, in the training frame.
        parent: the training wild type that it belongs to, ``""`` for none.
        shown: show progress.
    """

    def __init__(self, model: Model, training: Assay, name: str, row: str, parent: str, shown: bool) -> None:
        self.model, self.training, self.name, self.row, self.parent, self.shown = (
            model, training, name, row, parent, shown,
        )  # fmt: skip
        self.columns = [i for i, letter in enumerate(row) if letter not in (GAP, STOP)]
        if not self.columns:
            raise InputError(f"{name} has no residues to mutate")
        self._numbers = _numbers(row, training.first_position.get(parent, 1))
        self._seen = Seen(training)
        self._measured: dict[str, float] = {}
        for other, score in zip(training.rows, training.scores.tolist(), strict=True):
            self._measured[other] = score

    @cached_property
    def single_rows(self) -> list[tuple[tuple[int, str], ...]]:
        """Column and residue of each single mutant."""
        return [((c, r),) for c in self.columns for r in RESIDUES if r != self.row[c]]

    @cached_property
    def base(self) -> float:
        return float(scores(self.model, [self.row], False)[0][0])

    @cached_property
    def singles(self) -> pd.DataFrame:
        table = self.table(self.single_rows, "single mutants")
        places = [mutant[0] for mutant in self.single_rows]
        table.insert(1, "position", [int(self._numbers[c]) for c, _ in places])
        table.insert(2, "wild_type", [self.row[c] for c, _ in places])
        table.insert(3, "residue", [r for _, r in places])
        return _ranked(table)

    def doubles(self, combined: int, most: int) -> pd.DataFrame:
        """The best pairs of the best single mutants of ``combined`` positions."""
        gains = self._best(combined)
        pairs = _pairs(gains)
        table = self.table(pairs, "double mutants")
        table.insert(4, "additive", [gains[a] + gains[b] for a, b in pairs])
        return _ranked(table).head(most)

    def _best(self, combined: int) -> dict[tuple[int, str], float]:
        """Column and residue of the best single mutant of each of ``combined`` positions, and what it gains."""
        singles = self.singles.drop_duplicates("position").head(combined)
        column_of = {int(self._numbers[c]): c for c in self.columns}
        chosen = [(column_of[p], r) for p, r in zip(singles["position"], singles["residue"], strict=True)]
        return dict(zip(chosen, singles["gain"], strict=True))

    def mutants(self, combined: int) -> list[str]:
        """Rows of all single mutants, and of the pairs of the best of ``combined`` positions."""
        return [self._mutated(mutant) for mutant in (*self.single_rows, *_pairs(self._best(combined)))]

    def table(self, mutants: Sequence[tuple[tuple[int, str], ...]], stage: str = "") -> pd.DataFrame:
        """Scores of mutants, in their order."""
        rows = [self._mutated(mutant) for mutant in mutants]
        frame = self._frame(rows)
        predicted, sd = scores(self.model, rows, self.shown, stage)
        return pd.DataFrame(
            {
                "variant": [":".join(f"{self.row[c]}{self._numbers[c]}{r}" for c, r in mutant) for mutant in mutants],
                "prediction": predicted,
                "sd": sd,
                "gain": predicted - self.base,
                "measured": [self._measured.get(row, np.nan) for row in rows],
                "note": self._seen.notes(frame),
            }
        )

    def _mutated(self, mutant: tuple[tuple[int, str], ...]) -> str:
        letters = list(self.row)
        for column, residue in mutant:
            letters[column] = residue
        return "".join(letters)

    def _frame(self, rows: list[str]) -> Assay:
        parents = np.full(len(rows), self.parent, dtype=object)
        return Assay(self.name, rows, np.zeros(len(rows)), parents, self.training.wild_types)

    def effects(self) -> Effects:
        """The single mutants' predictions by residue and position."""
        letters = "".join(GROUPS.values()).replace(STOP, "").replace(GAP, "")
        values = np.full((len(letters), len(self.columns)), np.nan)
        positions = self._numbers[self.columns]
        column = np.searchsorted(positions, self.singles["position"])
        row = [letters.index(r) for r in self.singles["residue"]]
        values[row, column] = self.singles["prediction"]
        limit = float(np.nanpercentile(np.abs(values - self.base), STRONGEST)) or 1.0
        wild_type = "".join(self.row[c] for c in self.columns)
        return Effects(
            parent=self.name,
            letters=letters,
            positions=positions,
            wild_type=wild_type,
            values=values,
            counts=np.isfinite(values).astype(np.int64),
            singles=True,
            centre=self.base,
            centred_at="prediction of the wild type",
            limit=limit,
        )

    def measured(self, like: Effects) -> Effects | None:
        """The training variants' means, where the protein is a wild type of theirs."""
        if self.training.wild_types.get(self.parent) != self.row or not len(self.training):
            return None
        return effects(self.training, self.parent, like=like)


def _pairs(chosen: Iterable[tuple[int, str]]) -> list[tuple[tuple[int, str], ...]]:
    return [tuple(sorted(pair)) for pair in combinations(chosen, 2)]


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Best first, with ranks; the names decide between equals, so that the order is always the same."""
    ordered = table.sort_values(["prediction", "variant"], ascending=[False, True], kind="stable", ignore_index=True)
    ordered.insert(0, "rank", np.arange(1, len(ordered) + 1))
    return ordered
