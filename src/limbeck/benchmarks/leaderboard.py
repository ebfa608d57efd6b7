"""One page about a benchmark: quality against cost, the table, the tasks, and what others published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from limbeck.benchmarks.quoted import QUOTED
from limbeck.benchmarks.run import Benchmark
from limbeck.benchmarks.table import LEAKY, STAND_IN, cell, claims, compared, leaky, ranked, sure
from limbeck.figures import Scale, in_short, log_ticks, ticks, x_axis, y_axis
from limbeck.pages import write_page
from limbeck.version import __version__

__all__ = ["Point", "scatter", "write_leaderboard"]

WIDTH, HEIGHT = 760.0, 400.0
LEFT, TOP, RIGHT, BOTTOM = 52.0, 14.0, 120.0, 40.0
CHARACTER = 6.4
LINE = 14.0
SMALLEST, LARGEST = 4.0, 16.0
"""Radii of a point without parameters and of one with a billion."""


class Point:
    """An encoder in the picture."""

    def __init__(self, label: str, speed: float, mean: dict[str, Any], parameters: int, style: str) -> None:
        self.label, self.speed, self.parameters, self.style = label, speed, parameters, style
        self.value, (self.low, self.high) = mean["value"], mean["interval"]

    @property
    def radius(self) -> float:
        """So that the area grows with the logarithm of the parameters."""
        share = math.log10(max(self.parameters, 1)) / 9
        return math.sqrt(SMALLEST**2 + (LARGEST**2 - SMALLEST**2) * min(share, 1.0))


def write_leaderboard(found: Benchmark, output: Path) -> None:
    """Write the page.

    Raises:
        InputError: if it cannot be written.
    """
    titles = list(dict.fromkeys(title for row in found.rows.values() for title in row["means"]))
    order, names = ranked(found), found.tasks
    content = found.content
    shown = {
        "title": "Encoders on published tasks",
        "version": __version__,
        "subtitle": f"Scale {content['scale']}, {content['split']} proteins, 95 % intervals of "
        f"{content['resamples']:,} bootstrap samples. Speed: pooled vectors of proteins of 300 residues on "
        f"{content['machine']['processor']}, {content['machine']['cores']} cores.",
        "reference": found.reference,
        "plots": [scatter(title, points) for title in titles if len(points := _points(found, title)) > 1],
        "claims": claims(found) if content["split"] == "test" else [],
        "heads": [*titles, *(name.replace("_", " ") for name in names)],
        "metrics": [*("mean" for _ in titles), *(_metric(found, name) for name in names)],
        "rows": [_line(found, label, titles, names) for label in order],
        "stand_in": STAND_IN if any(s["stand_in"] for r in found.rows.values() for s in r["scores"].values()) else "",
        "tasks": [
            _task(found, name) for name in content["tasks"] if any(name in r["scores"] for r in found.rows.values())
        ],
        "leaky": leaky(found),
        "leaky_note": LEAKY,
        "quoted": [q for q in QUOTED if q.task in content["tasks"]],
        "facts": [
            ("limbeck", content["versions"]["limbeck"]),
            ("protocol", f"{content['protocol']}, seed {content['seed']}"),
            ("float32 matrix products meanwhile", _rates(found)),
        ],
    }
    write_page(output, "limbeck.benchmarks", "leaderboard.html", shown)


def _rates(found: Benchmark) -> str:
    rates = [row["speed"]["product_rate"] / 1e9 for row in found.rows.values()]
    return f"{min(rates):.0f} to {max(rates):.0f} GFLOP/s: the closer, the quieter the machine was"


def _points(found: Benchmark, title: str) -> list[Point]:
    pretrained = {found.reference, *compared(found)}
    return [
        Point(
            label,
            row["speed"]["residues_per_second"],
            row["means"][title],
            row["parameters"],
            "c1" if label == found.reference else "c0" if label in pretrained else "c7",
        )
        for label, row in found.rows.items()
        if title in row["means"]
    ]


def scatter(title: str, points: Sequence[Point]) -> Markup:
    """Quality against speed as a figure element; nothing without points."""
    if not points:
        return Markup("")
    x_ticks = log_ticks(min(p.speed for p in points) / 1.3, max(p.speed for p in points) * 1.3)
    y_ticks = ticks(min(p.low for p in points), max(p.high for p in points), most=7)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x_range = min(x_ticks[0], min(p.speed for p in points) / 1.3), max(x_ticks[-1], max(p.speed for p in points) * 1.3)
    to_x, to_y = Scale(x_range, (LEFT, right), log=True), Scale((y_ticks[0], y_ticks[-1]), (bottom, TOP))
    shapes = [*y_axis(y_ticks, to_y, LEFT, right)]
    label = "residues a second (this machine)"
    shapes += x_axis(x_ticks, to_x, LEFT, label, log=True, right=right, height=HEIGHT)
    taken: list[tuple[float, float, float, float]] = []
    for point in sorted(points, key=lambda p: -p.value):
        x, y = float(to_x(point.speed)), float(to_y(point.value))
        shapes.append(
            Markup('<line class="whisker {0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>').format(
                point.style, x, to_y(point.low), to_y(point.high)
            )
        )
        size = f"{in_short(point.parameters)} parameters" if point.parameters else "no parameters"
        score = cell({"value": point.value, "interval": (point.low, point.high)})
        about = f"{point.label}: {score}; {in_short(point.speed)} residues/s, {size}"
        shapes.append(
            Markup('<circle class="point {}" cx="{}" cy="{}" r="{:.1f}"><title>{}</title></circle>').format(
                point.style, x, y, point.radius, about
            )
        )
        taken.append((x - point.radius, y - point.radius, x + point.radius, y + point.radius))
    for point in sorted(points, key=lambda p: -p.value):
        x, y = float(to_x(point.speed)), float(to_y(point.value))
        place = _free(x, y, point.radius, CHARACTER * len(point.label), taken)
        taken.append(place)
        shapes.append(
            Markup('<text class="label {}" x="{:.1f}" y="{:.1f}">{}</text>').format(
                "bold" if point.style == "c1" else "", place[0], place[3] - 3, point.label
            )
        )
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        int(WIDTH), int(HEIGHT), f"{title} against speed", Markup("").join(shapes)
    )
    caption = Markup("<figcaption>{} <small>against residues a second</small></figcaption>").format(_capital(title))
    return Markup('<figure class="large">{}{}</figure>').format(caption, svg)


def _free(
    x: float, y: float, radius: float, width: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float, float, float]:
    """Where a label hides nothing: beside its point, else above or below it, further away until there is room."""
    for step in range(30):
        for left, middle in (
            (x + radius + 4, y + step * LINE / 2),
            (x + radius + 4, y - step * LINE / 2),
            (x - radius - 4 - width, y + step * LINE / 2),
            (x - radius - 4 - width, y - step * LINE / 2),
            (x - width / 2, y - radius - LINE / 2 - step * LINE / 2),
            (x - width / 2, y + radius + LINE / 2 + step * LINE / 2),
        ):
            box = (left, middle - LINE / 2, left + width, middle + LINE / 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_meet(box, other) for other in taken):
                return box
    return (x + radius + 4, y - LINE / 2, x + radius + 4 + width, y + LINE / 2)


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _line(found: Benchmark, label: str, titles: list[str], names: list[str]) -> dict[str, Any]:
    row = found.rows[label]
    cells = [_shown(row["means"].get(title), row["mean_differences"].get(title)) for title in titles]
    cells += [_shown(row["scores"].get(name), row["differences"].get(name)) for name in names]
    for column, name in enumerate([*titles, *names]):
        kind = "means" if name in titles else "scores"
        values = [
            r[kind][name]["value"] for r in found.rows.values() if name in r[kind] and not r[kind][name].get("stand_in")
        ]
        own = row[kind].get(name)
        cells[column]["best"] = (
            own is not None and not own.get("stand_in") and own["value"] == max(values, default=None)
        )
    return {
        "label": label,
        "reference": label == found.reference,
        "speed": in_short(row["speed"]["residues_per_second"]),
        "parameters": in_short(row["parameters"]) if row["parameters"] else "0",
        "dimension": row["dimension"],
        "cells": cells,
    }


def _shown(value: dict[str, Any] | None, difference: dict[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {"value": "", "interval": "", "mark": "", "title": "", "stand_in": False, "best": False}
    low, high = value["interval"]
    return {
        "value": f"{value['value']:.3f}",
        "interval": f"{low:.2f} to {high:.2f}",
        "mark": {1: "better", -1: "worse", 0: ""}[sure(difference)],
        "title": f"difference {cell(difference, '+')}" if difference else "",
        "stand_in": bool(value.get("stand_in")),
        "best": False,
    }


def _metric(found: Benchmark, name: str) -> str:
    return next(str(row["scores"][name]["metric"]) for row in found.rows.values() if name in row["scores"])


def _task(found: Benchmark, name: str) -> dict[str, Any]:
    score = next(row["scores"][name] for row in found.rows.values() if name in row["scores"])
    fitted, chosen, scored = (f"{n:,}" for n in score["n"].values())
    facts = [
        ("score", ", ".join(score["metrics"]).replace("_", " ")),
        ("proteins", f"{fitted} to fit, {chosen} to choose, {scored} scored"),
        ("near duplicates", f"{score['near']:,} of the scored share half of their 5-mers with one that was fitted on"),
        ("split", found.content["tasks"][name]["split"]),
        ("cite", found.content["tasks"][name]["citation"]),
        ("licence", found.content["tasks"][name]["license"]),
    ]
    if score["unseen_labels"]:
        facts.insert(3, ("unseen", f"{score['unseen_labels']:,}: classes (or labels) that could not be learnt"))
    about = found.content["tasks"][name]
    return {"name": name.replace("_", " "), **{k: about[k] for k in ("question", "caution", "primary")}, "facts": facts}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
