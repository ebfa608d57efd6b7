"""``limbeck predict``."""

from __future__ import annotations

import argparse
from typing import Any

from limbeck.commands.shared import LANDSCAPE, need, say
from limbeck.errors import InputError

__all__ = ["add", "add_reading", "protein_of", "reading_of", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "predict",
        help="score new variants with the model of a landscape report, or without any label",
        description="Score variants with a model that `limbeck landscape` saved: those of a file, or with --saturate\n"
        "all single mutants of a protein and the best doubles. Every prediction has a standard deviation.\n\n"
        "Without an assay, MODEL is limbeck-in-context or an encoder with probabilities of residues (limbeck-9m,\n"
        "homology:FILE, a name or path of another): scores that only rank, without units or standard deviations.",
        epilog="examples:\n"
        "  limbeck predict report/model variants.csv -o scored.csv\n"
        "  limbeck predict report/model --saturate -o scan\n"
        "  limbeck predict report/model --saturate wild_type.fasta -o scan --doubles 200\n"
        "  limbeck predict report/model variants.csv --explain 5\n"
        "  limbeck predict limbeck-in-context variants.csv --wild-type protein.fasta -o ranked.csv\n"
        "  limbeck predict limbeck-in-context --saturate protein.fasta -o scan\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "model", metavar="MODEL",
        help="the folder `model` of a report, or the report's; or a name, to score without labels",
    )  # fmt: skip
    parser.add_argument(
        "variants", nargs="?", metavar="FILE", help="FASTA, CSV, TSV or Parquet of sequences or mutations"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="CSV, TSV or Parquet by its ending (default: standard output, as CSV); with --saturate a folder",
    )  # fmt: skip
    parser.add_argument(
        "--saturate", nargs="?", const="", metavar="WILD_TYPE",
        help="score all single mutants of this protein (a sequence, a FASTA file or a name; default: the model's)",
    )  # fmt: skip
    parser.add_argument(
        "--doubles", type=int, default=1000, metavar="N", help="most double mutants to list (default: 1000)"
    )
    parser.add_argument(
        "--explain", type=int, metavar="N",
        help="name the N training variants that drove each prediction, instead of the predictions alone",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true",
        help="with --explain: remove them, fit again, and compare with removing as many at random",
    )  # fmt: skip
    add_reading(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def add_reading(parser: Any) -> None:
    """Options that say how a file of variants is to be read."""
    group = parser.add_argument_group("input")
    group.add_argument(
        "--wild-type", metavar="W",
        help="without labels: the protein that the variants derive from, a sequence or a FASTA file with one",
    )  # fmt: skip
    group.add_argument("--sequence-column", metavar="NAME", help="column of the variants' sequences")
    group.add_argument("--mutation-column", metavar="NAME", help="column of mutations, like A108D or A108D:K120R")
    group.add_argument("--protein-column", metavar="NAME", help="column that tells several proteins apart")
    group.add_argument("--id-column", metavar="NAME", help="column of the variants' names")
    group.add_argument("--offset", type=int, metavar="N", dest="position_offset", help="number of the first residue")
    group.add_argument("--skip-invalid", action="store_true", help="pass over rows that cannot be used, and say which")
    group.add_argument("--input-format", metavar="FORMAT", help="fasta, csv, tsv or parquet (default: by the file)")


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """What was given for these options."""
    return {name: getattr(options, name) for name in _VARIANTS}


def protein_of(options: argparse.Namespace) -> str | None:
    """The protein that was given, as the one to saturate or the one that variants derive from."""
    if options.saturate is not None and options.wild_type is not None:
        raise InputError("--saturate takes the protein itself (--saturate WILD_TYPE); leave --wild-type out")
    return options.wild_type or options.saturate or None


_VARIANTS = (
    "sequence_column", "mutation_column", "protein_column", "id_column", "position_offset", "skip_invalid",
    "input_format",
)  # fmt: skip


def _check(options: argparse.Namespace) -> None:
    """Refuse options that don't go together."""
    from limbeck.landscapes.trained import is_saved

    if (options.saturate is None) == (options.variants is None):
        raise InputError("give either a file of variants or --saturate")
    if options.check and options.explain is None:
        raise InputError("--check is of what --explain names; give --explain N, too")
    if options.saturate is not None and options.explain is not None:
        raise InputError("--explain is of the variants of a file, not of --saturate; give one of them")
    if options.saturate is not None and options.output is None:
        raise InputError("--saturate writes several files; name a folder with -o")
    if options.explain is not None and not is_saved(options.model):
        raise InputError(
            f"{options.model}: no folder of a saved model, so it was fitted to no variants that --explain could name; "
            "leave it out"
        )


def run(options: argparse.Namespace) -> None:
    need("landscape", *LANDSCAPE)
    from limbeck.landscapes import explain, predict, saturate
    from limbeck.landscapes.predicting import check_output, write_table
    from limbeck.landscapes.trained import model_folder

    _check(options)
    model, protein = model_folder(options.model), protein_of(options)
    shown = not options.quiet
    reading = reading_of(options)
    if options.saturate is not None:
        scan = saturate(
            model,
            protein,
            options.output,
            position_offset=options.position_offset,
            doubles=options.doubles,
            progress=shown,
        )
        files = ["singles.csv", *(["doubles.csv"] if len(scan.doubles) else []), "heatmap.svg", "scan.html"]
        notes = [*scan.notes, f"{options.output}: {', '.join(files)}"]
    elif options.explain is not None:
        check_output(options.output or "-")
        table, checked = explain(
            model,
            options.variants,
            listed=options.explain,
            checked=options.check,
            progress=shown,
            say=say if shown else None,
            **reading,
        )
        write_table(table, options.output or "-")
        if checked is not None:
            # It was asked for, so --quiet leaves it.
            say(checked.to_string(index=False))
        notes = []
    else:
        output = options.output or "-"
        found = predict(model, options.variants, output, wild_type=protein, progress=shown, **reading)
        notes = [*found.notes, *(f"line {line}: {reason}; passed over" for line, reason in found.skipped)]
    if shown:
        for note in notes:
            say(note)
