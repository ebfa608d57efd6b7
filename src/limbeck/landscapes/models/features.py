"""Numbers for rows: one-hot, composition, embeddings, and several of them side by side.

===================== =====================================================================================
``one-hot``           a column for each letter seen at each position that varies (20 residues, gap, stop)
``composition``       frequency of each of the 20 residues in the protein that is expressed
``embedding:mean``    the encoder's vector of the protein, pooled as the encoder pools
``embedding:mutated`` mean of the encoder's residue vectors over the positions that differ from the wild type
``zero-label``        one column, the encoder's log-likelihood ratio against the wild type
                      (:mod:`limbeck.landscapes.zero_labels`); ``zero-label:NAME`` that of another encoder, and
                      ``zero-label:NAME,NAME`` the average of several
===================== =====================================================================================

Side by side, each block is centred and scaled so that its variances sum to one: no block outweighs another by its
width or its units. Hsu et al. 2022 (doi:10.1038/s41587-021-01146-5), whose augmented ridge this follows, put one-hot
columns beside a single score that is hardly penalised. A zero-label score is that, so linear models have its column
enlarged; a whole vector is penalised as much as one-hot columns are. A single one-hot block is left as it is, zeros
and ones, so that a penalty means what it means in the literature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.landscapes.assay import GAP, STOP
from limbeck.landscapes.models.base import State, from_text, letters, part, to_text
from limbeck.landscapes.vectors import Source, Vectors
from limbeck.landscapes.zero_labels import ZeroLabels
from limbeck.residues import RESIDUES

__all__ = ["SPECS", "Design", "Features", "composition", "needs_encoder", "needs_vectors", "zero_labels"]

SPECS = ("composition", "one-hot", "embedding:mean", "embedding:mutated", "zero-label")
_OTHERS = "zero-label:"
"""Begins a spec that names its own encoders."""

Array = NDArray[np.float64]
Matrix: TypeAlias = Any
"""A SciPy sparse array (which has no types) or a NumPy array of two dimensions."""

_COUNTED = np.frombuffer(RESIDUES.encode(), np.uint8)
_KNOWN = np.frombuffer((RESIDUES + GAP + STOP).encode(), np.uint8)
MOST_DENSE = 20_000_000
"""Numbers of a design that are held twice, densely too, for the sake of speed."""
_CONSTANT = 1e-6
"""A column whose standard deviation is below this share of its largest entry varies by rounding only."""


def composition(rows: Sequence[str]) -> Array:
    """(n, 20) share of each residue in the expressed protein, in the order of ``limbeck.residues.RESIDUES``.

    ``X`` counts towards the length and as no residue; nothing counts from a stop on.
    """
    codes = letters(rows)
    codes = np.where(np.cumsum(codes == ord(STOP), axis=1) > 0, ord(GAP), codes)
    counts = np.stack([(codes == letter).sum(axis=1) for letter in _COUNTED], axis=1)
    return counts / np.maximum(1, (codes != ord(GAP)).sum(axis=1))[:, None]


@dataclass(frozen=True)
class Design:
    """A matrix of n rows in blocks of columns, sparse or dense.

    Attributes:
        blocks: each (n, its columns).
        outside: (n,) squared length of each row in the directions that have no column: letters that were not seen
            when the features were fitted.
    """

    blocks: list[Matrix]
    outside: Array

    def __len__(self) -> int:
        return len(self.outside)

    @property
    def width(self) -> int:
        """Columns of all blocks."""
        return sum(block.shape[1] for block in self.blocks)

    def take(self, rows: NDArray[np.intp] | slice) -> Design:
        """Some of the rows."""
        return Design([block[rows] for block in self.blocks], self.outside[rows])

    def times(self, right: NDArray[np.floating]) -> Array:
        """The product with (width,) or (width, k)."""
        parts = np.split(right, np.cumsum([block.shape[1] for block in self.blocks])[:-1])
        return sum((block @ part for block, part in zip(self.blocks, parts, strict=True)), np.zeros(()))

    def transposed_times(self, right: Array) -> Array:
        """The product of the transpose with (n,) or (n, k)."""
        return np.concatenate([block.T @ right for block in self.blocks])

    def means(self) -> Array:
        """(width,) mean of each column."""
        return self.transposed_times(np.ones(len(self))) / len(self)

    def gram(self) -> Array:
        """(width, width) products of the columns."""
        return np.block([[_dense(left.T @ right) for right in self.blocks] for left in self.blocks])

    def kernel(self, other: Design | None = None) -> Array:
        """(n, m) products of the rows with those of another design in the same columns, or with themselves."""
        other = other or self
        if len(other) * other.width > MOST_DENSE:
            products = [_dense(left @ right.T) for left, right in zip(self.blocks, other.blocks, strict=True)]
        else:
            # A sparse matrix times a dense one takes a tenth of the time of two sparse ones.
            products = [_dense(left @ right) for left, right in zip(self.blocks, other._columns, strict=True)]
        total = products[0]
        for product in products[1:]:
            total = total + product
        return total

    @cached_property
    def _columns(self) -> list[Array]:
        """(its columns, n) each block, transposed and dense."""
        return [np.ascontiguousarray(_dense(block).T) for block in self.blocks]

    def squared_lengths(self) -> Array:
        """(n,) of the rows, in the columns there are."""
        parts = [np.asarray((block * block).sum(axis=1)).ravel() for block in self.blocks]
        return np.sum(parts, axis=0)

    def state(self) -> State:
        """The matrix as arrays by name."""
        arrays: State = {"outside": self.outside}
        for number, block in enumerate(self.blocks):
            if isinstance(block, np.ndarray):
                arrays[f"{number}"] = block
            else:
                parts = {"data": block.data, "indices": block.indices, "indptr": block.indptr}
                arrays |= {f"{number}.{name}": part for name, part in parts.items()}
                arrays[f"{number}.shape"] = np.array(block.shape)
        return arrays

    @classmethod
    def of_state(cls, state: State) -> Design:
        """The design that :meth:`state` was taken from."""
        blocks: list[Matrix] = []
        while (name := str(len(blocks))) in state or f"{name}.data" in state:
            if name in state:
                blocks.append(state[name])
            else:
                parts = tuple(state[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
                blocks.append(sp.csr_array(parts, shape=tuple(state[f"{name}.shape"].tolist())))
        return cls(blocks, state["outside"])


def _dense(matrix: Matrix) -> Array:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


class _Block(Protocol):
    def fit(self, rows: Sequence[str], scaled: bool) -> tuple[Matrix, Array]: ...
    def transform(self, rows: Sequence[str]) -> tuple[Matrix, Array]: ...
    def state(self) -> State: ...
    def restore(self, state: State) -> Self: ...
    def unseen(self, rows: Sequence[str]) -> Array: ...


class _OneHot:
    """One-hot columns, as the difference to the most common letter of each position.

    The difference leaves every centred quantity as it is and has an entry only where a row is unusual: variants of
    one protein have a few entries a row instead of one for each position.
    """

    def fit(self, rows: Sequence[str], scaled: bool) -> tuple[Matrix, Array]:
        codes = letters(rows)
        counts = np.stack([(codes == letter).sum(axis=0) for letter in _KNOWN], axis=1)
        self._reference = _KNOWN[counts.argmax(axis=1)]
        seen = counts > 0
        seen[counts.max(axis=1) == len(codes)] = False
        self._positions, letter = np.nonzero(seen)
        self._letters = _KNOWN[letter]
        self._scale = 1.0
        if scaled:
            matrix, _ = self.transform(rows)
            means = np.asarray(matrix.mean(axis=0)).ravel()
            total = float((matrix * matrix).sum() / len(rows) - means @ means)
            self._scale = total**-0.5 if total > 0 else 1.0
        return self.transform(rows)

    def transform(self, rows: Sequence[str]) -> tuple[Matrix, Array]:
        codes = letters(rows)
        columns = np.full((len(self._reference), 256), -1)
        columns[self._positions, self._letters] = np.arange(len(self._positions))
        row, position = np.nonzero(codes != self._reference)
        gained, lost = columns[position, codes[row, position]], columns[position, self._reference[position]]
        known = codes[row, position] != ord("X")
        outside = np.bincount(row[known & (gained < 0)], minlength=len(codes)).astype(np.float64)
        outside += np.bincount(row[lost < 0], minlength=len(codes))
        entries = [(row[gained >= 0], gained[gained >= 0], 1.0), (row[lost >= 0], lost[lost >= 0], -1.0)]
        values = np.concatenate([np.full(len(place), value * self._scale) for place, _, value in entries])
        places = tuple(np.concatenate([entry[i] for entry in entries]) for i in (0, 1))
        matrix = sp.csr_array(sp.coo_array((values, places), shape=(len(codes), len(self._positions))))
        return matrix, outside * self._scale**2

    def unseen(self, rows: Sequence[str]) -> Array:
        """(n, n) products of rows in the letters that have no column; its diagonal is ``outside``."""
        codes = letters(rows)
        known = np.zeros((len(self._reference), 256), bool)
        known[self._positions, self._letters] = True
        row, position = np.nonzero(codes != self._reference)
        gained, lost = codes[row, position], self._reference[position]
        more, less = ~known[position, gained] & (gained != ord("X")), ~known[position, lost]
        row = np.concatenate([row[more], row[less]])
        place = np.concatenate([(position * 256 + gained)[more], (position * 256 + lost)[less]])
        values = np.repeat([self._scale, -self._scale], [more.sum(), less.sum()])
        shape = (len(codes), 256 * len(self._reference))
        matrix = sp.csr_array(sp.coo_array((values, (row, place)), shape=shape))
        return _dense(matrix @ matrix.T)

    def state(self) -> State:
        return {
            "reference": self._reference,
            "positions": self._positions,
            "letters": self._letters,
            "scale": np.array(self._scale),
        }

    def restore(self, state: State) -> Self:
        self._reference, self._positions, self._letters = state["reference"], state["positions"], state["letters"]
        self._scale = float(state["scale"])
        return self


class _Dense:
    """Standardised columns, scaled together so that their variances sum to one."""

    def _raw(self, rows: Sequence[str]) -> Array:
        raise NotImplementedError

    def fit(self, rows: Sequence[str], scaled: bool) -> tuple[Matrix, Array]:
        raw = self._raw(rows)
        self._mean, spread = raw.mean(axis=0), raw.std(axis=0)
        varies = spread > _CONSTANT * np.abs(raw).max(axis=0)
        self._factor = np.zeros(raw.shape[1])
        self._factor[varies] = 1 / (spread[varies] * varies.sum() ** 0.5)
        return self._standardised(raw)

    def transform(self, rows: Sequence[str]) -> tuple[Matrix, Array]:
        return self._standardised(self._raw(rows))

    def unseen(self, rows: Sequence[str]) -> Array:
        return np.zeros((len(rows), len(rows)))

    def _standardised(self, raw: Array) -> tuple[Matrix, Array]:
        return (raw - self._mean) * self._factor, np.zeros(len(raw))

    def state(self) -> State:
        return {"mean": self._mean, "factor": self._factor}

    def restore(self, state: State) -> Self:
        self._mean, self._factor = state["mean"], state["factor"]
        return self


class _Composition(_Dense):
    def _raw(self, rows: Sequence[str]) -> Array:
        return composition(rows)


class _Embedding(_Dense):
    def __init__(self, source: Source, mutated: bool) -> None:
        self._source, self._mutated = source, mutated
        self._fingerprint: str | None = None
        if mutated and not source.wild_types:
            raise InputError("embedding:mutated needs the wild type that variants differ from; give wild_types")

    def _raw(self, rows: Sequence[str]) -> Array:
        vectors = Vectors(self._source)
        if self._fingerprint is not None and vectors.encoder.fingerprint != self._fingerprint:
            raise InputError(
                f"encoder {vectors.encoder.name} is not the one that the model was fitted with: its weights or "
                "settings have changed; fit again"
            )
        self._fingerprint = vectors.encoder.fingerprint
        return np.asarray(vectors.mutated(rows) if self._mutated else vectors.pooled(rows), dtype=np.float64)

    def fit(self, rows: Sequence[str], scaled: bool) -> tuple[Matrix, Array]:
        self._fingerprint = None
        return super().fit(rows, scaled)

    def state(self) -> State:
        assert self._fingerprint is not None  # a fitted block has embedded something
        return super().state() | {"fingerprint": from_text(self._fingerprint)}

    def restore(self, state: State) -> Self:
        self._fingerprint = to_text(state["fingerprint"])
        return super().restore(state)


class _ZeroLabel(_Dense):
    """The score in one column, ``weight`` times as large as others: its penalty is less by the square of it."""

    def __init__(self, scores: ZeroLabels, weight: float) -> None:
        self._scores, self._weight = scores, weight
        self._fingerprint: str | None = None

    def _raw(self, rows: Sequence[str]) -> Array:
        found = self._scores.fingerprint
        if self._fingerprint not in (None, found):
            raise InputError(
                "zero-label scores are not those that the model was fitted with: an encoder's weights or the wild "
                "types have changed; fit again"
            )
        self._fingerprint = found
        return self._scores.scores(rows)[:, None]

    def fit(self, rows: Sequence[str], scaled: bool) -> tuple[Matrix, Array]:
        self._fingerprint = None
        return super().fit(rows, scaled)

    def _standardised(self, raw: Array) -> tuple[Matrix, Array]:
        matrix, outside = super()._standardised(raw)
        return self._weight * matrix, outside

    def state(self) -> State:
        assert self._fingerprint is not None  # a fitted block has scored something
        return super().state() | {"fingerprint": from_text(self._fingerprint)}

    def restore(self, state: State) -> Self:
        self._fingerprint = to_text(state["fingerprint"])
        return super().restore(state)


def _specs(features: str | Sequence[str]) -> tuple[str, ...]:
    chosen = (features,) if isinstance(features, str) else tuple(features)
    for spec in chosen:
        if spec.startswith(_OTHERS) and all(spec.removeprefix(_OTHERS).split(",")):
            continue
        if spec not in SPECS:
            raise InputError(f"there are no features {spec!r}; choose from: {', '.join(SPECS)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError("name at least one kind of features, and each once")
    return chosen


def needs_encoder(features: str | Sequence[str]) -> bool:
    """Whether an encoder is loaded for these features.

    Raises:
        InputError: if there are no such features.
    """
    return needs_vectors(features) or "zero-label" in _specs(features)


def needs_vectors(features: str | Sequence[str]) -> bool:
    """Whether the encoder's vectors are among these features.

    Raises:
        InputError: if there are no such features.
    """
    return any(spec.startswith("embedding:") for spec in _specs(features))


def zero_labels(features: str | Sequence[str], source: Source) -> list[ZeroLabels]:
    """What scores variants without labels among these features.

    Raises:
        InputError: if there are no such features, or they need wild types and there are none.
    """
    return [_zero_labels(spec, source) for spec in _specs(features) if spec.startswith("zero-label")]


def _zero_labels(spec: str, source: Source) -> ZeroLabels:
    names = spec.removeprefix(_OTHERS).split(",") if spec.startswith(_OTHERS) else ()
    return ZeroLabels([replace(source, encoder=name, layer=None) for name in names] or [source])


class Features:
    """What a model sees of rows.

    Args:
        features: one of ``SPECS``, or several.
        source: where embeddings come from.
        scaled: whether a single one-hot block is scaled, too.
        zero_label_weight: by what a zero-label score is enlarged beside other blocks.

    Raises:
        InputError: if there are no such features, or they need wild types and there are none.
    """

    def __init__(
        self,
        features: str | Sequence[str],
        source: Source,
        scaled: bool = False,
        zero_label_weight: float = 1.0,
    ) -> None:
        specs = _specs(features)
        self._scaled = scaled or len(specs) > 1
        weight = zero_label_weight if len(specs) > 1 else 1.0
        self._blocks: dict[str, _Block] = {spec: _block(spec, source, weight) for spec in specs}

    def fit(self, rows: Sequence[str]) -> Design:
        """Learn columns and scales from rows, and give their numbers."""
        return _side_by_side([block.fit(rows, self._scaled) for block in self._blocks.values()])

    def transform(self, rows: Sequence[str]) -> Design:
        """Numbers of other rows in the same columns."""
        return _side_by_side([block.transform(rows) for block in self._blocks.values()])

    def unseen(self, rows: Sequence[str]) -> Array:
        """(n, n) products of rows in the directions that have no column; their squared lengths, the diagonal, are the
        ``outside`` of :meth:`transform`'s design."""
        return np.sum([block.unseen(rows) for block in self._blocks.values()], axis=0)

    def state(self) -> State:
        """What was learned, as arrays by name."""
        return {f"{spec}.{name}": v for spec, block in self._blocks.items() for name, v in block.state().items()}

    def restore(self, state: State) -> Self:
        """Become the features that ``state`` was taken from."""
        for spec, block in self._blocks.items():
            block.restore(part(state, f"{spec}."))
        return self


def _block(spec: str, source: Source, zero_label_weight: float) -> _Block:
    if spec == "one-hot":
        return _OneHot()
    if spec.startswith("zero-label"):
        return _ZeroLabel(_zero_labels(spec, source), zero_label_weight)
    return _Composition() if spec == "composition" else _Embedding(source, spec.endswith(":mutated"))


def _side_by_side(parts: list[tuple[Matrix, Array]]) -> Design:
    return Design([matrix for matrix, _ in parts], np.sum([outside for _, outside in parts], axis=0))
