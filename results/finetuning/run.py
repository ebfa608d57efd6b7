"""What fine-tuning of an encoder brings, beside the probe: ``python results/finetuning/run.py``."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

import limbeck
from limbeck import benchmarks
from limbeck.benchmarks.cost import machine
from limbeck.benchmarks.finetuning import METHODS, Settings, finetune
from limbeck.benchmarks.metrics import interval
from limbeck.benchmarks.protocol import PROTOCOL, RESAMPLES
from limbeck.benchmarks.task import SEED
from limbeck.files import whole
from limbeck.version import __version__

FOLDER = Path(__file__).parent
ENCODER = "limbeck-9m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", action="append", dest="tasks", help="default: structural_class and stability")
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--split", default="test", choices=["test", "valid"])
    parser.add_argument("--method", action="append", dest="methods", choices=METHODS)
    parser.add_argument("--encoder", "--student", default=ENCODER, help="a student, or an encoder of transformers")
    parser.add_argument("--layer", type=int, help="of an encoder of transformers (default: its last)")
    parser.add_argument("--device", default="cpu", help="where it is trained (default: cpu)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.tasks or ("structural_class", "stability"):
        task = next(task for task in benchmarks.tasks() if task.name == name)
        path = options.output / f"{name}.json"
        with whole(path) as partial:
            partial.write_text(json.dumps(measured(task, options), indent=1) + "\n", encoding="utf-8")
        print(path)


def measured(task: benchmarks.Task, options: argparse.Namespace) -> dict[str, Any]:
    """Results of the probe and of each method, without the bootstrap's replicates but with differences to the probe."""
    parts = task.parts(benchmarks.place(task), options.scale, options.split)
    encoder = limbeck.load(options.encoder, layer=options.layer, precision="f32", threads=options.threads)
    found = {"probe": benchmarks.score(encoder, [task], options.scale, options.split)[task.name]}
    for method in options.methods or METHODS:
        print(f"  {task.name}, {method}", flush=True)
        settings = Settings(
            method=method,
            epochs=options.epochs,
            patience=options.patience,
            learning_rate=options.learning_rate if method != "head" else None,
            device=options.device,
        )
        found[method] = finetune(
            task,
            parts,
            encoder=options.encoder,
            layer=options.layer,
            settings=settings,
            seeds=range(options.seeds),
            residues=task.sizes[options.scale].residues,
            say=lambda line: print(line, flush=True),
        ).result
        print(f"    {found[method]['metric']} {found[method]['value']} {found[method]['interval']}", flush=True)
    base = found["probe"]
    samples = {method: np.array(result.pop("replicates")) for method, result in found.items()}
    for method, result in found.items():
        difference = samples[method] - samples["probe"]
        result["difference"] = {
            "value": round(result["value"] - base["value"], 4),
            "interval": interval(difference),
        }
    return {
        "task": task.name,
        "scale": options.scale,
        "split": options.split,
        "encoder": options.encoder,
        "layer": options.layer,
        "protocol": PROTOCOL,
        "seed": SEED,
        "resamples": RESAMPLES,
        "methods": found,
        "versions": {"limbeck": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {**machine(), "threads": options.threads},
    }


if __name__ == "__main__":
    main()
