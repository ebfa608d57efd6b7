"""What a teacher says about some proteins, checked: the part that the cache and the live features share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

if TYPE_CHECKING:
    from limbeck.distillation.corpus import Corpus

__all__ = ["batches", "has_residue_features", "pooled_vectors", "residue_features", "vectors_of"]

_BATCH_RESIDUES = 65_536
_BATCH_BYTES = 2**28

Array = NDArray[np.float32]


def has_residue_features(teacher: Encoder) -> bool:
    """Whether an encoder describes single residues; ``composition`` and its like describe whole proteins only."""
    try:
        teacher.encode_residues(["A"])
    except InputError:
        return False
    return True


def batches(proteins: Sequence[int], lengths: NDArray[np.int64], teacher: Encoder) -> Iterator[list[int]]:
    """Group proteins for one call of the teacher each: the longest first, like lengths together, about 65,536
    residues or as many as the teacher likes to have at once, or 256 MB of features where those are wide. A protein
    longer than that has a batch of its own."""
    limit = min(max(_BATCH_RESIDUES, teacher.token_budget), _BATCH_BYTES // (4 * teacher.dimension))
    batch: list[int] = []
    filled = 0
    for protein in sorted(proteins, key=lambda p: (-lengths[p], p)):
        if batch and filled + lengths[protein] > limit:
            yield batch
            batch, filled = [], 0
        batch.append(protein)
        filled += int(lengths[protein])
    if batch:
        yield batch


def residue_features(teacher: Encoder, corpus: Corpus, proteins: Sequence[int]) -> list[Array]:
    """For each protein (length, dimension) float32.

    Raises:
        InputError: if the teacher leaves residues out, or gives numbers that are not finite.
    """
    features = teacher.encode_residues([corpus.sequence(p) for p in proteins])
    for protein, values in zip(proteins, features, strict=True):
        wanted = (int(corpus.lengths[protein]), teacher.dimension)
        if values.shape != wanted:
            raise InputError(
                f"teacher {teacher.name} gives features of shape {values.shape} for protein {protein + 1} of the "
                f"corpus, not {wanted}; it must describe every residue"
            )
        _check_finite(teacher, protein, values)
    return features


def pooled_vectors(teacher: Encoder, corpus: Corpus, proteins: Sequence[int]) -> Array:
    """The teacher's own vectors of whole proteins, (n, dimension) float32.

    Raises:
        InputError: if a number is not finite.
    """
    vectors = teacher.encode([corpus.sequence(p) for p in proteins])
    for protein, vector in zip(proteins, vectors, strict=True):
        _check_finite(teacher, protein, vector)
    return vectors


def vectors_of(teacher: Encoder, corpus: Corpus, proteins: Sequence[int], features: list[Array] | None) -> Array:
    """:func:`pooled_vectors`, without running the network a second time where they are the mean of ``features``."""
    if features is not None and teacher.pooling == "mean":
        return np.stack([values.mean(0, dtype=np.float64).astype(np.float32) for values in features])
    return pooled_vectors(teacher, corpus, proteins)


def _check_finite(teacher: Encoder, protein: int, values: Array) -> None:
    if not np.isfinite(values).all():
        raise InputError(
            f"teacher {teacher.name} gives features that are not finite for protein {protein + 1} of the corpus; "
            "choose another layer or precision, or leave the protein out"
        )
