"""Run a command in a terminal of its own and draw what it leaves on the screen, as SVG.

    python docs/make_terminal_picture.py docs/images/embed.svg .venv/bin/limbeck embed proteins.fasta

Needs `rich`. The picture shows the command by its base name, then its output as it is, colours included.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import shlex
import struct
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
ROWS = 40
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]")
"""Escape sequences other than colours (which end in ``m``)."""


def run(command: list[str]) -> tuple[int, str]:
    """Exit code, and all that the command wrote to a terminal of COLUMNS by ROWS."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(sys.stdout.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    written = bytearray()
    while True:
        try:
            block = os.read(terminal, 65536)
        except OSError:
            # Linux reports the end of a terminal as an error.
            break
        if not block:
            break
        written += block
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), written.decode("utf-8", errors="replace")


def screen(written: str) -> list[str]:
    """The lines that stay: a carriage return starts writing over the line."""
    lines = []
    for line in CONTROL.sub("", written).replace("\r\n", "\n").split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def draw(command: list[str], lines: list[str], path: Path) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    shown = shlex.join([Path(command[0]).name, *command[1:]])
    console.print(Text.assemble(("$ ", "bold green"), (shown, "bold")))
    for line in lines:
        console.print(Text.from_ansi(line))
    picture = console.export_svg(title="limbeck", unique_id="terminal")
    # A picture in a page may load nothing; without the web fonts the viewer's own monospace is used.
    picture = re.sub(r"@font-face \{.*?\}\n?", "", picture, flags=re.DOTALL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line.rstrip() + "\n" for line in picture.splitlines()), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="the SVG file to write")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    options = parser.parse_args()
    code, written = run(options.command)
    lines = screen(written)
    if code:
        sys.stderr.write("\n".join([*lines, f"the command failed with exit code {code}; no picture was drawn", ""]))
        return 1
    draw(options.command, lines, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
