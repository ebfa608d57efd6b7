"""Embed the variants of all chosen assays, before ``run.py`` needs them; a killed run goes on.

python results/few_labels/embed.py --data FOLDER --work FOLDER
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from assays import assays

from limbeck.landscapes.vectors import Source, Vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    for assay in reversed(assays(arguments.data)):
        started = time.monotonic()
        wild_types = tuple(assay.wild_types.values())
        Vectors(Source(wild_types=wild_types, cache=arguments.work / "vectors")).pooled(assay.rows)
        seconds = time.monotonic() - started
        print(assay.name, assay.width, len(assay), round(assay.scores.std(), 3), f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
