"""A teacher's features computed whenever they are asked for: for teachers that cost less than reading a file."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.distillation.features.cached import no_residues
from limbeck.distillation.features.statistics import SAMPLED_PROTEINS, SAMPLED_RESIDUES, moments, spread
from limbeck.distillation.features.teaching import batches, residue_features, vectors_of
from limbeck.encoders.base import Encoder

if TYPE_CHECKING:
    from limbeck.distillation.corpus import Corpus

__all__ = ["LiveFeatures"]

_REMEMBERED_BYTES = 2**28
_PROTEINS_TO_SAMPLE = 1024
"""Residues are sampled from so many proteins, drawn with a fixed seed: each has to be encoded whole."""

Array = NDArray[np.float32]


class LiveFeatures:
    """Features of one teacher over a corpus, computed from whole proteins and then cut; nothing is written.

    They are those of :class:`.cached.CachedFeatures` before the rounding to float16. The last 256 MB are remembered, so
    that a protein that occurs again at once is not computed again.

    Args:
        teacher: any encoder; one with features of residues unless ``residues`` is false.
        corpus: the proteins.
        residues: whether features of residues are wanted. False leaves pooled vectors only.

    Raises:
        InputError: if the teacher has no features of residues and they are wanted, here or later if it leaves
            residues out or gives numbers that are not finite.
    """

    def __init__(self, teacher: Encoder, corpus: Corpus, *, residues: bool = True) -> None:
        if residues:
            teacher.encode_residues(["A"])
        self.name, self.dimension, self.share = teacher.name, int(teacher.dimension), float(residues)
        key = f"live\n{teacher.fingerprint}\n{teacher.precision}\n{corpus.fingerprint}\n{residues}"
        self.fingerprint = hashlib.sha256(key.encode()).hexdigest()
        self._teacher, self._corpus = teacher, corpus
        self._residues = _Recent(_REMEMBERED_BYTES)
        self._vectors = _Recent(_REMEMBERED_BYTES // 8)
        self._lock = threading.Lock()
        eps = float(np.finfo(np.float32).eps)
        self.mean, self.scale = moments(self._sampled(SAMPLED_RESIDUES) if residues else (), self.dimension, eps)
        vectors = self.sample_proteins(min(SAMPLED_PROTEINS, _PROTEINS_TO_SAMPLE))
        self.protein_mean, self.protein_scale = moments([vectors], self.dimension, eps)

    def crops(
        self, proteins: NDArray[np.int64], starts: NDArray[np.int64], length: int
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Features of crops; see :meth:`.cached.CachedFeatures.crops`. Every residue is known."""
        if not self.share:
            raise no_residues(self.name)
        with self._lock:
            features = self._features(proteins)
        values = np.zeros((len(proteins), length, self.dimension), dtype=np.float32)
        known = np.zeros((len(proteins), length), dtype=np.bool_)
        for row, (protein, start) in enumerate(zip(proteins, starts, strict=True)):
            here = features[int(protein)][start : start + length]
            values[row, : len(here)] = here
            known[row, : len(here)] = True
        return values, known

    def proteins(self, proteins: NDArray[np.int64]) -> Array:
        """The teacher's own vectors of whole proteins, (rows, dimension) float32, not standardised."""
        with self._lock:
            found = self._vectors.get(proteins)
            for batch in self._missing(proteins, found):
                is_mean = self.share and self._teacher.pooling == "mean"
                features = list(self._features(batch).values()) if is_mean else None
                found |= zip(batch, vectors_of(self._teacher, self._corpus, batch, features), strict=True)
            self._vectors.keep(found)
        rows = [found[int(p)] for p in proteins]
        return np.stack(rows) if rows else np.empty((0, self.dimension), dtype=np.float32)

    def sample(self, n: int) -> Array:
        """Features of ``n`` residues drawn with a fixed seed from at most 1,024 proteins: (n, dimension), or fewer if
        those have fewer."""
        if not self.share:
            raise no_residues(self.name)
        return np.concatenate([np.empty((0, self.dimension), dtype=np.float32), *self._sampled(n)])

    def sample_proteins(self, n: int) -> Array:
        """Vectors of ``n`` proteins, or of all if they are fewer: (n, dimension), drawn with a fixed seed."""
        return self.proteins(spread(len(self._corpus), n))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _features(self, proteins: Iterable[int]) -> dict[int, Array]:
        """Features of the residues of each protein, in the order in which the proteins first occur."""
        wanted = list(dict.fromkeys(map(int, proteins)))
        found = self._residues.get(wanted)
        for batch in self._missing(wanted, found):
            found |= zip(batch, residue_features(self._teacher, self._corpus, batch), strict=True)
        self._residues.keep(found)
        return {protein: found[protein] for protein in wanted}

    def _missing(self, proteins: Iterable[int], found: dict[int, Array]) -> Iterator[list[int]]:
        missing = sorted({int(p) for p in proteins} - found.keys())
        return batches(missing, self._corpus.lengths, self._teacher)

    def _sampled(self, n: int) -> Iterator[Array]:
        """Features of sampled residues, a block for each protein, in corpus order within each batch."""
        proteins = spread(len(self._corpus), _PROTEINS_TO_SAMPLE)
        edges = np.concatenate([[0], np.cumsum(self._corpus.lengths[proteins])])
        chosen = spread(int(edges[-1]), n)
        place = {int(protein): index for index, protein in enumerate(proteins)}
        for batch in batches(list(place), self._corpus.lengths, self._teacher):
            for protein, values in zip(batch, residue_features(self._teacher, self._corpus, batch), strict=True):
                begin, end = edges[place[protein] : place[protein] + 2]
                inside = slice(*np.searchsorted(chosen, [begin, end]))
                yield values[chosen[inside] - begin]


class _Recent:
    """Arrays by protein, the most recently used of them, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._arrays: OrderedDict[int, Array] = OrderedDict()

    def get(self, proteins: Iterable[int]) -> dict[int, Array]:
        return {int(p): self._arrays[int(p)] for p in proteins if int(p) in self._arrays}

    def keep(self, arrays: dict[int, Array]) -> None:
        for protein, array in arrays.items():
            if protein not in self._arrays:
                self._bytes += array.nbytes
            self._arrays[protein] = array
            self._arrays.move_to_end(protein)
        while self._bytes > self._most:
            self._bytes -= self._arrays.popitem(last=False)[1].nbytes
