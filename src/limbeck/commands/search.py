"""``limbeck search``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from limbeck.commands.shared import given, layer, say
from limbeck.errors import InputError

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "search",
        help="find the nearest proteins of an index, or transfer their labels",
        description="Find the nearest proteins of an index that `limbeck index` made. Queries are proteins, which are\n"
        "embedded with the index's own encoder, or embeddings of the same encoder and precision.",
        epilog="examples:\n"
        "  limbeck search queries.fasta --index proteins.index\n"
        "  limbeck search queries.h5 --index proteins.index -k 20 --min-similarity 0.5 -o hits.parquet\n"
        "  limbeck search queries.fasta --index domains.index --transfer -o classes.csv\n"
        "  limbeck search --index domains.index --about\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "queries", nargs="?", metavar="FILE",
        help="FASTA, CSV, TSV or Parquet of proteins (- is standard input), or a file of `limbeck embed`",
    )  # fmt: skip
    parser.add_argument("--index", required=True, metavar="FOLDER", help="made by `limbeck index`")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="TSV, CSV or Parquet by its ending (default: standard output, as TSV)"
    )
    parser.add_argument("-k", type=int, default=10, metavar="N", help="most hits of a query (default: 10)")
    parser.add_argument("--min-similarity", type=float, metavar="S", help="leave out hits that are less similar")
    parser.add_argument(
        "--no-self", action="store_true", help="leave out the query itself: a hit of its id and a similarity of 1"
    )
    parser.add_argument(
        "--transfer", action="store_true", help="write the label that each query gets from its neighbours, not the hits"
    )
    parser.add_argument(
        "--min-reliability", type=float, metavar="P", help="with --transfer: leave out labels that are less reliable"
    )
    parser.add_argument("--about", action="store_true", help="say what the index is, and how good; then stop")
    parser.add_argument("--check", action="store_true", help="look at the checksums of all files of the index, first")
    group = parser.add_argument_group("encoder, for proteins; by default the index's own")
    group.add_argument("--encoder", metavar="NAME", help="name or path, where it has moved")
    group.add_argument("--layer", metavar="N[,N...]", type=layer, help="as the index's files were embedded")
    group.add_argument("--dimension", metavar="N", type=int, help="as the index's files were embedded")
    group.add_argument("--pooling", metavar="P", help="as the index's files were embedded")
    group.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument("--threads", metavar="N", type=int, help="most processor threads (default: all)")
    group.add_argument("--sequence-column", metavar="NAME", help="column of a table that holds the sequences")
    group.add_argument("--id-column", metavar="NAME", help="column of a table that holds the ids")
    group.add_argument("--input-format", metavar="FORMAT", help="fasta, csv, tsv or parquet (default: by the file)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


_ENCODER = ("encoder", "layer", "dimension", "pooling", "device", "threads")
_COLUMNS = ("sequence_column", "id_column", "input_format")


def run(options: argparse.Namespace) -> None:
    from limbeck.search import open_index
    from limbeck.search.about import described
    from limbeck.search.results import check_request, format_of, write_results

    index = open_index(options.index, check=options.check)
    if options.about:
        sys.stdout.write(described(options.index, index.manifest) + "\n")
        return
    if options.queries is None:
        raise InputError("name a file of queries, or ask for --about")
    output = options.output or "-"
    format_of(output)
    least, trust = options.min_similarity, options.min_reliability
    check_request(index, options.k, transfer=options.transfer, least=least, trust=trust)
    written = write_results(
        index,
        options.queries,
        output,
        k=options.k,
        transfer=options.transfer,
        without_self=options.no_self,
        min_similarity=least,
        min_reliability=trust,
        loading=given(options, *_ENCODER),
        columns=given(options, *_COLUMNS),
        progress=not options.quiet,
    )
    if not options.quiet:
        say(str(written))
