"""Measure the in-context predictor on proteins that it was not trained on.

    python results/in_context/train.py --data FOLDER --output WORK
    python results/in_context/run.py --data FOLDER --weights WORK/in_context.safetensors --cache WORK/vectors

writes ``in_context.json`` and ``in_context.md``. Of each protein that was left out the largest assay is taken; a fixed
part of its variants is the test, and what is labelled is drawn from the others. Scores are kept as they come: run
again, it goes on. Without the weights, only the other methods are scored.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import assays
import numpy as np
import torch
from sklearn.linear_model import RidgeCV

from limbeck import load
from limbeck.files import whole
from limbeck.landscapes.in_context import InContextModel
from limbeck.landscapes.in_context.variants import Describer
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.scores import score

SIZES, DRAWS, MOST_TESTED, RESAMPLES = (0, 16, 128), 3, 500, 10_000
METRICS = ("spearman", "ndcg")
ONE_HOT, AUGMENTED, WITH_RATIO = "ridge on one-hot", "ridge on one-hot + embedding", "ridge on one-hot + log ratio"
READ, RATIO = "ridge on what the network reads", "log ratio of the student"
IN_CONTEXT, TUNED = "in-context predictor", "in-context predictor, 100 steps of fine-tuning"
ORDER = (RATIO, ONE_HOT, AUGMENTED, WITH_RATIO, READ, IN_CONTEXT, TUNED)

Predict = Callable[[list[str], np.ndarray, list[str]], np.ndarray]
"""From labelled rows, their scores and the rows to be scored, to scores."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cache", help="folder that keeps vectors")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--leave-out", action="append", default=[], choices=["embedding", "tuning"], help="slow parts")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = options.output / "in_context.json"
    lines = json.loads(path.read_text())["scores"] if path.exists() else []
    for assay in tested(options.data):
        lines += measured(assay, lines, options)
        content = {"settings": settings(options.weights), "summary": summary(lines), "scores": lines}
        with whole(path) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (options.output / "in_context.md").write_text(table(content["summary"]), encoding="utf-8")


def tested(data: Path) -> list[assays.Measured]:
    """The largest assay of each protein that is left out."""
    found = assays.read(data)
    by_protein: dict[str, assays.Measured] = {}
    for assay in assays.divided(found, assays.families(found))["test"]:
        by_protein.setdefault(assay.protein, assay)
    return sorted(by_protein.values(), key=lambda assay: assay.name)


def measured(assay: assays.Measured, known: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Scores that are not known yet, a line for each draw, number of labels and method."""
    order = np.random.default_rng(zlib.crc32(assay.name.encode()) + 1).permutation(len(assay.rows))
    count = min(MOST_TESTED, len(order) // 2)
    test, pool = order[:count], order[count:]
    done = {(line["assay"], line["labels"], line["draw"], line["method"]) for line in known}
    asked, found = [assay.rows[i] for i in test], []
    for size in SIZES:
        for draw in range(DRAWS if size else 1):
            support = np.random.default_rng((draw, size)).permutation(pool)[:size]
            for name, predict in methods(assay, size, options).items():
                if (assay.name, size, draw, name) in done:
                    continue
                started = time.monotonic()
                predicted = predict([assay.rows[i] for i in support], assay.scores[support], asked)
                values = score(assay.scores[test], predicted)
                line = {"assay": assay.name, "protein": assay.protein, "labels": size, "draw": draw, "method": name}
                line |= {metric: round(values[metric], 4) for metric in METRICS}
                found.append(line | {"tested": count, "seconds": round(time.monotonic() - started, 2)})
                print(json.dumps(found[-1]), flush=True)
    return found


def methods(assay: assays.Measured, size: int, options: argparse.Namespace) -> dict[str, Predict]:
    """What competes with so many labels."""
    wild_types = (assay.wild_type,)
    describe = _describer(*wild_types)

    def ratio(rows: list[str]) -> np.ndarray:
        return describe.log_ratios(describe(rows)).astype(np.float64)

    def with_ratio(rows: list[str], scores: np.ndarray, asked: list[str]) -> np.ndarray:
        slope, level = np.polyfit(ratio(rows), scores, 1)
        rest = RidgeModel("one-hot").fit(rows, scores - slope * ratio(rows) - level)
        return rest.predict(asked) + slope * ratio(asked)

    def read(rows: list[str], scores: np.ndarray, asked: list[str]) -> np.ndarray:
        x, other = describe(rows).astype(np.float64), describe(asked)
        scale = np.where(x.std(axis=0) > 0, x.std(axis=0), np.inf)
        model = RidgeCV(np.logspace(0, 6, 25)).fit((x - x.mean(axis=0)) / scale, scores)
        return model.predict((other - x.mean(axis=0)) / scale)

    def fitted(model: Any) -> Predict:
        return lambda rows, scores, asked: model.fit(rows, scores).predict(asked)

    found: dict[str, Predict] = {}
    if not size:
        found[RATIO] = lambda _rows, _scores, asked: ratio(asked)
    else:
        found |= {ONE_HOT: fitted(RidgeModel("one-hot")), WITH_RATIO: with_ratio, READ: read}
        if "embedding" not in options.leave_out:
            both = RidgeModel(("one-hot", "embedding:mean"), wild_types=wild_types, cache=options.cache)
            found[AUGMENTED] = fitted(both)
    if options.weights is not None and options.weights.exists():
        model = InContextModel(str(options.weights), wild_types=wild_types)
        if not size:
            found[IN_CONTEXT] = lambda _rows, _scores, asked: model.rank(asked)
        else:
            found[IN_CONTEXT] = fitted(model)
            if "tuning" not in options.leave_out:
                found[TUNED] = fitted(InContextModel(str(options.weights), steps=100, wild_types=wild_types))
    return found


@lru_cache(maxsize=1)
def _describer(wild_type: str) -> Describer:
    return Describer(load(), [wild_type])


def settings(weights: Path | None) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if weights is not None and weights.exists():
        from limbeck.landscapes.in_context.weights import load_network

        about = load_network(weights)[1]
    return {"sizes": SIZES, "draws": DRAWS, "most tested": MOST_TESTED, "resamples": RESAMPLES, "network": about}


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each number of labels, method and metric: the mean over proteins of the mean over draws, with 95 % intervals
    from resampled proteins, and the same of differences to both ridges."""
    random, found = np.random.default_rng(0), []
    for size in SIZES:
        for metric in METRICS:
            means = {name: _by_protein(lines, size, metric, name) for name in ORDER}
            for name, own in means.items():
                if not own:
                    continue
                row = {"labels": size, "metric": metric, "method": name, "proteins": len(own)}
                row |= _interval(np.array(list(own.values())), random)
                for other in (ONE_HOT, AUGMENTED, WITH_RATIO, RATIO):
                    shared = sorted(own.keys() & means[other].keys())
                    if shared and other != name:
                        apart = np.array([own[p] - means[other][p] for p in shared])
                        row[f"less {other}"] = _interval(apart, random) | {"better": int((apart > 0).sum())}
                found.append(row)
    return found


def _by_protein(lines: list[dict[str, Any]], size: int, metric: str, method: str) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for line in lines:
        if line["labels"] == size and line["method"] == method:
            values.setdefault(line["protein"], []).append(line[metric])
    return {protein: float(np.mean(own)) for protein, own in values.items()}


def _interval(values: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    means = values[random.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": round(float(values.mean()), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: Spearman and NDCG with intervals, and how much Spearman exceeds that of the ridges."""
    text = [
        "| labels | method | proteins | Spearman | NDCG | less one-hot ridge | less one-hot + embedding |",
        "|--:|---|--:|---|---|---|---|",
    ]
    for row in (row for row in rows if row["metric"] == "spearman"):
        ndcg = next(
            r for r in rows if r["metric"] == "ndcg" and (r["labels"], r["method"]) == (row["labels"], row["method"])
        )
        cells = [str(row["labels"]), row["method"], str(row["proteins"]), _cell(row), _cell(ndcg)]
        cells += [_cell(row.get(f"less {other}"), "+") for other in (ONE_HOT, AUGMENTED)]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def _cell(row: dict[str, Any] | None, sign: str = "") -> str:
    if row is None:
        return ""
    low, high = row["interval"]
    better = f", better on {row['better']}" if "better" in row else ""
    return f"{row['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f}){better}"


if __name__ == "__main__":
    main()
