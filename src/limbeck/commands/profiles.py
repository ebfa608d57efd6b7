"""``limbeck profiles``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from limbeck.commands.shared import say

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "profiles",
        help="make a training corpus: protein families and homology profiles",
        description="Cluster proteins into families and search a balanced choice of them for relatives, with MMseqs2.\n"
        "The result is what `limbeck contexts` and `limbeck distill` learn from.",
        epilog="example:\n  limbeck profiles proteins.fasta.gz -o corpus.h5 --threads 8\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("input", metavar="FILE", help="proteins, in any format that `limbeck embed` reads")
    parser.add_argument("-o", "--output", required=True, metavar="CORPUS", help="the corpus to write (.h5)")
    parser.add_argument(
        "--per-family", type=int, default=3, metavar="N",
        help="most proteins of one family that get a profile (default: 3)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="default: all")


def run(options: argparse.Namespace) -> None:
    from limbeck.distillation.homology import build_corpus

    proteins, residues = build_corpus(
        Path(options.input), Path(options.output), per_family=options.per_family, threads=options.threads, say=say
    )
    say(f"{options.output}: {proteins:,} proteins, {residues:,} residues")
