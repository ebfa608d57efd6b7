"""``limbeck embed``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import limbeck
from limbeck.commands.shared import layer, need
from limbeck.errors import InputError

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "embed",
        help="embed the proteins of files into one file",
        description="Embed proteins: one vector for each protein (or residue), in input order.\n"
        "A run that was interrupted goes on when the same command is given again.",
        epilog="examples:\n"
        "  limbeck embed proteins.fasta\n"
        "  limbeck embed swissprot.fasta.gz -o swissprot.parquet --dtype float16\n"
        "  limbeck embed proteins.fasta -o residues.h5 --per-residue\n"
        "  limbeck embed assay.csv --sequence-column mutated_sequence -o assay.npz\n"
        "  zcat proteins.fasta.gz | limbeck embed - -o - --format parquet > proteins.parquet\n"
        "  limbeck embed proteins.fasta -o part-2.h5 --shard 2/8   (then: limbeck merge part-*.h5 -o proteins.h5)\n"
        "  limbeck embed folder/ -o s3://bucket/vectors --engine ray --address auto\n"
        "  limbeck embed proteins.fasta -o esm2.h5 --encoder facebook/esm2_t33_650M_UR50D\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="FASTA, CSV, TSV or Parquet, plain or compressed (gz, bz2, xz, zst); - is standard input; "
        "with --engine ray also folders and URIs (s3://...)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to write: .h5, .parquet, .npz or .h5ad (AnnData); - is standard output, with --format; "
        "with --engine ray a folder (default: the name of the only input with .h5, in the working directory)",
    )

    group = parser.add_argument_group("encoder")
    group.add_argument(
        "--encoder",
        metavar="NAME",
        help="a name from `limbeck encoders`, a hub name, or the path of a model (default: limbeck's own)",
    )
    group.add_argument(
        "--layer", metavar="N[,N...]", type=layer,
        help="layer whose features to take: one, several side by side (6,12,33), or all; -1 is the last",
    )  # fmt: skip
    group.add_argument(
        "--dimension", metavar="N", type=int, help="leading numbers of a vector, where they serve alone: 64, 128, 256"
    )
    group.add_argument("--pooling", metavar="P", help="how residues become one vector, where an encoder has a choice")
    group.add_argument(
        "--precision",
        default="auto",
        help="auto, f32, bf16, f16, or int8 (faster, a little less exact), where an encoder has it (default: auto)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")

    group = parser.add_argument_group("input")
    group.add_argument("--sequence-column", metavar="NAME", help="column of a table that holds the sequences")
    group.add_argument("--id-column", metavar="NAME", help="column of a table that holds the ids")
    group.add_argument(
        "--input-format", metavar="FORMAT", help="fasta, csv, tsv or parquet (default: seen from the file)"
    )
    group.add_argument(
        "--duplicate-ids",
        choices=["error", "suffix"],
        default="error",
        help="an id that occurs again is an error, or becomes id_2, id_3, ... (default: error)",
    )
    group.add_argument(
        "--skip-invalid",
        action="store_true",
        help="pass over records that cannot be used, and list them in OUTPUT.skipped.tsv",
    )

    group = parser.add_argument_group("output")
    group.add_argument("--per-residue", action="store_true", help="one vector for each residue: (length, dimension)")
    group.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        default="float32",
        help="float16 halves the file, with a relative error of at most 0.05 %% (default: float32)",
    )
    group.add_argument("--format", help="h5, parquet, npz or h5ad (default: by the output's ending)")
    group.add_argument(
        "--restart",
        action="store_true",
        help="throw away an unfinished run or an older file of this name, and begin anew",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")

    group = parser.add_argument_group("resources")
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="compute part I of N only, for a job of a scheduler's array; `limbeck merge` joins the parts",
    )
    group.add_argument(
        "--memory", metavar="SIZE", help="the most memory to take, like 4G (default: half of what is free)"
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="most processor threads (default: all; with --engine ray 1 for each worker)",
    )
    group.add_argument("--batch-tokens", metavar="N", type=int, help="most tokens in a batch (default: by memory)")

    group = parser.add_argument_group("many machines")
    group.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="ray: a Ray cluster, and a Parquet dataset as output",
    )
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of the Ray cluster: host:port, ray://host:port, or auto for the one on this machine "
        "(default: RAY_ADDRESS, or a cluster that is started here for this run)",
    )
    group.add_argument(
        "--workers", metavar="N", type=int, help="most encoders at work (default: all there is room for)"
    )
    group.add_argument(
        "--block-residues",
        metavar="N",
        type=int,
        help="most residues in one file of the dataset (default: some minutes of work)",
    )


# What goes with one engine only, and its value when it is not given.
_LOCAL_ONLY = {"format": None, "memory": None, "batch_tokens": None, "shard": None, "duplicate_ids": "error"}
_RAY_ONLY = ("address", "workers", "block_residues")


def run(options: argparse.Namespace) -> None:
    engine = {"local": _run_here, "ray": _run_on_ray}[options.engine]
    arguments = {k: v for k, v in vars(options).items() if k not in ("run", "engine", "output", "quiet")}
    engine(options, arguments)


def _run_on_ray(options: argparse.Namespace, arguments: dict[str, Any]) -> None:
    need("ray", "ray")
    for name, default in _LOCAL_ONLY.items():
        if arguments.pop(name) != default:
            raise InputError(f"--{name.replace('_', '-')} does not go with --engine ray; leave one of them out")
    if options.output in (None, "-") or "-" in options.inputs:
        raise InputError("--engine ray reads files and folders and writes a folder; name them, the output with -o")
    if arguments["threads"] is None:
        del arguments["threads"]
    from limbeck.distributed import embed

    options.when_interrupted = "; the same command goes on from here"
    summary = embed(output=options.output, progress=not options.quiet, **arguments)
    if not options.quiet:
        sys.stderr.write(f"{summary}\n")


def _run_here(options: argparse.Namespace, arguments: dict[str, Any]) -> None:
    for name in _RAY_ONLY:
        if arguments.pop(name) is not None:
            raise InputError(f"--{name.replace('_', '-')} goes with --engine ray only; leave it out, or give that too")
    to_stdout = options.output == "-"
    if to_stdout and sys.stdout.isatty():
        raise InputError("standard output is a terminal; pipe it somewhere or name a file with -o")
    if not to_stdout:
        options.when_interrupted = "; the same command goes on from here"
        if options.restart:
            options.when_interrupted = "; the same command without --restart goes on from here"
    output = sys.stdout.buffer if to_stdout else options.output
    summary = limbeck.embed(output=output, progress=not options.quiet, **arguments)
    if not options.quiet:
        sys.stderr.write(f"{summary}\n")
