"""Context libraries: which of many typical sequence contexts does each residue stand in?

Biegert and Soeding 2009 (doi:10.1073/pnas.0810767106, CS-BLAST). A state k is a prior and 13 columns of
residue probabilities. At position i of a protein x the posterior over the states is::

    log q_i(k) = log prior_k + sharpness * sum_j w_j * log p_kj(x_{i+j}) + constant,  w_j = 1.6 * 0.85^|j|

Positions beyond the ends, and ``X``, contribute nothing. The residue feature is the posterior; the protein
feature is the square root of its mean over the residues (``sqrt-mean``), so that Euclidean distance between
proteins is the Hellinger distance between their distributions over contexts.

A homology profile P (length, 20) is read in the same way: log p_kj(x) becomes the mean of log p_kj(a) / f_a over P's
residues a, f_a being their background frequencies, and the sharpness is the library's ``profile_sharpness``.

Two files are read: CS-BLAST's text format (``.hmm``; sharpness 1, and as prior the stationary distribution of
the file's own transitions), and limbeck's library (``.safetensors``; see :func:`save_library`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from limbeck.encoders.base import Encoder, ResidueEncoder, cleaned
from limbeck.encoders.batches import Piece
from limbeck.encoders.registry import EncoderInfo, Family, Options, file_hash, fingerprint, safetensors_header
from limbeck.errors import InputError
from limbeck.homology.profiles import Profile, background
from limbeck.residues import RESIDUES, UNKNOWN_ID, to_ids

__all__ = [
    "FAMILY",
    "SHIPPED_NAME",
    "ContextEncoder",
    "Library",
    "ProfileReader",
    "position_weights",
    "profile_projection",
    "read_library",
    "save_library",
]

SHIPPED_NAME = "limbeck-contexts"

_FORMAT = "limbeck-context-library"
_BLOCK_NUMBERS = 131_072
"""Posterior numbers computed at once: few enough to stay in the processor's cache."""
_LICENSES = {
    "ee60a3b4be996358f0395717d9919965a10a503059eeb8e19f16a1645d0b4a5f": "GPL-3.0-or-later",
}
"""SHA-256 of CS-BLAST's own library of 1,000 states -> its licence."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Library:
    """Contexts as read from a file.

    ``log_prior`` (K,) and ``log_columns`` (K, width, 20) are natural logarithms, float32, the residues in the
    order of ``limbeck.residues.RESIDUES``; ``width`` is odd.
    """

    log_prior: Array
    log_columns: Array
    sharpness: float
    license: str
    version: str
    profile_sharpness: float | None = None
    """The sharpness at which profiles are read; ``None`` if the library is not meant to read any."""


def position_weights(width: int) -> Array:
    """CS-BLAST's weight of each window position, (width,): 1.6 * 0.85^|j|."""
    return (1.6 * 0.85 ** np.abs(np.arange(width) - width // 2)).astype(np.float32)


def profile_projection(library: Library) -> Array:
    """What a window of profile columns is multiplied by for the contexts' log-likelihoods: (width * 20, states).

    Log-odds differ from log-probabilities by the same amount for all states, and are smaller numbers. A column of
    zeros (beyond the ends) contributes nothing.

    Raises:
        ValueError: if the library has no sharpness for profiles.
    """
    if library.profile_sharpness is None:
        raise ValueError("the library has no sharpness for profiles")
    states, width, _ = library.log_columns.shape
    odds = library.log_columns - np.log(background())
    scores = library.profile_sharpness * position_weights(width)[:, None] * odds
    return np.ascontiguousarray(scores.reshape(states, -1).T)


class ProfileReader:
    """Reads homology profiles with a library.

    Args:
        library: with a ``profile_sharpness``.
    """

    def __init__(self, library: Library) -> None:
        self.states, width, _ = library.log_columns.shape
        self._half = width // 2
        self._log_prior = library.log_prior
        self._projection = profile_projection(library)

    def posteriors(self, profile: Profile) -> Iterator[Array]:
        """Posteriors over the states at each residue of a profile (length, 20): (block, states), block after block."""
        padded = np.pad(np.asarray(profile, dtype=np.float32), ((self._half, self._half), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * self._half + 1, axis=0).transpose(0, 2, 1)
        size = max(1, _BLOCK_NUMBERS // self.states)
        for start in range(0, len(windows), size):
            block = windows[start : start + size]
            yield _softmax(block.reshape(len(block), -1) @ self._projection + self._log_prior)


def _softmax(scores: Array) -> Array:
    """Of each row, (n, states), in place."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


class ContextEncoder(ResidueEncoder):
    """Posteriors over the states of a context library.

    Args:
        path: a ``.hmm`` or ``.safetensors`` file.
        pooling: ``"sqrt-mean"``, or ``"mean"`` for the mean posterior itself.
        name: what users call it; the path if not given.
    """

    def __init__(self, path: Path, pooling: str = "sqrt-mean", name: str | None = None) -> None:
        digest = file_hash(path)
        library = read_library(path)
        states, width, _ = library.log_columns.shape
        self._log_prior = library.log_prior
        self._half = self.radius = width // 2
        self._centre = np.exp(library.log_columns[:, self._half])
        scores = library.sharpness * position_weights(width)[:, None] * library.log_columns
        # (width, 21, K): the row of X is zero, so adding it changes nothing.
        self._scores = np.zeros((width, UNKNOWN_ID + 1, states), dtype=np.float32)
        self._scores[:, :UNKNOWN_ID] = scores.transpose(1, 2, 0)
        self.name = name or str(path)
        self.version = library.version
        self.license = library.license
        self.dimension = states
        self.parameters = library.log_prior.size + library.log_columns.size
        self.pooling = pooling
        self.fingerprint = fingerprint("contexts", 1, digest, pooling)
        self.bytes_per_token = 8 * states

    def forward(self, windows: list[str]) -> list[Array]:
        return [np.concatenate(list(self._posteriors(window))) for window in windows]

    def pooled_sums(self, windows: list[str], pieces: list[Piece]) -> NDArray[np.floating]:
        sums = np.zeros((len(windows), self.dimension), dtype=np.float64)
        for row, (window, piece) in enumerate(zip(windows, pieces, strict=True)):
            for block in self._posteriors(window, piece.owned):
                sums[row] += block.sum(axis=0)
        return sums

    def finish(self, sums: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.floating]:
        means = sums / lengths[:, None]
        return np.sqrt(means) if self.pooling == "sqrt-mean" else means

    def log_probabilities(self, sequences: Sequence[str]) -> list[Array]:
        """Natural log-probability of each residue given those around it: for each protein (length, 20).

        The residue itself is masked. Columns are in the order of ``limbeck.residues.RESIDUES``.
        """
        results = []
        for protein in cleaned(sequences):
            mixed = [block @ self._centre for block in self._posteriors(protein, masked=True)]
            probabilities = np.concatenate(mixed)
            results.append(np.log(probabilities / probabilities.sum(axis=1, keepdims=True)))
        return results

    def _posteriors(self, protein: str, kept: slice = slice(None), masked: bool = False) -> Iterator[Array]:
        """Posteriors of the residues ``kept``, (block, K), block after block; ``masked`` leaves each residue's own
        evidence out."""
        ids = np.pad(to_ids(protein), self._half, constant_values=UNKNOWN_ID)
        size = max(1, _BLOCK_NUMBERS // self.dimension)
        first, stop, _ = kept.indices(len(protein))
        for start in range(first, stop, size):
            count = min(size, stop - start)
            scores = np.repeat(self._log_prior[None], count, axis=0)
            for offset, table in enumerate(self._scores):
                if not (masked and offset == self._half):
                    scores += table[ids[start + offset : start + offset + count]]
            yield _softmax(scores)


def read_library(source: Path | str) -> Library:
    """Read a ``.hmm`` or ``.safetensors`` file, or the library in the package by its name.

    Raises:
        InputError: if the file is damaged or no library.
    """
    path = _shipped() if source == SHIPPED_NAME else Path(source)
    return _read_hmm(path, file_hash(path)) if path.suffix == ".hmm" else _read_library(path)


def save_library(path: Path, library: Library) -> None:
    """Write a library as safetensors: tensors ``log_prior`` and ``log_columns``, float32.

    The file's metadata holds ``format`` (``"limbeck-context-library"``), ``sharpness``, ``profile_sharpness`` if there
    is one, ``license`` and ``version`` as text.
    """
    metadata = {
        "format": _FORMAT,
        "sharpness": repr(float(library.sharpness)),
        "license": library.license,
        "version": library.version,
    }
    if library.profile_sharpness is not None:
        metadata["profile_sharpness"] = repr(float(library.profile_sharpness))
    tensors = {"log_prior": library.log_prior, "log_columns": library.log_columns}
    save_file({name: np.ascontiguousarray(t, dtype=np.float32) for name, t in tensors.items()}, path, metadata)


def _read_library(path: Path) -> Library:
    names, metadata = safetensors_header(path)
    if missing := sorted({"log_prior", "log_columns"} - names):
        raise InputError(f"{path}: not a whole context library, {missing[0]!r} is missing; write it again")
    tensors = load_file(path)
    prior = np.asarray(tensors["log_prior"], dtype=np.float32)
    columns = np.asarray(tensors["log_columns"], dtype=np.float32)
    wanted = (prior.size, columns.shape[1] if columns.ndim == 3 else 0, len(RESIDUES))
    if prior.ndim != 1 or columns.shape != wanted or wanted[1] % 2 == 0:
        raise InputError(
            f"{path}: log_prior has shape {prior.shape} and log_columns {columns.shape}, "
            "expected (states,) and (states, odd width, 20)"
        )
    if not (np.isfinite(columns).all() and np.isfinite(prior).any()) or np.isnan(prior).any():
        raise InputError(f"{path}: the context library holds numbers that are not finite; write it again")
    try:
        sharpness = float(metadata["sharpness"])
        of_profiles = float(metadata["profile_sharpness"]) if "profile_sharpness" in metadata else None
    except (KeyError, ValueError):
        raise InputError(f"{path}: the context library's metadata state no sharpness; write it again") from None
    license, version = metadata.get("license", "unknown"), metadata.get("version", "1")
    return Library(prior, columns, sharpness, license, version, of_profiles)


class _Lines:
    """The lines of a file one after another, with errors that name file and line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = path.read_text(encoding="ascii", errors="replace").splitlines()
        self._number = 0

    def error(self, problem: str) -> InputError:
        return InputError(
            f"{self._path}, line {self._number}: {problem}; "
            "the file is not a whole context HMM in CS-BLAST's format, copy it again"
        )

    def next(self) -> list[str]:
        self._number += 1
        if self._number > len(self._lines):
            raise self.error("the file ends too early")
        return self._lines[self._number - 1].split()

    def literal(self, word: str) -> None:
        if self.next() != [word]:
            raise self.error(f"expected {word!r}")

    def integers(self, count: int) -> list[int]:
        fields = self.next()
        try:
            values = [int(field) for field in fields]
        except ValueError:
            raise self.error(f"expected {count} whole numbers") from None
        if len(values) != count:
            raise self.error(f"expected {count} whole numbers, found {len(values)}")
        return values

    def value(self, key: str) -> str:
        fields = self.next()
        if len(fields) != 2 or fields[0] != key:
            raise self.error(f"expected {key!r} and its value")
        return fields[1]

    def integer(self, key: str, wanted: int | None = None) -> int:
        text = self.value(key)
        if not text.isdecimal() or (wanted is not None and int(text) != wanted):
            raise self.error(f"expected {key!r} and {'a whole number' if wanted is None else wanted}, found {text!r}")
        return int(text)

    def end(self) -> None:
        while self._number < len(self._lines):
            if self.next():
                raise self.error("text after the end")


def _read_hmm(path: Path, digest: str) -> Library:
    lines = _Lines(path)
    lines.literal("HMM")
    states, transitions, width = (lines.integer(key) for key in ("NSTATES", "NTRANS", "NCOLS"))
    if states == 0 or width % 2 == 0:
        raise lines.error(f"{states} states of {width} columns; at least one state and an odd width are needed")
    for key in ("ITERS", "TRLOG", "STLOG"):
        lines.integer(key)
    columns = np.stack([_read_state(lines, index, states, width) for index in range(states)])
    lines.literal("TRANS")
    prior = _stationary(_read_transitions(lines, transitions, states), states)
    lines.literal("//")
    lines.end()
    with np.errstate(divide="ignore"):
        log_prior = np.log(prior).astype(np.float32)
    return Library(log_prior, columns, 1.0, _LICENSES.get(digest, "unknown"), digest[:12])


def _read_state(lines: _Lines, index: int, states: int, width: int) -> Array:
    """One state's columns: (width, 20) natural logarithms, in our order of residues."""
    lines.literal("ContextProfileState")
    lines.integer("INDEX", index)
    # The written prior is not the one to use: the masked perplexity with it is 20.8 instead of 17.3.
    lines.value("PRIOR")
    for key, wanted in (("NCOLS", width), ("ALPH", len(RESIDUES)), ("LOG", 1), ("NSTATES", states)):
        lines.integer(key, wanted)
    header = lines.next()
    if header[:1] != ["PROF"] or sorted(header[1:]) != list(RESIDUES):
        raise lines.error("expected 'PROF' and the 20 residues")
    order = [header.index(residue) for residue in RESIDUES]
    columns = np.empty((width, len(RESIDUES)), dtype=np.float32)
    for position in range(width):
        row = np.array(lines.integers(1 + len(RESIDUES)))
        columns[position] = row[order] * (-np.log(2) / 1000)
        if row[0] != position + 1 or not 0.99 < np.exp(columns[position]).sum() < 1.01:
            raise lines.error(f"expected column {position + 1}, whose probabilities sum to one")
    lines.literal("//")
    return columns


def _read_transitions(lines: _Lines, count: int, states: int) -> NDArray[np.float64]:
    """Rows of (from, to, probability): (count, 3)."""
    if count == 0:
        raise lines.error("there are no transitions")
    rows = np.empty((count, 3), dtype=np.float64)
    for index in range(count):
        begin, end, score = lines.integers(3)
        if not (0 <= begin < states and 0 <= end < states and score >= 0):
            raise lines.error(f"expected a transition between states 0 to {states - 1}")
        rows[index] = begin, end, 2.0 ** (-score / 1000)
    return rows


def _stationary(transitions: NDArray[np.float64], states: int) -> NDArray[np.float64]:
    """Stationary distribution of a Markov chain, (states,), by power iteration from the uniform one.

    Half of the mass stays in place at each step, which removes periods and changes nothing else. States that
    are never left are no part of the chain and get nothing.
    """
    live = np.isin(np.arange(states), transitions[:, 0])
    inside = transitions[live[transitions[:, 1].astype(np.intp)]]
    begin, end = inside[:, 0].astype(np.intp), inside[:, 1].astype(np.intp)
    probability = inside[:, 2] / np.bincount(begin, inside[:, 2], states)[begin]
    current = live / live.sum()
    for _ in range(100_000):
        following = 0.5 * (current + np.bincount(end, current[begin] * probability, states))
        following /= following.sum()
        if np.abs(following - current).max() < 1e-15:
            break
        current = following
    return current


def _recognises(name: str) -> bool:
    if name == SHIPPED_NAME:
        return True
    path = Path(name)
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        return safetensors_header(path)[1].get("format") == _FORMAT
    return path.suffix == ".hmm"


def _load(name: str, options: Options) -> Encoder:
    options.check(name, poolings=("sqrt-mean", "mean"))
    path = _shipped() if name == SHIPPED_NAME else Path(name)
    return ContextEncoder(path, options.pooling or "sqrt-mean", name=name)


def _shipped() -> Path:
    return Path(str(resources.files("limbeck") / "models" / SHIPPED_NAME / "library.safetensors"))


def _available() -> list[EncoderInfo]:
    with safe_open(_shipped(), framework="numpy") as file:
        states, width, residues = file.get_slice("log_columns").get_shape()
        license = file.metadata()["license"]
    parameters = states * (1 + width * residues)
    return [
        EncoderInfo(SHIPPED_NAME, "context library (the student's teacher)", states, parameters, license, True),
        EncoderInfo("PATH.hmm", "context HMM (CS-BLAST)", None, None, "of the file", False),
        EncoderInfo("PATH.safetensors", "context library", None, None, "of the file", False),
    ]


FAMILY = Family(_recognises, _load, _available)
