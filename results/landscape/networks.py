"""The paper's networks on beta-lactamase (arXiv 2011.03443), one at a time: hours each with most of the variants.

    python results/landscape/networks.py MaxPoolCNN --fraction 0.1 --work FOLDER

Each run adds its row to networks.json and networks.md; what a folder holds of an interrupted one is taken up. Beside
the network stands ridge on one-hot (alpha 1), fitted to the same variants. Those of TAPE's tasks are in published.py.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.benchmarks import shipped_data
from limbeck.benchmarks.landscape import read_landscape
from limbeck.landscapes import networks
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.scores import score
from limbeck.landscapes.splits import drawn

TASK = "beta-lactamase"
COLUMNS = ("task", "network", "split", "train", "test", "spearman", "mse", "ridge", "minutes")


def row(name: str, fraction: float, work: Path) -> dict[str, Any]:
    assay = read_landscape(TASK, shipped_data())
    order = drawn(assay, np.arange(len(assay)), "fractions")
    test, rest = np.sort(order[: len(assay) // 5]), order[len(assay) // 5 :]
    train = np.sort(rest[: round(fraction * len(assay))])
    rows, scores = [assay.rows[i] for i in train], assay.scores[train]
    unseen = [assay.rows[i] for i in test]
    start = time.monotonic()
    model = getattr(networks, name).published(TASK)
    model.fit(rows, scores, checkpoint=work, progress=True)
    measured = score(assay.scores[test], model.predict(unseen))
    ridge = score(assay.scores[test], RidgeModel("one-hot", alpha=1.0).fit(rows, scores).predict(unseen))
    return {
        "task": TASK,
        "network": name,
        "split": f"fraction {fraction:g}",
        "train": len(train),
        "test": len(test),
        **{metric: round(float(measured[metric]), 4) for metric in ("spearman", "mse")},
        "ridge": round(float(ridge["spearman"]), 4),
        "minutes": round((time.monotonic() - start) / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("MaxPoolCNN", "DilatedCNN", "CNNEnsemble"))
    parser.add_argument("--fraction", type=float, required=True, help="of the variants to fit to")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps training between runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    found = row(given.network, given.fraction, given.work)
    path = given.output / "networks.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    rows = [r for r in rows if any(r[k] != found[k] for k in ("network", "split"))] + [found]
    rows.sort(key=lambda r: (r["split"], r["network"]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(r[column]) for column in COLUMNS) + " |" for r in rows]
    (given.output / "networks.md").write_text("# The paper's networks\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
