"""Where the time of a run goes, in stages that add up to the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["stage", "timed"]

THE_REST = "the rest"


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running = THE_REST
        self._since = time.perf_counter()

    def switch(self, name: str) -> str:
        """Count for ``name`` from now on; returns what ran before."""
        now, before = time.perf_counter(), self._running
        self.seconds[before] = self.seconds.get(before, 0.0) + now - self._since
        self._running, self._since = name, now
        return before


_clock: ContextVar[_Clock | None] = ContextVar("clock", default=None)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds of each stage that this thread is in, and of ``"the rest"``; complete after the ``with``."""
    clock = _Clock()
    token = _clock.set(clock)
    try:
        yield clock.seconds
    finally:
        clock.switch(THE_REST)
        clock.seconds[THE_REST] = clock.seconds.pop(THE_REST)  # the last in a table
        _clock.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """What runs inside counts for ``name``, if anybody times it; a stage in a stage counts for the inner one alone."""
    clock = _clock.get()
    if clock is None:
        yield
        return
    before = clock.switch(name)
    try:
        yield
    finally:
        clock.switch(before)
