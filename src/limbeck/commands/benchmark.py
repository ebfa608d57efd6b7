"""``limbeck benchmark``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from limbeck.commands.shared import LANDSCAPE, need, say, size

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "benchmark",
        help="score encoders on published data sets",
        description="Run a suite of published data sets that come with limbeck.\n"
        "landscape: eight assays with their published splits, as `limbeck landscape` judges them.",
        epilog="examples:\n"
        "  limbeck benchmark landscape -o benchmark --only gb1\n"
        "  limbeck benchmark landscape -o benchmark --encoder facebook/esm2_t33_650M_UR50D\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("suite", choices=["landscape"], help="what to run")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="a report for each data set, and one table"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="one data set; may be given several times (default: all)"
    )
    parser.add_argument("--data", metavar="FOLDER", help="the data sets (default: those that come with limbeck)")
    parser.add_argument(
        "--encoder", action="append", default=[], dest="encoders", metavar="NAME", help="one more pretrained encoder"
    )
    parser.add_argument("--ladder", default="quick", help="quick or paper (default: quick)")
    parser.add_argument(
        "--sample", type=size, metavar="N",
        help="most variants of a split that an encoder reads, or all (default: what makes 1.2 M residues)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, and no table")


def run(options: argparse.Namespace) -> None:
    options.when_interrupted = "; the same command goes on from here"
    need("landscape", *LANDSCAPE)
    from limbeck.benchmarks.landscape import benchmark_landscapes, table_of

    rows = benchmark_landscapes(
        options.output,
        only=options.only,
        data=options.data,
        ladder=options.ladder,
        encoders=options.encoders,
        sample=options.sample,
        seed=options.seed,
        progress=not options.quiet,
    )
    if not options.quiet:
        sys.stdout.write(table_of(rows) + "\n")
        say(f"{options.output}: landscape.json, landscape.md, a report for each data set")
