"""``limbeck map``."""

from __future__ import annotations

import argparse
import os
from typing import Any

from limbeck.commands.shared import need, say

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "map",
        help="draw a map of embeddings as an HTML page",
        description="Project embeddings to the plane and draw them: a page that needs nothing but itself, to zoom,\n"
        "with names on hover and colours from a column of a table.",
        epilog="examples:\n"
        "  limbeck map proteins.h5\n"
        "  limbeck map proteins.h5 -o map.html --table classes.csv --colour-by class\n"
        "  limbeck map proteins.parquet --table assay.csv --colour-by melting_point --points points.csv\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="files of `limbeck embed` of one encoder")
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="the page (default: the name of the first input with .html, in the working directory)",
    )  # fmt: skip
    parser.add_argument("--table", metavar="FILE", help="CSV, TSV or Parquet with a row for each protein")
    parser.add_argument("--colour-by", metavar="NAME", help="its column that gives the colours")
    parser.add_argument("--id-column", metavar="NAME", help="its column of ids (default: found by its usual names)")
    parser.add_argument(
        "--colour-as", choices=["auto", "category", "number"], default="auto",
        help="what the column holds (default: seen from its values)",
    )  # fmt: skip
    parser.add_argument(
        "--projection", choices=["tsne", "pca"], default="tsne",
        help="tsne keeps neighbours together, pca keeps distances and is faster (default: tsne)",
    )  # fmt: skip
    parser.add_argument(
        "--most", type=int, default=100_000, metavar="N", help="draw a random sample of more proteins (default: 100000)"
    )
    parser.add_argument("--points", metavar="FILE", help="write id, x and y to a CSV file, too")
    parser.add_argument("--threads", metavar="N", type=int, help="most processor threads (default: all)")
    parser.add_argument("--title", metavar="TEXT", help="of the page (default: the names of the inputs)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def run(options: argparse.Namespace) -> None:
    need("map", "jinja2", *(["openTSNE"] if options.projection == "tsne" else []))
    from limbeck.embedding.source import stem
    from limbeck.maps import map_embeddings

    drawn = map_embeddings(
        options.inputs,
        options.output or f"{stem(options.inputs[0])}.html",
        table=options.table,
        colour_by=options.colour_by,
        colour_as=options.colour_as,
        id_column=options.id_column,
        projection=options.projection,
        most=options.most,
        points=options.points,
        threads=options.threads or os.cpu_count() or 1,
        title=options.title,
        progress=not options.quiet,
    )
    if not options.quiet:
        say(str(drawn))
