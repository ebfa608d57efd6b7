"""Where a training step of the default student goes, beside the machine's matrix-product rate.

    python results/training/throughput.py --corpus corpus.h5 --contexts library.safetensors

Times whole steps (median), compiled and not, and adds up the operators of one step by kind (``torch.profiler``). Writes
``throughput.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from limbeck.distillation.config import TrainingConfig
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.network import Student
from limbeck.distillation.objectives import Contexts, Everyone, FamilyContrast, Objective
from limbeck.distillation.precision import resolve_precision
from limbeck.distillation.subnetworks import operations
from limbeck.distillation.training import Machines, _Run
from limbeck.files import whole

HERE = Path(__file__).parent
KINDS = {
    "matrix products": ("mm", "linear", "bmm", "addmm"),
    "convolutions": ("conv",),
    "softmax, logarithms, losses": ("softmax", "xlogy", "exp", "log", "sum", "mean", "cosine"),
    "copies and casts": ("copy", "to", "contiguous", "clone", "cat", "transpose", "empty", "fill", "zero"),
    "optimiser": ("adam", "foreach", "norm"),
}


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    function()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def product_rate(dtype: torch.dtype, size: int = 4096) -> float:
    """Operations a second of a square matrix product."""
    a = torch.randn(size, size).to(dtype)
    return 2 * size**3 / median_seconds(lambda: a @ a, 5)


def new_run(corpus: Corpus, options: argparse.Namespace, **config: Any) -> _Run:
    settings = TrainingConfig(**config)
    torch.manual_seed(0)
    objectives: list[Objective] = [
        Contexts(options.contexts, settings.student),
        FamilyContrast(settings.student.width, weight=settings.contrast),
    ]
    student = Student(settings.student)
    fabric = Machines().fabric(settings.precision)
    run = _Run(fabric, settings, corpus, objectives, student, Everyone(), None)
    for objective in objectives:
        objective.prepare(student, corpus)
    return run


def by_operator(run: _Run) -> dict[str, float]:
    """Share of the processor's time in a step, by kind of operator."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run.step(3)
    totals: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        name = event.key.removeprefix("aten::").lower()
        kind = next((k for k, parts in KINDS.items() if any(part in name for part in parts)), "other")
        totals[kind] += event.self_cpu_time_total
    everything = sum(totals.values())
    return {kind: round(t / everything, 4) for kind, t in sorted(totals.items(), key=lambda item: -item[1])}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--contexts", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    corpus = Corpus(options.corpus)
    per_residue = operations(TrainingConfig().student)
    precision = resolve_precision("auto", "cpu")
    rate = product_rate(torch.bfloat16 if precision == "bf16" else torch.float32)
    report: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "precision": precision,
        "product_rate": rate,
        "operations_per_residue": per_residue,
        "steps": {},
    }
    for name, config in {"compiled": {}, "eager": {"compile": False}}.items():
        run = new_run(corpus, options, **config)
        # The same batch each time: one length, so nothing is compiled in between.
        seconds = median_seconds(lambda run=run: run.step(3), options.repeats)
        draw = median_seconds(lambda run=run: run.draw.draw(3, margin=run.margin, masked=0.1), options.repeats)
        report["steps"][name] = {
            "seconds": seconds,
            "residues_per_second": run.seen / seconds,
            "drawing_the_batch_seconds": draw,
            "limit_residues_per_second": rate / per_residue,
            "share_of_the_limit": run.seen / seconds * per_residue / rate,
            "operators": by_operator(run),
        }
        print(name, json.dumps(report["steps"][name], indent=1), flush=True)
    with whole(options.output / "throughput.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
