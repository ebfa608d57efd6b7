"""UniRep: a multiplicative LSTM over residues, in numpy.

Alley et al. 2019 (doi:10.1038/s41592-019-0598-1) trained the network to predict the next residue of proteins
of UniRef50; the multiplicative LSTM is that of Krause et al. 2016 (arXiv 1609.07959). The networks of 64 and
256 units have four layers, stacked plainly. A residue's feature is the state after it has been read, so it
knows the residues before it and none after it.

The weights are one safetensors file: ``embed`` (26, 10); ``layers.i.{wx,wh,wmx,wmh,gx,gh,gmx,gmh,b}`` for
i = 0, 1, ...; ``head.weight`` (d, 25), ``head.bias`` (25,). Layers count from 1: ``layer=2`` is ``layers.1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder, ResidueEncoder, cleaned
from limbeck.encoders.batches import Piece
from limbeck.encoders.registry import (
    EncoderInfo,
    Family,
    Options,
    choose_layers,
    file_hash,
    fingerprint,
    safetensors_header,
)
from limbeck.errors import InputError
from limbeck.residues import RESIDUES

__all__ = ["FAMILY", "UniRepEncoder"]

_VOCABULARY = "MRHKDESTNQCUGPAVIFYWLOX"
"""Letter j has id j + 1; id 0 is padding."""
_START = 24
_MATRICES = {"wx": "gx", "wh": "gh", "wmx": "gmx", "wmh": "gmh"}
"""Each weight matrix and its weight-normalisation gain."""
_STEPS = 64
"""Residues carried through all layers in one go: it bounds memory whatever a protein's length."""
_LICENSES = {
    "39fff0e40ee7b4433694163080baecdce458fce58f9f2d233ab093f285fe83a8": "CC-BY-NC-4.0",
    "d28d4f53d110843a6c810859cb60f06569247d8d8623a3e4608add53878229ac": "CC-BY-NC-4.0",
}
"""SHA-256 of the converted weights of 256 and 64 units published with the paper -> their licence."""

Array = NDArray[np.float32]


class _Layer(NamedTuple):
    wx: Array
    wh: Array
    wmx: Array
    wmh: Array
    b: Array


class UniRepEncoder(ResidueEncoder):
    """UniRep's features of residues, mean-pooled.

    Args:
        path: the weights.
        layer: 1 to the number of layers, negative from the end; several or ``"all"`` side by side. By
            default 2, the best of the four at remote homology in both published small networks.
    """

    def __init__(self, path: Path, layer: int | str | Sequence[int] | None = None) -> None:
        tensors = _read(path)
        self._embedding = tensors["embed"]
        self._head = tensors["head.weight"], tensors["head.bias"]
        self._layers = [_layer(tensors, i) for i in range(_depth(tensors))]
        self.layers = len(self._layers)
        self._chosen = list(choose_layers(str(path), layer, depth=self.layers, default=2))
        self._units = len(self._head[0])
        digest = file_hash(path)
        self.name = str(path)
        self.version = digest[:12]
        self.license = _LICENSES.get(digest, "unknown")
        self.dimension = self._units * len(self._chosen)
        self.parameters = sum(t.size for t in tensors.values())
        self.fingerprint = fingerprint("unirep", 1, digest, self._chosen, self.pooling)
        # Time steps follow one another, so only many proteins side by side keep the matrix products busy.
        self.token_budget = 65_536
        self.bytes_per_token = 4 * (2 * self.dimension + 8 * self._units)

    def forward(self, windows: list[str]) -> list[Array]:
        features = [np.empty((len(w), self.dimension), dtype=np.float32) for w in windows]
        for first, states in self._states(windows, self._chosen):
            if first < 0:
                continue
            for row, feature in enumerate(features):
                part = feature[first : first + len(states)]
                part[:] = states[: len(part), row]
        return features

    def pooled_sums(self, windows: list[str], pieces: list[Piece]) -> NDArray[np.floating]:
        sums = np.zeros((len(windows), self.dimension), dtype=np.float64)
        starts = np.array([p.owned.start for p in pieces])
        stops = np.array([p.owned.stop for p in pieces])
        for first, states in self._states(windows, self._chosen):
            position = np.arange(first, first + len(states))[:, None]
            states[(position < starts) | (position >= stops)] = 0
            sums += states.sum(axis=0)
        return sums

    def log_probabilities(self, sequences: Sequence[str]) -> list[Array]:
        """Natural log-probability of each residue given those before it: for each protein (length, 20).

        Columns are in the order of ``limbeck.residues.RESIDUES``, normalised over these 20.
        """
        proteins = cleaned(sequences)
        results = [np.empty((len(p), len(RESIDUES)), dtype=np.float32) for p in proteins]
        columns = [_VOCABULARY.index(letter) for letter in RESIDUES]
        weight, bias = self._head[0][:, columns], self._head[1][columns]
        for windows in self._batches(proteins):
            texts = [proteins[w.protein] for w in windows]
            for first, states in self._states(texts, [self.layers]):
                # The state after residue t - 1 predicts residue t, and the start token's the first.
                scores = _log_softmax(states @ weight + bias)
                for row, window in enumerate(windows):
                    part = results[window.protein][first + 1 : first + 1 + len(states)]
                    part[:] = scores[: len(part), row]
        return results

    def _states(self, windows: list[str], chosen: list[int]) -> Iterator[tuple[int, Array]]:
        """States of the chosen layers side by side: blocks of (steps, n, width), each with its first residue.

        The first block is the state after the start token alone, as residue -1. What follows a protein's end
        means nothing.
        """
        ids = _token_ids(windows)
        depth = max(chosen)
        hidden = [np.zeros((len(windows), self._units), dtype=np.float32) for _ in range(depth)]
        cell = [h.copy() for h in hidden]
        edges = [0, *range(1, len(ids), _STEPS), len(ids)]
        for begin, end in pairwise(edges):
            inputs: Array = self._embedding[ids[begin:end]]
            kept = {}
            for index, layer in enumerate(self._layers[:depth]):
                inputs = _scan(layer, inputs, hidden[index], cell[index])
                if index + 1 in chosen:
                    kept[index + 1] = inputs
            yield begin - 1, np.concatenate([kept[index] for index in chosen], axis=2)


def _scan(layer: _Layer, inputs: Array, hidden: Array, cell: Array) -> Array:
    """Carry one layer over (steps, n, width): returns (steps, n, units), updates ``hidden`` and ``cell``."""
    units = hidden.shape[1]
    outputs = np.empty((*inputs.shape[:2], units), dtype=np.float32)
    gates_in = inputs @ layer.wx
    gates_in += layer.b
    factor_in = inputs @ layer.wmx
    for step, (gates, factor) in enumerate(zip(gates_in, factor_in, strict=True)):
        gates += (factor * (hidden @ layer.wmh)) @ layer.wh
        keep, forget, out = (_sigmoid(gates[:, i * units : (i + 1) * units]) for i in range(3))
        cell *= forget
        cell += keep * np.tanh(gates[:, 3 * units :])
        np.multiply(out, np.tanh(cell), out=hidden)
        outputs[step] = hidden
    return outputs


def _sigmoid(x: Array) -> Array:
    # By way of tanh it cannot overflow.
    result: Array = np.tanh(0.5 * x)
    result += 1
    result *= 0.5
    return result


def _log_softmax(scores: Array) -> Array:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _token_ids(windows: list[str]) -> NDArray[np.intp]:
    """Start token, residues, padding: (1 + longest, n)."""
    table = np.zeros(256, dtype=np.intp)
    for index, letter in enumerate(_VOCABULARY.encode()):
        table[letter] = index + 1
    ids = np.zeros((1 + max(map(len, windows)), len(windows)), dtype=np.intp)
    ids[0] = _START
    for row, window in enumerate(windows):
        ids[1 : 1 + len(window), row] = table[np.frombuffer(window.encode(), dtype=np.uint8)]
    return ids


def _depth(tensors: dict[str, Array]) -> int:
    return sum(name.endswith(".wmx") for name in tensors)


def _layer(tensors: dict[str, Array], index: int) -> _Layer:
    """A layer's matrices with the weight normalisation (Salimans and Kingma 2016) already applied."""
    part = {key: tensors[f"layers.{index}.{key}"] for key in (*_MATRICES, *_MATRICES.values(), "b")}
    matrices = {w: part[w] / np.linalg.norm(part[w], axis=0) * part[g] for w, g in _MATRICES.items()}
    return _Layer(**matrices, b=part["b"])


def _read(path: Path) -> dict[str, Array]:
    from safetensors.numpy import load_file

    tensors = {name: np.asarray(t, dtype=np.float32) for name, t in load_file(path).items()}
    wanted = _shapes(tensors)
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise InputError(f"{path}: not whole UniRep weights, {missing[0]!r} is missing; copy the file again")
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise InputError(f"{path}: not UniRep weights, {name!r} has shape {tensors[name].shape}, expected {shape}")
    return tensors


def _shapes(tensors: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    units = tensors["layers.0.wmx"].shape[-1]
    shapes: dict[str, tuple[int, ...]] = {"embed": (26, 10), "head.weight": (units, 25), "head.bias": (25,)}
    for index in range(_depth(tensors)):
        width = units if index else 10
        layer = {
            "wx": (width, 4 * units),
            "wh": (units, 4 * units),
            "wmx": (width, units),
            "wmh": (units, units),
        }
        gains = {g: (layer[w][1],) for w, g in _MATRICES.items()}
        layers = {**layer, **gains, "b": (4 * units,)}
        shapes |= {f"layers.{index}.{key}": shape for key, shape in layers.items()}
    return shapes


def _recognises(name: str) -> bool:
    path = Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    tensors, _ = safetensors_header(path)
    return "layers.0.wmx" in tensors


def _load(name: str, options: Options) -> Encoder:
    options.check(name, layers="counted from 1", poolings=("mean",))
    return UniRepEncoder(Path(name), options.layer)


def _available() -> list[EncoderInfo]:
    return [EncoderInfo("PATH.safetensors", "UniRep (mLSTM)", None, None, "of the file", False)]


FAMILY = Family(_recognises, _load, _available)
