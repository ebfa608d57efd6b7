"""Score encoders on published tasks by solved linear probes.

    python results/probes/run.py --data FOLDER --encoder limbeck-9m unirep=weights.safetensors@auto \\
        --split test --scale small --cache CACHE --output FOLDER

Writes ``scores.json`` (all that was measured), ``scores.md`` (the tables) and ``replicates.npz`` (the bootstrap, from
which differences to encoders scored later follow). The protocol stands in the README beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import limbeck
from limbeck import benchmarks
from limbeck.benchmarks.candidates import parse
from limbeck.benchmarks.metrics import interval
from limbeck.benchmarks.overlap import near_duplicates
from limbeck.benchmarks.protocol import PROTOCOL, RESAMPLES
from limbeck.benchmarks.task import SEED, Task
from limbeck.files import whole

HERE = Path(__file__).parent
ON_PROTEINS, ON_ALL = "mean, proteins", "mean, all"


def describe(candidates: list[benchmarks.Choice]) -> dict[str, Any]:
    fields = ("name", "dimension", "parameters", "license", "version", "pooling", "precision", "fingerprint")
    return {c.label: {f: getattr(c.encoder, f) for f in fields} | {"name": short(c.encoder.name)} for c in candidates}


def short(name: str) -> str:
    """A name as given, or the last folder and file of an absolute path: the rest is one machine's own."""
    return "/".join(Path(name).parts[-2:]) if Path(name).is_absolute() else name


def overlaps(tasks: list[Task], data: Path, scale: str, split: str) -> dict[str, dict[str, int]]:
    counted = {}
    for task in tasks:
        parts = task.parts(data, scale, split)
        near = near_duplicates(parts.fit.sequences, parts.score.sequences)
        counted[task.name] = {"fit": len(parts.fit), "score": len(parts.score), "near": near}
    return counted


def summary(values: np.ndarray | float, samples: np.ndarray) -> dict[str, Any]:
    return {"value": round(float(values), 4), "interval": interval(samples)}


def means(scores: dict[str, Any], tasks: list[Task]) -> dict[str, tuple[float, np.ndarray]]:
    """Means of the primary scores: over the tasks of whole proteins, which every encoder does, and over all."""
    proteins = [t.name for t in tasks if t.primary and t.kind != "residues"]
    everything = [t.name for t in tasks if t.primary]
    results = {}
    for title, names in ((ON_PROTEINS, proteins), (ON_ALL, everything)):
        if names and all(scores[n]["in_mean"] for n in names):
            samples = np.mean([independent(scores[n]["replicates"], n) for n in names], axis=0)
            results[title] = float(np.mean([scores[n]["value"] for n in names])), samples
    return results


def independent(samples: list[float], name: str) -> np.ndarray:
    """Replicates in an order of the task's own: tasks with equally many proteins must not share their draws."""
    return np.random.default_rng(list(name.encode())).permutation(np.array(samples))


def compared(results: dict[str, Any], tasks: list[Task]) -> None:
    """Add means, and paired differences to the first encoder."""
    reference = next(iter(results))
    for label, result in results.items():
        own, other = means(result["scores"], tasks), means(results[reference]["scores"], tasks)
        result["means"] = {title: summary(value, samples) for title, (value, samples) in own.items()}
        if label == reference:
            continue
        result["differences"] = {
            name: summary(
                scored["value"] - results[reference]["scores"][name]["value"],
                np.subtract(scored["replicates"], results[reference]["scores"][name]["replicates"]),
            )
            for name, scored in result["scores"].items()
            if scored["stand_in"] == results[reference]["scores"][name]["stand_in"]
        }
        result["mean_differences"] = {
            title: summary(own[title][0] - other[title][0], own[title][1] - other[title][1])
            for title in own.keys() & other.keys()
        }


def cell(scored: dict[str, Any] | None, sign: str = "") -> str:
    if scored is None:
        return "n/a"
    low, high = scored["interval"]
    mark = " *" if scored.get("stand_in") else ""
    return f"{scored['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f}){mark}"


def tables(report: dict[str, Any], tasks: list[Task]) -> str:
    results = report["encoders"]
    reference = next(iter(results))
    names = list(results[reference]["scores"])
    titles = [t for t in (ON_PROTEINS, ON_ALL) if any(t in r["means"] for r in results.values())]
    heads = [f"{n}: {results[reference]['scores'][n]['metric']}" for n in names]
    head = [f"| encoder | {' | '.join(titles + heads)} |", "|---|" + "---|" * (len(titles) + len(heads))]
    lines = [
        f"Scores on the {report['split']} proteins, scale {report['scale']}, with 95 % bootstrap intervals. Protocol: "
        "[README](README.md).",
        "",
        *head,
    ]
    for label, result in results.items():
        cells = [cell(result["means"].get(t)) for t in titles] + [cell(result["scores"][n]) for n in names]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", "`*` a one-hot window of 15 stands in, as the encoder has no features of residues; in no mean."]
    if len(results) > 1:
        lines += ["", f"Difference to {reference}, paired over the same bootstrap samples:", "", *head]
        for label, result in list(results.items())[1:]:
            cells = [cell(result["mean_differences"].get(t), "+") for t in titles]
            cells += [cell(result["differences"].get(n), "+") for n in names]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *choice_table(results, names), "", *task_table(report, tasks)]) + "\n"


def choice_table(results: dict[str, Any], names: list[str]) -> list[str]:
    lines = [
        "Choices made on validation proteins:",
        "",
        f"| encoder | {' | '.join(names)} |",
        "|---|" + "---|" * len(names),
    ]
    for label, result in results.items():
        cells = [
            ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in result["scores"][n]["chosen"].values())
            for n in names
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def task_table(report: dict[str, Any], tasks: list[Task]) -> list[str]:
    first = next(iter(report["encoders"].values()))["scores"]
    lines = [
        "Tasks. Near: scored proteins at least half of whose 5-mers stand in one protein that was fitted on.",
        "",
        "| task | question | fitted, chosen, scored on | bootstrap units | near | split | cite | licence |",
        "|---|---|---|---:|---:|---|---|---|",
    ]
    for task in tasks:
        scored = first[task.name]
        n = ", ".join(f"{count:,}" for count in scored["n"].values())
        near = report["overlap"][task.name]["near"]
        lines.append(
            f"| {task.name} | {task.question} | {n} | {scored['units']:,} | {near} | {task.split} | {task.citation} "
            f"| {task.license} |"
        )
    return lines


def write(output: Path, report: dict[str, Any], tasks: list[Task], replicates: dict[str, np.ndarray]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    with whole(output / "replicates.npz") as path, path.open("wb") as file:
        np.savez_compressed(file, **replicates)
    with whole(output / "scores.json") as path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with whole(output / "scores.md") as path:
        path.write_text(tables(report, tasks), encoding="utf-8")


def stripped(results: dict[str, Any]) -> dict[str, Any]:
    """Without the replicates, which have a file of their own."""
    return {
        label: {**r, "scores": {n: {k: v for k, v in s.items() if k != "replicates"} for n, s in r["scores"].items()}}
        for label, r in results.items()
    }


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=None, help="folder of data sets; default: those of the source tree"
    )
    parser.add_argument(
        "--encoder",
        action="extend",
        nargs="+",
        required=True,
        metavar="[LABEL=]NAME[@auto|@LAYER|@POOLING]",
        help="the first one is what the others are compared with; @auto: layer and pooling chosen on validation",
    )
    parser.add_argument("--task", nargs="+", default=None, help="only these tasks")
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument("--scale", choices=("small", "full"), default="small")
    parser.add_argument("--cache", type=Path, required=True, help="folder for features and scores")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--output", type=Path, required=True, help="folder for scores.json, scores.md, replicates.npz")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = options(arguments)
    data = given.data or benchmarks.shipped_data()
    tasks = [t for t in benchmarks.tasks(data) if given.scale in t.sizes and (not given.task or t.name in given.task)]
    if not tasks:
        raise limbeck.InputError(f"{data}: none of the tasks asked for is here at scale {given.scale}")
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "split": given.split,
        "scale": given.scale,
        "seed": SEED,
        "resamples": RESAMPLES,
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "limbeck": limbeck.__version__},
        "data": {name: digest for task in tasks for name, digest in task.checksums(data).items()},
        "overlap": overlaps(tasks, data, given.scale, given.split),
    }
    print(f"seed {SEED}, {RESAMPLES} bootstrap samples, {given.scale}, {given.split}", file=sys.stderr)
    results: dict[str, Any] = {}
    for text in given.encoder:
        label, name, wanted = parse(text)
        print(label, file=sys.stderr)
        started = time.monotonic()
        candidates = benchmarks.choices(name, wanted, given.threads)
        scored = benchmarks.score(candidates, tasks, given.scale, given.split, data, given.cache)
        results[label] = {"candidates": describe(candidates), "scores": scored}
        results[label]["seconds"] = round(time.monotonic() - started, 1)
        # After each encoder, so that a long run can be looked at and its beginning is kept.
        compared(results, tasks)
        replicates = {f"{e}/{n}": np.array(s["replicates"]) for e, r in results.items() for n, s in r["scores"].items()}
        write(given.output, {**report, "encoders": stripped(results)}, tasks, replicates)


if __name__ == "__main__":
    try:
        main()
    except limbeck.InputError as error:
        sys.exit(f"error: {error}")
