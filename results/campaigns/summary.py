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
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def draw(groups: dict[Key, dict[Key, list[dict[str, Any]]]], path: Path) -> None:
    figure = Figure(figsize=(4.2 * len(groups), 4.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(groups)))
    plates = np.arange(1, ROUNDS + 1)
    for ax, (name, group) in zip(axes, groups.items(), strict=True):
        # The strategies' intervals side by side, not on top of one another.
        shifts = np.linspace(-0.15, 0.15, len(group))
        for shift, ((strategy, features), campaigns) in zip(shifts, group.items(), strict=True):
            best = values(campaigns, "best")
            mean, low, high = np.array([interval(column) for column in best.T]).T
            colour, line = STYLES[strategy]
            embedded = features.startswith("embedding")
            ax.errorbar(
                plates + shift, mean, yerr=[mean - low, high - mean], color=colour, linestyle=line, lw=1.2,
                elinewidth=0.6, marker="o" if embedded else "s", ms=4, mfc="white" if embedded else colour,
                label=f"{strategy}{' (limbeck-9m)' if embedded else ''}",
            )  # fmt: skip
        first = next(iter(group.values()))[0]
        ax.axhline(first["highest"], color="0.7", lw=0.8)
        ax.set_title(f"{name[0]}: {name[1]}, {first['n']:,} candidates", fontsize=10)
        ax.set_xticks(plates)
        ax.set_xlabel(f"plates of {PLATE}")
    axes[0].set_ylabel("best score found (mean over repeats, 95 % interval)")
    most = max(axes, key=lambda ax: len(ax.get_legend_handles_labels()[0]))
    figure.legend(*most.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


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
        "Then the mean score of the last plate, and how many variants of the top 1 % were found.",
        "",
    ]
    for name, group in groups.items():
        lines += table(name, group)
    (given.output / "campaigns.md").write_text("\n".join(lines))
    draw(groups, given.output / "campaigns.png")


if __name__ == "__main__":
    main()
