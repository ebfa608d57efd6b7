"""``limbeck contexts``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limbeck.commands.shared import need_pytorch, say

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "contexts",
        help="fit a context library to a corpus of profiles: a teacher",
        description="Fit a library of sequence contexts to the homology profiles of a corpus.",
        epilog="example:\n  limbeck contexts corpus.h5 -o library.safetensors --states 2048\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("corpus", metavar="CORPUS", help="what `limbeck profiles` wrote")
    parser.add_argument("-o", "--output", required=True, metavar="LIBRARY", help="the library to write (.safetensors)")
    parser.add_argument("--states", type=int, default=2048, metavar="N", help="contexts (default 2048)")
    parser.add_argument("--windows", type=int, default=400_000, metavar="N", help="windows to fit to (default 400000)")
    parser.add_argument("--iterations", type=int, default=16, metavar="N", help="passes over them (default 16)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default 0)")
    parser.add_argument("--license", default="unknown", help="licence of the library, SPDX (default: none)")


def run(options: argparse.Namespace) -> None:
    need_pytorch()
    from limbeck.distillation.context_library import fit_library
    from limbeck.distillation.corpus import Corpus

    fit_library(
        Corpus(Path(options.corpus)),
        Path(options.output),
        states=options.states,
        n_windows=options.windows,
        iterations=options.iterations,
        seed=options.seed,
        license=options.license,
        report=lambda iteration, value: say(f"pass {iteration + 1}: log-likelihood {value:.4f} nats a window"),
    )
    say(f"{options.output}: {options.states:,} contexts")
