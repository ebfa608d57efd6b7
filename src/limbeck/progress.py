"""Progress on standard error: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm

__all__ = ["Progress"]

SECONDS_BETWEEN_LINES = 30.0
# Stages that end at once would only flicker.
SECONDS_BEFORE_BAR = 0.5
SIZE = 80, 24
"""Columns and lines of a terminal that doesn't say its own."""


class Progress:
    """Counts one stage of a run.

    Args:
        stage: what is being done, as the user reads it: ``"embedding"``.
        unit: what is counted: ``"residues"``.
        total: how many there are; ``None`` if that is what the stage finds out.
        shown: ``False`` to be silent.
    """

    def __init__(self, stage: str, unit: str, total: int | None, shown: bool) -> None:
        self._stage, self._unit, self._total = stage, unit, total
        self._started = self._last_line = time.monotonic()
        self._done = self._skipped = 0
        self._note = ""
        terminal = sys.stderr.isatty()
        self._lines = shown and not terminal
        self._bar = _bar(stage, unit, total) if shown and terminal else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def note(self, text: str) -> None:
        """Show ``text`` beside the count, from the next update on."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def skip(self, count: int) -> None:
        """Count what an earlier run has done, without taking it for speed."""
        if self._done == self._skipped:
            # To find what is there takes its time, too, which is no part of the rate.
            self._started = time.monotonic()
            if self._bar is not None:
                self._bar.start_t = self._bar.last_print_t = time.time()
        self._skipped += count
        self._done += count
        if self._bar is not None:
            self._bar.initial += count
            self._bar.n += count
            self._bar.last_print_n += count
        self.update(0)

    def update(self, count: int) -> None:
        """Count what has been done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        if self._lines and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            sys.stderr.write(self._line() + "\n")
            sys.stderr.flush()

    def _line(self) -> str:
        rate = (self._done - self._skipped) / max(1e-9, time.monotonic() - self._started)
        parts = [f"{self._done:,} {self._unit}"]
        if self._total:
            parts[0] = f"{100 * self._done / self._total:.1f} % of {self._total:,} {self._unit}"
        if self._note:
            parts.append(self._note)
        parts.append(f"{rate:,.0f} {self._unit}/s")
        if self._total and rate:
            parts.append(f"{tqdm.format_interval((self._total - self._done) / rate)} left")
        return f"{self._stage}: " + ", ".join(parts)


def _bar(stage: str, unit: str, total: int | None) -> tqdm[NoReturn]:
    count = "{percentage:3.0f}% {bar} {n_fmt}/{total_fmt}" if total else "{n_fmt}"
    left = ", {remaining} left" if total else ""
    sized = _has_size(sys.stderr)
    columns, lines = (None, None) if sized else SIZE
    return tqdm(
        total=total,
        desc=stage,
        file=sys.stderr,
        unit="",
        unit_scale=True,
        # A narrow terminal cuts off the end, so what can best be missed stands there.
        bar_format=f"{{desc}} {count} {unit}, {{rate_noinv_fmt}}{left}{{postfix}}",
        delay=SECONDS_BEFORE_BAR,
        leave=False,
        dynamic_ncols=sized,
        ncols=columns,
        nrows=lines,
    )


def _has_size(terminal: TextIO) -> bool:
    """Whether a terminal says how large it is; those of containers may say 0, where tqdm would draw nothing."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns > 0
    except (OSError, ValueError):
        return False
