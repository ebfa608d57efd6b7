"""Scores as the papers report them, beside theirs, on the data sets that come with limbeck.

    python results/landscape/published.py fluorescence --work FOLDER --output FOLDER
    python results/landscape/published.py stability --work FOLDER --output FOLDER
    python results/landscape/published.py beta-lactamase --work FOLDER --output FOLDER
    python results/landscape/published.py gb1 --work FOLDER --output FOLDER
    python results/landscape/published.py nn4dms --sample 2000 --work FOLDER --output FOLDER

writes TASK.json and TASK.md. Models are fitted by `limbeck.landscape`; this adds what it has no columns for: bright and
dark variants, numbers of mutations, the direction against the parent, training fractions. `--work` keeps fits, so a
run goes on. `--network` adds to TAPE's tasks a network of the paper with its settings for the task, which are those of
no validation and no early stopping, or the LSTM with the ladder's; `--train` fits it to a part. They take hours.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import limbeck
from limbeck.benchmarks import shipped_data
from limbeck.benchmarks.landscape import read_landscape
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.scores import score
from limbeck.landscapes.splits import drawn

BRIGHT = 2.5
"""Log-fluorescence above which TAPE calls a variant bright."""
FRACTIONS = (0.01, 0.1, 0.3, 0.5, 0.8)
PUBLISHED = {
    "fluorescence": [
        (
            "TAPE, best (arXiv 1906.08230)",
            {"all": 0.68, "all MSE": 0.19, "bright": 0.63, "bright MSE": 0.07, "dark": 0.05, "dark MSE": 0.22},
        ),
        ("CNN of PEER (arXiv 2206.02096)", {"all": 0.682}),
        ("ESM-2 8M, frozen / fine-tuned (Schmirler et al. 2024)", {"all": "0.639 / 0.688"}),
        ("ESM-2 3B, fine-tuned (Schmirler et al. 2024)", {"all": 0.699}),
    ],
    "stability": [
        ("TAPE, best (arXiv 1906.08230)", {"all": 0.73, "direction": 0.70}),
        ("ESM-2 8M, frozen (Schmirler et al. 2024)", {"all": 0.75}),
        ("ESM-2 35M, fine-tuned (Schmirler et al. 2024)", {"all": 0.769}),
        ("CNN of PEER (arXiv 2206.02096)", {"all": 0.637}),
    ],
    "beta-lactamase": [("CNN of PEER, fraction 0.8 (arXiv 2206.02096)", {"0.8": 0.781})],
    "gb1": [
        ("ridge, FLIP", {"one_vs_rest": 0.28, "two_vs_rest": 0.59, "three_vs_rest": 0.76, "low_vs_high": 0.34}),
        ("ESM-2 8M, frozen / fine-tuned (Schmirler et al. 2024)", {"three_vs_rest": "0.818 / 0.883"}),
    ],
}


@dataclass(frozen=True)
class Networks:
    """Networks that stand beside the ladder's models, and how many variants they are fitted to."""

    names: tuple[str, ...]
    train: int | None
    epochs: int
    """Of the LSTM, at most."""

    def rows(self, assay: Assay, split: str, work: Path) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
        """For each its row of the table, the rows of the assay that it was tested on, and what it predicts for them."""
        from limbeck.landscapes import networks

        train, valid, test = (np.flatnonzero(assay.splits[split] == part) for part in ("train", "valid", "test"))
        chosen = train if self.train is None else np.sort(drawn(assay, train, "part")[: self.train])
        known: dict[str, np.ndarray] = {}
        for name in self.names:
            lstm = name == "BiLSTM"
            model = networks.BiLSTM(epochs=self.epochs) if lstm else getattr(networks, name).published(assay.name)
            held = ([assay.rows[i] for i in valid], assay.scores[valid]) if lstm else None
            fitted = [assay.rows[i] for i in chosen], assay.scores[chosen]
            model.fit(*fitted, held, checkpoint=work / "networks", progress=True)
            line = {
                "model": f"LSTM, epoch {model.epoch_} of {self.epochs}" if lstm else f"{name} as published",
                "rows": "all" if len(chosen) == len(train) else "part",
                "train": len(chosen),
                "test": len(test),
            }
            # An ensemble is the mean of its networks, whose predictions take minutes.
            members = [kind for kind, _ in model.members] if name == "CNNEnsemble" else []
            if members and all(kind in known for kind in members):
                predicted = np.mean([known[kind] for kind in members], axis=0)
            else:
                predicted = model.predict([assay.rows[i] for i in test])
            known[name] = predicted
            yield line, test, predicted


def fluorescence(data: Path, work: Path, networks: Networks, options: dict[str, Any]) -> dict[str, Any]:
    assay = read_landscape("fluorescence", data)
    found = limbeck.landscape(assay, work, splits=["split"], curves=False, progress=True, **options)
    # Counts as the file has them: the deletion of a stop shifts all that is behind it.
    file = pd.read_csv(data / "tape_fluorescence/fluorescence.csv.gz", usecols=["sequence", "num_mutations"])
    counts = file.set_index("sequence")["num_mutations"].loc[assay.sequences].to_numpy()
    bright = assay.scores > BRIGHT
    groups = {"all": np.ones(len(assay), bool), "bright": bright, "dark": ~bright}
    groups |= {f"{n} mutations": counts == n for n in range(4, 9)} | {"9 and more": counts > 8}
    rows = _rows(found, groups)
    for line, tested, predicted in networks.rows(assay, "split", work):
        rows.append(line | _grouped(groups, tested, assay.scores[tested], predicted))
    return {"rows": rows, "verdict": _verdict(found)}


def stability(data: Path, work: Path, networks: Networks, options: dict[str, Any]) -> dict[str, Any]:
    assay = read_landscape("stability", data)
    found = limbeck.landscape(assay, work, splits=["tape"], curves=False, progress=True, **options)
    wild = {name: float(assay.scores[assay.rows.index(row)]) for name, row in assay.wild_types.items()}
    everything = {"all": np.ones(len(assay), bool)}
    rows = _rows(found, everything)
    for line in rows:
        part = _predictions(found, line["model"])
        line |= _against_parents(assay, wild, part["row"], part["predicted"])
    for line, tested, predicted in networks.rows(assay, "tape", work):
        line |= _grouped(everything, tested, assay.scores[tested], predicted)
        rows.append(line | _against_parents(assay, wild, tested, predicted))
    return {"rows": rows, "verdict": _verdict(found)}


def _against_parents(
    assay: Assay, wild: dict[str, float], tested: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    """Share of the variants whose direction against their parent is right, and the mean correlation within a parent.

    Args:
        wild: the parents' own scores.
        tested: rows of the assay.
        predicted: what a model says of them.
    """
    names, measured = assay.parents[tested], assay.scores[tested]
    base = np.array([wild.get(name, np.nan) for name in names])
    own = {assay.rows[row]: value for row, value in zip(tested, predicted, strict=True)}
    guess = np.array([own.get(assay.wild_types.get(name, ""), np.nan) for name in names])
    known = np.isfinite(base) & np.isfinite(guess) & (measured != base)
    within = [score(measured[names == n], predicted[names == n])["spearman"] for n in np.unique(names) if n]
    return {
        "direction": float(((predicted > guess) == (measured > base))[known].mean()),
        "within a parent, mean": float(np.mean(within)),
    }


def beta_lactamase(data: Path, work: Path, networks: Networks, options: dict[str, Any]) -> dict[str, Any]:
    """A fifth is tested, and a fraction of all is trained on; the paper's own split is not published."""
    assay = read_landscape("beta-lactamase", data)
    order = drawn(assay, np.arange(len(assay)), "fractions")
    splits = {}
    for fraction in FRACTIONS:
        part = np.full(len(assay), "", object)
        part[order[: len(assay) // 5]] = "test"
        train = order[len(assay) // 5 :][: round(fraction * len(assay))]
        part[train] = "train"
        part[train[: max(5, len(train) // 10)]] = "valid"
        splits[f"{fraction:g}"] = part
    found = limbeck.landscape(
        replace(assay, splits=splits), work, splits=list(splits), curves=False, progress=True, **options
    )
    return {"rows": _by_split(found), "verdict": _verdict(found)}


def gb1(data: Path, work: Path, networks: Networks, options: dict[str, Any]) -> dict[str, Any]:
    assay = read_landscape("gb1", data)
    names = list(assay.splits)
    found = limbeck.landscape(assay, work, splits=names, curves=False, progress=True, **options)
    rows = _by_split(found)
    # FLIP fits its ridge to validation variants, too.
    line: dict[str, Any] = {"model": "ridge on one-hot (alpha 1), fitted to train and validation", "rows": "all"}
    for name in names:
        fitted = np.flatnonzero(np.isin(assay.splits[name], ["train", "valid"]))
        test = np.flatnonzero(assay.splits[name] == "test")
        model = RidgeModel("one-hot", alpha=1.0).fit([assay.rows[i] for i in fitted], assay.scores[fitted])
        line[name] = score(assay.scores[test], model.predict([assay.rows[i] for i in test]))["spearman"]
    return {"rows": [line, *rows], "verdict": _verdict(found)}


def nn4dms(data: Path, work: Path, networks: Networks, options: dict[str, Any]) -> dict[str, Any]:
    """The main split of Gelman et al. 2021 (doi:10.1073/pnas.2104878118), four fifths of which train."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    verdicts: list[dict[str, Any]] = []
    for name in ("avgfp", "bgl3", "pab1", "ube4b"):
        assay = read_landscape(name, data)
        found = limbeck.landscape(assay, work / name, splits=["split_main"], curves=False, progress=True, **options)
        for metric, suffix in (("spearman", ""), ("pearson", " Pearson")):
            scores = found.scores[found.scores["metric"] == metric]
            for model, rows, value in zip(scores["model"], scores["rows"], scores["value"], strict=True):
                line = lines.setdefault((rows, model), {"model": model, "rows": rows})
                line[f"{name}{suffix}"] = float(value)
        verdicts += [{**verdict, "split": name} for verdict in _verdict(found)]
    return {"rows": [line for _, line in sorted(lines.items(), key=lambda item: item[0][0])], "verdict": verdicts}


def _predictions(found: Any, model: str) -> dict[str, np.ndarray]:
    """Of the largest set of rows that a model was fitted for, which is the one that a comparison keeps."""
    table = found.predictions
    table = table[table["model"] == model]
    return {name: table[name].to_numpy() for name in ("row", "measured", "predicted")}


def _rows(found: Any, groups: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Spearman and MSE of each model on groups of the assay's rows; the largest set that it was scored on."""
    scores = found.scores[found.scores["metric"] == "spearman"]
    lines = []
    for model, table in scores.groupby("model", sort=False):
        largest = table.sort_values("n_test").iloc[-1]
        part = _predictions(found, str(model))
        line: dict[str, Any] = {"model": model, "rows": largest["rows"], "train": int(largest["n_train"])}
        line |= {"test": int(largest["n_test"]), "seconds": round(float(largest["seconds"]), 1)}
        lines.append(line | _grouped(groups, part["row"], part["measured"], part["predicted"]))
    return lines


def _grouped(groups: dict[str, np.ndarray], rows: np.ndarray, measured: Any, predicted: Any) -> dict[str, float]:
    """Spearman on groups of the assay's rows, and MSE on those that are not by number of mutations."""
    line = {}
    for name, chosen in groups.items():
        kept = chosen[rows]
        values = score(measured[kept], predicted[kept])
        line[name] = values["spearman"]
        if "mutations" not in name and "more" not in name:
            line[f"{name} MSE"] = values["mse"]
    return line


def _by_split(found: Any) -> list[dict[str, Any]]:
    scores = found.scores[found.scores["metric"] == "spearman"]
    lines = []
    for (model, rows), table in scores.groupby(["model", "rows"], sort=False):
        values = {name.removeprefix("file: "): float(v) for name, v in zip(table["split"], table["value"], strict=True)}
        lines.append({"model": model, "rows": rows, **values})
    return lines


def _verdict(found: Any) -> list[dict[str, Any]]:
    return json.loads(found.verdicts.to_json(orient="records"))


def markdown(task: str, result: dict[str, Any]) -> str:
    columns = [name for name in result["rows"][0] if name != "seconds"]
    published = [{"model": name, **values} for name, values in PUBLISHED.get(task, [])]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in result["rows"]]
    if published:
        lines += ["", "Published, not measured here:", "", lines[0], lines[1]]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in published]
    sentences = [f"- **{v['verdict']}** ({v['split']}): {v['sentence']}" for v in result["verdict"]]
    return "\n".join([f"# {task}", "", *lines, "", *sentences]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


TASKS = {
    "fluorescence": fluorescence,
    "stability": stability,
    "beta-lactamase": beta_lactamase,
    "gb1": gb1,
    "nn4dms": nn4dms,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--work", type=Path, required=True, help="folder for the report and what a later run takes up")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--data", type=Path, help="default: the data sets that come with limbeck")
    parser.add_argument("--ladder", default="quick")
    parser.add_argument("--sample", type=int, help="variants that an encoder reads (default: 1.2 M residues)")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        choices=("MaxPoolCNN", "DilatedCNN", "LinearMaxPoolCNN", "CNNEnsemble", "BiLSTM"),
        help="of fluorescence and stability (which alone has DilatedCNN); repeatable",
    )
    parser.add_argument("--train", type=int, metavar="N", help="variants that networks are fitted to (default: all)")
    parser.add_argument("--epochs", type=int, default=50, help="of the LSTM, at most (default: 50)")
    arguments = parser.parse_args()
    if arguments.network and arguments.task not in ("fluorescence", "stability"):
        parser.error("--network is for fluorescence and stability")
    options = {"ladder": arguments.ladder, "sample": arguments.sample, "say": print}
    networks = Networks(tuple(arguments.network), arguments.train, arguments.epochs)
    result = TASKS[arguments.task](arguments.data or shipped_data(), arguments.work, networks, options)
    result = {"limbeck": limbeck.__version__, "ladder": arguments.ladder, **result}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / f"{arguments.task}.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.output / f"{arguments.task}.md").write_text(markdown(arguments.task, result))


if __name__ == "__main__":
    main()
