"""``limbeck export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limbeck.commands.shared import need_pytorch, say

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "export",
        help="copy a student to a folder that transformers and sentence-transformers open",
        description="Copy a student, such as the one in the package, to a folder that transformers and "
        "sentence-transformers open as well. Students that `limbeck distill` wrote are such folders already.",
        epilog="example:\n  limbeck export limbeck-9m -o limbeck-9m\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("student", metavar="STUDENT", help="a student's folder, or the name of one in the package")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the folder to write")


def run(options: argparse.Namespace) -> None:
    need_pytorch()
    from limbeck.distillation.export import copy_student

    say(f"{copy_student(options.student, Path(options.output))}: for limbeck, transformers and sentence-transformers")
