"""``limbeck merge``."""

from __future__ import annotations

import argparse
from typing import Any

import limbeck
from limbeck.commands.shared import say

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "merge",
        help="join the parts that embed --shard wrote",
        description="Join the parts of one run into the file that a single run would have written, in input order.\n"
        "All parts must be there, each once, made by one encoder in one numeric mode from one input.",
        epilog="example:\n"
        "  for i in 1 2 3; do limbeck embed proteins.fasta -o part-$i.parquet --shard $i/3; done\n"
        "  limbeck merge part-*.parquet -o proteins.parquet\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("parts", nargs="+", metavar="PART", help="files that embed --shard wrote, in any order")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="where to write, in the parts' format")
    parser.add_argument("--format", help="h5, parquet, npz or h5ad (default: by the output's ending)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def run(options: argparse.Namespace) -> None:
    merged = limbeck.merge(options.parts, options.output, format=options.format, progress=not options.quiet)
    if not options.quiet:
        say(str(merged))
