"""A corpus in a few megabytes: which proteins were in it, and whether a protein is nearly one of them.

Whole proteins are kept as hashes of 40 bits. For near duplicates a part of the corpus's k-mers is kept, those whose
hash falls below a threshold (FracMinHash: Irber et al. 2022, doi:10.1101/2022.01.11.475838), as hashes of 34 bits. Of a
protein, the k-mers below the same threshold are looked up; the share that is found estimates the share of all its
k-mers that the corpus holds (containment C), and C ** (1 / k) the identity to the nearest relative if its substitutions
were spread evenly (Hera et al. 2023, doi:10.1101/gr.277651.123). The corpus cannot be read back from either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.residues import RESIDUES, UNKNOWN_ID, to_ids

__all__ = ["CorpusSketch", "HashSet", "kmer_hashes", "protein_hashes"]

Hashes = NDArray[np.uint64]

K = 10
SCALE_BITS = 6
"""One k-mer in 2 ** 6 = 64 is kept."""
LEAST_LETTERS = 4
"""K-mers of fewer different residues are passed over: repeats of few letters arise without kinship."""
NEAR = 0.3
"""Containment from which a protein counts as a near duplicate: that of 89 % identity, 0.3 ** (1 / 10)."""
PROTEINS_AT_ONCE = 4096
FORMAT = "limbeck-corpus-sketch-1"


@dataclass(frozen=True)
class HashSet:
    """A set of hashes of ``bits`` bits, sorted and split: leading bits count entries of buckets, the rest is stored.

    Attributes:
        counts: (2 ** leading bits,) uint8, entries of each bucket.
        rest: (n, bytes) uint8, the bits behind the leading ones of each entry, in rising order, big-endian.
    """

    counts: NDArray[np.uint8]
    rest: NDArray[np.uint8]

    @property
    def bits(self) -> int:
        return len(self.counts).bit_length() - 1 + 8 * self.rest.shape[1]

    @classmethod
    def of(cls, hashes: Hashes, leading: int, rest: int) -> HashSet:
        """The set of the first ``leading + 8 * rest`` bits of 64-bit hashes.

        Raises:
            ValueError: if a bucket gets more than 255 entries; take more leading bits.
        """
        values = np.unique(hashes >> np.uint64(64 - leading - 8 * rest))
        counts = np.bincount((values >> np.uint64(8 * rest)).astype(np.int64), minlength=1 << leading)
        if counts.max(initial=0) > 255:
            raise ValueError(f"{len(values)} hashes are too many for {leading} leading bits")
        tail = values.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - rest :]
        return cls(counts.astype(np.uint8), np.ascontiguousarray(tail))

    def __len__(self) -> int:
        return len(self.rest)

    @cached_property
    def values(self) -> Hashes:
        """(n,) the entries, ascending."""
        padded = np.zeros((len(self), 8), np.uint8)
        padded[:, 8 - self.rest.shape[1] :] = self.rest
        bucket = np.repeat(np.arange(len(self.counts), dtype=np.uint64), self.counts)
        return padded.view(">u8").ravel().astype(np.uint64) | bucket << np.uint64(8 * self.rest.shape[1])

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of the 64-bit hashes are in the set, up to chance agreement of their first bits."""
        if not len(self):
            return np.zeros(len(hashes), bool)
        wanted = hashes >> np.uint64(64 - self.bits)
        found: NDArray[np.bool_] = self.values[np.searchsorted(self.values[:-1], wanted)] == wanted
        return found


@dataclass(frozen=True)
class CorpusSketch:
    """What is kept of a corpus.

    Attributes:
        proteins: hashes of whole proteins.
        kmers: hashes of the k-mers below the threshold, scaled up to all bits.
        notes: ``name`` and ``description`` of the corpus and how many ``proteins`` it had.
    """

    proteins: HashSet
    kmers: HashSet
    notes: dict[str, str]

    @classmethod
    def of(
        cls,
        sequences: Iterable[str],
        notes: dict[str, str],
        *,
        protein_bits: tuple[int, int] = (16, 3),
        kmer_bits: tuple[int, int] = (18, 2),
    ) -> CorpusSketch:
        """Sketch a corpus.

        Args:
            sequences: cleaned proteins (:func:`limbeck.residues.clean`).
            notes: ``name`` and ``description``, for people.
            protein_bits: leading bits and further bytes of a protein's hash.
            kmer_bits: the same of a k-mer's.
        """
        whole_ones, kmers = [], []
        for part in _parts(sequences):
            whole_ones.append(protein_hashes(part))
            kmers.append(np.unique(kmer_hashes(part)[0]))
        proteins = np.concatenate([np.empty(0, np.uint64), *whole_ones])
        counted = {**notes, "proteins": str(len(proteins))}
        kept = np.concatenate([np.empty(0, np.uint64), *kmers])
        return cls(HashSet.of(proteins, *protein_bits), HashSet.of(kept, *kmer_bits), counted)

    def contains(self, sequences: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) which proteins were in the corpus, with or without a methionine at the start."""
        return self.proteins.holds(protein_hashes(sequences))

    def containment(self, sequences: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """How much of each protein the corpus holds.

        Returns:
            The share found of the k-mers looked up, (n,), NaN where there were none; and how many were looked up, (n,).
        """
        hashes, owners = kmer_hashes(sequences)
        looked_up = np.bincount(owners, minlength=len(sequences))
        found = np.bincount(owners[self.kmers.holds(hashes)], minlength=len(sequences))
        with np.errstate(invalid="ignore"):
            return found / np.where(looked_up, looked_up, np.nan), looked_up

    def near(self, sequences: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) which proteins the corpus holds nearly: containment of :data:`NEAR` or more."""
        shares, _ = self.containment(sequences)
        return np.nan_to_num(shares) >= NEAR

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors = {
            f"{name}.{part}": getattr(getattr(self, name), part)
            for name in ("proteins", "kmers")
            for part in ("counts", "rest")
        }
        notes = {"format": FORMAT, "k": str(K), "scale_bits": str(SCALE_BITS), **self.notes}
        with whole(path) as partial:
            save_file(tensors, partial, notes)

    @classmethod
    def read(cls, path: Path) -> CorpusSketch:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: if the file is damaged or of another kind.
        """
        try:
            with safe_open(path, "numpy") as file:
                notes = dict(file.metadata() or {})
                tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: not a readable corpus sketch ({error}); get the model again") from None
        wanted = {"format": FORMAT, "k": str(K), "scale_bits": str(SCALE_BITS)}
        if any(notes.get(name) != value for name, value in wanted.items()):
            raise InputError(f"{path}: a corpus sketch of another version; get the model again")
        proteins, kmers = (
            HashSet(tensors[f"{name}.counts"], tensors[f"{name}.rest"]) for name in ("proteins", "kmers")
        )
        return cls(proteins, kmers, {name: value for name, value in notes.items() if name not in wanted})


def _parts(sequences: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(sequences)
    while part := list(islice(iterator, PROTEINS_AT_ONCE)):
        yield part


def protein_hashes(sequences: Sequence[str]) -> Hashes:
    """(n,) 64-bit hashes of cleaned proteins. One methionine at the start does not count: many assays leave it out."""
    digests = [hashlib.blake2b(s.removeprefix("M").encode("ascii"), digest_size=8).digest() for s in sequences]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def kmer_hashes(sequences: Sequence[str]) -> tuple[Hashes, NDArray[np.int64]]:
    """The k-mers of cleaned proteins whose hash falls below the threshold.

    Returns:
        Their hashes, scaled up to 64 bits, and which protein each is from; every k-mer of a protein once.
    """
    lengths = np.array([len(s) for s in sequences], dtype=np.int64)
    # One unknown residue between two proteins keeps k-mers from reaching over.
    ids = np.append(to_ids("X".join(sequences)), np.full(K, UNKNOWN_ID, np.uint8))
    codes = np.zeros(len(ids) - K + 1, np.uint64)
    known = np.ones(len(codes), bool)
    for offset in range(K):
        column = ids[offset : offset + len(codes)]
        codes = codes * np.uint64(len(RESIDUES)) + column
        known &= column < UNKNOWN_ID
    hashes = _mixed(codes)
    places = np.flatnonzero(known & (hashes < np.uint64(1 << (64 - SCALE_BITS))))
    places = places[_letters_at(ids, places) >= LEAST_LETTERS]
    owners = np.searchsorted(np.cumsum(lengths + 1), places, side="right")
    pairs = np.unique(np.stack([owners.astype(np.uint64), hashes[places] << np.uint64(SCALE_BITS)]), axis=1)
    return pairs[1], pairs[0].astype(np.int64)


def _letters_at(ids: NDArray[np.uint8], places: NDArray[np.intp]) -> NDArray[np.int64]:
    """How many different residues the k-mer at each place has."""
    ordered = np.sort(ids[places[:, None] + np.arange(K)], axis=1)
    return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)


def _mixed(codes: Hashes) -> Hashes:
    """SplitMix64's finaliser: 64 bits that look random, one to one."""
    x = codes + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
