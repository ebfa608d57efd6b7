"""Files of sequences cut into blocks: what one worker computes and writes at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from limbeck.distributed.places import on_this_disk
from limbeck.embedding.index import sequence_digest
from limbeck.embedding.source import Source
from limbeck.encoders import Encoder
from limbeck.records import InvalidRecord

__all__ = ["Block", "Limits", "Reading", "blocks"]

# Some minutes of one CPU, seconds of a GPU: 80 TFLOP at two operations a parameter and residue.
BLOCK_PARAMETER_RESIDUES = 8e13
BLOCK_RESIDUES = 2**16, 2**23
BLOCK_PROTEINS = 2**16
BLOCK_BYTES = 2**28


@dataclass(frozen=True)
class Limits:
    """Bounds of a block; a protein more closes it. Recorded with a run, as they decide what a part holds."""

    proteins: int
    residues: int

    @classmethod
    def choose(cls, encoder: Encoder, per_residue: bool) -> Limits:
        least, most = BLOCK_RESIDUES
        residues = int(min(most, max(least, BLOCK_PARAMETER_RESIDUES / max(1, encoder.parameters))))
        fitting = max(1, BLOCK_BYTES // (4 * encoder.dimension))
        if per_residue:
            return cls(BLOCK_PROTEINS, min(residues, fitting))
        return cls(min(BLOCK_PROTEINS, fitting), residues)


@dataclass(frozen=True)
class Block:
    """Neighbouring records of one file."""

    number: int
    """0-based place in its file."""
    ids: list[str]
    sequences: list[str]
    """Cleaned."""

    @property
    def residues(self) -> int:
        return sum(map(len, self.sequences))

    @property
    def digest(self) -> bytes:
        """32 bytes over ids and sequences."""
        result = hashlib.sha256()
        for id, sequence in zip(self.ids, self.sequences, strict=True):
            name = id.encode()
            result.update(b"%d:%b%b" % (len(name), name, sequence_digest(sequence)))
        return result.digest()

    @property
    def id_digests(self) -> bytes:
        """16 bytes for each id."""
        return b"".join(hashlib.blake2b(id.encode(), digest_size=16).digest() for id in self.ids)

    def distinct(self) -> tuple[list[str], list[int]]:
        """Each sequence once, the longest first, and for each protein the place of its sequence in them."""
        order = sorted(dict.fromkeys(self.sequences), key=len, reverse=True)
        places = {sequence: place for place, sequence in enumerate(order)}
        return order, [places[sequence] for sequence in self.sequences]

    @property
    def lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        return np.array([len(sequence) for sequence in self.sequences], dtype=np.int32)


@dataclass(frozen=True)
class Reading:
    """How files of sequences are read."""

    limits: Limits
    sequence_column: str | None = None
    id_column: str | None = None
    input_format: str | None = None
    skip_invalid: bool = False
    letters: Counter[str] = field(default_factory=Counter)
    """Gains the letters changed."""


def blocks(name: str, reading: Reading, on_skipped: Callable[[InvalidRecord], None]) -> Iterator[Block]:
    """The blocks of one file, the same at every reading.

    Args:
        name: path or URI.
        reading: how.
        on_skipped: called with each record that is passed over.

    Raises:
        InputError: if the file, or without ``skip_invalid`` a record, cannot be used.
    """
    with on_this_disk(name) as path:
        source = Source(
            [path],
            path.parent,
            names=[name],
            sequence_column=reading.sequence_column,
            id_column=reading.id_column,
            input_format=reading.input_format,
        )
        ids: list[str] = []
        sequences: list[str] = []
        number = residues = 0
        for record, sequence in source.proteins(reading.letters, on_skipped if reading.skip_invalid else None):
            full = len(ids) == reading.limits.proteins or residues + len(sequence) > reading.limits.residues
            if ids and full:
                yield Block(number, ids, sequences)
                ids, sequences, residues = [], [], 0
                number += 1
            ids.append(record.id)
            sequences.append(sequence)
            residues += len(sequence)
        if ids:
            yield Block(number, ids, sequences)
