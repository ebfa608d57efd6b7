"""One page about the training of one or several students: curves, comparison at equal loss, residues by their course.

The page needs nothing but itself: no network, no script, no font.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from limbeck.distillation.comparison import at_loss, lowest, shared_levels
from limbeck.distillation.training_folder import Evaluation, TrainingRun, read_runs
from limbeck.distillation.trajectories import (
    CONFIDENCE,
    GROUPS,
    LETTERS,
    THRESHOLD,
    Trajectories,
    chance,
    classify,
    enrichment,
    read_trajectories,
)
from limbeck.errors import InputError
from limbeck.figures import UNKNOWN, Line, in_short, line_plot
from limbeck.pages import write_page
from limbeck.version import __version__

__all__ = ["write_report"]

MOST_STUDENTS = 8
"""As many as there are colours that can be told apart."""
IN_NATS = ("hidden", "profile", "contexts", "contrast", "kl")
"""Losses that are logarithms of probabilities, by the last word of their names."""
SEEN = "residues seen"
_SHA256 = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def write_report(
    folders: Sequence[Path], output: Path, *, loss: str | None = None, threshold: float = THRESHOLD
) -> Path:
    """Write the report of one or several training runs, finished or not.

    Args:
        folders: students' folders, or the ``training`` folders in them; eight at most.
        output: the page (HTML).
        loss: at equal values of which validation loss several students are compared; by default that of residues
            (``hidden`` or ``profile``), or else the first that all of them have.
        threshold: nats that a residue's loss must move by to count as falling or rising.

    Returns:
        ``output``.

    Raises:
        InputError: if a folder holds no run, a file in it is damaged, or the students do not have ``loss`` in common.
    """
    if not 1 <= len(folders) <= MOST_STUDENTS:
        raise InputError(f"a report is about 1 to {MOST_STUDENTS} students, not {len(folders)}; name fewer folders")
    if not 0 <= threshold < math.inf:
        raise InputError(f"--threshold must be a number of nats, 0 or more; not {threshold}")
    runs = read_runs(folders)
    write_page(output, "limbeck.distillation", "report.html", _content(runs, loss, threshold))
    return output


def _content(runs: Sequence[TrainingRun], loss: str | None, threshold: float) -> dict[str, Any]:
    trajectories = [read_trajectories(run.folder) for run in runs]
    one = len(runs) == 1
    return {
        "title": f"Training of {runs[0].name}" if one else f"Training of {len(runs)} students",
        "subtitle": _subtitle(runs),
        "runs": runs,
        "names": [run.name for run in runs],
        "notes": _notes(runs, trajectories),
        "summary": _summary(runs),
        "last_losses": _last_losses(runs),
        "losses": _losses(runs),
        "probes": _probes(runs),
        "equal": None if one and loss is None else _equal_loss(runs, loss),
        "course": _course(runs),
        "residues": [
            _residues(run.name, found, threshold)
            for run, found in zip(runs, trajectories, strict=True)
            if found is not None
        ],
        "threshold": f"{threshold:g}",
        "confidence": f"{100 * CONFIDENCE:g}",
        "settings": _settings(runs),
        "version": __version__,
        "sources": ", ".join(str(run.folder) for run in runs),
    }


def _notes(runs: Sequence[TrainingRun], trajectories: Sequence[Trajectories | None]) -> list[str]:
    """What was left out, and of whom unless it is all of them."""
    about: dict[str, list[str]] = {}
    for run, found in zip(runs, trajectories, strict=True):
        unsorted = "Fewer than four checkpoints hold losses of residues, so residues are not sorted."
        for note in [*run.notes, *([unsorted] if found is None else [])]:
            about.setdefault(note, []).append(run.name)
    return [note if len(names) == len(runs) else f"{', '.join(names)}: {note}" for note, names in about.items()]


def _subtitle(runs: Sequence[TrainingRun]) -> str:
    seen = in_short(sum(run.last.residues for run in runs))
    evaluations = sum(len(run.evaluations) for run in runs)
    return f"{seen} residues seen, {evaluations} evaluation{'s' if evaluations > 1 else ''}"


# --- tables


def _summary(runs: Sequence[TrainingRun]) -> list[list[str]]:
    columns: dict[str, Callable[[TrainingRun], str]] = {
        "steps": _steps,
        "residues seen": lambda run: in_short(run.last.residues),
        "time spent": lambda run: _duration(run.seconds),
        "time left, about": lambda run: _duration(run.seconds_left),
        "residues/s (median)": lambda run: in_short(float(np.median([e.residues_per_second for e in run.evaluations]))),
        "operations (FLOP)": lambda run: in_short(run.last.operations),
        "FLOP/s": lambda run: in_short(run.last.operations / run.seconds if run.seconds else math.nan),
    }
    rows = [[name, *map(value, runs)] for name, value in columns.items()]
    return [row for row in rows if set(row[1:]) != {UNKNOWN}]


def _steps(run: TrainingRun) -> str:
    total = run.settings.get("steps")
    return f"{run.last.step:,} of {int(total):,}" if total and total.isdecimal() else f"{run.last.step:,}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _last_losses(runs: Sequence[TrainingRun]) -> list[list[str]]:
    rows = []
    for name in _names(e.validation for run in runs for e in run.evaluations):
        series = [_series(run, _of("validation", name))[1] for run in runs]
        rows.append([name, *(f"{s[-1]:.4f} ({s.min():.4f})" if len(s) else UNKNOWN for s in series)])
    return rows


def _settings(runs: Sequence[TrainingRun]) -> list[tuple[str, list[str], bool]]:
    rows = []
    for name in _names(run.settings for run in runs):
        values = [run.settings.get(name, UNKNOWN) for run in runs]
        shortened = [_SHA256.sub(r"\1…", value) for value in values]
        rows.append((name, shortened, len(set(values)) > 1))
    return rows


# --- curves


def _names(values: Iterable[dict[str, Any]]) -> list[str]:
    """Keys of all, in the order in which they first occur."""
    return list(dict.fromkeys(name for each in values for name in each))


def _series(run: TrainingRun, value: Callable[[Evaluation], float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residues seen and a value, (evaluations,) each, where the value is known."""
    pairs = np.array([(e.residues, value(e)) for e in run.evaluations], dtype=np.float64)
    known = pairs[np.isfinite(pairs).all(axis=1)]
    return known[:, 0], known[:, 1]


def _of(field: str, name: str) -> Callable[[Evaluation], float]:
    """One named number of ``losses``, ``validation`` or ``probes``; NaN where it is not given."""

    def value(evaluation: Evaluation) -> float:
        numbers: dict[str, float] = getattr(evaluation, field)
        return numbers.get(name, math.nan)

    return value


def _lines(runs: Sequence[TrainingRun], label: str, style: str, value: Callable[[Evaluation], float]) -> list[Line]:
    return [
        Line(*_series(run, value), f"{run.name}, {label}" if len(runs) > 1 else label, f"c{i} {style}".strip())
        for i, run in enumerate(runs)
    ]


def _losses(runs: Sequence[TrainingRun]) -> list[tuple[str, list[Markup]]]:
    """Figures by teacher."""
    names = _names(part for run in runs for e in run.evaluations for part in (e.losses, e.validation))
    teachers = {name: _teacher(name) for name in names}
    result = []
    for teacher, group in groupby(
        sorted(names, key=lambda n: list(teachers.values()).index(teachers[n])), teachers.get
    ):
        figures = [_loss(runs, name) for name in group]
        result.append((teacher or ("Corpus and context library" if len(set(teachers.values())) > 1 else ""), figures))
    return result


def _teacher(loss: str) -> str:
    """An encoder's losses are called after it and after what they compare, as in ``NAME residues``."""
    return loss.rpartition(" ")[0]


def _loss(runs: Sequence[TrainingRun], name: str) -> Markup:
    lines = _lines(runs, "training", "faint", _of("losses", name))
    lines += _lines(runs, "held out", "", _of("validation", name))
    return line_plot(name, lines, SEEN, unit="nats" if name.rpartition(" ")[2] in IN_NATS else "")


def _probes(runs: Sequence[TrainingRun]) -> list[Markup]:
    names = _names(e.probes for run in runs for e in run.evaluations)
    return [line_plot(n, _lines(runs, n, "", _of("probes", n)), SEEN) for n in names]


def _course(runs: Sequence[TrainingRun]) -> list[Markup]:
    parts: list[tuple[str, str, Callable[[Evaluation], float]]] = [
        ("Learning rate", "", lambda e: e.learning_rate),
        ("Throughput", "residues/s", lambda e: e.residues_per_second),
        ("Operations", "FLOP", lambda e: e.operations),
    ]
    figures = [
        line_plot(title, _lines(runs, title.lower(), "", value), SEEN, unit=unit) for title, unit, value in parts
    ]
    return [figure for figure in figures if figure]


# --- at equal loss


@dataclass(frozen=True)
class _EqualLoss:
    loss: str
    warnings: list[str]
    figures: list[Markup]
    tables: list[tuple[str, list[list[str]]]]


def _equal_loss(runs: Sequence[TrainingRun], loss: str | None) -> _EqualLoss | None:
    each = [set(_names(e.validation for e in run.evaluations)) for run in runs]
    shared = [
        name for name in _names(e.validation for e in runs[0].evaluations) if all(name in names for names in each)
    ]
    if loss is not None and loss not in shared:
        offered = ", ".join(shared) or "none"
        raise InputError(f"not every student has a validation loss {loss!r}; losses of all: {offered}")
    if not shared:
        return None
    loss = loss or next((name for name in ("hidden", "profile") if name in shared), shared[0])
    figures, tables, warnings = [], [], _comparability(runs)
    for title, unit, value in _compared(runs):
        pairs = [_by_loss(run, loss, value) for run in runs]
        lines = [
            Line(x, y, f"{run.name}, {title}", f"c{i}") for i, (run, (x, y)) in enumerate(zip(runs, pairs, strict=True))
        ]
        figures.append(line_plot(title, lines, f"{loss} loss on held-out families", unit=unit, falling_x=True))
        levels = shared_levels([x for x, _ in pairs])
        rows = [[f"{level:.4f}", *(in_short(at_loss(x, y, level), 4) for x, y in pairs)] for level in levels]
        if rows:
            tables.append((f"{title} ({unit})" if unit else title, rows))
        else:
            warnings.append(f"The students share no range of the {loss} loss over which {title} is known for all.")
    return _EqualLoss(loss, warnings, [figure for figure in figures if figure], tables)


def _compared(runs: Sequence[TrainingRun]) -> list[tuple[str, str, Callable[[Evaluation], float]]]:
    """What students are compared by: the probes that all of them have, and what they spent."""
    each = [set(_names(e.probes for e in run.evaluations)) for run in runs]
    probes = [name for name in _names(e.probes for e in runs[0].evaluations) if all(name in names for names in each)]
    parts: list[tuple[str, str, Callable[[Evaluation], float]]] = [(name, "", _of("probes", name)) for name in probes]
    parts.append((SEEN, "", lambda e: e.residues))
    if all(math.isfinite(e.operations) for run in runs for e in run.evaluations):
        parts.append(("operations", "FLOP", lambda e: e.operations))
    return parts


def _by_loss(
    run: TrainingRun, loss: str, value: Callable[[Evaluation], float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A loss and a value at the evaluations that set a new lowest loss."""
    pairs = np.array([(e.validation.get(loss, math.nan), value(e)) for e in run.evaluations], dtype=np.float64)
    known = pairs[np.isfinite(pairs).all(axis=1)]
    known = known[lowest(known[:, 0])]
    return known[:, 0], known[:, 1]


def _comparability(runs: Sequence[TrainingRun]) -> list[str]:
    """Equal losses mean the same only on the same proteins, and with the same share of them hidden."""
    differing = [n for n in ("corpus", "masked") if len({run.settings.get(n, "") for run in runs}) > 1]
    if not differing:
        return []
    return [
        f"The students were trained with another {' and another '.join(differing)}: their losses are not of one kind."
    ]


# --- residues


def _residues(name: str, found: Trajectories, threshold: float) -> dict[str, Any]:
    groups = classify(found.losses, found.steps, threshold=threshold)
    by_chance = chance(found, threshold)
    ratios = enrichment(groups, found.letters, found.crops)
    present = [i for i in range(len(LETTERS)) if (found.letters == i).any()]
    rows = [_group(index, groups, by_chance, found) for index in range(len(GROUPS))]
    lines = [
        Line(
            found.steps.astype(np.float64),
            found.losses[:, groups == i].mean(axis=1, dtype=np.float64),
            GROUPS[i],
            f"c{row['colour']}",
        )
        for i, row in enumerate(rows)
        if row["share"] > 0
    ]
    change = [Line(line.x, np.asarray(line.y) - line.y[0], line.label, line.style) for line in lines]
    return {
        "name": name,
        "size": f"{len(groups):,} residues of {len(np.unique(found.crops)):,} crops at {len(found.steps)} checkpoints, "
        f"steps {found.steps[0]:,} to {found.steps[-1]:,}",
        "groups": rows,
        "figures": [
            line_plot("Mean loss of each group", lines, "steps", unit="nats"),
            line_plot("Change since the first checkpoint", change, "steps", unit="nats"),
        ],
        "letters": [LETTERS[i] for i in present],
        "heat": [
            {"name": GROUPS[g], "cells": [_cell(ratios[i, g]) for i in present]}
            for g, row in enumerate(rows)
            if row["share"] > 0
        ],
    }


# Blue, grey, vermilion, purple of the style sheet, in the order of GROUPS.
_COLOURS = (0, 7, 1, 3)


def _group(index: int, groups: NDArray[np.int8], by_chance: NDArray[np.float64], found: Trajectories) -> dict[str, Any]:
    inside = groups == index
    share = float(inside.mean())
    losses = found.losses[:, inside]
    return {
        "name": GROUPS[index],
        "colour": _COLOURS[index],
        "share": share,
        "count": f"{int(inside.sum()):,}",
        "percent": f"{100 * share:.1f} %",
        "chance": f"{100 * by_chance[index]:.1f} %",
        "first": f"{losses[0].mean(dtype=np.float64):.3f}" if inside.any() else UNKNOWN,
        "last": f"{losses[-1].mean(dtype=np.float64):.3f}" if inside.any() else UNKNOWN,
    }


def _cell(interval: NDArray[np.float64]) -> dict[str, str]:
    ratio, low, high = interval.tolist()
    if math.isnan(ratio):
        return {"text": UNKNOWN, "kind": "open", "style": "", "title": "does not occur"}
    sure = low > 1 or high < 1
    # Full colour at three times, or a third of, what is common.
    strength = min(1.0, abs(math.log(max(ratio, 1e-3))) / math.log(3))
    style = f"background: rgba(var(--{'over' if ratio > 1 else 'under'}), {0.1 + 0.5 * strength:.2f})" if sure else ""
    title = f"{ratio:.2f} (95 % interval {low:.2f} to {high:.2f})"
    return {"text": f"{ratio:.1f}", "kind": "sure" if sure else "open", "style": style, "title": title}
