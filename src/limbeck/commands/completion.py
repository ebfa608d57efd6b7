"""``limbeck completion``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from limbeck.commands.shared import need

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "completion",
        help="print a script that lets a shell complete limbeck's verbs and options",
        description="Print a script that lets a shell complete limbeck's verbs, options and files.",
        epilog="examples:\n"
        "  limbeck completion bash > ~/.local/share/bash-completion/completions/limbeck\n"
        "  limbeck completion zsh > ~/.zfunc/_limbeck         (with: fpath+=~/.zfunc; compinit)\n"
        "  limbeck completion fish > ~/.config/fish/completions/limbeck.fish\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])


def run(options: argparse.Namespace) -> None:
    need("completion", "shtab")
    import shtab

    from limbeck.cli import parser

    whole = parser()
    for verb in _verbs(whole):
        for action in verb._actions:
            # What argparse shows as a file is one.
            if action.metavar in ("FILE", "PART", "FOLDER") and not action.choices:
                action.complete = shtab.DIRECTORY if action.metavar == "FOLDER" else shtab.FILE  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(whole, shell=options.shell))


def _verbs(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for verb in action.choices.values() for inner in _verbs(verb)]
    return found
