"""Time the encoders of benchmark tables again, one after another: speeds in one table should be of one quiet machine.

    python results/benchmark/speeds.py results/benchmark results/benchmark/medium \\
        --encoder UniRep=unirep-256.safetensors@auto --encoder "CS-BLAST's context HMM=K1000.hmm" \\
        --encoder "limbeck-9m, version 2=limbeck-9m"

``--encoder``, as for ``limbeck benchmark``: what to time for a row whose label is no encoder's name. Writes the tables,
as that does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from limbeck.benchmarks.candidates import choices, parse
from limbeck.benchmarks.comparison import compare
from limbeck.benchmarks.cost import speed
from limbeck.benchmarks.folder import read, write, writing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--encoder", action="append", default=[], metavar="LABEL=NAME[@OPTION]")
    given = parser.parse_args()
    named = {label: (name, options) for label, name, options in map(parse, given.encoder)}
    tables = [table for folder in given.folders if (table := read(folder)) is not None]
    timed = {}
    for label in dict.fromkeys(label for table in tables for label in table.rows):
        timed[label] = speed(choices(*named.get(label, (label,)))[0].encoder)
        print(f"{label}: {timed[label]['residues_per_second']:,.0f} residues/s", flush=True)
    for table in tables:
        with writing(table.path):
            for label, row in table.rows.items():
                row["speed"] = timed[label]
            compare(table)
            write(table)


if __name__ == "__main__":
    main()
