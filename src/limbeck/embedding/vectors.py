"""The vectors of some proteins as a table stores them, finite for certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders import Encoder, OnBatch
from limbeck.errors import InputError

__all__ = ["vectors_of"]


def vectors_of(
    encoder: Encoder,
    sequences: Sequence[str],
    dtype: str,
    per_residue: bool,
    id_of: Callable[[int], str],
    on_batch: OnBatch | None = None,
) -> NDArray[np.floating]:
    """One vector for each protein, or for each residue end to end: (vectors, dimension) in ``dtype``.

    Args:
        encoder: what computes.
        sequences: cleaned.
        dtype: ``"float32"`` or ``"float16"``.
        per_residue: one vector for each residue, not one for each protein.
        id_of: the id of a protein by its place in ``sequences``, for the message.
        on_batch: as in :meth:`limbeck.Encoder.encode`.

    Raises:
        InputError: if a number overflows.
    """
    # Beyond the range of float16 lies infinity, which is refused below.
    with np.errstate(over="ignore"):
        if per_residue:
            features = encoder.encode_residues(sequences, on_batch)
            vectors = np.concatenate([f.astype(dtype, copy=False) for f in features])
        else:
            vectors = encoder.encode(sequences, on_batch).astype(dtype, copy=False)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        vectors_each = [len(s) if per_residue else 1 for s in sequences]
        protein = int(np.searchsorted(np.cumsum(vectors_each), np.argmin(finite), side="right"))
        raise InputError(
            f"record {id_of(protein)!r}: {encoder.name} in {encoder.precision} "
            f"gives a number that {dtype} does not hold; try --dtype float32 --precision f32"
        )
    return vectors
