"""Time the encoders of benchmark tables again, one after another: speeds in one table should be of one quiet machine.

    python results/benchmark/speeds.py results/benchmark results/benchmark/medium \\
        --file UniRep=unirep-256.safetensors --file "CS-BLAST's context HMM=K1000.hmm" \\
        --file "limbeck-9m, version 2=limbeck-9m"

``--file LABEL=NAME``: what to time for a row whose label is no encoder's name. Writes the tables, as
``limbeck benchmark`` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import limbeck
from limbeck.benchmarks.comparison import compare
from limbeck.benchmarks.cost import speed
from limbeck.benchmarks.folder import read, write, writing

LAYERS = ("UniRep",)
"""Labels whose speed is that of all layers at once, as layers are chosen for each task."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--file", action="append", default=[], metavar="LABEL=NAME")
    given = parser.parse_args()
    files = dict(text.split("=", 1) for text in given.file)
    tables = [table for folder in given.folders if (table := read(folder)) is not None]
    timed = {}
    for label in dict.fromkeys(label for table in tables for label in table.rows):
        layers = {"layer": "all"} if label in LAYERS else {}
        timed[label] = speed(limbeck.load(files.get(label, label), **layers))
        print(f"{label}: {timed[label]['residues_per_second']:,.0f} residues/s", flush=True)
    for table in tables:
        with writing(table.path):
            for label, row in table.rows.items():
                row["speed"] = timed[label]
            compare(table)
            write(table)


if __name__ == "__main__":
    main()
