"""The command line: what all verbs share; each verb is a file of :mod:`limbeck.commands`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from limbeck.commands import VERBS
from limbeck.errors import InputError

__all__ = ["main", "parser"]

BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + 13


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        sys.exit(BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``limbeck`` with the given arguments (those of the process by default); returns the exit code."""
    options = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
        sys.stdout.flush()
    except InputError as error:
        sys.stderr.write(f"limbeck: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"\nlimbeck: interrupted{getattr(options, 'when_interrupted', '')}\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has gone; at exit Python would complain once more about what it cannot write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return 0


class _Version(argparse.Action):
    """Looks at the machine only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> NoReturn:
        from limbeck.environment import describe

        sys.stdout.write(describe() + "\n")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="limbeck",
        description="Turn proteins into vectors with small, fast encoders distilled from large ones.",
        epilog="limbeck VERB --help explains a verb.",
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="versions and machine, for reports of faults",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        verb.add(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
