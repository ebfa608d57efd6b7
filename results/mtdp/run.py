"""How much MTDP's published protocol flatters: ``python results/mtdp/run.py``.

Each encoder's vectors, in the protocol as published and with an honest choice of the epoch; see
:mod:`limbeck.benchmarks.mtdp`.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

import limbeck
from limbeck import benchmarks
from limbeck.benchmarks.mtdp import METRICS_OF, mtdp_task
from limbeck.files import whole
from limbeck.version import __version__

FOLDER = Path(__file__).parent
VARIANTS = {
    "published": "as published",
    "last_epoch": "last epoch",
    "honest": "epoch by validation",
    "optimism": "test chooses the epoch: gain",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", action="append", dest="tasks", help="default: structural_class and solubility_esol")
    parser.add_argument("--encoder", action="append", dest="encoders", help="default: limbeck-9m and composition")
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for name in options.tasks or ("structural_class", "solubility_esol"):
        task = next(task for task in benchmarks.tasks() if task.name == name)
        for encoder in options.encoders or ("limbeck-9m", "composition"):
            threads = options.threads if encoder.startswith("limbeck") else None
            loaded = limbeck.load(encoder, threads=threads)
            results.append(mtdp_task(task, loaded, benchmarks.place(task), options.scale))
            print(_row(results[-1]), flush=True)
    versions = {"limbeck": __version__, "torch": torch.__version__, "python": platform.python_version()}
    content = {"scale": options.scale, "versions": versions, "results": results}
    with whole(FOLDER / "mtdp.json") as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    head = ["task", "encoder", "proteins", "metric", *VARIANTS.values()]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *map(_row, results)]
    with whole(FOLDER / "mtdp.md") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(result: dict[str, Any]) -> str:
    """Medians over the ten folds."""
    metric = METRICS_OF[result["kind"]][0]
    medians = [f"{result[variant][metric]['median']:.3f}" for variant in VARIANTS]
    return f"| {' | '.join([result['task'], result['encoder'], str(result['n']), metric, *medians])} |"


if __name__ == "__main__":
    main()
