"""``limbeck landscape``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from limbeck.commands.shared import LANDSCAPE, need, say, size, width

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "landscape",
        help="does this assay need transfer learning? baselines, honest splits, a verdict, a model",
        description="Compare models on the variants of an assay, from the simplest up, and say whether pretrained\n"
        "vectors are needed. The folder gets report.html, report.json and the best model. Run again, for instance\n"
        "with one more --encoder, it only fits what is new.",
        epilog="examples:\n"
        "  limbeck landscape assay.csv -o report\n"
        "  limbeck landscape assay.csv -o report --encoder facebook/esm2_t33_650M_UR50D\n"
        "  limbeck landscape dms.csv -o report --wild-type protein.fasta --score-column fitness\n"
        "  limbeck landscape assay.csv -o report --ladder paper --split random\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("assay", metavar="ASSAY", help="CSV, TSV or Parquet, plain or compressed")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the report's folder")
    _add_reading(parser.add_argument_group("input"))
    group = parser.add_argument_group("models")
    group.add_argument(
        "--ladder", default="quick",
        help="quick (minutes), or paper: every network as published, with an estimate first (default: quick)",
    )  # fmt: skip
    group.add_argument(
        "--encoder", action="append", default=[], dest="encoders", metavar="NAME",
        help="one more pretrained encoder, as `limbeck embed` takes it; may be given several times",
    )  # fmt: skip
    group.add_argument(
        "--no-default-encoder", action="store_false", dest="default_encoder",
        help="leave out limbeck's own student, and the random network of its shape",
    )  # fmt: skip
    group.add_argument(
        "--in-context", metavar="FILE", nargs="?", const=True,
        help="one more model: the in-context predictor with limbeck's own weights or these (default: with its own, if "
        "there are few variants)",
    )  # fmt: skip
    group.add_argument(
        "--no-in-context", action="store_false", dest="in_context", default=None,
        help="leave out the in-context predictor",
    )  # fmt: skip
    group.add_argument(
        "--sample", type=size, metavar="N",
        help="most variants of a split that an encoder reads, or all (default: what makes 1.2 M residues)",
    )  # fmt: skip
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--split", action="append", dest="splits", metavar="NAME",
        help="only this split; may be given several times (default: all that the data allow)",
    )  # fmt: skip
    group.add_argument("--replicates", type=int, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    group.add_argument(
        "--margin", type=float, default=0.02, metavar="N",
        help="gain in Spearman's correlation that would be worth a pretrained encoder (default: 0.02)",
    )  # fmt: skip
    group.add_argument("--no-curves", action="store_false", dest="curves", help="no learning curves")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, and no table")


def _add_reading(group: Any) -> None:
    """Options that say how an assay's file is to be read."""
    group.add_argument("--score-column", metavar="NAME", help="column of the scores (default: by its usual names)")
    group.add_argument("--sequence-column", metavar="NAME", help="column of the variants' sequences")
    group.add_argument("--mutation-column", metavar="NAME", help="column of mutations, like A108D or A108D:K120R")
    group.add_argument(
        "--wild-type", metavar="W", help="a sequence, a FASTA file of one or several wild types, or a column"
    )
    group.add_argument("--protein-column", metavar="NAME", help="column that tells several proteins apart")
    group.add_argument(
        "--split-column", action="append", dest="split_columns", metavar="NAME",
        help="column of train, valid and test; may be given several times",
    )  # fmt: skip
    group.add_argument(
        "--offset", type=int, metavar="N", dest="position_offset",
        help="number of the wild type's first residue (default: the one that fits all mutations)",
    )  # fmt: skip
    group.add_argument(
        "--stops", choices=["keep", "drop"], default="keep", help="variants with a stop codon (default: keep)"
    )
    group.add_argument(
        "--skip-invalid", action="store_true", help="leave out rows that cannot be used, and list them in skipped.tsv"
    )
    group.add_argument("--input-format", metavar="FORMAT", help="csv, tsv or parquet (default: seen from the file)")


_READING = (
    "score_column", "sequence_column", "mutation_column", "wild_type", "protein_column", "split_columns",
    "position_offset", "stops", "skip_invalid", "input_format",
)  # fmt: skip


def run(options: argparse.Namespace) -> None:
    options.when_interrupted = "; the same command goes on from here"
    need("landscape", *LANDSCAPE)
    from limbeck.landscapes import landscape

    comparison = landscape(
        options.assay,
        options.output,
        ladder=options.ladder,
        encoders=options.encoders,
        default_encoder=options.default_encoder,
        in_context=options.in_context,
        sample=options.sample,
        splits=options.splits,
        replicates=options.replicates,
        margin=options.margin,
        curves=options.curves,
        seed=options.seed,
        progress=not options.quiet,
        say=None if options.quiet else say,
        **{name: getattr(options, name) for name in _READING},
    )
    if not options.quiet:
        sys.stdout.write(comparison.table(width()) + "\n")
        say(f"{options.output}: report.html, report.json, model")
