"""The pictures of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

OURS, OTHERS = "#0072b2", "#aab2ba"
# Text stays text, and two runs give the same file.
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "limbeck", "font.size": 9}
METADATA = {"Date": None}


def bars(path: Path, title: str, values: Mapping[str, float], ours: str) -> None:
    """One bar for each name, the first on top, on a logarithmic axis; those that begin with ``ours`` stand out."""
    drawing, axes = pyplot.subplots(figsize=(7, 0.6 + 0.3 * len(values)), layout="constrained")
    colours = [OURS if name.startswith(ours) else OTHERS for name in values]
    shapes = axes.barh(list(values), list(values.values()), color=colours, log=True)
    axes.bar_label(shapes, [f"{value:,.0f}" for value in values.values()], padding=3)
    axes.set_xlim(min(values.values()) / 2, 3 * max(values.values()))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title)
    drawing.savefig(path, metadata=METADATA)


def panels(
    path: Path, x_label: str, lines: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]]
) -> None:
    """Side by side what each line has under the same name against its x, on logarithmic axes."""
    names = list(next(iter(lines.values()))[1])
    drawing, found = pyplot.subplots(1, len(names), figsize=(8, 3.2), layout="constrained", squeeze=False)
    all_axes: list[Any] = list(found[0])
    for axes, name in zip(all_axes, names, strict=True):
        for (label, (x, values)), colour in zip(lines.items(), (OURS, "#d55e00"), strict=False):
            axes.plot(x, values[name], "o-", color=colour, label=label, markersize=4)
        axes.set_xscale("log")
        axes.set_yscale("log") if name == "time, s" else axes.set_ylim(bottom=0)
        axes.set_xlabel(x_label)
        axes.set_title(name)
        axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        all_axes[0].legend(frameon=False)
    drawing.savefig(path, metadata=METADATA)
