"""What to measure next: the plate of variants that a fitted model would learn or gain most from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay, expressed
from limbeck.landscapes.comparison import Comparison
from limbeck.landscapes.models.posterior import Posterior
from limbeck.landscapes.plates import Beliefs, Plan, Well, choose, shortlist
from limbeck.landscapes.predicting import (
    COMBINED,
    Scan,
    Seen,
    base_row,
    check_needed,
    check_output,
    framed,
    named,
    write_table,
)
from limbeck.landscapes.reading import Variants, read_variants
from limbeck.landscapes.trained import Trained, is_saved, open_model

__all__ = ["Plate", "propose"]


@dataclass(frozen=True)
class Plate:
    """Variants to measure.

    Attributes:
        table: first choice first: ``rank``, ``mutations`` (the sequence where there is no wild type), ``sequence``,
            ``mean`` (prediction), ``uncertainty`` (standard deviation of a new measurement; NaN where the model has
            none), ``why``. ``id`` is there if the candidates came from a file, ``wild_type`` if the model has several.
        notes: what was done, in sentences.
        skipped: line and reason of each row of the candidates that was left out.
    """

    table: pd.DataFrame
    notes: list[str]
    skipped: list[tuple[int, str]]


def propose(
    model: str | os.PathLike[str],
    candidates: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    plan: Plan | None = None,
    wild_type: str | os.PathLike[str] | None = None,
    measured: Sequence[str | os.PathLike[str]] = (),
    combined: int = COMBINED,
    progress: bool = False,
    **reading: Any,
) -> Plate:
    """Choose the variants to measure next, of a file or of the mutants of a protein; never one that was measured.

    What was measured is what the model was fitted to, all variants of the report that its folder is in, and what
    ``measured`` names.

    Args:
        model: what :func:`limbeck.landscape` saved; or a name, as :func:`limbeck.landscapes.trained.open_model` takes
            it.
        candidates: FASTA, CSV, TSV or Parquet of sequences or mutations; without it all single mutants of a protein
            and the pairs of the best of them.
        output: CSV, TSV or Parquet by its ending; ``"-"`` is CSV on standard output; ``None`` writes nothing.
        plan: how; ``None`` is ``Plan()``.
        wild_type: the protein to mutate, as :func:`limbeck.landscapes.saturate` takes it; for a name also that of the
            candidates.
        measured: further files of variants that are not to be proposed.
        combined: positions whose best single mutants are combined in pairs.
        progress: show progress on standard error.
        reading: of the files, as :func:`limbeck.landscapes.reading.read_variants` takes it.

    Raises:
        InputError: if there is no such model or protein, a file cannot be read, an option has no meaning, or no
            candidate is left.
    """
    plan = plan or Plan()
    if combined < 2:
        raise InputError(f"at least 2 positions are combined, not {combined}")
    if output is not None:
        check_output(output)
    if candidates is not None:
        check_needed(model, wild_type)
    if not is_saved(model) and plan.strategy != "greedy":
        # It would come out, too, once all candidates were scored.
        raise InputError(
            f"--strategy {plan.strategy} needs a fitted model, and {os.fspath(model)} is no folder of one; without "
            "labels use --strategy greedy"
        )
    saved = open_model(model, wild_type, reading.get("position_offset"))
    if plan.per_position is not None and not saved.assay.wild_types:
        raise InputError("--per-position: the model has no wild type that variants differ from; leave it out")
    known = _measured(saved, Path(model) if is_saved(model) else None, measured, reading)
    if candidates is None:
        found = _mutants(saved, wild_type, combined, progress)
    else:
        found = _of_file(saved.assay, candidates, reading)
    left, notes = _left(found.assay, known)
    beliefs = Beliefs.of(saved.model, [found.assay.rows[i] for i in left], progress)
    wells = _wells(saved, found.assay.take(left), beliefs, plan)
    chosen = np.array([well.candidate for well in wells])
    table = _table(saved, found, left[chosen], beliefs.mean[chosen], beliefs.measured[chosen], wells)
    if output is not None:
        write_table(table, output)
    notes = [*found.notes, *saved.notes, *notes, *_summary(saved, found.assay.take(left[chosen]), beliefs, plan)]
    return Plate(table, notes, found.skipped)


# --- candidates


@dataclass(frozen=True)
class _Candidates:
    assay: Assay
    """Their scores are zeros."""
    labels: list[str] | None
    notes: list[str]
    skipped: list[tuple[int, str]]


def _of_file(training: Assay, path: str | os.PathLike[str], reading: dict[str, Any]) -> _Candidates:
    found = _read(training, path, reading)
    frame = framed(training, found.rows, found.parents, found.first_position)
    return _Candidates(frame, found.labels, found.notes, found.skipped)


def _read(training: Assay, path: str | os.PathLike[str], reading: dict[str, Any]) -> Variants:
    return read_variants(
        path, training.wild_types, width=training.width, first_position=training.first_position, **reading
    )


def _mutants(saved: Trained, given: str | os.PathLike[str] | None, combined: int, shown: bool) -> _Candidates:
    scan = Scan(saved.model, saved.assay, *base_row(saved.assay, given), shown)
    rows = scan.mutants(combined)
    used = min(combined, len(scan.columns))
    notes = [
        f"Candidates: the {len(scan.single_rows):,} single mutants of {scan.name}, and the "
        f"{len(rows) - len(scan.single_rows):,} pairs of the best ones of {used} positions."
    ]
    return _Candidates(framed(saved.assay, rows, np.full(len(rows), scan.parent, dtype=object)), None, notes, [])


def _measured(
    saved: Trained, folder: Path | None, files: Sequence[str | os.PathLike[str]], reading: dict[str, Any]
) -> set[str]:
    """Proteins that were measured."""
    known = set(saved.assay.sequences)
    # A model that reads vectors may have been fitted to a sample of what the report holds.
    if folder is not None and (folder.parent / "report.json").exists():
        known |= set(Comparison.read(folder.parent).assay.sequences)
    for path in files:
        known |= {expressed(row) for row in _read(saved.assay, path, reading).rows}
    return known


def _left(candidates: Assay, known: set[str]) -> tuple[NDArray[np.intp], list[str]]:
    """The candidates that may be proposed, each protein once."""
    first = {sequence: i for i, sequence in reversed(list(enumerate(candidates.sequences)))}
    left = np.sort([i for sequence, i in first.items() if sequence not in known]).astype(np.intp)
    seen, repeated = len(first) - len(left), len(candidates) - len(first)
    if not len(left):
        raise InputError(f"all {len(first):,} candidates were measured already; give others")
    notes = []
    if seen or repeated:
        parts = [f"{seen:,} were measured already"] if seen else []
        parts += [f"{repeated:,} repeat another"] if repeated else []
        notes.append(f"Of {len(candidates):,} candidates {' and '.join(parts)}; {len(left):,} are left.")
    return left, notes


# --- the plate


def _wells(saved: Trained, candidates: Assay, beliefs: Beliefs, plan: Plan) -> list[Well]:
    """Their indices are those of the candidates."""
    if len(candidates) > 1 and np.ptp(beliefs.mean) == 0:
        raise InputError(f"{saved.name} predicts the same for every candidate: there is nothing to choose by")
    if not beliefs.joint and plan.strategy != "greedy":
        raise InputError(
            f"--strategy {plan.strategy} needs to know how variants rise and fall together, and {saved.name} does not "
            "say; use --strategy greedy, or a model that is a Gaussian process or ridge regression"
        )
    kept = shortlist(beliefs, plan)
    if beliefs.joint:
        posterior = saved.model.posterior([candidates.rows[i] for i in kept])
    else:
        posterior = Posterior(beliefs.mean[kept], np.zeros((len(kept), len(kept))), 0.0)
    mutated = None if plan.per_position is None else candidates.differs[kept]
    return [Well(int(kept[well.candidate]), well.why) for well in choose(posterior, plan, mutated)]


def _table(
    saved: Trained,
    found: _Candidates,
    chosen: NDArray[np.intp],
    mean: NDArray[np.float64],
    measured: NDArray[np.float64],
    wells: Sequence[Well],
) -> pd.DataFrame:
    plate = found.assay.take(chosen)
    columns: dict[str, Any] = {"rank": np.arange(1, len(plate) + 1)}
    if found.labels is not None:
        columns["id"] = [found.labels[i] for i in chosen]
    if len(saved.assay.wild_types) > 1:
        columns["wild_type"] = plate.parents
    notes = Seen(saved.assay).notes(plate)
    columns |= {
        "mutations": [named(plate, i) for i in range(len(plate))],
        "sequence": plate.sequences,
        "mean": mean,
        "uncertainty": measured,
        "why": ["; ".join(filter(None, (well.why, note))) for well, note in zip(wells, notes, strict=True)],
    }
    return pd.DataFrame(columns)


def _summary(saved: Trained, plate: Assay, beliefs: Beliefs, plan: Plan) -> list[str]:
    count = len(plate)
    text = f"{count:,} of {len(beliefs.mean):,} candidates proposed by {plan.strategy} with {saved.name}"
    mutated = np.count_nonzero(plate.differs, axis=0)
    if mutated.any():
        text += f"; they mutate {np.count_nonzero(mutated):,} positions, one of them in {mutated.max():,} wells"
    notes = [f"{text}."]
    if count < plan.size:
        reason = "no others were left" if plan.per_position is None else "--per-position leaves no others"
        notes.append(f"{plan.size:,} were asked for: {reason}.")
    if plan.strategy == "greedy" and plan.diversity and not beliefs.joint:
        notes.append("The model does not say how variants rise and fall together: these are its highest predictions.")
    return notes
