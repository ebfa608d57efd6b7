"""What the curves say: raw scores, a table with intervals over assays, a figure, and the table that limbeck ships."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from limbeck.landscapes.assay import Assay

BASELINE = "ridge on one-hot"
REPLICATES = 4000
SHIPPED = Path("src/limbeck/landscapes/few_labels.json")
LADDER = (
    "zero-label limbeck-9m",
    "zero-label limbeck-contexts",
    "zero-label homology",
    BASELINE,
    "ridge on one-hot + zero-label limbeck-9m",
    "ridge on one-hot + zero-label homology",
    "ridge on one-hot + limbeck-9m",
    "ridge on limbeck-9m",
    "ridge on limbeck-9m at mutations",
    "Gaussian process on limbeck-9m",
    "Gaussian process on limbeck-9m at mutations",
    "in-context predictor",
)
"""What `limbeck landscape` fits, and so can recommend."""
DRAWN = {
    BASELINE: "black",
    "ridge on one-hot + zero-label limbeck-9m": "tab:olive",
    "ridge on one-hot + limbeck-9m": "tab:blue",
    "Gaussian process on limbeck-9m at mutations": "tab:purple",
    "in-context linear regression on limbeck-9m": "tab:gray",
    "ridge on one-hot + zero-label homology": "tab:red",
    "in-context predictor": "tab:green",
}
FLAT = {
    "in-context predictor, no label": "tab:green",
    "zero-label homology": "tab:red",
    "zero-label limbeck-9m": "tab:olive",
}

Scores = dict[str, dict[str, dict[str, dict[str, list[float]]]]]
"""By assay, number of labels and method: Spearman's correlation and NDCG of each order."""


def write(folder: Path, chosen: Sequence[Assay], measured: Mapping[tuple[str, int], Any]) -> None:
    """Write ``few_labels.json``, ``.md`` and ``.png`` and the shipped table.

    Args:
        measured: by assay and order what ``run.py`` keeps; assays without any are left out.
    """
    scores: Scores = {}
    for (name, _), found in sorted(measured.items(), key=lambda item: item[0][1]):
        for labels, methods in found.items():
            for method, (spearman, ndcg) in methods.items():
                entry = (
                    scores.setdefault(name, {}).setdefault(labels, {}).setdefault(method, {"spearman": [], "ndcg": []})
                )
                entry["spearman"].append(spearman)
                entry["ndcg"].append(ndcg)
    if not scores:
        return
    orders = [len(next(iter(by["0"].values()))["spearman"]) for by in scores.values()]
    facts = [
        {"name": a.name, "residues": a.width, "orders": n} for n, a in zip(orders, _named(chosen, scores), strict=True)
    ]
    rows = summary(scores)
    raw = {"assays": facts, "summary": rows, "scores": scores}
    (folder / "few_labels.json").write_text(_lines(raw))
    (folder / "few_labels.md").write_text(_page(rows, facts))
    _figure(rows, folder / "few_labels.png", len(facts))
    shipped = {
        "source": "results/few_labels/few_labels.json",
        "assays": len(facts),
        "orders": [min(orders), max(orders)],
        "rows": [row for row in rows if row["metric"] == "spearman" and row["method"] in LADDER],
    }
    (folder.parents[1] / SHIPPED).write_text(_lines(shipped))


def _named(chosen: Sequence[Assay], scores: Scores) -> list[Assay]:
    known = {assay.name: assay for assay in chosen}
    return [known[name] for name in scores]


def _lines(content: dict[str, Any]) -> str:
    """JSON with one entry a line in the first two levels."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            inner = ",\n".join(f"  {json.dumps(item)}" for item in value)
            parts.append(f" {json.dumps(key)}: [\n{inner}\n ]")
        elif isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def summary(scores: Scores) -> list[dict[str, Any]]:
    """For each metric, number of labels and method the mean over assays, each the mean of its orders.

    With a 95 % bootstrap interval over assays, and the gain over ridge on one-hot with that of the paired differences.
    Zero-label scores are the same for every number of labels, and stand beside each.
    """
    sizes = [size for size in next(iter(scores.values())) if size != "0"]
    drawn = np.random.default_rng(0).integers(0, len(scores), (REPLICATES, len(scores)))

    def interval(values: np.ndarray) -> list[float]:
        means = values[drawn].mean(axis=1)
        return [round(float(v), 4) for v in (values.mean(), *np.percentile(means, [2.5, 97.5]))]

    rows = []
    for metric in ("spearman", "ndcg"):
        for size in sizes:
            first = next(iter(scores.values()))
            methods = {m: "0" for m in first["0"]} | {m: size for m in next(iter(scores.values()))[size]}

            def values(method: str, at: str, metric: str = metric) -> np.ndarray:
                return np.array([np.mean(by[at][method][metric]) for by in scores.values()])

            for method, at in methods.items():
                found = interval(values(method, at))
                gain = interval(values(method, at) - values(BASELINE, size))
                rows.append(
                    {"metric": metric, "labels": int(size), "method": method}
                    | dict(zip(("value", "low", "high"), found, strict=True))
                    | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
                )
    return rows


def _page(rows: list[dict[str, Any]], facts: list[dict[str, Any]]) -> str:
    orders = sorted({fact["orders"] for fact in facts})
    count = str(orders[0]) if len(orders) == 1 else f"{orders[0]} to {orders[-1]}"
    lines = [
        "# Learning curves from few labels",
        "",
        "Command: `python results/few_labels/run.py --data FOLDER --work FOLDER --relatives FASTA --unirep FILE "
        "--in-context DIR`",
        "",
        f"{len(facts)} assays of single mutants, each of another protein; {count} random orders of each; 512 tested "
        "variants. Means over assays, and the 95 % interval of the mean over assays. A gain is that over tuned ridge "
        "on one-hot with as many labels, paired by assay; **bold** where its interval lies above zero.",
    ]
    for metric, title in (("spearman", "Spearman's correlation"), ("ndcg", "NDCG of the top 10 %")):
        part = [row for row in rows if row["metric"] == metric]
        sizes = sorted({row["labels"] for row in part})
        lines += ["", f"## {title}", "", f"| method | {' | '.join(map(str, sizes))} |", f"|---|{'---|' * len(sizes)}"]
        for method in dict.fromkeys(row["method"] for row in part):
            cells = []
            for size in sizes:
                row = next((r for r in part if (r["method"], r["labels"]) == (method, size)), None)
                if row is None:
                    cells.append("")
                    continue
                value = f"{row['value']:.3f}"
                cells.append(f"**{value}**" if row["gain_low"] > 0 else value)
            lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Gains in Spearman's correlation",
        "",
        "| method | labels | mean | gain over ridge on one-hot |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if row["metric"] == "spearman" and row["method"] != BASELINE:
            mean = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            gain = f"{row['gain']:+.3f} ({row['gain_low']:+.3f} to {row['gain_high']:+.3f})"
            lines.append(f"| {row['method']} | {row['labels']} | {mean} | {gain} |")
    lines += ["", "## Assays", "", "| assay | residues | orders |", "|---|---|---|"]
    lines += [f"| {fact['name']} | {fact['residues']} | {fact['orders']} |" for fact in facts]
    return "\n".join(lines) + "\n"


def _figure(rows: list[dict[str, Any]], path: Path, count: int) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.2))
    for axis, metric, label in zip(
        axes, ("spearman", "ndcg"), ("Spearman's correlation", "NDCG of the top 10 %"), strict=True
    ):
        for method, colour in (DRAWN | FLAT).items():
            part = [row for row in rows if row["metric"] == metric and row["method"] == method]
            if not part:
                continue
            x = [row["labels"] for row in part]
            style = "--" if method in FLAT else "-"
            axis.plot(
                x,
                [row["value"] for row in part],
                style,
                marker="" if method in FLAT else "o",
                ms=4,
                color=colour,
                label=method,
            )
            if method == BASELINE:
                axis.fill_between(x, [r["low"] for r in part], [r["high"] for r in part], color=colour, alpha=0.1, lw=0)
        axis.set_xscale("log", base=2)
        axis.set_xticks(x := sorted({row["labels"] for row in rows}), map(str, x))
        axis.set_xlabel("labelled variants")
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(
        f"Mean over {count} assays of different proteins; band: 95 % interval of ridge on one-hot over assays",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0.16, 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)
