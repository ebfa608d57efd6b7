"""The honest floor: encoders that know nothing but the residues themselves.

``composition``  frequency of each residue, 20 numbers
``dipeptides``   frequency of each pair of neighbours, 400 numbers
``kmers-3``      frequency of each triple of neighbours, 8,000 numbers
``one-hot``      20 numbers for each residue, one of them 1; pooled by the mean

Residues are in the order of ``limbeck.residues.RESIDUES``. ``X`` counts for nothing: it breaks a k-mer, and
its one-hot row is zero. Frequencies are over the k-mers that were counted, so they sum to one (or to zero if
there was none).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder, OnBatch, cleaned
from limbeck.encoders.registry import EncoderInfo, Family, Options, fingerprint
from limbeck.errors import InputError
from limbeck.residues import RESIDUES, UNKNOWN_ID, to_ids

__all__ = ["FAMILY", "KmerEncoder", "OneHotEncoder"]

_KMERS = {"composition": 1, "dipeptides": 2, "kmers-3": 3}


class _Baseline:
    version = "1"
    parameters = 0
    license = "Apache-2.0"
    precision = "f32"
    max_length: int | None = None
    token_budget = 65_536
    bytes_per_token = 256

    def __init__(self, name: str, dimension: int, pooling: str) -> None:
        self.name = name
        self.dimension = dimension
        self.pooling = pooling
        self.fingerprint = fingerprint("baseline", name, self.version)

    def encode(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> NDArray[np.float32]:
        proteins = cleaned(sequences)
        vectors = np.empty((len(proteins), self.dimension), dtype=np.float32)
        for index, protein in enumerate(proteins):
            vectors[index] = self._vector(to_ids(protein))
            _report(protein, on_batch)
        return vectors

    def _vector(self, ids: NDArray[np.uint8]) -> NDArray[np.floating]:
        raise NotImplementedError


class KmerEncoder(_Baseline):
    """Frequencies of k-mers: 20**k numbers for a protein. It has no features of single residues."""

    def __init__(self, name: str, k: int) -> None:
        super().__init__(name, len(RESIDUES) ** k, "counts")
        self.k = k

    def encode_residues(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        raise InputError(
            f"{self.name} describes whole proteins and has no features of single residues; "
            "use one-hot or another encoder for them"
        )

    def _vector(self, ids: NDArray[np.uint8]) -> NDArray[np.floating]:
        if len(ids) < self.k:
            return np.zeros(self.dimension)
        kmers = np.lib.stride_tricks.sliding_window_view(ids, self.k)
        known = kmers[(kmers != UNKNOWN_ID).all(axis=1)].astype(np.int64)
        place = len(RESIDUES) ** np.arange(self.k - 1, -1, -1)
        counts = np.bincount(known @ place, minlength=self.dimension)
        return counts / max(1, len(known))


class OneHotEncoder(_Baseline):
    """Which residue stands at each position: (length, 20), pooled by the mean."""

    def __init__(self) -> None:
        super().__init__("one-hot", len(RESIDUES), "mean")
        self.radius = 0

    def encode_residues(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        rows = np.eye(len(RESIDUES) + 1, len(RESIDUES), dtype=np.float32)
        features = []
        for protein in cleaned(sequences):
            features.append(rows[to_ids(protein)])
            _report(protein, on_batch)
        return features

    def _vector(self, ids: NDArray[np.uint8]) -> NDArray[np.floating]:
        return np.bincount(ids, minlength=len(RESIDUES) + 1)[: len(RESIDUES)] / len(ids)


def _report(protein: str, on_batch: OnBatch | None) -> None:
    if on_batch:
        on_batch(len(protein), len(protein))


def _make(name: str) -> KmerEncoder | OneHotEncoder:
    return OneHotEncoder() if name == "one-hot" else KmerEncoder(name, _KMERS[name])


def _recognises(name: str) -> bool:
    return name == "one-hot" or name in _KMERS


def _load(name: str, options: Options) -> Encoder:
    options.check(name)
    return _make(name)


def _available() -> list[EncoderInfo]:
    encoders = [_make(name) for name in (*_KMERS, "one-hot")]
    return [EncoderInfo(e.name, "baseline", e.dimension, e.parameters, e.license, True) for e in encoders]


FAMILY = Family(_recognises, _load, _available)
