"""How honest standard deviations are on test variants: residuals relative to them.

    python results/landscape/uncertainty.py REPORT --output results/landscape/uncertainty.json

reads what `limbeck landscape` or `published.py` wrote. 1 is honest; above, the model is too sure of itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from limbeck.landscapes import Comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    comparison = Comparison.read(arguments.report)
    rows = []
    for (split, model), part in comparison.predictions.groupby(["split", "model"], sort=False):
        relative = (part["measured"] - part["predicted"]) / part["std"]
        size = round(float(np.sqrt((relative**2).mean())), 2)
        rows.append(
            {"assay": comparison.assay.name, "split": split, "model": model, "n": len(part), "residual / sd": size}
        )
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
