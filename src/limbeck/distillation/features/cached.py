"""A teacher's features over a corpus: computed once, kept on disk in shards, shared by all later runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.distillation.features.choice import KnownResidues, choose
from limbeck.distillation.features.statistics import SAMPLED_PROTEINS, SAMPLED_RESIDUES, moments, spread
from limbeck.distillation.features.store import Identity, Store, locate
from limbeck.distillation.features.teaching import batches, residue_features, vectors_of
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

if TYPE_CHECKING:
    from limbeck.distillation.corpus import Corpus

__all__ = ["DEFAULT_SHARE", "CachedFeatures", "check_share", "estimate", "no_residues", "size"]

DEFAULT_SHARE = 0.25
SHARD_BYTES = 2**27
SHARD_RESIDUES = 2**20
"""Most bytes in a shard, and most residues to encode for it: what a killed run loses at most."""
_KNOWN, _STATISTICS = "known.npy", "statistics.npy"
_ROWS = 1024
_OPEN_FILES = 256
"""Mapped files each keep a descriptor, and a system gives a process few (often 1,024)."""

Array = NDArray[np.float32]


class CachedFeatures:
    """Features of one teacher over a corpus, from a store in ``folder/<first 16 digits of fingerprint>``.

    The store is computed now as far as it is not there: shard after shard of proteins, each recorded when it is whole,
    so that a run that was killed goes on after its last whole shard. A file that was removed is computed again.

    ====================  ======================  ==============================================================
    file                  shape and type          holds
    ====================  ======================  ==============================================================
    ``manifest.json``                             teacher, corpus, share, seed; size and SHA-256 of each file
    ``known.npy``         bits, uint8             which residues are held (:func:`.choice.choose`)
    ``residues-N.npy``    (held, dim.) float16    the held residues of the shard's proteins, in corpus order
    ``proteins-N.npy``    (proteins, dim.) f32    the teacher's own pooled vector of each protein
    ``statistics.npy``    (4, dimension) f32      mean and scale of residues, mean and scale of proteins
    ====================  ======================  ==============================================================

    Args:
        folder: where caches live, or one store.
        teacher: any encoder; one with features of residues unless ``share`` is 0.
        corpus: the proteins.
        share: about this part of the residues is held, each chosen by itself; 0 holds pooled vectors only.
        seed: of that choice.
        verify: compare SHA-256 of every file when it is first opened by a process; otherwise only the sizes.
        on_progress: called with (residues done, residues in all) while features are computed.

    Raises:
        InputError: if the teacher has no features of residues and ``share`` is not 0, or leaves residues out or gives
            numbers that are not finite or exceed float16; if the disk has no room; if another run is writing the store;
            if a file is damaged, or the store is of other features.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Encoder,
        corpus: Corpus,
        *,
        share: float = DEFAULT_SHARE,
        seed: int = 0,
        verify: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        check_share(share)
        identity = Identity.of(teacher, corpus, share, seed)
        self.name, self.dimension, self.share = teacher.name, identity.dimension, identity.share
        self.fingerprint = identity.key
        self._offsets = np.asarray(corpus.offsets, dtype=np.int64)
        self._store = Store(locate(Path(folder), identity), identity)
        self._known: KnownResidues | None = None
        self._map = lru_cache(_OPEN_FILES)(self._opened)
        if not self._complete():
            self._fill(teacher, corpus, verify, on_progress)
        self._store.verify(verify)
        self._prepare()
        self.mean, self.scale, self.protein_mean, self.protein_scale = np.array(
            self._store.open(_STATISTICS, (4, self.dimension), np.float32)
        )

    @property
    def folder(self) -> Path:
        """The store's own folder."""
        return self._store.folder

    def crops(
        self, proteins: NDArray[np.int64], starts: NDArray[np.int64], length: int
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Features of crops as the teacher gave them, not standardised.

        Args:
            proteins: (rows,) indices into the corpus.
            starts: (rows,) first residue of each crop, 0-based.
            length: residues in a crop.

        Returns:
            ``values`` (rows, length, dimension) float32, zero where not known, and ``known`` (rows, length): false
            beyond a protein's end and for residues that the store does not hold.

        Raises:
            InputError: if the store holds pooled vectors only.
        """
        if self._known is None:
            raise no_residues(self.name)
        values = np.zeros((len(proteins), length, self.dimension), dtype=np.float32)
        known = np.zeros((len(proteins), length), dtype=np.bool_)
        for row, (protein, start) in enumerate(zip(proteins, starts, strict=True)):
            size = int(self._offsets[protein + 1] - self._offsets[protein])
            held = self._known.of(int(protein), min(size, int(start) + length))
            here = held[start:]
            first = int(self._known.first[protein]) + int(np.count_nonzero(held[:start]))
            known[row, : len(here)] = here
            values[row, : len(here)][here] = self._held(int(protein), first, int(np.count_nonzero(here)))
        return values, known

    def proteins(self, proteins: NDArray[np.int64]) -> Array:
        """The teacher's own vectors of whole proteins, (rows, dimension) float32, not standardised."""
        proteins = np.asarray(proteins)
        shards = self._shard_of(proteins)
        result = np.empty((len(proteins), self.dimension), dtype=np.float32)
        for shard in np.unique(shards):
            rows = shards == shard
            result[rows] = self._map("proteins", int(shard))[proteins[rows] - self._store.plan[shard]]
        return result

    def sample(self, n: int) -> Array:
        """Features of ``n`` residues, or of all that are held if fewer: (n, dimension), drawn with a fixed seed from
        all parts of the corpus and in its order.

        Raises:
            InputError: if the store holds pooled vectors only.
        """
        if self._known is None:
            raise no_residues(self.name)
        blocks = list(self._sampled(n))
        return np.concatenate(blocks) if blocks else np.empty((0, self.dimension), dtype=np.float32)

    def sample_proteins(self, n: int) -> Array:
        """Vectors of ``n`` proteins, or of all if they are fewer: (n, dimension), drawn as in :meth:`sample`."""
        return self.proteins(spread(len(self._offsets) - 1, n))

    def __getstate__(self) -> dict[str, Any]:
        # Mapped files belong to their process; another one maps its own.
        return {key: value for key, value in self.__dict__.items() if key != "_map"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map = lru_cache(_OPEN_FILES)(self._opened)

    def _held(self, protein: int, first: int, count: int) -> NDArray[np.float16]:
        """Held residues ``first`` to ``first + count``, all of one protein."""
        assert self._known is not None
        shard = int(self._shard_of(np.array(protein)))
        begin = first - int(self._known.first[self._store.plan[shard]])
        return self._map("residues", shard)[begin : begin + count]

    def _sampled(self, n: int) -> Iterator[Array]:
        assert self._known is not None
        first = self._known.first
        chosen = spread(int(first[-1]), n)
        edges = first[self._store.plan]
        cuts = np.searchsorted(chosen, edges)
        for shard in np.flatnonzero(np.diff(cuts)):
            rows = chosen[cuts[shard] : cuts[shard + 1]] - edges[shard]
            yield self._map("residues", int(shard))[rows].astype(np.float32)

    def _shard_of(self, proteins: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._store.plan, proteins, side="right") - 1

    def _opened(self, kind: str, shard: int) -> NDArray[Any]:
        begin, end = self._store.plan[shard : shard + 2]
        if kind == "proteins":
            return self._store.open(_file(kind, shard), (end - begin, self.dimension), np.float32)
        return self._store.open(_file(kind, shard), (self._held_in(shard), self.dimension), np.float16)

    def _prepare(self) -> None:
        if self.share and self._known is None:
            bits = self._store.open(_KNOWN, (-(-int(self._offsets[-1]) // 8),), np.uint8)
            self._known = KnownResidues(bits, self._offsets)

    def _complete(self) -> bool:
        names = [_STATISTICS, *([_KNOWN] if self.share else [])]
        return bool(self._store.plan) and not self._missing() and all(map(self._store.has, names))

    def _missing(self) -> list[int]:
        """Shards that are not there, or not whole."""
        kinds = ("residues", "proteins") if self.share else ("proteins",)
        shards = range(len(self._store.plan) - 1)
        return [shard for shard in shards if not all(self._store.has(_file(kind, shard)) for kind in kinds)]

    def _fill(
        self, teacher: Encoder, corpus: Corpus, verify: bool, on_progress: Callable[[int, int], None] | None
    ) -> None:
        if self.share:
            # An encoder without features of residues says so now, before anything is written.
            teacher.encode_residues(["A"])
        with self._store.writing():
            self._store.verify(verify)
            self._choose()
            shards = self._missing()
            done = int(self._offsets[-1]) - sum(self._residues_in(shard) for shard in shards)
            for shard in shards:
                self._compute(shard, teacher, corpus, done, on_progress)
                done += self._residues_in(shard)
            if not self._store.has(_STATISTICS):
                self._store.save({_STATISTICS: self._statistics()})

    def _choose(self) -> None:
        """Settle which residues are held and how the proteins are divided into shards: written once, later read.

        The room is checked before the first byte is written.
        """
        if self._store.has(_KNOWN):
            self._prepare()
        elif self.share:
            bits = choose(int(self._offsets[-1]), self.share, self._store.identity.seed)
            self._known = KnownResidues(bits, self._offsets)
        if not self._store.plan:
            self._store.begin(_plan(self._offsets, self._known, self.dimension))
        self._check_room(self._missing())
        if self.share and not self._store.has(_KNOWN):
            self._store.save({_KNOWN: bits}, fixed=True)

    def _check_room(self, shards: list[int]) -> None:
        held = sum(self._held_in(shard) for shard in shards)
        proteins = sum(self._store.plan[shard + 1] - self._store.plan[shard] for shard in shards)
        self._store.check_room(size(proteins, held, 0, self.dimension))

    def _held_in(self, shard: int) -> int:
        begin, end = self._store.plan[shard : shard + 2]
        return int(self._known.first[end] - self._known.first[begin]) if self._known else 0

    def _residues_in(self, shard: int) -> int:
        begin, end = self._store.plan[shard : shard + 2]
        return int(self._offsets[end] - self._offsets[begin])

    def _compute(
        self,
        shard: int,
        teacher: Encoder,
        corpus: Corpus,
        done: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        begin, end = self._store.plan[shard : shard + 2]
        known = self._known
        vectors = np.empty((end - begin, self.dimension), dtype=np.float32)
        held = np.empty((self._held_in(shard), self.dimension), dtype=np.float16)
        for batch in batches(range(begin, end), corpus.lengths, teacher):
            features = residue_features(teacher, corpus, batch) if known else None
            vectors[np.array(batch) - begin] = vectors_of(teacher, corpus, batch, features)
            if known and features:
                for protein, values in zip(batch, features, strict=True):
                    first, last = known.first[protein : protein + 2] - known.first[begin]
                    held[first:last] = self._halved(protein, values[known.of(protein, len(values))])
            done += int(corpus.lengths[batch].sum())
            if on_progress and done < int(self._offsets[end]):
                on_progress(done, int(self._offsets[-1]))
        files: dict[str, NDArray[Any]] = {_file("proteins", shard): vectors}
        if known:
            files[_file("residues", shard)] = held
        self._store.save(files, outdated=(_STATISTICS,))
        if on_progress:
            on_progress(done, int(self._offsets[-1]))

    def _halved(self, protein: int, values: Array) -> NDArray[np.float16]:
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        if not np.isfinite(halved).all():
            raise InputError(
                f"teacher {self.name} gives features of up to {np.abs(values).max():.3g} for protein "
                f"{protein + 1} of the corpus, beyond float16's range of 65,504; choose another layer"
            )
        return halved

    def _statistics(self) -> Array:
        residues = self._sampled(SAMPLED_RESIDUES) if self._known else iter(())
        chosen = spread(len(self._offsets) - 1, SAMPLED_PROTEINS)
        vectors = (self.proteins(chosen[at : at + _ROWS]) for at in range(0, len(chosen), _ROWS))
        return np.stack(
            [
                *moments(residues, self.dimension, float(np.finfo(np.float16).eps)),
                *moments(vectors, self.dimension, float(np.finfo(np.float32).eps)),
            ]
        )


def estimate(teacher: Encoder, corpus: Corpus, share: float) -> int:
    """Bytes on disk, about, of a teacher's features over a corpus.

    Raises:
        InputError: if ``share`` is not between 0 and 1.
    """
    check_share(share)
    residues = int(corpus.offsets[-1])
    return size(len(corpus), round(share * residues), residues if share else 0, teacher.dimension)


def size(proteins: int, held: int, residues: int, dimension: int) -> int:
    """Bytes of so many pooled vectors (float32), held residues (float16) and bits."""
    return 4 * dimension * proteins + 2 * dimension * held + residues // 8


def check_share(share: float) -> None:
    """Refuse a share outside 0 to 1."""
    if not 0 <= share <= 1:
        raise InputError(f"the share of the residues must be between 0 and 1, not {share}")


def no_residues(name: str) -> InputError:
    return InputError(f"only pooled vectors of teacher {name} are held (share 0); choose a share above 0 for residues")


def _plan(offsets: NDArray[np.int64], known: KnownResidues | None, dimension: int) -> list[int]:
    """Divide the proteins into shards: the first of each, and last the number of proteins."""
    limits = [(offsets, SHARD_RESIDUES), (np.arange(len(offsets)), SHARD_BYTES // (4 * dimension))]
    if known:
        limits.append((known.first, SHARD_BYTES // (2 * dimension)))
    plan = [0]
    while plan[-1] < len(offsets) - 1:
        begin = plan[-1]
        ends = [int(np.searchsorted(counts, counts[begin] + most, side="right")) - 1 for counts, most in limits]
        plan.append(max(begin + 1, min(ends)))
    return plan


def _file(kind: str, shard: int) -> str:
    return f"{kind}-{shard:05d}.npy"
