"""Homology profiles as an encoder: what the relatives of a protein have at each of its positions. No network.

``homology:PATH`` searches a file of proteins with MMseqs2 (Steinegger and Soeding 2017, doi:10.1038/nbt.3988) for the
relatives of each protein, and describes the protein by the profile that :mod:`limbeck.homology.profiles` estimates from
their alignments. A residue's feature is the log-odds of its profile column::

    feature_i(a) = log p_i(a) / f_a,  a in the order of limbeck.residues.RESIDUES

with f_a the background frequency (Robinson and Robinson 1991); it is about zero where nothing is known, as for an ``X``
that no relative covers. A protein without relatives gets the BLOSUM62 smoothing of its own sequence, so each feature
is a function of the one residue.

Two poolings:

``mean``      residues: the log-odds, 20 numbers; proteins: their mean. The default.
``contexts``  residues: the posterior that a context library gives to the profile; proteins: the square root of its mean
              (:mod:`limbeck.encoders.contexts`). The default where the name states a library.

Options follow the path like those of a URL: ``homology:PATH?contexts=LIBRARY&license=SPDX``. ``contexts`` is
``limbeck-contexts`` (the library if none is stated) or the path of another, ``license`` the licence of the database.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder, OnBatch, cleaned
from limbeck.encoders.contexts import SHIPPED_NAME, Library, ProfileReader, read_library
from limbeck.encoders.graph_cache import cache_directory
from limbeck.encoders.registry import EncoderInfo, Family, Options, fingerprint
from limbeck.errors import InputError
from limbeck.homology import mmseqs
from limbeck.homology.database import RelativesDatabase
from limbeck.homology.profiles import Profile, background
from limbeck.residues import RESIDUES

__all__ = ["FAMILY", "PREFIX", "HomologyProfileEncoder"]

PREFIX = "homology:"
POOLINGS = ("mean", "contexts")
_OPTIONS = ("contexts", "license")

Array = NDArray[np.float32]


class HomologyProfileEncoder:
    """Profiles from a search of one database.

    All proteins of one call are searched at once, and each search first loads the whole database: hand over many
    proteins a call. A protein's result depends on the database alone, not on the proteins beside it.

    Args:
        database: the proteins to search.
        pooling: ``"mean"`` or ``"contexts"``; see the module.
        library: the context library, for ``"contexts"`` only; it needs a ``profile_sharpness``.
        name: what users call it.
        license: of the database.
        threads: of MMseqs2; ``None`` means one for each processor.
    """

    parameters: int
    precision = "f32"
    max_length: int | None = mmseqs.LONGEST
    token_budget = 2**21
    bytes_per_token = 256

    def __init__(
        self,
        database: RelativesDatabase,
        *,
        pooling: str = "mean",
        library: Library | None = None,
        name: str = PREFIX,
        license: str = "unknown",
        threads: int | None = None,
    ) -> None:
        if (library is not None) != (pooling == "contexts"):
            raise ValueError("a library goes with pooling 'contexts', and only with it")
        self._database = database
        self._reader = ProfileReader(library) if library else None
        self._threads = threads or os.cpu_count() or 1
        self.name = name
        self.version = database.content[:12]
        self.license = license
        self.pooling = pooling
        self.dimension = self._reader.states if self._reader else len(RESIDUES)
        self.parameters = library.log_prior.size + library.log_columns.size if library else 0
        parts = (database.fingerprint, pooling, *_numbers(library))
        self.fingerprint = fingerprint("homology", 1, *parts)

    def encode(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> NDArray[np.float32]:
        proteins = cleaned(sequences)
        vectors = np.empty((len(proteins), self.dimension), dtype=np.float32)
        for index, profile in self._profiles(proteins, on_batch):
            total = sum(block.sum(axis=0, dtype=np.float64) for block in self._features(profile))
            mean = total / len(profile)
            vectors[index] = np.sqrt(mean) if self._reader else mean
        return vectors

    def encode_residues(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        proteins = cleaned(sequences)
        results = [np.empty(0, dtype=np.float32)] * len(proteins)
        for index, profile in self._profiles(proteins, on_batch):
            results[index] = np.concatenate(list(self._features(profile)))
        return results

    def log_probabilities(self, sequences: Sequence[str]) -> list[Array]:
        """Natural logarithm of each protein's profile, (length, 20), in the order of ``limbeck.residues.RESIDUES``:
        what its relatives and it itself have at each position."""
        proteins = cleaned(sequences)
        profiles = dict(self._profiles(proteins, None))
        return [np.log(profiles[index]) for index in range(len(proteins))]

    def _profiles(self, proteins: list[str], on_batch: OnBatch | None) -> Iterator[tuple[int, Array]]:
        for index, profile in self._database.profiles(proteins, self._threads):
            yield index, profile
            if on_batch:
                on_batch(len(profile), len(profile))

    def _features(self, profile: Profile) -> Iterator[Array]:
        """Residue features, (block, dimension), block after block."""
        if self._reader:
            yield from self._reader.posteriors(profile)
        else:
            yield np.log(profile) - np.log(background())


def _numbers(library: Library | None) -> tuple[str, ...]:
    """All of a library that determines how it reads profiles."""
    if library is None:
        return ()
    digest = hashlib.sha256(library.log_prior.tobytes())
    digest.update(library.log_columns.tobytes())
    return digest.hexdigest(), str(library.log_columns.shape), str(library.profile_sharpness)


def _load(name: str, options: Options) -> Encoder:
    options.check(name, poolings=POOLINGS)
    path, stated = _parse(name)
    pooling = options.pooling or ("contexts" if "contexts" in stated else "mean")
    if pooling == "mean" and "contexts" in stated:
        raise InputError(f"{name}: pooling 'mean' uses no context library; leave 'contexts' out of the name")
    library = _library(stated.get("contexts", SHIPPED_NAME)) if pooling == "contexts" else None
    return HomologyProfileEncoder(
        RelativesDatabase(path, cache_directory() / "homology"),
        pooling=pooling,
        library=library,
        name=name,
        license=stated.get("license", "unknown"),
        threads=options.threads,
    )


def _parse(name: str) -> tuple[Path, dict[str, str]]:
    """Path and options in a name."""
    text = name.removeprefix(PREFIX)
    if not text:
        raise InputError(f"{name} names no database; write {PREFIX}proteins.fasta")
    if "?" not in text or Path(text).is_file():
        return Path(text), {}
    path, _, query = text.partition("?")
    stated: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key not in _OPTIONS or not value:
            raise InputError(f"{name}: option {part!r} is unknown; write {' or '.join(f'{o}=...' for o in _OPTIONS)}")
        stated[key] = value
    return Path(path), stated


def _library(source: str) -> Library:
    if source != SHIPPED_NAME and not Path(source).is_file():
        raise InputError(f"{source}: no such context library; give {SHIPPED_NAME} or a file of 'limbeck contexts'")
    library = read_library(source)
    if library.profile_sharpness is None:
        problem = "states no profile_sharpness, so it reads no profiles"
        raise InputError(f"{source}: {problem}; use one of 'limbeck contexts'")
    return library


def _available() -> list[EncoderInfo]:
    kind = "homology profile (MMseqs2)"
    return [EncoderInfo(f"{PREFIX}PATH", kind, len(RESIDUES), 0, "of the file", mmseqs.is_installed())]


FAMILY = Family(lambda name: name.startswith(PREFIX), _load, _available)
