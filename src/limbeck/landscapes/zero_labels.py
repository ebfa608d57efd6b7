"""Scores of variants without a single measurement: how much less likely than the wild type an encoder finds them.

An encoder that offers ``log_probabilities`` says which residues it expects at each position of a protein. Read off the
wild type, that scores every substitution, and mutations are added up (Meier et al. 2021, doi:10.1101/2021.07.09.450648,
"masked marginals")::

    score(variant) = sum over mutated positions i of  log p_i(mutant residue) - log p_i(wild type's residue)

What p is, is the encoder's own business: ESM-2 and context libraries mask the residue, UniRep has seen only those
before it, homology profiles and the student (which learned from them) say what relatives have there. With ``masked``
the wild type's residue is replaced by ``X`` first, for every encoder; it costs as many proteins as there are
positions.

A distribution over residues knows nothing of stops, deletions and insertions. A deleted residue, and each from a stop
codon on, counts as the least likely one would; an inserted one as one of 20.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from limbeck.encoders import Encoder
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.landscapes.assay import GAP, STOP, expressed
from limbeck.landscapes.vectors import Source, nearest_wild_types
from limbeck.progress import Progress
from limbeck.residues import RESIDUES, UNKNOWN_ID, to_ids

__all__ = ["HasLikelihoods", "ZeroLabels", "check_likelihoods", "has_likelihoods", "ratios", "site_scores"]

PASSES_AT_ONCE = 64
"""Masked copies of a protein handed to an encoder in one call."""

Array = NDArray[np.float64]

Key = tuple[str, str, bool, str]
"""An encoder's fingerprint and precision, whether residues are hidden, and the protein."""

_SITES: dict[Key, Array] = {}
_FORMAT = "limbeck-ratios-1"


@runtime_checkable
class HasLikelihoods(Protocol):
    """An encoder with a distribution over residues."""

    def log_probabilities(self, sequences: list[str]) -> list[NDArray[np.float32]]:
        """For each protein (length, 20) natural logarithms, in the order of ``limbeck.residues.RESIDUES``.

        An encoder that takes long may take ``on_batch``, too, as :meth:`limbeck.Encoder.encode` does; and if its files
        may lack what it needs, have ``check_likelihoods()``, which raises ``InputError`` then.
        """
        ...


def has_likelihoods(encoder: Encoder) -> bool:
    """Whether an encoder can score variants without labels."""
    return isinstance(encoder, HasLikelihoods)


def check_likelihoods(encoder: Encoder) -> None:
    """Raise ``InputError`` if an encoder has no distribution over residues, or its files lack what that needs."""
    if not isinstance(encoder, HasLikelihoods):
        raise InputError(
            f"encoder {encoder.name} has no probabilities of residues, so it scores nothing without labels; use "
            "limbeck-9m, limbeck-contexts, UniRep, ESM-2 or a homology profile"
        )
    if hasattr(encoder, "check_likelihoods"):
        encoder.check_likelihoods()


def site_scores(
    encoder: Encoder,
    proteins: Sequence[str],
    masked: bool = False,
    *,
    cache: str | os.PathLike[str] | None = None,
    shown: bool = False,
) -> list[Array]:
    """Log-likelihood ratio of each residue at each position against the protein's own: each (length, 20), in nats.

    Zero for the protein's own residue, and in the whole row of an ``X``, which is compared with nothing. The process
    remembers them.

    Args:
        masked: hide each residue, by an ``X``, from the prediction of its own position.
        cache: folder that remembers them, too; ``None`` for the process only.
        shown: show progress on standard error.

    Raises:
        InputError: if the encoder has no distribution over residues.
    """
    check_likelihoods(encoder)
    keys = [_key(encoder, masked, protein) for protein in proteins]
    folder = None if cache is None else Path(cache)
    if folder is not None:
        _SITES.update({key: found for key in keys if key not in _SITES and (found := _read(folder, key)) is not None})
    new = {key: protein for key, protein in zip(keys, proteins, strict=True) if key not in _SITES}
    if new:
        total = sum(map(len, new.values()))
        with Progress(f"zero-label scores of {encoder.name}", "residues", total, shown) as bar:
            logs = _log_probabilities(encoder, list(new.values()), masked, bar.update)
        for (key, protein), each in zip(new.items(), logs, strict=True):
            _SITES[key] = ratios(protein, each)
            if folder is not None:
                _write(folder, key, _SITES[key])
    return [_SITES[key] for key in keys]


def _key(encoder: Encoder, masked: bool, protein: str) -> Key:
    return encoder.fingerprint, encoder.precision, masked, protein


def _log_probabilities(
    encoder: Any, proteins: list[str], masked: bool, done: Callable[[int], None]
) -> list[NDArray[np.floating]]:
    """For each protein (length, 20); ``done`` is told how many residues are."""
    if masked:
        return [_masked(encoder, protein, done) for protein in proteins]
    # In one call: a homology search loads its whole database for each.
    if "on_batch" in inspect.signature(encoder.log_probabilities).parameters:
        found: list[NDArray[np.floating]] = encoder.log_probabilities(
            proteins, on_batch=lambda residues, _: done(residues)
        )
        return found
    found = encoder.log_probabilities(proteins)
    done(sum(map(len, proteins)))
    return found


def ratios(protein: str, logs: NDArray[np.floating]) -> Array:
    """Log-likelihood ratio of each residue at each position against the protein's own, (length, 20), in nats; zero in
    the whole row of an ``X``.

    Args:
        logs: (length, 20) log-probabilities of the residues.
    """
    ids = to_ids(protein)
    known = ids != UNKNOWN_ID
    own = logs[np.arange(len(ids)), np.where(known, ids, 0)]
    return np.where(known[:, None], logs - own[:, None], 0.0).astype(np.float64)


def _masked(encoder: HasLikelihoods, protein: str, done: Callable[[int], None]) -> Array:
    rows = []
    for start in range(0, len(protein), PASSES_AT_ONCE):
        places = range(start, min(start + PASSES_AT_ONCE, len(protein)))
        found = encoder.log_probabilities([f"{protein[:i]}X{protein[i + 1 :]}" for i in places])
        rows += [logs[i] for i, logs in zip(places, found, strict=True)]
        done(len(places))
    return np.asarray(rows, np.float64)


def _path(folder: Path, key: Key) -> Path:
    return folder / f"ratios-{hashlib.sha256(_text(key).encode()).hexdigest()[:32]}.safetensors"


def _text(key: Key) -> str:
    return json.dumps([_FORMAT, *key])


def _write(folder: Path, key: Key, sites: Array) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    notes = {"determined_by": _text(key), "sha256": hashlib.sha256(sites.tobytes()).hexdigest()}
    with whole(_path(folder, key)) as partial:
        save_file({"ratios": sites}, partial, notes)


def _read(folder: Path, key: Key) -> Array | None:
    """Ratios that are kept; none if there are none, or they are damaged, or others have their name."""
    try:
        with safe_open(_path(folder, key), framework="numpy") as file:
            notes = file.metadata() or {}
            sites = np.asarray(file.get_tensor("ratios"), np.float64)
    except (OSError, SafetensorError):
        return None
    sound = notes.get("sha256") == hashlib.sha256(sites.tobytes()).hexdigest()
    return sites if sound and notes.get("determined_by") == _text(key) else None


class ZeroLabels:
    """Scores of variants by one encoder, or by the average of several.

    An average is that of the log-likelihood ratios themselves, in nats: a variant's score does not depend on which
    others are scored beside it.

    Args:
        sources: the encoders, with the wild types (aligned with the rows) that variants are compared with.
        masked: see :func:`site_scores`.

    Raises:
        InputError: if there is no encoder, or one has no wild type.
    """

    def __init__(self, sources: Sequence[Source], masked: bool = False) -> None:
        if not sources or any(not source.wild_types for source in sources):
            raise InputError("zero-label scores compare variants with their wild type; give wild_types")
        self._sources, self._masked = sources, masked

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all that determines the scores, wild types included."""
        encoders = [source.load().fingerprint for source in self._sources]
        parts = [*encoders, str(self._masked), *self._sources[0].wild_types]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def prepare(self, shown: bool) -> None:
        """Have what is expected at each position of the wild types at hand, with progress if it is ``shown``.

        Raises:
            InputError: if an encoder has no distribution over residues.
        """
        self._sites(shown)

    def _sites(self, shown: bool = False) -> list[list[Array]]:
        """For each encoder and wild type (length, 20)."""
        proteins = [expressed(wild_type) for wild_type in self._sources[0].wild_types]
        return [
            site_scores(source.load(), proteins, self._masked, cache=source.cache, shown=shown or source.shown)
            for source in self._sources
        ]

    def scores(self, rows: Sequence[str]) -> Array:
        """(n,) mean log-likelihood ratio of each row against the wild type that it is nearest to, in nats.

        Raises:
            InputError: if an encoder has no distribution over residues.
        """
        wild_types = self._sources[0].wild_types
        parents = nearest_wild_types(rows, wild_types)
        sites = self._sites()
        result = np.zeros(len(rows))
        for number in np.unique(parents).tolist():
            chosen = np.flatnonzero(parents == number)
            table = self._table(np.mean([each[number] for each in sites], axis=0), wild_types[number])
            result[chosen] = _summed(table, [rows[i] for i in chosen.tolist()], wild_types[number])
        return result

    @staticmethod
    def _table(sites: Array, wild_type: str) -> Array:
        """Scores of letters, gap and stop at each column: (width, 256), by ASCII code; an ``X`` scores nothing."""
        visible = wild_type.split(STOP, 1)[0]
        residues = [column for column, letter in enumerate(visible) if letter != GAP]
        table = np.zeros((len(wild_type), 256))
        letters = np.frombuffer(RESIDUES.encode(), np.uint8)
        table[:, letters] = -np.log(len(RESIDUES))
        if residues:
            columns = np.array(residues)[:, None]
            table[columns, letters] = sites
            table[columns, [ord(GAP), ord(STOP)]] = sites.min(axis=1, keepdims=True)
        return table


def _summed(table: Array, rows: Sequence[str], wild_type: str) -> Array:
    """(n,) sum of a table's entries over the columns where rows differ from their wild type."""
    codes = np.frombuffer("".join(rows).encode("ascii"), np.uint8).reshape(len(rows), len(wild_type))
    own = np.frombuffer(wild_type.encode("ascii"), np.uint8)
    entries = table[np.arange(len(wild_type)), codes]
    result: Array = np.where(codes != own, entries, 0.0).sum(axis=1)
    return result


def forget() -> None:
    """Drop all scores that this process keeps."""
    _SITES.clear()
