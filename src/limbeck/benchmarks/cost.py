"""What an encoder costs: residues a second on this machine, beside the machine's rate of matrix products."""

from __future__ import annotations

import os
import platform
import statistics
import time
from typing import Any

import numpy as np

from limbeck.encoders.base import Encoder
from limbeck.residues import RESIDUES

__all__ = ["machine", "speed"]

LENGTH = 300
SIZE = 1024
ROUNDS = 3
SECONDS = 3.0
"""About how long one round takes; a round is at least two proteins."""
MOST_PROTEINS = 512


def speed(encoder: Encoder, threads: int | None = None) -> dict[str, Any]:
    """Residues a second of pooled vectors, proteins of 300 random residues, after a round that warms up.

    Args:
        encoder: as loaded.
        threads: what it was loaded with, to be noted.

    Returns:
        ``residues_per_second`` (median of three rounds), ``rounds`` (each), ``proteins`` in a round, and
        ``product_rate``: float32 matrix products of the machine meanwhile, in operations a second. A rate that is far
        from that of other encoders says that the machine was busy. ``threads``, and ``machine``, since a speed
        means nothing beside one of another.
    """
    rng = np.random.default_rng(0)
    proteins = ["".join(rng.choice(list(RESIDUES), LENGTH)) for _ in range(MOST_PROTEINS)]
    encoder.encode(proteins[:2])
    once = _seconds(encoder, proteins[:2])
    count = int(np.clip(2 * SECONDS / max(once, 1e-6), 2, MOST_PROTEINS))
    if count > 2:
        encoder.encode(proteins[:count])
    rounds, rates = [], []
    for _ in range(ROUNDS):
        rates.append(_product_rate())
        rounds.append(count * LENGTH / _seconds(encoder, proteins[:count]))
    return {
        "residues_per_second": float(f"{statistics.median(rounds):.4g}"),
        "rounds": [float(f"{value:.4g}") for value in rounds],
        "proteins": count,
        "product_rate": float(f"{statistics.median(rates):.3g}"),
        "threads": threads or os.cpu_count(),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """What a speed belongs to."""
    return {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _seconds(encoder: Encoder, proteins: list[str]) -> float:
    started = time.perf_counter()
    encoder.encode(proteins)
    return time.perf_counter() - started


def _product_rate() -> float:
    a = np.ones((SIZE, SIZE), np.float32)
    started = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * SIZE**3 / (time.perf_counter() - started)
