"""Table and figure of campaigns.jsonl: ``python results/campaigns/summary.py``.

Repeats that not all strategies of a landscape have yet are left out. Intervals are Student's t, 95 %, over repeats;
differences are paired by repeat, so by first plate.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from run import FILE, PLATE, ROUNDS, arms
from scipy import stats

FOLDER = Path(__file__).parent
BASELINES = {"random": ("random", ""), "ridge": ("ridge, greedy", "one-hot")}
STYLES = {
    "random": ("#6b7278", ":"),
    "ridge, greedy": ("#a87900", "-"),
    "GP, greedy": ("#0072b2", "-"),
    "GP, greedy + diversity": ("#0072b2", "--"),
    "GP, thompson": ("#00875f", "-"),
    "GP, ucb": ("#d55e00", "-"),
}
Key = tuple[str, str]
"""Strategy and features."""


def read(path: Path) -> dict[Key, dict[Key, list[dict[str, Any]]]]:
    """Campaigns by landscape and candidates, then by strategy and features, in the order of their repeats."""
    groups: dict[Key, dict[Key, dict[int, dict[str, Any]]]] = {}
    for line in map(json.loads, path.read_text().splitlines()):
        group = groups.setdefault((line["landscape"], line["candidates"]), {})
        group.setdefault((line["strategy"], line["features"]), {})[line["repeat"]] = line
    whole = {}
    for name, found in groups.items():
        wanted = [(arm.name, arm.features) for arm in arms(name[1] == "sample")]
        repeats = sorted(set.intersection(*(set(found.get(key, {})) for key in wanted)))
        if len(repeats) > 1:
            whole[name] = {key: [found[key][repeat] for repeat in repeats] for key in wanted}
    return whole


def values(campaigns: Iterable[dict[str, Any]], what: str) -> NDArray[np.float64]:
    """(repeats, rounds)."""
    return np.array([[found[what] for found in campaign["rounds"]] for campaign in campaigns], float)


def interval(sample: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean, and half-open to either side its 95 % interval."""
    mean, error = sample.mean(), stats.sem(sample)
    half = stats.t.ppf(0.975, len(sample) - 1) * error if len(sample) > 1 else np.nan
    return float(mean), float(mean - half), float(mean + half)


def _text(sample: NDArray[np.float64], sign: str = "") -> str:
    mean, low, high = interval(sample)
    return f"{mean:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def table(name: Key, group: dict[Key, list[dict[str, Any]]]) -> list[str]:
    first = next(iter(group.values()))[0]
    repeats = len(next(iter(group.values())))
    head = ["strategy", "features", *(f"after {i}" for i in range(1, ROUNDS)), f"after {ROUNDS}"]
    head += ["candidates that are better", "against random", "against ridge", "mean of last plate", "of the top 1 %"]
    head += ["alike"]
    top = first["n"] // 100
    lines = [
        f"## {name[0]}, {name[1]}",
        "",
        f"{first['n']:,} candidates, highest score {first['highest']:.2f}, {repeats} repeats.",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    found = {key: values(campaigns, "best")[:, 1:].mean(axis=1) for key, campaigns in group.items()}
    for (strategy, features), campaigns in group.items():
        best = values(campaigns, "best")
        better = 100 * np.median(values(campaigns, "better")[:, -1]) / first["n"]
        cells = [strategy, features or "-", *(f"{x:.2f}" for x in best.mean(axis=0)[:-1]), _text(best[:, -1])]
        cells.append(f"{better:.3f} %")
        for base in BASELINES.values():
            same = base == (strategy, features)
            cells.append("-" if same else _text(found[strategy, features] - found[base], "+"))
        cells.append(_text(values(campaigns, "mean")[:, -1]))
        cells.append(f"{values(campaigns, 'top 1 %')[:, -1].mean():.0f} of {top:,}")
        cells.append(f"{values(campaigns, 'mutated')[:, 1:].mean():.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def overall(groups: dict[Key, dict[Key, list[dict[str, Any]]]], candidates: str) -> list[str]:
    """Over the landscapes: how many times as many candidates are better than the best found as with the ridge."""
    chosen = {name: group for name, group in groups.items() if name[1] == candidates}
    if not chosen:
        return []
    count = " + ".join(f"{len(next(iter(group.values())))} ({name[0]})" for name, group in chosen.items())
    lines = [
        f"## Over the landscapes, {candidates}",
        "",
        f"Repeats: {count}. 1 is as good as greedy ridge on one-hot, less is better.",
        "",
        "| strategy | features | candidates better than the best found, by ridge's | after the last plate alone |",
        "|---|---|---|---|",
    ]
    for key in next(iter(chosen.values())):
        cells = [key[0], key[1] or "-"]
        for plates in (slice(1, None), slice(-1, None)):
            ratios = [
                (np.log1p(values(group[key], "better")) - np.log1p(values(group[BASELINES["ridge"]], "better")))[
                    :, plates
                ].mean(axis=1)
                for group in chosen.values()
            ]
            mean, low, high = np.exp(interval(np.concatenate(ratios)))
            cells.append("1" if key == BASELINES["ridge"] else f"{mean:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def draw(groups: dict[Key, dict[Key, list[dict[str, Any]]]], path: Path) -> None:
    """A row for each landscape; all candidates by one-hot, the sample by one-hot, and by vectors."""
    rows = list(dict.fromkeys(landscape for landscape, _ in groups))
    columns = [("all", "one-hot"), ("sample", "one-hot"), ("sample", "embedding:mean")]
    figure = Figure(figsize=(11, 3.2 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    handles: dict[str, Any] = {}
    for i, landscape in enumerate(rows):
        for j, (candidates, features) in enumerate(columns):
            group = groups.get((landscape, candidates))
            if group is None:
                axes[i, j].set_axis_off()
                continue
            shown = {key: found for key, found in group.items() if key[1] in ("", features)}
            _draw_panel(axes[i, j], shown, handles)
            count = next(iter(group.values()))[0]["n"]
            seen = "one-hot" if features == "one-hot" else "limbeck-9m"
            axes[i, j].set_title(f"{landscape}, {count:,} candidates, {seen}", fontsize=9)
    for j in range(len(columns)):
        lowest = [axes[i, j] for i in range(len(rows)) if axes[i, j].axison][-1:]
        for ax in lowest:
            ax.set_xlabel(f"plates of {PLATE}")
    figure.supylabel("best score found: mean over repeats, 95 % interval", fontsize=10)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def _draw_panel(ax: Any, arms: dict[Key, list[dict[str, Any]]], handles: dict[str, Any]) -> None:
    plates = np.arange(1, ROUNDS + 1)
    # The strategies' intervals side by side, not on top of one another.
    for shift, ((strategy, _), campaigns) in zip(np.linspace(-0.15, 0.15, len(arms)), arms.items(), strict=True):
        mean, low, high = np.array([interval(column) for column in values(campaigns, "best").T]).T
        colour, line = STYLES[strategy]
        around = [mean - low, high - mean]
        handles[strategy] = ax.errorbar(
            plates + shift, mean, yerr=around, color=colour, linestyle=line, lw=1.3, elinewidth=0.7, marker="o", ms=3
        )
    ax.axhline(next(iter(arms.values()))[0]["highest"], color="0.7", lw=0.8)
    ax.set_xticks(plates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="?", type=Path, default=FILE)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    given = parser.parse_args()
    groups = read(given.campaigns)
    lines = [
        "# Campaigns",
        "",
        f"Best score found after each plate of {PLATE}, mean over repeats, with its 95 % interval after the last;",
        "the share of the candidates that are better than it (median). Differences to random choice and to greedy",
        "ridge on one-hot: of the best score, averaged over what stood after plates 2 to 5, paired by first plate.",
        "Then the mean score of the last plate, how many variants of the top 1 % were found, and how many wells of a",
        "plate share their commonest mutation (mean of plates 2 to 5).",
        "",
    ]
    for candidates in ("all", "sample"):
        lines += overall(groups, candidates)
    for name, group in groups.items():
        lines += table(name, group)
    (given.output / "campaigns.md").write_text("\n".join(lines))
    draw(groups, given.output / "campaigns.png")


if __name__ == "__main__":
    main()
