"""One page about a comparison: the verdict first, then what it rests on.

The page needs nothing but itself: no network, no font. Its one script shows the numbers of a heat map's cells; without
it everything else is there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from limbeck.figures import UNKNOWN, Line, in_short, line_plot
from limbeck.landscapes.comparison import KINDS, METRIC_NAMES, Comparison
from limbeck.landscapes.effects import GROUPS, Effects, effects, wild_types_by_size
from limbeck.landscapes.pictures import (
    MOST_SHOWN,
    SHADES,
    axis,
    bar_chart,
    heat_map,
    heat_numbers,
    histogram,
    interval,
    parity,
)
from limbeck.landscapes.verdict import MARGIN, UNITS
from limbeck.pages import write_page
from limbeck.version import __version__

__all__ = ["KIND_COLOURS", "write_report"]

KIND_COLOURS = dict(zip(KINDS, ("c7", "c0", "c2", "c4", "c1"), strict=True))
"""Colour of the style sheet by kind of model."""
KIND_MEANINGS = {
    "floor": "floor: knows no order of residues",
    "one-hot": "one-hot: residues by position",
    "network": "network trained on the scores alone",
    "random network": "vectors of an untrained encoder",
    "pretrained": "vectors of a pretrained encoder",
}
_CLASSES = {"needed": "needed", "not needed": "not-needed"}
_COLOURS = 8
MOST_PARENTS = 6
"""Heat maps of one page."""
MOST_POSITIONS = 3000
"""Positions of one heat map."""
FEWEST_SPREADS = 20
"""Variants with replicates that make a histogram."""
TALL = 600
"""From so many positions on, a heat map scrolls in its own window."""
EXAMPLES = 5
"""Leaks named one by one."""


def write_report(comparison: Comparison, output: Path) -> Path:
    """Write the page about a comparison.

    Args:
        comparison: what was found.
        output: the page (HTML).

    Returns:
        ``output``.

    Raises:
        InputError: if the page cannot be written.
    """
    write_page(output, "limbeck.landscapes", "landscape.html", _content(comparison))
    return output


def _content(comparison: Comparison) -> dict[str, Any]:
    assay, heat = comparison.assay, _heat(comparison)
    return {
        "title": f"{assay.name}: does it need transfer learning?",
        "subtitle": _subtitle(comparison),
        # One verdict's card says all of it.
        "summary": comparison.summary if len(comparison.verdicts) != 1 else "",
        "advice": "" if len(comparison.splits) else comparison.settings.get("few labels", ""),
        "margin": MARGIN,
        "encoders": _encoders(comparison),
        "cards": _cards(comparison),
        "panels": _panels(comparison),
        "kinds": [
            (KIND_COLOURS[kind], meaning)
            for kind, meaning in KIND_MEANINGS.items()
            if (comparison.scores["kind"] == kind).any()
        ],
        "parity": _parity(comparison),
        "most_shown": f"{MOST_SHOWN:,}",
        "curves": _curves(comparison),
        "curve_models": _curve_models(comparison),
        "heat": heat,
        "more_parents": len(assay.wild_types) - len(heat),
        "groups": ", ".join(f"{name} {letters}" for name, letters in GROUPS.items() if letters.isalpha()),
        "shades": [f"h{abs(s)}" + ("n" if s < 0 else "p" if s else "") for s in range(-SHADES, SHADES + 1)],
        "figures": _data_figures(comparison),
        "facts": _facts(comparison),
        "notes": [*assay.notes, *filter(None, [comparison.settings.get("few labels")])],
        "leaks": [_leak(row) for row in comparison.leaks.itertuples()],
        "left_out": list(comparison.left_out.itertuples(index=False, name=None)),
        "tables": _tables(comparison),
        "metrics": list(METRIC_NAMES.values()),
        "settings": _settings(comparison.settings),
        "known_encoders": _encoder_table(comparison.settings),
        "version": __version__,
    }


def _subtitle(comparison: Comparison) -> str:
    models, splits = comparison.scores["model"].nunique(), len(comparison.splits)
    return (
        f"{len(comparison.assay):,} variants, {models} model{'s' * (models != 1)}, {splits} split{'s' * (splits != 1)}"
    )


def _encoders(comparison: Comparison) -> list[str]:
    return list(comparison.scores.loc[comparison.scores["pretrained"], "encoder"].dropna().unique())


# --- verdicts


def _cards(comparison: Comparison) -> list[dict[str, Any]]:
    verdicts = comparison.verdicts
    known = verdicts[["difference", "low", "high"]].abs().to_numpy()
    furthest = 1.08 * float(np.nanmax(known)) if np.isfinite(known).any() else 1.0
    ends = (-(furthest or 1.0), furthest or 1.0)
    return [_card(comparison, row, ends) for row in verdicts.itertuples()]


def _card(comparison: Comparison, row: Any, ends: tuple[float, float]) -> dict[str, Any]:
    questions = comparison.splits.loc[comparison.splits["split"] == row.split, "question"]
    numbers = f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})" if math.isfinite(row.difference) else ""
    label = f"Difference in Spearman's correlation {numbers}"
    return {
        "split": row.split,
        "question": questions.iloc[0] if len(questions) else None,
        "verdict": row.verdict,
        "css": _CLASSES.get(row.verdict, "unclear"),
        "sentence": row.sentence,
        "advice": row.advice,
        "numbers": numbers,
        "track": interval(row.difference, row.low, row.high, ends, "ink", label) if numbers else "",
        "axis": axis(ends) if numbers else "",
        "size": f"{row.n:,} test variants" + _of_units(comparison, row),
    }


def _of_units(comparison: Comparison, row: Any) -> str:
    units = comparison.splits.loc[comparison.splits["split"] == row.split, "unit"]
    if not len(units) or row.units in (0, row.n):
        return ""
    return f" of {row.units:,} {UNITS[units.iloc[0]][1] if units.iloc[0] in UNITS else 'units'}"


# --- intervals


def _parts(comparison: Comparison) -> Iterator[tuple[Any, str, str]]:
    """Each split with each choice of rows that models were scored on, what was compared first, and what to call it."""
    for split in comparison.splits.itertuples():
        found = comparison.scores[comparison.scores["split"] == split.split]
        kinds = [kind for kind in ("sample", "all") if (found["rows"] == kind).any()]
        for kind in kinds:
            part = found[found["rows"] == kind]
            name = "a sample" if kind == "sample" else "all"
            sizes = f"{part['n_train'].max():,} in training, {part['n_test'].max():,} in test"
            yield split, kind, f"{name}: {sizes}" if len(kinds) > 1 or kind == "sample" else sizes


def _ends(comparison: Comparison) -> tuple[float, float]:
    scores = comparison.scores[comparison.scores["metric"] == "spearman"]
    values = scores[["value", "low", "high"]].to_numpy(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = min(0.0, float(values.min())), float(values.max())
    margin = 0.03 * ((high - low) or 1.0)
    return low - margin, high + margin


def _panels(comparison: Comparison) -> list[dict[str, Any]]:
    ends = _ends(comparison)
    panels = []
    for split, kind, sizes in _parts(comparison):
        rows = [_interval_row(comparison, row, ends) for row in comparison.ranking(split.split, rows=kind).itertuples()]
        panels.append(
            {"split": split.split, "question": split.question, "sizes": sizes, "rows": rows, "axis": axis(ends)}
        )
    return panels


def _interval_row(comparison: Comparison, row: Any, ends: tuple[float, float]) -> dict[str, Any]:
    known = math.isfinite(row.low) and math.isfinite(row.high)
    numbers = _three(row.value) + (f" ({row.low:.3f} to {row.high:.3f})" if known else "")
    label = f"{row.model}: Spearman {numbers}"
    return {
        "model": _breakable(row.model),
        "role": _role(comparison, row),
        "value": _three(row.value),
        "track": interval(row.value, row.low, row.high, ends, KIND_COLOURS.get(row.kind, "c7"), label),
    }


def _breakable(name: str) -> Markup:
    """A name that may be broken behind the marks that names of encoders have."""
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(name))))


def _role(comparison: Comparison, row: Any) -> str:
    verdict = comparison.verdict(row.split)
    if verdict is None or row.rows != _compared(comparison, row.split):
        return ""
    return "best pretrained" if row.model == verdict.model else "baseline" if row.model == verdict.baseline else ""


def _three(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else UNKNOWN


# --- parity


def _parity(comparison: Comparison) -> list[dict[str, Any]]:
    tabs = []
    for split in comparison.split_names:
        shown = [
            (model, found)
            for model in _to_compare(comparison, split)
            if len(found := _tested(comparison, split, model))
        ]
        if not shown:
            continue
        values = np.concatenate([found[["measured", "predicted"]].to_numpy().ravel() for _, found in shown])
        ends = float(values.min()), float(values.max())
        tabs.append({"split": split, "figures": [_parity_figure(model, found, ends) for model, found in shown]})
    return tabs


def _to_compare(comparison: Comparison, split: str) -> list[str]:
    """The models that a verdict is about, or else the best one."""
    verdict = comparison.verdict(split)
    known = set(comparison.predictions.loc[comparison.predictions["split"] == split, "model"])
    named = [verdict.model, verdict.baseline] if verdict is not None else []
    best = comparison.best(split)
    return [model for model in named if model in known] or ([best] if best else [])


def _tested(comparison: Comparison, split: str, model: str) -> pd.DataFrame:
    found = comparison.predictions
    found = found[(found["split"] == split) & (found["model"] == model)].drop_duplicates("row")
    return found[np.isfinite(found["measured"]) & np.isfinite(found["predicted"])]


def _parity_figure(model: str, found: pd.DataFrame, ends: tuple[float, float]) -> Markup:
    inside = _inside(found)
    size = f"{len(found):,} variants"
    if inside is not None:
        size += f"; {100 * inside:.0f} % of them within the 95 % interval of the model"
    return parity(model, size, found["measured"].to_numpy(), found["predicted"].to_numpy(), ends)


def _inside(found: pd.DataFrame) -> float | None:
    """Share of the measurements in the interval that should hold 95 % of them, where the model has one."""
    known = found[np.isfinite(found["std"])]
    if known.empty:
        return None
    return float(((known["measured"] - known["predicted"]).abs() <= 1.96 * known["std"]).mean())


# --- learning curves


def _curve_models(comparison: Comparison) -> list[tuple[str, str]]:
    """Models and the classes of their lines: dashed without pretraining."""
    found = comparison.curves.drop_duplicates("model").sort_values("pretrained", kind="stable")
    return [
        (row.model, f"c{i % _COLOURS}" + ("" if row.pretrained else " without"))
        for i, row in enumerate(found.itertuples())
    ]


def _curves(comparison: Comparison) -> list[Markup]:
    styles = _curve_models(comparison)
    figures = []
    for metric, name in METRIC_NAMES.items():
        found = comparison.curves[comparison.curves["metric"] == metric]
        lines = []
        for model, style in styles:
            part = found[found["model"] == model].sort_values("n_train")
            lines.append(Line(part["n_train"], part["value"], model, style, part["low"], part["high"]))
        figures.append(line_plot(name, lines, "training variants", log_x=True))
    return [figure for figure in figures if figure]


# --- heat maps


def _heat(comparison: Comparison) -> list[dict[str, Any]]:
    assay = comparison.assay
    return [
        section
        for parent in wild_types_by_size(assay)[:MOST_PARENTS]
        if (section := _heat_section(comparison, parent)) is not None
    ]


def _heat_section(comparison: Comparison, parent: str) -> dict[str, Any] | None:
    measured = effects(comparison.assay, parent)
    if measured is None or len(measured.positions) > MOST_POSITIONS:
        return None
    model, split, predicted = _predicted(comparison, parent, measured)
    carriers = "single mutants" if measured.singles else "all variants that carry the residue"
    low, high = measured.centre - measured.limit, measured.centre + measured.limit
    return {
        "parent": parent,
        "carriers": carriers,
        "centre": f"{in_short(measured.centre)} ({measured.centred_at})",
        "low": in_short(low),
        "high": in_short(high),
        "measured": heat_map(measured, f"Measured means of {parent}"),
        "predicted": heat_map(predicted, f"Means of {parent} as {model} predicts them") if predicted else "",
        "model": model,
        "split": split,
        "tall": len(measured.positions) > TALL,
        "numbers": heat_numbers(measured, predicted),
    }


def _predicted(comparison: Comparison, parent: str, measured: Effects) -> tuple[str, str, Effects | None]:
    """Means of what the best model predicted, in the split that tested most variants: model, split and map."""
    sizes = comparison.predictions.drop_duplicates(["split", "row"])["split"].value_counts(sort=False)
    if sizes.empty:
        return "", "", None
    split = str(sizes.idxmax())
    model = comparison.best(split) or ""
    found = comparison.predictions
    found = found[(found["split"] == split) & (found["model"] == model)].drop_duplicates("row")
    return model, split, effects(comparison.assay, parent, found["row"], found["predicted"], like=measured)


# --- the data


def _data_figures(comparison: Comparison) -> list[Markup]:
    assay = comparison.assay
    figures = [histogram("Scores", assay.scores, "score", _wild_type_marks(comparison))]
    known = assay.mutations[assay.mutations >= 0]
    numbers, counts = np.unique(known, return_counts=True)
    figures.append(bar_chart("Mutations of a variant", numbers, counts, "mutations", "variants"))
    if np.isfinite(assay.spread).sum() >= FEWEST_SPREADS:
        figures.append(histogram("Spread between replicates", assay.spread, "standard deviation of the score"))
    figures += [_coverage(comparison, parent) for parent in wild_types_by_size(assay)[:1]]
    return [figure for figure in figures if figure]


def _wild_type_marks(comparison: Comparison) -> list[tuple[float, str]]:
    assay = comparison.assay
    unchanged = assay.mutations == 0
    if len(assay.wild_types) != 1 or not unchanged.any():
        return []
    return [(float(assay.scores[unchanged].mean()), "wild type")]


def _coverage(comparison: Comparison, parent: str) -> Markup:
    assay = comparison.assay
    columns = np.array([letter != "-" for letter in assay.wild_types[parent]])
    counts = assay.differs[assay.parents == parent][:, columns].sum(axis=0)
    numbers = np.arange(len(counts)) + int(assay.first_position.get(parent, 1))
    title = "Coverage of positions" + (f" of {parent}" if len(assay.wild_types) > 1 else "")
    return bar_chart(title, numbers, counts, "position", "variants mutated there")


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    assay = comparison.assay
    several = assay.replicates > 1
    spread = assay.spread[np.isfinite(assay.spread)]
    facts = [
        ("variants", f"{len(assay):,}"),
        ("width", f"{assay.width:,} {'residues' if assay.layout == 'substitutions' else 'columns'} ({assay.layout})"),
        ("wild types", _named(list(assay.wild_types)) or "none given"),
        (
            "scores",
            f"{_four(assay.scores.min())} to {_four(assay.scores.max())}, median {_four(np.median(assay.scores))}",
        ),
        ("measured more than once", f"{int(several.sum()):,} ({100 * several.mean():.0f} %)"),
        ("median spread between replicates", _four(np.median(spread)) if len(spread) else UNKNOWN),
        ("splits of the file", ", ".join(assay.splits) or "none"),
    ]
    return [(name, value) for name, value in facts if value != UNKNOWN]


def _four(value: Any) -> str:
    return in_short(float(value), 4)


def _named(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


# --- tables


def _leak(row: Any) -> dict[str, Any]:
    examples = row.examples if isinstance(row.examples, list) else [row.examples] if row.examples else []
    share = f", {100 * row.share:.1f} %" if math.isfinite(row.share) else ""
    return {
        "title": ", ".join(part for part in (row.kind, row.split, row.encoder) if part),
        "sentence": row.sentence or "",
        "size": f"{row.count:,} of {row.of:,}{share}",
        "examples": _named([str(example) for example in examples], EXAMPLES),
    }


def _tables(comparison: Comparison) -> list[dict[str, Any]]:
    tables = []
    for split, kind, sizes in _parts(comparison):
        found = comparison.scores[(comparison.scores["split"] == split.split) & (comparison.scores["rows"] == kind)]
        by_metric = {(row.model, row.metric): row for row in found.itertuples()}
        rows = [
            _table_row(comparison, row, by_metric) for row in comparison.ranking(split.split, rows=kind).itertuples()
        ]
        tables.append({"split": split.split, "sizes": sizes, "rows": rows})
    return tables


def _table_row(comparison: Comparison, row: Any, by_metric: dict[tuple[str, str], Any]) -> dict[str, Any]:
    cells = [_score_cell(by_metric.get((row.model, metric))) for metric in METRIC_NAMES]
    return {
        "model": _breakable(row.model),
        "colour": KIND_COLOURS.get(row.kind, "c7"),
        "kind": row.kind,
        "role": _role(comparison, row),
        "cells": cells,
        "difference": _difference(comparison, row),
        "valid": _three(row.valid),
        "fitted": f"{row.n_train:,}",
        "seconds": in_short(row.seconds, 2),
        "note": row.note or "",
    }


def _score_cell(row: Any) -> tuple[str, str]:
    """A value and its interval."""
    if row is None or not math.isfinite(row.value):
        return UNKNOWN, ""
    say = in_short if row.metric == "mse" else _three
    known = math.isfinite(row.low) and math.isfinite(row.high)
    return say(row.value), f"{say(row.low)} to {say(row.high)}" if known else ""


def _difference(comparison: Comparison, row: Any) -> tuple[str, str]:
    found = comparison.differences
    found = found[(found["split"] == row.split) & (found["model"] == row.model) & (found["metric"] == "spearman")]
    if found.empty or not math.isfinite(found["value"].iloc[0]) or row.rows != _compared(comparison, row.split):
        return "", ""
    first = found.iloc[0]
    return f"{first['value']:+.3f}", f"{first['low']:+.3f} to {first['high']:+.3f}"


def _compared(comparison: Comparison, split: str) -> str:
    """Which rows models are compared on: the sample, where there is one."""
    rows = comparison.scores.loc[comparison.scores["split"] == split, "rows"]
    return "sample" if (rows == "sample").any() else "all"


def _settings(settings: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in _flat(settings) if not name.startswith("encoders")]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield (
            name,
            ", ".join(
                "; ".join(f"{k} {v}" for k, v in _flat(each)) if isinstance(each, dict) else str(each) for each in value
            ),
        )
    else:
        yield name, UNKNOWN if value is None else str(value)


def _encoder_table(settings: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows about encoders, from a list of objects or an object of them by name."""
    found = settings.get("encoders") or []
    if isinstance(found, dict):
        found = [{"name": name, **(each if isinstance(each, dict) else {"": each})} for name, each in found.items()]
    found = [each if isinstance(each, dict) else {"name": each} for each in found]
    columns = list(dict.fromkeys(key for each in found for key in each))
    return columns, [[str(each.get(column, UNKNOWN)) for column in columns] for each in found]
