"""How well do nearest neighbours and the exemplar SVM name the training variants that drove a prediction?

    python results/landscape/explain.py DATA

DATA holds ``flip_gb1/gb1.csv.gz`` (FLIP's GB1) and ``beta_lactamase/envision_p62593.csv.gz`` (beta-lactamase, as in
ESM's examples). Ridge regression is fitted to at most 2,000 variants drawn at random, on one-hot columns and on the
default encoder's vectors. For 50 other variants the training variants are ranked by each method of
``limbeck.landscapes.explaining``; then the first 10, 50 or 200 are removed and the prediction made again without them,
beside as many random ones, 20 times. Removals are computed exactly (Smoother.without), which
``tests/test_explaining.py`` compares with fitting again.

Writes ``explain.json`` and ``explain.md`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from limbeck.landscapes.assay import Assay
from limbeck.landscapes.explaining import METHODS, Attribution
from limbeck.landscapes.models import RidgeModel
from limbeck.landscapes.reading import read_assay

HERE = Path(__file__).parent
TRAINED, EXPLAINED, RANDOM = 2000, 50, 20
REMOVED = (10, 50, 200)
FEATURES = ("one-hot", "embedding:mean")


def assays(data: Path) -> dict[str, Assay]:
    return {
        "GB1": read_assay(data / "flip_gb1" / "gb1.csv.gz", mutation_column="", split_columns=[]),
        "beta-lactamase": read_assay(data / "beta_lactamase" / "envision_p62593.csv.gz"),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Mean over the explained variants, with a 95 % bootstrap interval."""
    found = np.array(values)
    means = found[np.random.default_rng(0).integers(0, len(found), (2000, len(found)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": round(float(found.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def explained(attribution: Attribution, row: str, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Numbers of one variant: agreement with the exact rankings, and how far its prediction moves."""
    smoother = attribution.smoother
    weights = smoother.weights(attribution.features([row]))[0]
    values = {method: attribution.values(method, row) for method in METHODS}
    orders = {method: np.argsort(-found, kind="stable") for method, found in values.items()}
    count = len(weights)
    scale = attribution.training.scores.std()
    result: dict[str, dict[str, float]] = {method: {} for method in (*METHODS, "random")}
    for method in METHODS:
        result[method]["rank correlation with weights"] = float(spearmanr(values[method], weights)[0])
        for exact in ("weights", "removal"):
            for k in REMOVED:
                shared = len(np.intersect1d(orders[method][:k], orders[exact][:k])) / k
                result[method][f"share of the first {k} by {exact}"] = shared
    for k in REMOVED:
        name = f"moved by removing {k}"
        for method in METHODS:
            result[method][name] = abs(smoother.without(weights, orders[method][:k])) / scale
        drawn = [rng.choice(count, k, replace=False) for _ in range(RANDOM)]
        result["random"][name] = float(np.mean([abs(smoother.without(weights, rows)) for rows in drawn])) / scale
    return result


def measure(assay: Assay, features: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    order = rng.permutation(len(assay))
    train, test = assay.take(np.sort(order[:TRAINED])), assay.take(order[TRAINED : TRAINED + EXPLAINED])
    model = RidgeModel(features).fit(train.rows, train.scores)
    attribution = Attribution(model, train)
    found = [explained(attribution, row, rng) for row in test.rows]
    predicted = model.predict(test.rows)
    mixed = attribution.smoother.weights(attribution.features(test.rows)) @ train.scores
    return {
        "trained_on": len(train),
        "explained": len(test),
        "alpha": model.alpha_,
        "spearman_of_explained": round(float(spearmanr(predicted, test.scores)[0]), 3),
        "largest_error_of_weights": float(np.abs(mixed - predicted).max()),
        "methods": {
            method: {name: spread([one[method][name] for one in found]) for name in found[0][method]}
            for method in found[0]
        },
    }


def table(results: dict[str, Any]) -> str:
    columns = ["rank correlation with weights", "share of the first 50 by weights", "share of the first 50 by removal"]
    columns += [f"moved by removing {k}" for k in REMOVED]
    lines = [
        "# Which training variants drove a prediction",
        "",
        "Made by `python results/landscape/explain.py DATA`; numbers in `explain.json`. Means over 50 variants, with",
        "95 % bootstrap intervals. Movements are in standard deviations of the training scores.",
        "",
    ]
    for name, cell in results.items():
        lines += [
            f"## {name}",
            "",
            f"{cell['trained_on']:,} training variants, ridge with alpha {cell['alpha']:.3g}.",
            "",
        ]
        lines += ["| method | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        for method, found in cell["methods"].items():
            cells = [_cell(found.get(column)) for column in columns]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(value: dict[str, float] | None) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})" if value else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    results = {
        f"{name}, {features}": measure(assay, features)
        for name, assay in assays(options.data).items()
        for features in FEATURES
    }
    (HERE / "explain.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "explain.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
