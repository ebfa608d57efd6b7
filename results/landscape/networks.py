"""Networks of arXiv 2011.03443 with the paper's settings, one at a time, on the data sets that come with limbeck.

    python results/landscape/networks.py fluorescence LinearMaxPoolCNN --work FOLDER
    python results/landscape/networks.py fluorescence BiLSTM --work FOLDER
    python results/landscape/networks.py stability MaxPoolCNN --train 5000 --work FOLDER
    python results/landscape/networks.py beta-lactamase MaxPoolCNN --fraction 0.1 --work FOLDER

Each run adds its row to networks.json and networks.md; what a folder holds of an interrupted one is taken up. Beside
the network stands ridge on one-hot (alpha 1), fitted to the same variants. The LSTM is not the paper's: it has the
ladder's settings and stops early by the validation variants. ``--train`` fits to a part, drawn at random.
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
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.networks.published import PUBLISHED
from limbeck.landscapes.scores import score
from limbeck.landscapes.splits import drawn

OWN_SPLIT = {"fluorescence": "split", "stability": "tape"}
COLUMNS = ("task", "network", "split", "train", "test", "spearman", "mse", "ridge", "minutes")


def parts(assay: Assay, task: str, fraction: float | None, limit: int | None) -> tuple[str, list[np.ndarray]]:
    """Name of the split, and rows to fit to, to validate on and to test on. The paper's networks need no validation
    variants; those of TAPE's splits stay unused then, as in the paper."""
    if task in OWN_SPLIT:
        name = OWN_SPLIT[task]
        train, valid, test = (np.flatnonzero(assay.splits[name] == part) for part in ("train", "valid", "test"))
        if limit is not None:
            name, train = f"{name}, part of train", np.sort(drawn(assay, train, "part")[:limit])
        return name, [train, valid, test]
    if fraction is None:
        raise SystemExit("error: beta-lactamase has no published split; give --fraction")
    order = drawn(assay, np.arange(len(assay)), "fractions")
    test, rest = order[: len(assay) // 5], order[len(assay) // 5 :]
    train = rest[: round(fraction * len(assay))]
    return f"fraction {fraction:g}", [np.sort(train), rest[:0], np.sort(test)]


def row(task: str, name: str, fraction: float | None, limit: int | None, data: Path, work: Path) -> dict[str, Any]:
    assay = read_landscape(task, data)
    split, (train, valid, test) = parts(assay, task, fraction, limit)
    rows, scores = [assay.rows[i] for i in train], assay.scores[train]
    unseen = [assay.rows[i] for i in test]
    start = time.monotonic()
    lstm = name == "BiLSTM"
    model = networks.BiLSTM() if lstm else getattr(networks, name).published(task)
    held = ([assay.rows[i] for i in valid], assay.scores[valid]) if lstm and len(valid) else None
    model.fit(rows, scores, held, checkpoint=work, progress=True)
    measured = score(assay.scores[test], model.predict(unseen))
    ridge = score(assay.scores[test], RidgeModel("one-hot", alpha=1.0).fit(rows, scores).predict(unseen))
    return {
        "task": task,
        "network": name,
        "split": split,
        "train": len(train),
        "test": len(test),
        **{metric: round(float(measured[metric]), 4) for metric in ("spearman", "mse")},
        "ridge": round(float(ridge["spearman"]), 4),
        "minutes": round((time.monotonic() - start) / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=PUBLISHED)
    parser.add_argument("network", help="MaxPoolCNN, DilatedCNN, LinearMaxPoolCNN, CNNEnsemble, BiLSTM")
    parser.add_argument("--fraction", type=float, help="of beta-lactamase's variants to fit to")
    parser.add_argument("--train", type=int, metavar="N", help="fit to N variants of the split's training part")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps training between runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    found = row(given.task, given.network, given.fraction, given.train, shipped_data(), given.work)
    path = given.output / "networks.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    rows = [r for r in rows if any(r[k] != found[k] for k in ("task", "network", "split"))] + [found]
    rows.sort(key=lambda r: (r["task"], r["split"], r["network"]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(r[column]) for column in COLUMNS) + " |" for r in rows]
    (given.output / "networks.md").write_text("# The paper's networks\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
