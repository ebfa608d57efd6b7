"""Figures of a comparison with matplotlib: each takes an ``ax``, or makes a figure that no list of open ones knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from limbeck.errors import InputError
from limbeck.landscapes.comparison import KINDS, METRIC_NAMES, Comparison
from limbeck.landscapes.effects import Effects, effects, wild_types_by_size
from limbeck.landscapes.pictures import density, thinned

__all__ = ["draw_heatmap", "plot_heatmap", "plot_learning_curves", "plot_parity", "plot_scores"]

COLOURS = dict(zip(KINDS, ("#6b7278", "#0072b2", "#00875f", "#a87900", "#d55e00"), strict=True))
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Of which the numbers of positions under a heat map are multiples."""
MOST_TICKS = 20
_LINES = ("#0072b2", "#d55e00", "#00875f", "#b0569a", "#a87900", "#3f9bd1", "#7a4fc9", "#6b7278")


def plot_scores(comparison: Comparison, split: str | None = None, ax: Axes | None = None) -> Axes:
    """Spearman's correlation of each model with its 95 % interval, best on top, coloured by kind of model.

    Args:
        comparison: what was found.
        split: only this one; by default all, each model in a row and each split in a mark of its own within it.
        ax: where to draw.

    Raises:
        InputError: if there is no such split.
    """
    splits = comparison.split_names if split is None else [_known_split(comparison, split)]
    models = _order(comparison, splits)
    ax = _axes(ax, (7.0, 1.2 + 0.36 * len(models) * max(1.0, len(splits) / 3)))
    markers = "osD^vP*X<>"
    for i, name in enumerate(splits):
        shift = (i - (len(splits) - 1) / 2) * 0.8 / len(splits)
        ranking = comparison.ranking(name)
        # What was compared, where a model was scored on a sample and on all.
        ranking = ranking.sort_values("rows", ascending=False, kind="stable").drop_duplicates("model")
        for row in ranking.itertuples():
            around = [[max(0.0, row.value - row.low)], [max(0.0, row.high - row.value)]]
            y = models.index(row.model) + shift
            ax.errorbar(row.value, y, xerr=around, fmt=markers[i % len(markers)], ms=5, color=COLOURS[row.kind])
    ax.set_yticks(range(len(models)), models)
    ax.set_ylim(len(models) - 0.4, -0.6)
    ax.set_xlabel("Spearman's correlation, 95 % interval")
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(splits[0] if len(splits) == 1 else comparison.assay.name)
    if len(splits) > 1:
        _legend(ax, [(name, markers[i % len(markers)], "0.3") for i, name in enumerate(splits)])
    return ax


def plot_parity(comparison: Comparison, split: str, model: str | None = None, ax: Axes | None = None) -> Axes:
    """Predicted against measured scores of test variants, at most 2,000, coloured by how many of all lie around them.

    Args:
        comparison: what was found.
        split: which test.
        model: whose predictions; the best one's by default.
        ax: where to draw.

    Raises:
        InputError: if there is no such split, or no prediction of the model in it.
    """
    found = comparison.predictions[comparison.predictions["split"] == _known_split(comparison, split)]
    model = model or comparison.best(split)
    part = found[found["model"] == model].drop_duplicates("row")
    if part.empty:
        known = ", ".join(found["model"].unique()) or "none"
        raise InputError(f"split {split!r} has no predictions of a model {model!r}; models with predictions: {known}")
    ax = _axes(ax, (4.8, 4.8))
    measured, predicted = part["measured"].to_numpy(), part["predicted"].to_numpy()
    chosen = thinned(len(part))
    ax.scatter(measured[chosen], predicted[chosen], c=density(measured, predicted)[chosen], s=7, cmap="viridis")
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    ax.plot(ends, ends, color="0.5", ls="--", lw=1)
    ax.set_xlabel("measured score")
    ax.set_ylabel("predicted score")
    ax.set_title(f"{model}\n{split}", fontsize="medium")
    return ax


def plot_learning_curves(comparison: Comparison, ax: Axes | None = None, metric: str = "spearman") -> Axes:
    """Scores by number of training variants, with the range over draws of them; dashed without pretraining.

    Args:
        comparison: what was found.
        ax: where to draw.
        metric: one of :data:`METRIC_NAMES`.

    Raises:
        InputError: if there are no such curves.
    """
    found = comparison.curves[comparison.curves["metric"] == metric]
    if found.empty:
        known = ", ".join(comparison.curves["metric"].unique()) or "none"
        raise InputError(f"there are no learning curves of {metric!r}; metrics with curves: {known}")
    ax = _axes(ax, (6.4, 4.2))
    for i, (model, part) in enumerate(found.groupby("model", sort=False)):
        part = part.sort_values("n_train")
        colour, style = _LINES[i % len(_LINES)], "-" if part["pretrained"].iloc[0] else "--"
        ax.plot(part["n_train"], part["value"], color=colour, ls=style, marker="o", ms=4, label=model)
        ax.fill_between(part["n_train"], part["low"], part["high"], color=colour, alpha=0.12, lw=0)
    ax.set_xscale("log")
    sizes = np.unique(found["n_train"])
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.set_xlabel("training variants")
    ax.set_ylabel(METRIC_NAMES[metric])
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    return ax


def plot_heatmap(
    comparison: Comparison, values: str = "measured", ax: Axes | None = None, parent: str | None = None
) -> Axes:
    """Mean scores by position and residue, centred at the wild type's score or else at the median.

    Args:
        comparison: what was found.
        values: ``"measured"``, or the name of a model: what it predicted of the largest test.
        ax: where to draw.
        parent: whose variants; by default of the wild type that has most.

    Raises:
        InputError: if there is no such wild type or model, or none of the variants differs from its wild type.
    """
    assay = comparison.assay
    known = wild_types_by_size(assay)
    if not known or (parent is not None and parent not in known):
        named = ", ".join(known) or "none"
        raise InputError(f"a heat map needs mutated variants of a wild type; wild types that have some: {named}")
    parent = parent or known[0]
    found = effects(assay, parent)
    title = f"{parent}, measured"
    if values != "measured":
        split, rows, predicted = comparison.predicted(values)
        found = effects(assay, parent, rows, predicted, like=found)
        title = f"{parent}, predicted by {values} on {split}"
    if found is None:
        raise InputError(f"no variant of {parent} shows a residue for a heat map of {values!r}")
    ax = _axes(ax, (min(20.0, 2.2 + 0.17 * len(found.positions)), 4.6))
    draw_heatmap(ax, found)
    ax.set_title(title, fontsize="medium")
    return ax


def draw_heatmap(ax: Axes, found: Effects) -> None:
    # From purple (above) to orange (below) through white, which colour-blind people can tell apart.
    norm = Normalize(found.centre - found.limit, found.centre + found.limit)
    image = ax.imshow(found.values, cmap="PuOr", norm=norm, aspect="auto", interpolation="nearest")
    own = [(i, found.letters.find(letter)) for i, letter in enumerate(found.wild_type)]
    own = [(i, j) for i, j in own if j >= 0]
    ax.plot([i for i, _ in own], [j for _, j in own], ".", color="0.15", ms=3)
    step = next((s for s in TICKS if len(found.positions) <= MOST_TICKS * s), TICKS[-1])
    places = [i for i, position in enumerate(found.positions) if position % step == 0]
    ax.set_xticks(places, [str(found.positions[i]) for i in places], fontsize="small")
    ax.set_yticks(range(len(found.letters)), list(found.letters), fontsize="small")
    ax.set_xlabel("position (dots: wild type)")
    ax.set_ylabel("residue")
    figure = ax.get_figure()
    if figure is not None:
        figure.colorbar(image, ax=ax, extend="both", label=f"mean score (middle: {found.centred_at})")


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return Figure(figsize=size, layout="constrained").subplots() if ax is None else ax


def _known_split(comparison: Comparison, split: str) -> str:
    if split not in comparison.split_names:
        known = ", ".join(comparison.split_names) or "none"
        raise InputError(f"there is no split {split!r}; splits: {known}")
    return split


def _order(comparison: Comparison, splits: Sequence[str]) -> list[str]:
    """Models from best to worst by their mean over the splits."""
    rankings = pd.concat([comparison.ranking(split) for split in splits])
    means = rankings.groupby("model", sort=False)["value"].mean()
    return list(means.sort_values(ascending=False, kind="stable", na_position="last").index)


def _legend(ax: Axes, entries: Sequence[tuple[str, str, str]]) -> None:
    handles = [Line2D([], [], ls="", marker=marker, color=colour, label=name) for name, marker, colour in entries]
    ax.legend(handles=handles, fontsize="small")
