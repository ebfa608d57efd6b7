"""Line plots as inline SVG: small, without scripts, and in the colours of the page they stand in.

No plotting library, because an environment should stay light, and because a picture whose colours come from the page's
style sheet follows the reader's light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

__all__ = [
    "UNKNOWN",
    "Line",
    "Scale",
    "figure",
    "in_short",
    "line_plot",
    "log_ticks",
    "tick_labels",
    "ticks",
    "x_axis",
    "y_axis",
]

# Units of the drawing; a plot is shown at about this many pixels, so text has the size it says.
WIDTH, HEIGHT = 380.0, 240.0
TOP, RIGHT, BOTTOM = 12.0, 16.0, 40.0
CHARACTER = 6.3
MOST_POINTS = 160
MOST_DOTS = 30

_SCALES = ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"))
UNKNOWN = "-"
"""Stands for a number that is not known."""


@dataclass(frozen=True)
class Line:
    """One curve; points that are not finite are left out."""

    x: Sequence[float] | NDArray[np.floating]
    y: Sequence[float] | NDArray[np.floating]
    label: str
    """Says in a tooltip what the curve is."""
    style: str
    """Classes of the style sheet: a colour (``c0`` to ``c7``), and ``faint`` for what stands behind."""
    low: Sequence[float] | NDArray[np.floating] | None = None
    high: Sequence[float] | NDArray[np.floating] | None = None
    """Both or neither: an interval about each point, drawn as a whisker where it is finite."""


def line_plot(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    *,
    unit: str = "",
    falling_x: bool = False,
    log_x: bool = False,
) -> Markup:
    """A figure element: title, curves, axes with units, a tooltip at each point.

    Args:
        title: of the figure.
        lines: drawn in this order.
        x_label: under the axis.
        unit: of ``y``, beside the title.
        falling_x: have the largest x on the left.
        log_x: a logarithmic x axis; every x must be above 0.

    Returns:
        Nothing if no point is finite.
    """
    points = [_thinned(line) for line in lines]
    both = np.concatenate([np.zeros((0, 4)), *points])
    if not len(both):
        return Markup("")
    x_ticks = (log_ticks if log_x else ticks)(float(both[:, 0].min()), float(both[:, 0].max()))
    y_ticks = ticks(float(np.nanmin(both[:, 1:])), float(np.nanmax(both[:, 1:])), most=7)
    left = 12 + CHARACTER * max(len(label) for label in tick_labels(y_ticks))
    x_range = (min(x_ticks[0], both[:, 0].min()), max(x_ticks[-1], both[:, 0].max()))
    y_range = (min(y_ticks[0], np.nanmin(both[:, 1:])), max(y_ticks[-1], np.nanmax(both[:, 1:])))
    to_x = Scale(x_range[::-1] if falling_x else x_range, (left, WIDTH - RIGHT), log=log_x)
    to_y = Scale(y_range, (HEIGHT - BOTTOM, TOP))
    shapes = [*y_axis(y_ticks, to_y, left), *x_axis(x_ticks, to_x, left, x_label, log=log_x)]
    for line, values in zip(lines, points, strict=True):
        shapes += _curve(line, values, to_x, to_y)
    return figure(title, shapes, unit=unit)


def figure(title: str, shapes: Sequence[Markup], *, unit: str = "", label: str = "") -> Markup:
    """A figure element of the usual size about SVG shapes; ``label`` (else the title) is what a screen reader says."""
    caption = Markup("<figcaption>{}{}</figcaption>").format(
        title, Markup(" <small>{}</small>").format(unit) if unit else ""
    )
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        int(WIDTH), int(HEIGHT), label or title, Markup("").join(shapes)
    )
    return Markup("<figure>{}{}</figure>").format(caption, svg)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) about a range, ``most`` + 1 at the utmost."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-300):
        half = abs(low) / 10 if abs(low) > 1e-290 else 0.5
        low, high = low - half, high + half
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [step * i for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten, or powers alone where that is enough) that hold a range of
    numbers above 0 between them or nearly so: the outermost lie within it where they can."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**p for p in range(first, last + 1) for f in factors]
        inside = [v for v in found if low * 0.999 <= v <= high * 1.001]
        if len(inside) <= most:
            break
    inside = inside[:: math.ceil(len(inside) / most)] if inside else []
    return inside if len(inside) > 1 else [low, high] if high > low else [low]


def in_short(value: float, digits: int = 3) -> str:
    """A number with few digits and, where it is large, a letter: 12.3 M."""
    if not math.isfinite(value):
        return UNKNOWN
    for power, letter in _SCALES:
        if abs(value) >= 10**power:
            return f"{_plain(value / 10**power, digits)} {letter}"
    return _plain(value, digits)


def _plain(value: float, digits: int) -> str:
    text = f"{value:#.{digits}g}" if value else "0"
    if "e" not in text:
        return text.rstrip(".")
    if abs(value) >= 1:
        return f"{value:.0f}"
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def tick_labels(values: Sequence[float]) -> list[str]:
    """Labels of one axis, all in one unit and with the digits that tell them apart."""
    largest = max(map(abs, values))
    step = values[1] - values[0] if len(values) > 1 else largest or 1.0
    power, letter = next((scale for scale in _SCALES if largest >= 10 ** scale[0]), (0, ""))
    decimals = max(0, -math.floor(math.log10(step / 10**power) + 1e-9))
    if decimals > 5:
        return [_plain(value, 3) for value in values]
    return ["0" if abs(v) < step / 2 else f"{v / 10**power:.{decimals}f} {letter}".rstrip() for v in values]


def _thinned(line: Line) -> NDArray[np.float64]:
    """(points, 4) x, y and interval of the points that are finite, as many as can be told apart, the first and the last
    among them."""
    unknown = np.full(len(line.x), np.nan)
    parts = [line.x, line.y, unknown if line.low is None else line.low, unknown if line.high is None else line.high]
    points = np.column_stack([np.asarray(part, dtype=np.float64) for part in parts])
    points = points[np.isfinite(points[:, :2]).all(axis=1)]
    points[~np.isfinite(points[:, 2:]).all(axis=1), 2:] = np.nan
    if len(points) > MOST_POINTS:
        points = points[np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)]
    return points


class Scale:
    """From values to places of a drawing, as text."""

    def __init__(self, values: tuple[float, float], pixels: tuple[float, float], *, log: bool = False) -> None:
        self._of = math.log10 if log else float
        ends = self._of(values[0]), self._of(values[1])
        self.start, self.origin = pixels[0], ends[0]
        self.factor = (pixels[1] - pixels[0]) / ((ends[1] - ends[0]) or 1.0)

    def __call__(self, value: float) -> str:
        return f"{self.start + (self._of(value) - self.origin) * self.factor:.1f}"


def y_axis(values: Sequence[float], to_y: Scale, left: float, right: float = WIDTH - RIGHT) -> list[Markup]:
    """Lines across the drawing and their labels."""
    return [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{1}" y1="{2}" y2="{2}"/><text class="y" x="{3:.1f}" y="{2}">{4}</text>'
        ).format(left, right, to_y(value), left - 6, label)
        for value, label in zip(values, tick_labels(values), strict=True)
    ]


def x_axis(
    values: Sequence[float],
    to_x: Scale,
    left: float,
    label: str,
    *,
    log: bool = False,
    right: float = WIDTH - RIGHT,
    height: float = HEIGHT,
) -> list[Markup]:
    """The line under a drawing, its ticks and its label."""
    bottom = height - BOTTOM
    texts = [in_short(v, 3 if v < 1 else max(1, len(f"{v:.0f}".rstrip("0")))) for v in values] if log else None
    shapes = [
        Markup(
            '<line class="tick" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="x" x="{0}" y="{3}">{4}</text>'
        ).format(to_x(value), bottom, bottom + 4, bottom + 16, text)
        for value, text in zip(values, texts or tick_labels(values), strict=True)
    ]
    axis = Markup('<line class="axis" x1="{0:.1f}" x2="{1}" y1="{2}" y2="{2}"/>').format(left, right, bottom)
    middle = (left + right) / 2
    return [*shapes, axis, Markup('<text class="x" x="{:.1f}" y="{}">{}</text>').format(middle, height - 6, label)]


def _curve(line: Line, points: NDArray[np.float64], to_x: Scale, to_y: Scale) -> list[Markup]:
    if not len(points):
        return []
    style = escape(line.style)
    places = [(to_x(x), to_y(y)) for x, y in points[:, :2].tolist()]
    path = Markup('<polyline class="{}" points="{}"/>').format(style, " ".join(",".join(place) for place in places))
    whiskers = [
        Markup('<line class="whisker {0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>').format(
            style, place[0], to_y(low), to_y(high)
        )
        for place, (low, high) in zip(places, points[:, 2:].tolist(), strict=True)
        if math.isfinite(low)
    ]
    kind = "dot" if len(points) <= MOST_DOTS else "dot hidden"
    dots = [
        Markup('<circle class="{} {}" cx="{}" cy="{}" r="2.4"><title>{}: {} at {}</title></circle>').format(
            kind, style, *place, line.label, _with_interval(*values), in_short(x)
        )
        for place, (x, *values) in zip(places, points.tolist(), strict=True)
    ]
    return [*whiskers, path, *dots]


def _with_interval(value: float, low: float, high: float) -> str:
    text = in_short(value, 4)
    return f"{text} ({in_short(low, 4)} to {in_short(high, 4)})" if math.isfinite(low) else text
