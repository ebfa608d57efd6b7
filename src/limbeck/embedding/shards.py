"""One of n parts of a run, for schedulers that start n jobs which know nothing of each other.

Every part reads and checks the whole input, so a bad record or a repeated id stops all of them, and then computes a
stretch of it. Stretches hold about the same number of residues, as time goes with residues and not with proteins.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.embedding.index import Index
from limbeck.errors import InputError

__all__ = ["KEYS", "Shard", "bounds", "hash_ids"]

KEYS = ("shard", "rows", "input_proteins", "ids_sha256")
"""What the metadata of a part have besides those of a whole table."""

_BLOCK = 1_000_000


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (from 1) of ``count``."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``"2/8"``.

        Raises:
            InputError: if it is not of that form, or there is no such part.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match:
            raise InputError(f"--shard {text!r} is not understood; write it like 2/8, the second of eight parts")
        number, count = int(match[1]), int(match[2])
        if not 1 <= number <= count:
            raise InputError(f"--shard {text!r}: parts are counted from 1 to {count}")
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def cut(self, index: Index) -> dict[str, str]:
        """Keep only this part's rows in the index of the whole input; returns what its metadata say about that.

        Raises:
            InputError: if the input has fewer proteins than there are parts.
        """
        total = index.proteins
        if total < self.count:
            raise InputError(f"--shard {self}: the input has {total:,} proteins only; take at most so many parts")
        start, stop = bounds(index.lengths, self.count)[self.number - 1 : self.number + 1].tolist()
        metadata = dict(zip(KEYS, (str(self), f"{start}:{stop}", str(total), hash_ids(index.ids())), strict=True))
        index.keep(start, stop)
        return metadata


def bounds(lengths: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Where each part starts, and the end: (count + 1,). Every part has at least one protein.

    Args:
        lengths: residues of each protein, (n,), n at least ``count``.
        count: how many parts.
    """
    blocks = range(0, len(lengths), _BLOCK)
    sums = np.cumsum([0, *(int(lengths[start : start + _BLOCK].sum(dtype=np.int64)) for start in blocks)])
    result = np.empty(count + 1, dtype=np.int64)
    for part in range(count + 1):
        target = int(sums[-1]) * part // count
        block = min(int(np.searchsorted(sums, target, side="right")) - 1, len(blocks) - 1)
        within = np.cumsum(lengths[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.int64)
        result[part] = block * _BLOCK + np.searchsorted(within, target - int(sums[block]), side="left")
    result[0], result[-1] = 0, len(lengths)
    # A protein longer than a whole part would leave its neighbours empty.
    steps = np.arange(count + 1)
    result = np.maximum.accumulate(result - steps) + steps
    return np.minimum(result, len(lengths) - count + steps)


def hash_ids(ids: Iterable[str]) -> str:
    """SHA-256 (hex) over ids in their order."""
    result = hashlib.sha256()
    for id in ids:
        name = id.encode()
        result.update(b"%d:%b" % (len(name), name))
    return result.hexdigest()
