"""The experiment that decides how to distil: one small student, taught in seven ways at an equal budget.

    python results/distillation/arms.py --corpus proteins.fasta --a unirep-256.safetensors --b cs-hmm-k1000.hmm \\
        --data FOLDER --work FOLDER

Every arm trains the same network from the same seeds on the same proteins for the same number of residues; only what it
learns from differs. Students are scored on validation proteins by the protocol of docs/benchmark.md; whether to pool
over contexts or by the mean is chosen for each task on a part of train. Writes ``arms.json`` and ``arms.md`` beside
this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import limbeck
from limbeck import benchmarks
from limbeck.distillation.config import StudentConfig, TrainingConfig
from limbeck.distillation.distill import distill
from limbeck.distillation.export import export
from limbeck.distillation.network import Student
from limbeck.files import whole

HERE = Path(__file__).parent
STUDENT = StudentConfig(width=128, inner=128, states=256)
BATCH = 6144


@dataclass(frozen=True)
class Arm:
    """One way to teach."""

    name: str
    teachers: str
    """Which of A and B."""
    options: dict[str, Any]


ARMS = (
    Arm("teacher A alone", "a", {"objectives": ("match",), "hidden": 0.0}),
    Arm("teacher B alone", "b", {"objectives": ("match",), "hidden": 0.0}),
    Arm("A + B, MTDP's KL as released", "ab", {"objectives": ("kl",), "hidden": 0.0}),
    Arm(
        "A + B, selector + masked residues (MTDP as published, reconstructed)",
        "ab",
        {"objectives": ("kl",), "hidden": 1.0, "teachers_used": "selector"},
    ),
    Arm("A + B, matched features (ours)", "ab", {"objectives": ("match",), "hidden": 0.0, "balance": "running"}),
    Arm("masked residues alone", "", {"hidden": 1.0}),
    Arm("random network", "", {}),
)


def train(arm: Arm, seed: int, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """A student's folder and what its training cost."""
    folder = options.work / f"{arm.name.translate(str.maketrans(' ,+()', '-----')).replace(chr(39), '')}-{seed}"
    if arm.name == "random network":
        torch.manual_seed(seed)
        export(
            Student(STUDENT).eval(),
            folder,
            name="random",
            version="1",
            license="CC0-1.0",
            pooling="mean",
            card="",
            nested=(),
        )
        return folder, {"residues": 0, "seconds": 0.0}
    config = TrainingConfig(
        steps=options.residues // BATCH,
        batch_residues=BATCH,
        warmup=30,
        contrast=0.0,
        ema=0.98,
        seed=seed,
        evaluate_every=options.residues // BATCH,
        compile=False,
        student=STUDENT,
        **arm.options,
    )
    if not (folder / "config.json").exists():
        teachers = {"a": options.a, "b": options.b}
        distill(
            options.corpus,
            folder,
            teachers=[teachers[t] for t in arm.teachers],
            cache=options.work / "features",
            share=0.5,
            config=config,
            resume=True,
        )
    last = json.loads((folder / "training" / "log.jsonl").read_text().splitlines()[-1])
    return folder, {key: last[key] for key in ("residues", "seconds", "operations", "validation")}


def poolings(folder: Path) -> list[benchmarks.Choice]:
    return [benchmarks.Choice(pooling, limbeck.load(folder, pooling=pooling)) for pooling in ("combined", "mean")]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean over the seeds and, where there are several, its standard error."""
    result = {"mean": float(np.mean(values))}
    if len(values) > 1:
        result["error"] = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return result


def table(report: dict[str, Any]) -> str:
    tasks, seeds = report["tasks"], len(report["seeds"])
    what = f"mean over {seeds} seeds ± standard error" if seeds > 1 else "one seed"
    lines = [
        f"Scores on validation proteins, {what}; {report['residues']:,} residues a run, "
        f"{report['parameters'] / 1e6:.1f} million parameters.",
        "",
        f"| arm | {' | '.join(tasks)} | mean |",
        f"|---|{'---|' * (len(tasks) + 1)}",
    ]
    for name, arm in report["arms"].items():
        scores = [arm["scores"][task] for task in [*tasks, "mean"]]
        cells = [f"{s['mean']:.3f}" + (f" ± {s['error']:.3f}" if seeds > 1 else "") for s in scores]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--a", required=True, help="teacher A: UniRep, 256 units")
    parser.add_argument("--b", required=True, help="teacher B: the context HMM of CS-BLAST")
    parser.add_argument("--data", type=Path, required=True, help="folder of the published data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder of students, features and scores")
    parser.add_argument("--residues", type=int, default=600_000, help="budget of one run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    published = [task for task in benchmarks.tasks(options.data) if task.primary]
    names = [task.name for task in published]
    report: dict[str, Any] = {
        "tasks": names,
        "seeds": options.seeds,
        "residues": options.residues // BATCH * BATCH,
        "parameters": sum(p.numel() for p in Student(STUDENT).parameters()),
        "batch": BATCH,
        "teachers": {"A": Path(options.a).name, "B": Path(options.b).name},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "limbeck": limbeck.__version__},
        "threads": torch.get_num_threads(),
        "arms": {},
    }
    # One seed of every arm before the next seed: what is there when time runs out can be compared.
    runs: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in ARMS}
    for seed in options.seeds:
        for arm in ARMS:
            began = time.monotonic()
            folder, cost = train(arm, seed, options)
            scored = benchmarks.score(
                poolings(folder), published, "small", "valid", options.data, options.work / "scores"
            )
            values = {name: scored[name]["value"] for name in names}
            values["mean"] = float(np.mean([values[name] for name in names]))
            chosen = {name: scored[name]["chosen"] for name in names}
            runs[arm.name].append({"seed": seed, **cost, "scores": values, "chosen": chosen})
            print(f"seed {seed}, {arm.name}: {values['mean']:.4f} ({time.monotonic() - began:.0f} s)", flush=True)
        for arm in ARMS:
            done = runs[arm.name]
            scores = {name: spread([run["scores"][name] for run in done]) for name in [*names, "mean"]}
            report["arms"][arm.name] = {"scores": scores, "runs": done}
        report["seeds"] = options.seeds[: options.seeds.index(seed) + 1]
        with whole(options.output / "arms.json") as partial:
            partial.write_text(json.dumps(report, indent=1) + "\n")
        with whole(options.output / "arms.md") as partial:
            partial.write_text(table(report))


if __name__ == "__main__":
    main()
