"""Quality against cost: the picture of a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limbeck.figures import Scale, in_short, log_ticks, ticks, x_axis, y_axis

__all__ = ["BOTTOM", "Point", "radius", "scatter"]

LEFT, TOP, RIGHT, BOTTOM = 46.0, 14.0, 20.0, 40.0
CHARACTER, LINE = 7.4, 15.0
SMALLEST, LARGEST = 4.0, 16.0
"""Radii of a point without parameters and of one with a billion."""
AIR = 1.4
"""Factor by which the axis of speed goes beyond the points."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """An encoder in the picture."""

    label: str
    speed: float
    """Residues a second."""
    value: float
    low: float
    high: float
    parameters: int
    style: str
    """``c0`` ... ``c7``, a colour of the style sheet; with ``open``, an outline."""
    about: str
    """Shown when the pointer rests on it."""
    bold: bool = False


def radius(parameters: int) -> float:
    """So that a point's area grows with the logarithm of the parameters."""
    share = min(math.log10(max(parameters, 1)) / 9, 1.0)
    return math.sqrt(SMALLEST**2 + (LARGEST**2 - SMALLEST**2) * share)


def scatter(title: str, points: Sequence[Point], width: float = 720.0, height: float = 420.0) -> Markup:
    """An SVG element: speed to the right on a logarithmic axis, quality up with its interval; nothing of fewer
    than two.

    Labels lie where they hide no point and no other label, with a line to their point where they had to move away. A
    dashed line joins the encoders than which no other is both faster and better.
    """
    if len(points) < 2:
        return Markup("")
    right, bottom = width - RIGHT, height - BOTTOM
    x_range = _round(min(p.speed for p in points) / AIR, max(p.speed for p in points) * AIR)
    y_ticks = ticks(min(p.low for p in points), max(p.high for p in points), most=7)
    to_x, to_y = Scale(x_range, (LEFT, right), log=True), Scale((y_ticks[0], y_ticks[-1]), (bottom, TOP))
    most = 6 if width > 600 else 4
    shapes = [*y_axis(y_ticks, to_y, LEFT, right)]
    shapes += x_axis(log_ticks(*x_range, most), to_x, LEFT, "residues a second", log=True, right=right, height=height)
    placed = [(p, float(to_x(p.speed)), float(to_y(p.value)), radius(p.parameters)) for p in points]
    shapes.append(_frontier(placed))
    shapes += [_whisker(p, x, float(to_y(p.low)), float(to_y(p.high))) for p, x, _, _ in placed]
    # Small points on top of large ones, and what stands out on top of all.
    shapes += [_shape(*place) for place in sorted(placed, key=lambda place: (place[0].bold, -place[3]))]
    shapes += _labels(
        placed, [float(to_y(p.low)) for p in points], [float(to_y(p.high)) for p in points], width, height
    )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        int(width), int(height), f"{title} against speed", Markup("").join(shapes)
    )


def _round(low: float, high: float) -> tuple[float, float]:
    """The numbers of the series 1, 2, 5, 10, ... next below and above."""
    series = [
        f * 10.0**p for p in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for f in (1, 2, 5)
    ]
    return max(v for v in series if v <= low), min((v for v in series if v >= high), default=high)


Place = tuple[Point, float, float, float]
"""A point, where it is, and its radius, in units of the drawing."""


def _frontier(placed: Sequence[Place]) -> Markup:
    best: list[Place] = []
    for place in sorted(placed, key=lambda place: (-place[0].speed, -place[0].value)):
        if not best or place[0].value > best[-1][0].value:
            best.append(place)
    if len(best) < 2:
        return Markup("")
    return Markup('<polyline class="faint c7" points="{}"/>').format(" ".join(f"{x},{y}" for _, x, y, _ in best))


def _whisker(point: Point, x: float, low: float, high: float) -> Markup:
    style = point.style.split()[0]
    return Markup('<line class="whisker {0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>').format(style, x, low, high)


def _shape(point: Point, x: float, y: float, size: float) -> Markup:
    """A circle, or a diamond where there are no parameters."""
    title = Markup("<title>{}</title>").format(point.about)
    if point.parameters:
        return Markup('<circle class="point {}" cx="{}" cy="{}" r="{:.1f}">{}</circle>').format(
            point.style, x, y, size, title
        )
    half = 1.4 * size
    corners = f"M{x} {y - half:.1f}L{x + half:.1f} {y}L{x} {y + half:.1f}L{x - half:.1f} {y}Z"
    return Markup('<path class="point {}" d="{}">{}</path>').format(point.style, corners, title)


def _labels(
    placed: Sequence[Place], lows: Sequence[float], highs: Sequence[float], width: float, height: float
) -> list[Markup]:
    taken: list[Box] = [(x - size, y - size, x + size, y + size) for _, x, y, size in placed]
    taken += [(x - 2, high, x + 2, low) for (_, x, _, _), low, high in zip(placed, lows, highs, strict=True)]
    shapes = []
    # Those in a crowd have the fewest places to go to, but the best ones are looked for first.
    for point, x, y, size in sorted(placed, key=lambda place: -place[0].value):
        box = _free(x, y, size, CHARACTER * len(point.label), taken, width, height)
        taken.append(box)
        middle = (box[1] + box[3]) / 2
        # Held at the end that is at the point: a letter may be wider than reckoned.
        near, anchor = _hold(box, x)
        if math.hypot(near - x, middle - y) > size + LINE:
            shapes.append(
                Markup('<line class="leader" x1="{}" y1="{}" x2="{:.1f}" y2="{:.1f}"/>').format(x, y, near, middle)
            )
        shapes.append(
            Markup('<text class="label{}" text-anchor="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(
                " bold" if point.bold else "", anchor, near, middle + 4, point.label
            )
        )
    return shapes


def _hold(box: Box, x: float) -> tuple[float, str]:
    if box[0] > x:
        return box[0], "start"
    return (box[2], "end") if box[2] < x else ((box[0] + box[2]) / 2, "middle")


def _free(x: float, y: float, size: float, text: float, taken: list[Box], width: float, height: float) -> Box:
    """Where a label hides nothing: beside its point, else above or below it, further away until there is room."""
    for step in range(40):
        away = step * LINE / 3
        for left, middle in (
            (x + size + 4, y - away),
            (x - size - 4 - text, y - away),
            (x + size + 4, y + away),
            (x - size - 4 - text, y + away),
            (x - text / 2, y - size - LINE / 2 - away),
            (x - text / 2, y + size + LINE / 2 + away),
        ):
            box = (left, middle - LINE / 2, left + text, middle + LINE / 2)
            inside = box[0] >= LEFT and box[2] <= width and box[1] >= 0 and box[3] <= height - BOTTOM
            if inside and not any(_meet(box, other) for other in taken):
                return box
    return (x + size + 4, y - LINE / 2, x + size + 4 + text, y + LINE / 2)


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def in_words(parameters: int) -> str:
    return f"{in_short(parameters)} parameters" if parameters else "no parameters"
