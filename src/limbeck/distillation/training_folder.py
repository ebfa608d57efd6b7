"""Reading what a training run leaves behind: its options and its log."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from limbeck.errors import InputError

__all__ = ["Evaluation", "TrainingRun", "read_runs"]


@dataclass(frozen=True)
class Evaluation:
    """One line of a run's log."""

    step: int
    """Optimiser steps done."""
    residues: float
    """Residues seen so far."""
    seconds: float
    """Since the training, or the part of it after the last ``--resume``, began."""
    residues_per_second: float
    learning_rate: float
    losses: dict[str, float] = field(default_factory=dict)
    """Training losses by name, each the mean since the line before."""
    validation: dict[str, float] = field(default_factory=dict)
    """The same losses on the families held out."""
    probes: dict[str, float] = field(default_factory=dict)
    """Scores by name."""
    operations: float = math.nan
    """Floating point operations spent so far."""


@dataclass(frozen=True)
class TrainingRun:
    """One student's run."""

    name: str
    folder: Path
    """With ``log.jsonl`` and the rest."""
    evaluations: list[Evaluation]
    """By step; one at least."""
    settings: dict[str, str]
    """Options by name, those of parts as ``part.option``."""
    notes: list[str]
    """What had to be left out."""

    @property
    def last(self) -> Evaluation:
        return self.evaluations[-1]

    @property
    def seconds(self) -> float:
        """Time spent training; the clock starts anew when a run is resumed."""
        clock = [0.0, *(e.seconds for e in self.evaluations)]
        return sum(b - a if b >= a else b for a, b in pairwise(clock))

    @property
    def seconds_left(self) -> float:
        """Steps left, at the speed of the last stretch; NaN where the number of steps is unknown."""
        try:
            total = int(self.settings["steps"])
        except (KeyError, ValueError):
            return math.nan
        speed = self.last.residues_per_second * self.last.step / self.last.residues if self.last.residues else 0.0
        return max(0, total - self.last.step) / speed if speed > 0 else math.nan


def read_runs(folders: Sequence[Path]) -> list[TrainingRun]:
    """Read the training folders of one or several students.

    Args:
        folders: students' folders, or the ``training`` folders in them.

    Raises:
        InputError: if a folder holds no log, a line of it is damaged, or a student is named twice. A last line that
            was torn off, as by a full disk or a kill, is left out with a note.
    """
    training = [_training_folder(Path(folder)) for folder in folders]
    if repeated := next(
        (f for i, f in enumerate(training) if f.resolve() in {g.resolve() for g in training[:i]}), None
    ):
        raise InputError(f"{repeated} is named twice; name each folder once")
    return [_read_run(folder, name) for folder, name in zip(training, _names(training), strict=True)]


def _training_folder(folder: Path) -> Path:
    for candidate in (folder / "training", folder):
        if (candidate / "log.jsonl").is_file():
            return candidate
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name the folder of a student")
    raise InputError(f"{folder} holds no training/log.jsonl; wait for the first evaluation, or name another folder")


def _names(training: Sequence[Path]) -> list[str]:
    """The students' names: the ends of their paths, as long as it takes to tell them apart."""
    paths = [f.resolve().parent if f.name == "training" else f.resolve() for f in training]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in training]


def _read_run(folder: Path, name: str) -> TrainingRun:
    notes: list[str] = []
    evaluations = _read_log(folder / "log.jsonl", notes)
    return TrainingRun(name, folder, evaluations, _read_settings(folder / "training.json", notes), notes)


def _read_log(path: Path, notes: list[str]) -> list[Evaluation]:
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    lines = text.split("\n")
    torn = lines.pop()
    by_step: dict[int, Evaluation] = {}
    for number, line in enumerate(lines, start=1):
        evaluation = _parse(line, f"{path}, line {number}")
        # A resumed run goes back to its checkpoint and evaluates some steps once more.
        by_step = {step: earlier for step, earlier in by_step.items() if step < evaluation.step}
        by_step[evaluation.step] = evaluation
    if torn:
        notes.append(f"The last line of {path.name} was torn off and is left out.")
    if not by_step:
        raise InputError(f"{path} holds no whole line; wait for the first evaluation")
    return list(by_step.values())


def _parse(line: str, where: str) -> Evaluation:
    try:
        values = json.loads(line)
    except ValueError:
        raise InputError(f"{where}: not JSON; remove the line") from None
    if not isinstance(values, dict):
        raise InputError(f"{where}: not a JSON object; remove the line")
    try:
        return Evaluation(
            step=int(_number(values, "step")),
            residues=_number(values, "residues"),
            seconds=_number(values, "seconds"),
            residues_per_second=_number(values, "residues_per_second"),
            learning_rate=_number(values, "learning_rate"),
            losses=_numbers(values, "losses"),
            validation=_numbers(values, "validation"),
            probes=_numbers(values, "probes"),
            operations=_number(values, "operations", missing=math.nan),
        )
    except (KeyError, TypeError, OverflowError, ValueError) as error:
        raise InputError(f"{where}: {error.args[0]}; remove the line") from None


def _number(values: dict[str, Any], name: str, missing: float | None = None) -> float:
    value = values.get(name, missing)
    if value is None and missing is None:
        raise KeyError(f"no {name!r}")
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name!r} is no number")
    return float(value)


def _numbers(values: dict[str, Any], name: str) -> dict[str, float]:
    found = values.get(name) or {}
    if not isinstance(found, dict):
        raise TypeError(f"{name!r} is no object of numbers")
    return {key: _number(found, key, missing=math.nan) for key in found}


def _read_settings(path: Path, notes: list[str]) -> dict[str, str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        notes.append(f"There is no {path.name}, so settings and time left are unknown.")
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not the options of a run ({error}); restore or remove it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not the options of a run (no JSON object); restore or remove it")
    return _flat(values)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    result: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            result[prefix + key] = ", ".join(str(part) for part in value if part != "")
        else:
            result[prefix + key] = str(value)
    return result
