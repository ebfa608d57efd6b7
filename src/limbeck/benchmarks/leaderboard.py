"""One page about a benchmark: quality against cost, the table, the tasks, and what others published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.benchmarks.claims import claims
from limbeck.benchmarks.comparison import is_floor, sure
from limbeck.benchmarks.folder import Benchmark
from limbeck.benchmarks.quoted import QUOTED
from limbeck.benchmarks.scatter import Point, in_words, radius, scatter
from limbeck.benchmarks.table import (
    LEAKY,
    LEAKY_HEAD,
    STAND_IN,
    cell,
    leaky,
    metric_of,
    ranked,
    ratio,
    stands_in,
    titles,
)
from limbeck.figures import in_short
from limbeck.pages import write_page
from limbeck.version import __version__

__all__ = ["write_leaderboard"]

NARROW = (380.0, 400.0)
"""Size of the picture on a telephone, where the letters of the large one would be too small."""
MARKS = {1: "better", -1: "worse", 0: ""}
SIZES = (1_000_000, 100_000_000, 1_000_000_000)
"""Parameters of the points in the key."""


def write_leaderboard(found: Benchmark, output: Path) -> None:
    """Write the page.

    Raises:
        InputError: if it cannot be written.
    """
    content, names = found.content, found.tasks
    means = titles(found)
    shown = {
        "title": "Encoders on published tasks",
        "version": __version__,
        "subtitle": _subtitle(found),
        "reference": found.reference,
        "plots": [plot for title in means if (plot := _plot(found, title))["wide"]],
        "elsewhere": [label for label in found.rows if not ratio(found, label)],
        "sizes": [(in_short(size, 1), f"{radius(size):.1f}") for size in SIZES],
        "claims": claims(found),
        "heads": [*((title, "mean", False) for title in means), *(_head(found, name) for name in names)],
        "rows": [_row(found, label, means, names) for label in ranked(found)],
        "stand_in": STAND_IN if stands_in(found) else "",
        "tasks": [_task(found, name) for name in content["tasks"] if name in names],
        "leaky": leaky(found),
        "leaky_head": LEAKY_HEAD,
        "leaky_note": LEAKY,
        "quoted": [q for q in QUOTED if q.task in content["tasks"]],
        "facts": _facts(found),
    }
    write_page(output, "limbeck.benchmarks", "leaderboard.html", shown)


def _subtitle(found: Benchmark) -> str:
    content = found.content
    return (
        f"{len(found.rows)} encoders, {len(content['tasks'])} tasks, scale {content['scale']}, {content['split']} "
        f"proteins; 95 % intervals of {content['resamples']:,} bootstrap samples. Speed: pooled vectors of proteins of "
        f"300 residues on {content['machine']['processor']}, {content['machine']['cores']} cores."
    )


def _facts(found: Benchmark) -> list[str]:
    content = found.content
    rates = [row["speed"]["product_rate"] / 1e9 for row in found.rows.values()]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return [
        f"protocol {content['protocol']}, seed {content['seed']}",
        f"float32 matrix products of {min(rates):.0f} to {max(rates):.0f} GFLOP/s while speeds were measured (the "
        "closer together, the quieter the machine was)",
        versions,
    ]


def _plot(found: Benchmark, title: str) -> dict[str, Any]:
    points = [
        _point(found, label, title)
        for label, row in found.rows.items()
        if title in row["means"] and ratio(found, label)
    ]
    return {
        "title": title[:1].upper() + title[1:],
        "wide": scatter(title, points),
        "narrow": scatter(title, points, *NARROW),
    }


def _point(found: Benchmark, label: str, title: str) -> Point:
    row = found.rows[label]
    low, high = row["means"][title]["interval"]
    speed = row["speed"]["residues_per_second"]
    style = "c1" if label == found.reference else "c7 open" if is_floor(row) else "c0"
    about = f"{label}: {cell(row['means'][title])}; {in_short(speed)} residues/s, {in_words(row['parameters'])}"
    value, parameters = row["means"][title]["value"], row["parameters"]
    return Point(_short(label), speed, value, low, high, parameters, style, about, label == found.reference)


def _short(label: str) -> str:
    return label.rsplit("/", 1)[-1]


def _head(found: Benchmark, name: str) -> tuple[str, str, bool]:
    task = found.content["tasks"].get(name, {"caution": ""})
    return name.replace("_", " "), metric_of(found, name).replace("_", " "), task["caution"].startswith("leaky")


def _row(found: Benchmark, label: str, means: list[str], names: list[str]) -> dict[str, Any]:
    row = found.rows[label]
    cells = [_cell(found, "means", title, row, row["mean_differences"].get(title)) for title in means]
    cells += [_cell(found, "scores", name, row, row["differences"].get(name)) for name in names]
    return {
        "label": label,
        "reference": label == found.reference,
        "speed": in_short(row["speed"]["residues_per_second"]),
        "ratio": ratio(found, label) or "another machine",
        "parameters": in_short(row["parameters"]) if row["parameters"] else "0",
        "dimension": f"{row['dimension']:,}",
        "license": row["license"],
        "cells": cells,
    }


def _cell(
    found: Benchmark, kind: str, name: str, row: Mapping[str, Any], difference: Mapping[str, Any] | None
) -> dict[str, Any]:
    own = row[kind].get(name)
    if own is None:
        return {"value": "", "interval": "", "mark": "", "title": "", "stand_in": False, "best": False}
    others = [r[kind][name] for r in found.rows.values() if name in r[kind]]
    stand_in = bool(own.get("stand_in"))
    low, high = own["interval"]
    return {
        "value": f"{own['value']:.3f}",
        "interval": f"{low:.2f} to {high:.2f}",
        "mark": MARKS[sure(difference)],
        "title": f"difference to {found.reference}: {cell(difference, '+')}" if difference else "",
        "stand_in": stand_in,
        "best": not stand_in and own["value"] == max(o["value"] for o in others if not o.get("stand_in")),
    }


def _task(found: Benchmark, name: str) -> dict[str, Any]:
    score = next(row["scores"][name] for row in found.rows.values() if name in row["scores"])
    about = found.content["tasks"][name]
    fitted, chosen, scored = (f"{n:,}" for n in score["n"].values())
    what = "pairs" if about["kind"] == "pairs" else "proteins"
    facts = [
        ("score", ", ".join(score["metrics"]).replace("_", " ")),
        (what, f"{fitted} to fit, {chosen} to choose, {scored} scored"),
        (
            "near duplicates",
            f"{score['near']:,} scored proteins share half of their 5-mers with one that was fitted on",
        ),
        ("split", about["split"]),
        ("cite", about["citation"]),
        ("licence", about["license"]),
    ]
    if score["unseen_labels"]:
        facts.insert(3, ("unseen", f"{score['unseen_labels']:,}: classes (or labels) that could not be learnt"))
    return {"name": name.replace("_", " "), **{k: about[k] for k in ("question", "caution", "primary")}, "facts": facts}
