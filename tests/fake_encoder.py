"""A small encoder whose vectors are easy to know, and files of proteins for it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import ResidueEncoder
from limbeck.residues import RESIDUES, to_ids


class FakeEncoder(ResidueEncoder):
    """A residue's features are random numbers for it and its left neighbour in the window."""

    version = "1"
    parameters = 0
    license = "CC0-1.0"
    max_length = 64
    overlap = 16

    def __init__(self, name: str = "fake", dimension: int = 8, scale: float = 1.0, pause: float = 0.0) -> None:
        self.name = name
        self.dimension = dimension
        self.fingerprint = f"{name} {dimension} {scale}"
        self.token_budget = 512
        self.bytes_per_token = 64
        self.calls: list[list[str]] = []
        self._pause = pause
        self._table = scale * np.random.default_rng(0).normal(size=(21, dimension)).astype(np.float32)

    def encode(self, sequences, on_batch=None):
        self.calls.append(list(sequences))
        return super().encode(sequences, on_batch)

    def forward(self, windows: list[str]) -> list[NDArray[np.float32]]:
        time.sleep(self._pause)
        features = [self._table[to_ids(window)] for window in windows]
        return [f + 0.5 * np.roll(f, 1, axis=0) for f in features]


def random_proteins(count: int, seed: int = 0, longest: int = 200) -> list[tuple[str, str]]:
    """(id, sequence), lengths 1 to ``longest``."""
    generator = random.Random(seed)
    return [
        (f"P{number}", "".join(generator.choices(RESIDUES, k=generator.randint(1, longest)))) for number in range(count)
    ]


def write_fasta(path: Path, proteins: Iterable[tuple[str, str]]) -> Path:
    path.write_text("".join(f">{id} a description\n{sequence}\n" for id, sequence in proteins))
    return path
