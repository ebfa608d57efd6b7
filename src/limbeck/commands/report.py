"""``limbeck report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limbeck.commands.shared import say
from limbeck.errors import InputError

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "report",
        help="write a page about the training of one or several students",
        description="Write one HTML page: curves, students at equal loss, residues by the course of their loss.",
        epilog="examples:\n  limbeck report my-student -o report.html\n  limbeck report small large -o both.html\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a student's folder, finished or in training"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    parser.add_argument(
        "--loss", metavar="NAME", help="loss at which students are compared (default: that of residues)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.1, metavar="NATS",
        help="change by which a residue's loss falls or rises (default: 0.1)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    try:
        from limbeck.distillation.report import write_report
    except ImportError:
        raise InputError("a report needs jinja2; pip install 'limbeck[train]'") from None
    say(f"{write_report(options.folders, options.output, loss=options.loss, threshold=options.threshold)}: the report")
