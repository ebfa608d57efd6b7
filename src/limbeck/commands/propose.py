"""``limbeck propose``."""

from __future__ import annotations

import argparse
from typing import Any

from limbeck.commands.predict import add_reading, protein_of, reading_of
from limbeck.commands.shared import LANDSCAPE, given, need, say
from limbeck.errors import InputError

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "propose",
        help="choose the variants to measure next",
        description="Choose the next plate with a model that `limbeck landscape` saved: of the variants of a file, or\n"
        "with --saturate of all single mutants of a protein and pairs of the best. Never what was measured.\n"
        "For a first plate, without an assay, MODEL is a name as `limbeck predict` takes it.",
        epilog="examples:\n"
        "  limbeck propose report/model candidates.csv -o plate.csv\n"
        "  limbeck propose report/model --saturate -o plate.csv --per-position 8\n"
        "  limbeck propose report/model --saturate best.fasta --plate 24 --strategy thompson --seed 7\n"
        "  limbeck propose limbeck-in-context --saturate protein.fasta -o first.csv --per-position 2\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "model", metavar="MODEL",
        help="the folder `model` of a report, or the report's; or a name, to choose without labels",
    )  # fmt: skip
    parser.add_argument(
        "candidates", nargs="?", metavar="FILE", help="FASTA, CSV, TSV or Parquet of sequences or mutations"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="-",
        help="CSV, TSV or Parquet by its ending (default: standard output, as CSV)",
    )  # fmt: skip
    parser.add_argument(
        "--saturate", nargs="?", const="", metavar="WILD_TYPE",
        help="candidates are the mutants of this protein (a sequence, a FASTA file or a name; default: the model's)",
    )  # fmt: skip
    parser.add_argument(
        "--measured", action="append", default=[], metavar="FILE",
        help="more variants not to propose, beside the model's and its report's; may be given several times",
    )  # fmt: skip
    group = parser.add_argument_group("plate")
    group.add_argument("--plate", type=int, default=96, metavar="N", help="variants to propose (default: 96)")
    group.add_argument(
        "--strategy", default="greedy", metavar="NAME",
        help="greedy: highest predictions that are not alike; thompson: best of draws from the posterior; ucb: highest "
        "upper confidence bounds (default: greedy)",
    )  # fmt: skip
    group.add_argument(
        "--beta", type=float, metavar="X", help="with ucb: standard deviations above the prediction (default: 2)"
    )
    group.add_argument(
        "--diversity", type=float, metavar="X",
        help="with greedy: what it costs to be alike to a well above; 0: nothing (default: 1)",
    )  # fmt: skip
    group.add_argument("--per-position", type=int, metavar="N", help="most variants that mutate the same position")
    group.add_argument("--seed", type=int, metavar="N", help="with thompson (default: 0)")
    add_reading(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


_OF = {"beta": "ucb", "diversity": "greedy", "seed": "thompson"}
"""The strategy that an option is of."""


def run(options: argparse.Namespace) -> None:
    need("landscape", *LANDSCAPE)
    from limbeck.landscapes import propose
    from limbeck.landscapes.plates import Plan
    from limbeck.landscapes.trained import model_folder

    model = model_folder(options.model)
    if (options.saturate is None) == (options.candidates is None):
        raise InputError("give either a file of candidates or --saturate")
    of_strategy = given(options, *_OF)
    for name in of_strategy:
        if options.strategy != _OF[name]:
            raise InputError(f"--{name} is of --strategy {_OF[name]}, not of {options.strategy}; leave it out")
    found = propose(
        model,
        options.candidates,
        options.output,
        plan=Plan(options.plate, options.strategy, per_position=options.per_position, **of_strategy),
        wild_type=protein_of(options),
        measured=options.measured,
        progress=not options.quiet,
        **reading_of(options),
    )
    if not options.quiet:
        for note in [*found.notes, *(f"line {line}: {reason}; passed over" for line, reason in found.skipped)]:
            say(note)
