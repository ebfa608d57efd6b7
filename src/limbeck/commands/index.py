"""``limbeck index``."""

from __future__ import annotations

import argparse
from typing import Any

from limbeck.commands.shared import given, layer, say

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "index",
        help="build an index of proteins, to find the nearest of others in it",
        description="Build an index of embeddings that `limbeck embed` wrote, or of proteins (embedded first).\n"
        "With --labels it transfers annotation, with a reliability that is calibrated on the index itself.",
        epilog="examples:\n"
        "  limbeck index proteins.parquet\n"
        "  limbeck index proteins.fasta -o proteins.index\n"
        "  limbeck index domains.h5 -o domains.index --labels classes.csv --label-column class\n"
        "  limbeck index a.h5 b.h5 -o all.index --labels go.tsv --label-column go_terms --group-column family\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="FILE",
        help="files of `limbeck embed` (.h5, .parquet, .npz) of one encoder and precision; or FASTA, CSV, TSV, Parquet",
    )
    parser.add_argument(
        "-o", "--output", metavar="FOLDER",
        help="the index (default: the name of the only input with .index, in the working directory)",
    )  # fmt: skip

    group = parser.add_argument_group("labels")
    group.add_argument("--labels", metavar="TABLE", help="CSV, TSV or Parquet with a row for each protein")
    group.add_argument(
        "--label-column", metavar="NAME", help="its column of labels; several of one protein are separated by ;"
    )
    group.add_argument("--id-column", metavar="NAME", help="its column of ids (default: found by its usual names)")
    group.add_argument(
        "--group-column", metavar="NAME",
        help="its column of families or clusters; members of one don't vouch for each other in calibration",
    )  # fmt: skip

    group = parser.add_argument_group("search")
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "--exact", action="store_const", const="exact", dest="engine", default="auto",
        help="compare queries with every vector (default up to 100,000 proteins)",
    )  # fmt: skip
    kind.add_argument(
        "--approximate", action="store_const", const="approximate", dest="engine",
        help="look into a part of the vectors (needs limbeck[search]; default above 100,000 proteins)",
    )  # fmt: skip
    group.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32",
        help="of the stored vectors; float16 halves them (default: float32)",
    )  # fmt: skip
    group.add_argument(
        "--no-centre", action="store_false", dest="centre", help="don't take the mean of the index off all vectors"
    )

    group = parser.add_argument_group("encoder, for proteins")
    group.add_argument("--encoder", metavar="NAME", help="as for `limbeck embed` (default: limbeck's own)")
    group.add_argument("--layer", metavar="N[,N...]", type=layer, help="as for `limbeck embed`")
    group.add_argument("--dimension", metavar="N", type=int, help="as for `limbeck embed`")
    group.add_argument("--pooling", metavar="P", help="as for `limbeck embed`")
    group.add_argument("--precision", help="auto, f32, bf16, f16 or int8 (default: auto)")
    group.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument("--threads", metavar="N", type=int, help="most processor threads (default: all)")
    group.add_argument("--sequence-column", metavar="NAME", help="column of a table that holds the sequences")
    group.add_argument("--input-format", metavar="FORMAT", help="fasta, csv, tsv or parquet (default: by the file)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


_LOADING = (
    "encoder",
    "layer",
    "dimension",
    "pooling",
    "precision",
    "device",
    "threads",
    "sequence_column",
    "input_format",
)


def run(options: argparse.Namespace) -> None:
    from limbeck.search import build_index
    from limbeck.search.about import described, index_name

    output = options.output or index_name(options.inputs)
    manifest = build_index(
        options.inputs,
        output,
        labels=options.labels,
        label_column=options.label_column,
        id_column=options.id_column,
        group_column=options.group_column,
        engine=options.engine,
        dtype=options.dtype,
        centre=options.centre,
        loading=given(options, *_LOADING),
        progress=not options.quiet,
    )
    if not options.quiet:
        say(described(output, manifest))
