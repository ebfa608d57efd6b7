"""Pictures of a comparison as inline SVG: intervals, parity, heat maps, histograms.

As :mod:`limbeck.figures`: no library, and colours from the style sheet of the page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from limbeck.figures import (
    BOTTOM,
    CHARACTER,
    HEIGHT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    figure,
    in_short,
    tick_labels,
    ticks,
    x_axis,
    y_axis,
)
from limbeck.landscapes.effects import GROUPS, Effects

__all__ = [
    "DENSITIES",
    "MOST_SHOWN",
    "SHADES",
    "axis",
    "bar_chart",
    "density",
    "heat_map",
    "heat_numbers",
    "histogram",
    "interval",
    "parity",
    "thinned",
]

MOST_SHOWN = 2000
"""Points of a parity plot."""
DENSITIES = 4
"""Colours of its points, by how many lie around them."""
SHADES = 4
"""Colours of a heat map on either side of its middle."""

_CELL = 12.0
_BAND = 90
"""Positions beside each other in a heat map."""
_WIDEST = 1130.0
"""Pixels of a wide page."""


# --- intervals


def interval(value: float, low: float, high: float, ends: tuple[float, float], style: str, label: str) -> Markup:
    """A dot with a whisker that is as wide as its place; ``ends`` are the values at the left and the right."""

    def place(number: float) -> str:
        return f"{100 * (min(max(number, ends[0]), ends[1]) - ends[0]) / (ends[1] - ends[0]):.2f}%"

    shapes = []
    if ends[0] <= 0 <= ends[1]:
        shapes.append(Markup('<line class="zero" x1="{0}" x2="{0}" y1="0" y2="20"/>').format(place(0.0)))
    if math.isfinite(low) and math.isfinite(high):
        shapes.append(
            Markup('<line class="range {}" x1="{}" x2="{}" y1="10" y2="10"/>').format(style, place(low), place(high))
        )
    if math.isfinite(value):
        shapes.append(Markup('<circle class="point {}" cx="{}" cy="10" r="4.5"/>').format(style, place(value)))
    return Markup('<svg class="track" role="img" aria-label="{0}"><title>{0}</title>{1}</svg>').format(
        label, Markup("").join(shapes)
    )


def axis(ends: tuple[float, float]) -> Markup:
    """The numbers under intervals between the same ends, as text in the page."""
    values = ticks(*ends, most=7)
    return Markup('<div class="ends" aria-hidden="true">{}</div>').format(
        Markup("").join(
            Markup('<span style="left:{:.2f}%">{}</span>').format(100 * (v - ends[0]) / (ends[1] - ends[0]), text)
            for v, text in zip(values, tick_labels(values), strict=True)
            if ends[0] - 1e-9 <= v <= ends[1] + 1e-9
        )
    )


# --- parity


def thinned(count: int, most: int = MOST_SHOWN) -> NDArray[np.intp]:
    """(at most ``most``,) which of ``count`` points are drawn, in a random order that is always the same."""
    return np.random.default_rng(0).permutation(count)[:most]


def density(x: NDArray[np.float64], y: NDArray[np.float64], bins: int = 40) -> NDArray[np.float64]:
    """(n,) how many of all points lie around each: of a histogram, smoothed, relative to its fullest place."""
    places = [_bins(values, bins) for values in (x, y)]
    table = np.zeros((bins, bins))
    np.add.at(table, tuple(places), 1.0)
    kernel = np.array([1.0, 2.0, 1.0]) / 4
    for axis_ in (0, 1, 0, 1):
        table = np.apply_along_axis(np.convolve, axis_, table, kernel, mode="same")
    found: NDArray[np.float64] = table[tuple(places)]
    return found / found.max() if len(found) else found


def _bins(values: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    if not len(values):
        return np.zeros(0, np.intp)
    low, high = values.min(), values.max()
    return np.minimum(((values - low) / ((high - low) or 1.0) * bins).astype(np.intp), bins - 1)


def parity(
    title: str,
    subtitle: str,
    measured: NDArray[np.float64],
    predicted: NDArray[np.float64],
    ends: tuple[float, float],
) -> Markup:
    """Predicted against measured values; points are coloured by how many of all lie around them.

    Args:
        title: whose predictions.
        subtitle: beneath.
        measured: (n,) finite.
        predicted: (n,) finite.
        ends: of both axes, so that figures beside each other can share them; they must hold all values.
    """
    marks = ticks(*ends)
    ends = (min(marks[0], ends[0]), max(marks[-1], ends[1]))
    height = WIDTH
    left = 26 + CHARACTER * max(map(len, tick_labels(marks)))
    to_x, to_y = Scale(ends, (left, WIDTH - RIGHT)), Scale(ends, (height - BOTTOM, TOP))
    shapes = [*y_axis(marks, to_y, left), *x_axis(marks, to_x, left, "measured", height=height)]
    shapes.append(_turned("predicted", 10, (TOP + height - BOTTOM) / 2))
    shapes.append(
        Markup('<line class="same" x1="{0}" x2="{1}" y1="{2}" y2="{3}"/>').format(
            to_x(ends[0]), to_x(ends[1]), to_y(ends[0]), to_y(ends[1])
        )
    )
    chosen = thinned(len(measured))
    levels = np.minimum((np.sqrt(density(measured, predicted)[chosen]) * DENSITIES).astype(int), DENSITIES - 1)
    for level in range(DENSITIES):
        points = chosen[levels == level]
        places = "".join(f"M{to_x(a)} {to_y(b)}h0" for a, b in zip(measured[points], predicted[points], strict=True))
        if places:
            shapes.append(Markup('<path class="points d{}" d="{}"/>').format(level, places))
    label = f"{title}, predicted against measured, {subtitle}"
    svg = Markup('<svg viewBox="0 0 {0} {0}" role="img" aria-label="{1}">{2}</svg>').format(
        int(WIDTH), label, Markup("").join(shapes)
    )
    return Markup("<figure><figcaption>{}<br><small>{}</small></figcaption>{}</figure>").format(title, subtitle, svg)


def _turned(text: str, x: float, y: float) -> Markup:
    return Markup('<text class="turned" transform="translate({:.1f} {:.1f}) rotate(-90)">{}</text>').format(x, y, text)


# --- bars


def histogram(title: str, values: NDArray[np.float64], x_label: str, marks: Sequence[tuple[float, str]] = ()) -> Markup:
    """How often numbers occur; ``marks`` are single values with a name, drawn as lines."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Markup("")
    bins = min(40, max(8, round(math.sqrt(len(values)))))
    counts, edges = np.histogram(values, bins)
    return _bars(title, edges, counts, x_label, "variants", marks)


def bar_chart(
    title: str, numbers: NDArray[np.int64], heights: NDArray[np.int64], x_label: str, y_label: str, most: int = 120
) -> Markup:
    """A bar for each whole number; where that makes more than ``most``, neighbours share one, which is their mean."""
    if not len(numbers):
        return Markup("")
    first, last = int(numbers.min()), int(numbers.max())
    step = math.ceil((last - first + 1) / most)
    bins = math.ceil((last - first + 1) / step)
    sums = np.bincount((numbers - first) // step, heights, bins)
    edges = first - 0.5 + step * np.arange(bins + 1)
    return _bars(title, edges, sums / step, x_label, y_label, (), whole=True)


def _bars(
    title: str,
    edges: NDArray[np.floating],
    heights: NDArray[Any],
    x_label: str,
    y_label: str,
    marks: Sequence[tuple[float, str]],
    *,
    whole: bool = False,
) -> Markup:
    y_ticks = ticks(0, float(heights.max()) or 1.0)
    x_ticks = ticks(float(edges[0]), float(edges[-1]))
    x_ticks = [v for v in x_ticks if edges[0] <= v <= edges[-1] and (not whole or v == round(v))]
    x_ticks = x_ticks if len(x_ticks) > 1 else [float(edges[0]), float(edges[-1])]
    if whole and len(heights) <= 2:
        x_ticks = [float(v) for v in range(math.ceil(edges[0]), math.floor(edges[-1]) + 1)]
    left = 12 + CHARACTER * max(map(len, tick_labels(y_ticks)))
    to_x = Scale((float(edges[0]), float(edges[-1])), (left, WIDTH - RIGHT))
    to_y = Scale((0.0, y_ticks[-1]), (HEIGHT - BOTTOM, TOP + (10 if marks else 0)))
    shapes = y_axis(y_ticks, to_y, left)
    floor = HEIGHT - BOTTOM
    for a, b, height in zip(edges[:-1], edges[1:], heights.tolist(), strict=True):
        x, right, top = float(to_x(a)), float(to_x(b)), float(to_y(height))
        gap = min(1.0, (right - x) / 5)
        where = f"{(a + b) / 2:.0f}" if whole and b - a == 1 else f"{in_short(a)} to {in_short(b)}"
        shapes.append(
            Markup(
                '<rect class="column" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {}</title></rect>'
            ).format(x, top, max(right - x - gap, 0.5), max(floor - top, 0.0), where, in_short(height, 4))
        )
    for value, name in marks:
        shapes.append(_mark(value, name, to_x, left))
    shapes += x_axis(x_ticks, to_x, left, x_label)
    return figure(title, shapes, unit=y_label, label=f"{title}: {y_label} by {x_label}")


def _mark(value: float, name: str, to_x: Scale, left: float) -> Markup:
    x = float(to_x(value))
    anchor = "end" if x > (left + WIDTH) / 2 else "start"
    return Markup(
        '<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
        '<text class="{3}" x="{4:.1f}" y="{5}">{6}</text>'
    ).format(x, TOP - 2, HEIGHT - BOTTOM, anchor, x + (-4 if anchor == "end" else 4), TOP + 4, name)


# --- heat maps


def heat_map(effects: Effects, label: str) -> Markup:
    """A heat map in bands of positions, with the numbers of its cells for a script that shows them.

    Args:
        effects: what to show.
        label: what a screen reader says.
    """
    count = len(effects.positions)
    bands = math.ceil(count / _BAND)
    # Bands of nearly one length, rather than a short last one.
    size = math.ceil(count / bands)
    parts = [_band(effects, a, min(a + size, count), label) for a in range(0, count, size)]
    return Markup('<div class="heatmap">{}</div>').format(Markup("").join(parts))


def _band(effects: Effects, first: int, last: int, label: str) -> Markup:
    left, top = 26.0, 20.0
    rows = len(effects.letters)
    gaps = _gaps(effects.letters)
    width, height = left + (last - first) * _CELL + 4, top + rows * _CELL + gaps[-1] + 6
    # Few positions need not be small.
    shown = width * min(1.25, max(1.0, _WIDEST / width))
    where = f"{effects.positions[first]} to {effects.positions[last - 1]}"
    shapes = [
        *_row_labels(effects.letters, left, top, gaps),
        *_column_labels(effects, first, last, left, top),
        *_cells(effects, first, last, left, top, gaps),
    ]
    return Markup(
        '<svg class="heat" viewBox="0 0 {0:.0f} {1:.0f}" style="width:{8:.0f}px" role="img" aria-label="{2}" '
        'data-first="{3}" data-count="{4}" data-left="{5:.0f}" data-top="{6:.0f}">{7}</svg>'
    ).format(
        width, height, f"{label}, positions {where}", first, last - first, left, top, Markup("").join(shapes), shown
    )


def _gaps(letters: str) -> list[float]:
    """Space above each row: a little between groups of residues."""
    groups = [next(i for i, group in enumerate(GROUPS.values()) if letter in group) for letter in letters]
    return [4.0 * (group - groups[0]) for group in groups]


def _row_labels(letters: str, left: float, top: float, gaps: Sequence[float]) -> list[Markup]:
    return [
        Markup('<text class="row" x="{:.0f}" y="{:.0f}">{}</text>').format(left - 12, top + i * _CELL + gap + 9, letter)
        for i, (letter, gap) in enumerate(zip(letters, gaps, strict=True))
    ]


def _column_labels(effects: Effects, first: int, last: int, left: float, top: float) -> list[Markup]:
    """The number of every fifth position, and of each one behind a gap, where there is room."""
    shapes, free = [], 0.0
    for i in range(first, last):
        position = int(effects.positions[i])
        broken = i == first or position != effects.positions[i - 1] + 1
        x = left + (i - first + 0.45) * _CELL
        half = CHARACTER * len(str(position)) / 2
        if (broken or position % 5 == 0) and x - half >= free:
            shapes.append(Markup('<text class="x" x="{:.1f}" y="{:.0f}">{}</text>').format(x, top - 6, position))
            free = x + half + 5
    return shapes


def _cells(effects: Effects, first: int, last: int, left: float, top: float, gaps: Sequence[float]) -> list[Markup]:
    """One path for each colour: a wide protein has tens of thousands of cells."""
    shades = _shades(effects)[:, first:last]
    shapes = []
    for shade in range(-SHADES, SHADES + 1):
        places = "".join(_places(np.argwhere(shades == shade), left, top, gaps))
        if places:
            name = f"h{abs(shade)}" + ("" if not shade else "p" if shade > 0 else "n")
            shapes.append(Markup('<path class="cell {}" d="{}"/>').format(name, places))
    known = [(effects.letters.find(effects.wild_type[i]), i - first) for i in range(first, last)]
    own = np.array([place for place in known if place[0] >= 0], np.int64).reshape(-1, 2)
    shapes.append(Markup('<path class="cell own" d="{}"/>').format("".join(_places(own, left, top, gaps))))
    dots = "".join(_places(own, left, top, gaps, dot=True))
    shapes.append(Markup('<path class="own-dot" d="{}"/>').format(dots))
    return shapes


def heat_numbers(measured: Effects, predicted: Effects | None) -> Markup:
    """The numbers of a heat map as JSON for the page's script: values by row, with three digits, ``""`` where none."""
    content = {
        "positions": measured.positions.tolist(),
        "wild": measured.wild_type,
        "letters": measured.letters,
        "rows": [i * _CELL + gap for i, gap in enumerate(_gaps(measured.letters))],
        "cell": _CELL,
        "measured": _numbers(measured.values),
        "counts": ",".join(str(n) if n else "" for n in measured.counts.ravel().tolist()),
        "predicted": _numbers(predicted.values) if predicted else "",
    }
    # Nothing in it may end the script element.
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def _numbers(values: NDArray[np.float64]) -> str:
    return ",".join(f"{v:.3g}" if math.isfinite(v) else "" for v in values.ravel().tolist())


def _shades(effects: Effects) -> NDArray[np.float64]:
    """(L, P) -SHADES to SHADES; NaN where nothing is known."""
    relative = np.clip((effects.values - effects.centre) / effects.limit, -1, 1)
    return np.round(relative * (SHADES + 0.49))


def _places(
    cells: NDArray[np.int64], left: float, top: float, gaps: Sequence[float], *, dot: bool = False
) -> list[str]:
    """Each cell as a thick stroke, which is the shortest way to write it."""
    x0, length = (left + 5.5, "h0") if dot else (left, f"h{_CELL - 1:.0f}")
    return [f"M{x0 + j * _CELL:g} {top + i * _CELL + gaps[i] + 5.5:g}{length}" for i, j in cells.tolist()]
