"""A comparison as plain text, for terminals and logs."""

from __future__ import annotations

import math
import re
import shutil
import textwrap
from typing import Any

import pandas as pd

from limbeck.figures import UNKNOWN, in_short
from limbeck.landscapes.comparison import Comparison
from limbeck.landscapes.verdict import UNITS

__all__ = ["as_text"]

NARROWEST, WIDEST, USUAL = 72, 160, 120
SMALLEST_PICTURE, LARGEST_PICTURE = 18, 40
"""Characters of a drawn interval; it is left out where there is less room."""
LONGEST_NAME = 50
VERDICTS = {"needed": "NEEDED", "not needed": "NOT NEEDED", "unclear": "UNCLEAR"}
LEGEND = """Intervals hold 95 %. Of the models, chosen on validation data:
> best pretrained   = best without pretraining"""


def as_text(comparison: Comparison, width: int | None = None) -> str:
    """The verdicts, then the scores split by split, leaks, and what was left out.

    Args:
        comparison: what to show.
        width: characters in a line; by default those of the terminal, up to 120.
    """
    width = width or min(shutil.get_terminal_size((100, 24)).columns, USUAL)
    width = max(NARROWEST, min(width, WIDEST))
    parts = [_head(comparison, width), _verdicts(comparison, width)]
    parts.append(_wrapped(str(comparison.settings.get("few labels", "")), width))
    parts += [_split(comparison, row, width) for row in comparison.splits.itertuples()]
    if not comparison.verdicts.empty:
        parts.append(LEGEND.splitlines())
    parts += [_leaks(comparison, width), _left_out(comparison, width)]
    return "\n\n".join("\n".join(line.rstrip() for line in part) for part in parts if part) + "\n"


def _head(comparison: Comparison, width: int) -> list[str]:
    assay = comparison.assay
    title = f"{assay.name}: does it need transfer learning?"
    if comparison.splits.empty:
        return [*_wrapped(title, width), "=" * min(width, len(title)), *_wrapped(comparison.summary, width)]
    models = comparison.scores["model"].nunique()
    size = (
        f"{len(assay):,} variants, {assay.width:,} {'residues' if assay.layout == 'substitutions' else 'columns'}; "
        f"{models} model{'s' * (models != 1)} on {_count(len(comparison.splits), 'split')}"
    )
    encoders = comparison.scores.loc[comparison.scores["pretrained"], "encoder"].dropna().unique()
    tried = f"Encoders tried: {', '.join(encoders)}" if len(encoders) else "No pretrained encoder was tried."
    lines = [*_wrapped(title, width), "=" * min(width, len(title)), *_wrapped(size, width)]
    # With several verdicts their summary says so.
    return [
        *lines,
        *(_wrapped(tried, width) if len(comparison.verdicts) < 2 else ["", *_wrapped(comparison.summary, width)]),
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _units(number: int, unit: str) -> str:
    """So many of what the bootstrap draws whole."""
    one, several = "wild type" if unit == "parent" else unit, UNITS[unit][1] if unit in UNITS else f"{unit}s"
    return f"{number:,} {one if number == 1 else several}"


def _wrapped(text: str, width: int, first: str = "") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)


def _verdicts(comparison: Comparison, width: int) -> list[str]:
    lines = []
    for row in comparison.verdicts.itertuples():
        first = f"{VERDICTS.get(row.verdict, row.verdict.upper()):<12}"
        lines += [*_wrapped(f"{row.split}", width, first), *_wrapped(row.sentence, width, " " * 12)]
        if row.advice:
            lines += _wrapped(row.advice, width, " " * 10 + "> ")
        lines.append("")
    return lines[:-1]


# --- scores


def _split(comparison: Comparison, row: Any, width: int) -> list[str]:
    title = f"--- {row.split} "
    lines = [title + "-" * max(0, width - len(title)), *_wrapped(row.question or "", width)]
    sizes = f"train {row.train:,}, validation {row.valid:,}, test {row.test:,}"
    lines += _wrapped(sizes + (f"; intervals over {_units(row.units, row.unit)}" if row.unit else ""), width)
    scores = comparison.scores[comparison.scores["split"] == row.split]
    kinds = [kind for kind in ("sample", "all") if (scores["rows"] == kind).any()]
    for kind in kinds:
        part = scores[scores["rows"] == kind]
        lines.append("")
        if kind == "sample":
            sizes = f"fitted to a sample of {part['n_train'].max():,}, scored on {part['n_test'].max():,}"
            lines += _wrapped(sizes, width)
        elif len(kinds) > 1:
            lines += _wrapped(f"fitted to all {part['n_train'].max():,}, scored on {part['n_test'].max():,}", width)
        lines += _scores(comparison, row.split, kind, width, marked=kind == kinds[0])
    return lines


def _scores(comparison: Comparison, split: str, rows: str, width: int, *, marked: bool) -> list[str]:
    ranking = comparison.ranking(split, rows=rows)
    others = _others(comparison, split, rows)
    numbers_width = 7 + 16 + sum(_OTHERS.values())
    longest = min(LONGEST_NAME, max([len("model"), *map(len, ranking["model"])]) + 2)
    column = min(longest, width - 2 - numbers_width)
    picture = min(LARGEST_PICTURE, width - 2 - numbers_width - column - 2)
    if picture < SMALLEST_PICTURE:
        picture = 0
    head = f"{'Spearman':>10}{'':13}{'Pearson':>8}{'MSE':>9}{'NDCG':>7}{'top 10%':>8}"
    ends = _range(ranking)
    scale = f"  {ends[0]:<{picture // 2}.1f}{ends[1]:>{picture - picture // 2}.1f}" if picture else ""
    lines = [f"  {'model':<{column}}{head}{scale}"]
    verdict = comparison.verdict(split) if marked else None
    for row in ranking.itertuples():
        mark = {getattr(verdict, "model", None): ">", getattr(verdict, "baseline", None): "="}.get(row.model, " ")
        numbers = f"{_three(row.value):>7}{_interval(row.low, row.high):<16}"
        numbers += "".join(f"{others.get((row.model, m), UNKNOWN):>{w}}" for m, w in _OTHERS.items())
        name, *more = _broken(row.model, column - 2)
        lines.append(f"{mark} {name:<{column}}{numbers}" + (f"  {_drawn(row, *ends, picture)}" if picture else ""))
        lines += [f"    {rest}" for rest in more]
    return lines


_OTHERS = {"pearson": 8, "mse": 9, "ndcg": 7, "recall": 8}
"""Metrics beside the first, and the width of their columns."""


def _others(comparison: Comparison, split: str, rows: str) -> dict[tuple[str, str], str]:
    scores = comparison.scores
    scores = scores[(scores["split"] == split) & (scores["rows"] == rows)]
    return {
        (row.model, row.metric): in_short(row.value, 3) if row.metric == "mse" else _three(row.value)
        for row in scores.itertuples()
    }


def _broken(name: str, width: int) -> list[str]:
    """A name in lines, broken behind blanks and the marks that names of encoders have."""
    lines = [""]
    for part in re.split(r"(?<=[\s/_-])", name):
        if len(lines[-1] + part.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    return [line.rstrip()[i : i + width] for line in lines for i in range(0, max(1, len(line.rstrip())), width)]


def _three(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else UNKNOWN


def _interval(low: float, high: float) -> str:
    return f" ({low:.2f} to {high:.2f})" if math.isfinite(low) and math.isfinite(high) else ""


def _range(ranking: pd.DataFrame) -> tuple[float, float]:
    """Where the drawn intervals begin and end, on tenths."""
    values = pd.concat([ranking["value"], ranking["low"], ranking["high"]]).dropna()
    if values.empty:
        return 0.0, 1.0
    low, high = math.floor(values.min() * 10) / 10, math.ceil(values.max() * 10) / 10
    return low, max(high, low + 0.1)


def _drawn(row: Any, low: float, high: float, width: int) -> str:
    """An interval as a line with a dot."""

    def place(value: float) -> int:
        return round((min(max(value, low), high) - low) / (high - low) * (width - 1))

    if not math.isfinite(row.value):
        return ""
    cells = [" "] * width
    if math.isfinite(row.low) and math.isfinite(row.high):
        cells[place(row.low) : place(row.high) + 1] = "─" * (place(row.high) + 1 - place(row.low))
    cells[place(row.value)] = "●"
    return "".join(cells)


# --- the rest


def _leaks(comparison: Comparison, width: int) -> list[str]:
    lines = [line for text in comparison.leaks["sentence"] for line in _wrapped(text or "", width, "  - ")]
    return ["Leaks", *lines] if lines else []


def _left_out(comparison: Comparison, width: int) -> list[str]:
    texts = [f"{row.what}: {row.reason}" for row in comparison.left_out.itertuples()]
    lines = [line for text in texts for line in _wrapped(text, width, "  - ")]
    return ["Left out", *lines] if lines else []
