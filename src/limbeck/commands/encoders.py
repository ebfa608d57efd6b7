"""``limbeck encoders``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from limbeck.commands.shared import in_millions

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "encoders",
        help="list what can be used with --encoder",
        description="List the encoders: what to give to --encoder, and whether they are on this machine.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from limbeck.encoders import available

    rows = [("name", "kind", "dimension", "parameters", "licence", "on this machine")]
    # What works now comes first.
    for info in sorted(available(), key=lambda info: not info.on_this_machine):
        rows.append(
            (
                info.name,
                info.kind,
                "by file" if info.dimension is None else f"{info.dimension:,}",
                "by file" if info.parameters is None else in_millions(info.parameters),
                info.license,
                "yes" if info.on_this_machine else "no",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if 2 <= index <= 3 else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
