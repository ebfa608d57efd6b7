"""What is trained on few labels, beside what is solved: networks, rankings, an encoder adapted by next to nothing.

    python results/few_labels/run.py --data FOLDER --work WORK ...      # first: what is solved, on the same variants
    python results/few_labels/trained.py --data FOLDER --work WORK [--weights FILE]

Five assays of :mod:`assays` (the shortest wild types that the in-context network of limbeck did not learn from), the
first three of ``run.py``'s orders, 16 and 128 labels: the variants that are labelled and tested are the same. Networks
hold out a tenth of their labels to stop by; what adapts the student a fifth. Every assay and order is kept in WORK.

Writes ``trained.json`` and ``trained.md`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from assays import assays, protein_of
from run import TESTED, both, tested_on
from table import BASELINE, REPLICATES

from limbeck.benchmarks.finetuning import Settings, finetune
from limbeck.benchmarks.task import Items, Parts, Splits, Task
from limbeck.files import whole
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.in_context import SHIPPED, InContextModel
from limbeck.landscapes.models import Model
from limbeck.landscapes.networks import BiLSTM, MaxPoolCNN

HERE = Path(__file__).parent
ASSAYS, ORDERS, SIZES = 5, 3, (16, 128)
HELD = 0.2
"""Share of the labels by which an adapted encoder chooses its epoch."""
EPOCHS = 6
BESIDE = (
    BASELINE,
    "ridge on one-hot + limbeck-9m",
    "ridge on one-hot + zero-label limbeck-9m",
    "ridge on limbeck-9m",
    "Gaussian process on limbeck-9m",
)
"""Solved methods of run.py, on the same variants."""

Fit = Callable[[Assay, Assay, int], np.ndarray]
"""From labelled variants, those that are tested, and the number of the order to predictions."""


def methods(weights: str | None) -> dict[str, Fit]:
    """Everything that is trained, by name."""
    found: dict[str, Fit] = {}
    for loss in ("squared", "pairwise", "listwise"):
        found[f"small CNN, {loss} loss"] = of_model(
            lambda assay, order, loss=loss: MaxPoolCNN(loss=loss, random_state=order)
        )
    for loss in ("squared", "pairwise"):
        found[f"LSTM, {loss} loss"] = of_model(lambda assay, order, loss=loss: BiLSTM(loss=loss, random_state=order))
    for steps in (0, 100):
        name = f"in-context predictor, {steps} steps of fine-tuning" if steps else "in-context predictor"
        found[name] = of_model(
            lambda assay, order, steps=steps: InContextModel(
                weights, steps, wild_types=tuple(assay.wild_types.values()), random_state=order
            )
        )
    for method in ("head", "prompt", "lora"):
        found[f"limbeck-9m, {method}"] = adapted(method)
    return found


def of_model(make: Callable[[Assay, int], Model]) -> Fit:
    def fit(train: Assay, tested: Assay, order: int) -> np.ndarray:
        return make(train, order).fit(train.rows, train.scores).predict(tested.rows)

    return fit


def adapted(method: str) -> Fit:
    """The student with a head, adapted by one way of ``limbeck benchmark --finetune``."""

    def fit(train: Assay, tested: Assay, order: int) -> np.ndarray:
        shuffled = np.random.default_rng(order).permutation(len(train))
        held, fitted = np.split(shuffled, [max(2, round(HELD * len(train)))])
        fit, choose = (
            Items([train.rows[i] for i in part], train.scores[part], np.array([train.rows[i] for i in part]))
            for part in (fitted, held)
        )
        # What is scored here is not looked at: the tested variants are predicted by the model that comes out.
        settings = Settings(method=method, epochs=EPOCHS)
        found = finetune(TASK, Parts(fit, choose, choose), settings=settings, seeds=(order,))
        return np.asarray(found.models[0].predict(tested.rows), np.float64)

    return fit


TASK = Task(
    name="few labels",
    question="the score of a variant",
    kind="values",
    metrics=("spearman",),
    folder="",
    files=(),
    read=lambda _: Splits(*[Items([], np.empty(0))] * 3),
    split="random",
    citation="",
    license="",
    sizes={},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="that of run.py")
    parser.add_argument("--weights", help="of the in-context network (default: limbeck's own)")
    parser.add_argument("--table", action="store_true", help="measure nothing more")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = unseen(assays(options.data), options.weights)
    folder = options.work / "trained"
    folder.mkdir(parents=True, exist_ok=True)
    measured = {}
    for order in range(ORDERS):
        for assay in chosen:
            path = folder / f"{order}-{assay.name}.json"
            found = json.loads(path.read_text()) if path.exists() else {}
            if not options.table:
                measure(assay, order, found, path, methods(options.weights))
            solved = json.loads((options.work / "scores" / path.name).read_text())
            for size in map(str, SIZES):
                own = {name: values[:2] for name, values in found.get(size, {}).items()}
                both_kinds = {name: solved[size][name] for name in BESIDE} | own
                for name, values in both_kinds.items():
                    measured.setdefault((size, name), {}).setdefault(assay.name, []).append(values)
    write(chosen, measured)


def unseen(found: list[Assay], weights: str | None) -> list[Assay]:
    """The assays with the shortest wild types that the network did not learn from."""
    left_out = tested_on(Path(weights or SHIPPED))
    return [assay for assay in found if protein_of(assay.name) in left_out][:ASSAYS]


def measure(assay: Assay, order: int, found: dict[str, Any], path: Path, by_name: dict[str, Fit]) -> None:
    """Add what is not known yet: Spearman's correlation, NDCG, seconds of processor time."""
    shuffled = np.random.default_rng((1, order)).permutation(len(assay))
    tested = assay.take(shuffled[-TESTED:])
    for size in SIZES:
        train, known = assay.take(shuffled[:size]), found.setdefault(str(size), {})
        for name, fit in by_name.items():
            if name in known:
                continue
            started = time.process_time()
            predicted = fit(train, tested, order)
            known[name] = [*both(tested.scores, predicted), round(time.process_time() - started, 1)]
            print(assay.name, order, size, name, known[name], flush=True)
            with whole(path) as partial:
                partial.write_text(json.dumps(found))


def write(chosen: list[Assay], measured: dict[tuple[str, str], dict[str, list[list[float]]]]) -> None:
    drawn = np.random.default_rng(0).integers(0, len(chosen), (REPLICATES, len(chosen)))
    rows = []
    for (size, name), by_assay in measured.items():
        if any(len(by_assay.get(assay.name, ())) < ORDERS for assay in chosen):
            continue
        row: dict[str, Any] = {"labels": int(size), "method": name}
        for index, metric in enumerate(("spearman", "ndcg")):
            values, other = (
                np.array([np.mean([v[index] for v in measured[size, each][assay.name]]) for assay in chosen])
                for each in (name, BASELINE)
            )
            for key, numbers in ((metric, values), (f"{metric} gain", values - other)):
                low, high = np.percentile(numbers[drawn].mean(axis=1), [2.5, 97.5])
                row[key] = [round(float(x), 4) for x in (numbers.mean(), low, high)]
        rows.append(row)
    content = {
        "assays": [{"name": assay.name, "residues": assay.width} for assay in chosen],
        "orders": ORDERS,
        "summary": rows,
        "scores": {f"{size} {name}": by_assay for (size, name), by_assay in measured.items()},
    }
    (HERE / "trained.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        "# Trained on few labels",
        "",
        "Command: `python results/few_labels/trained.py --data FOLDER --work WORK`",
        "",
        f"{len(chosen)} assays, {ORDERS} orders of each; means over assays with 95 % intervals over assays, which five "
        "of them give roughly. A gain is that over tuned ridge on one-hot with the same labels, paired by assay; "
        "**bold** where its interval lies above zero. The first methods are solved ([few_labels.md](few_labels.md)), "
        "the others trained.",
        "",
        "| labels | method | Spearman | gain | NDCG of the top 10 % | gain |",
        "|--:|---|---|---|---|---|",
    ]
    for size in SIZES:
        for row in (row for row in rows if row["labels"] == size):
            cells = [_cell(row["spearman"]), _gain(row["spearman gain"]), _cell(row["ndcg"]), _gain(row["ndcg gain"])]
            lines.append(f"| {size} | {row['method']} | {' | '.join(cells)} |")
    lines += ["", "| assay | residues |", "|---|--:|"]
    lines += [f"| {assay.name} | {assay.width} |" for assay in chosen]
    (HERE / "trained.md").write_text("\n".join(lines) + "\n")


def _cell(values: list[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"


def _gain(values: list[float]) -> str:
    text = f"{values[0]:+.3f} ({values[1]:+.3f} to {values[2]:+.3f})"
    return f"**{text}**" if values[1] > 0 else text


if __name__ == "__main__":
    main()
