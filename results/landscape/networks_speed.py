"""What computing each distinct window once saves, on the networks of arXiv 2011.03443 as published.

    python results/landscape/networks_speed.py fluorescence=train.csv stability=train.csv beta-lactamase=all.csv

Each file has a column ``sequence``; shorter ones are padded behind. For every published network of a task a few steps
of training are timed, in turn over distinct windows and at every position, the latter by PyTorch's own convolutions;
the first step of each is left out. Times are those of one core, without what other programs take. Beside them what
``estimate`` says of the whole fit. Writes ``networks_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from limbeck.files import whole
from limbeck.landscapes import networks
from limbeck.landscapes.networks.residues import encode
from limbeck.landscapes.networks.training import optimiser_for, rows_of_step, steps_of, train_step
from limbeck.landscapes.networks.windows import Windows

HERE = Path(__file__).parent


def rows_of(path: str) -> list[str]:
    sequences = pd.read_csv(path)["sequence"]
    width = sequences.str.len().max()
    return [sequence.ljust(width, "-") for sequence in sequences]


def matrix_rate(size: int = 1024, count: int = 20) -> float:
    """As :func:`networks.matrix_rate`, of one core."""
    left = torch.rand(size, size)
    started = time.process_time()
    for _ in range(count):
        left @ left
    return count * 2 * size**3 / (time.process_time() - started)


def measure(model: networks.NetworkModel, rows: list[str], shared_steps: int, dense_steps: int) -> dict[str, Any]:
    """Median milliseconds of a step both ways, and the windows that it computes."""
    codes = encode(rows)
    settings = model.training_settings()
    rate = matrix_rate()
    estimate = model.estimate(rows)
    ways = {"windows": model.build(), "positions": model.build()}
    optimisers = {way: optimiser_for(network, settings) for way, network in ways.items()}
    started = time.process_time()
    windows = Windows(codes, ways["windows"].layers)
    preparation = time.process_time() - started
    spent: dict[str, list[float]] = {"windows": [], "positions": []}
    shares = []
    for step in range(1 + shared_steps):
        chosen = rows_of_step(step, len(rows), settings)
        targets = torch.zeros(len(chosen))
        for way, network in ways.items():
            if way == "positions" and step > dense_steps:
                continue
            started = time.process_time()
            batch = windows.batch(chosen) if way == "windows" else codes[chosen]
            train_step(network, optimisers[way], batch, targets, settings)
            spent[way].append(time.process_time() - started)
            shares += [batch.share] if way == "windows" else []
    steps = steps_of(len(rows), settings)
    by_windows, by_positions = (float(np.median(spent[way][1:])) for way in ("windows", "positions"))
    return {
        "rows": len(rows),
        "width": codes.shape[1],
        "steps": steps,
        "share of windows": round(float(np.mean(shares)), 4),
        "preparation, s": round(preparation, 2),
        "step by windows, ms": round(1e3 * by_windows, 1),
        "step by positions, ms": round(1e3 * by_positions, 1),
        "ratio": round(by_positions / by_windows, 1),
        "fit by windows, minutes": round(steps * by_windows / 60, 1),
        "fit by positions, minutes": round(steps * by_positions / 60, 1),
        "operations by windows": float(f"{estimate.operations:.3g}"),
        "operations by positions": float(f"{model.operations(*codes.shape):.3g}"),
        "matrix products, operations/s": float(f"{rate:.3g}"),
        "estimated fit by windows, minutes": round(estimate.seconds(rate) / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="TASK=FILE")
    parser.add_argument("--shared-steps", type=int, default=12)
    parser.add_argument("--dense-steps", type=int, default=2)
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    for task, path in (text.split("=", 1) for text in arguments.data):
        rows = rows_of(path)
        for name in networks.PUBLISHED[task]:
            model = getattr(networks, name).published(task, device="cpu")
            results[f"{task}, {name}"] = measure(model, rows, arguments.shared_steps, arguments.dense_steps)
            print(task, name, json.dumps(results[f"{task}, {name}"]), flush=True)
    with whole(HERE / "networks_speed.json") as partial:
        partial.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
