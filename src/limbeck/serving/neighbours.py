"""What ``/search`` needs of an index, and how one is opened: all that serving knows of :mod:`limbeck.search`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders import Encoder

__all__ = ["Annotation", "Hit", "Index", "encoder_of_index", "open_index"]


class Hit(Protocol):
    """A protein of an index near another."""

    @property
    def id(self) -> str: ...
    @property
    def similarity(self) -> float: ...
    @property
    def label(self) -> str | None: ...
    @property
    def reliability(self) -> float | None: ...


class Annotation(Protocol):
    """A label transferred from neighbours."""

    @property
    def label(self) -> str: ...
    @property
    def reliability(self) -> float | None: ...


class Index(Protocol):
    """Finds the nearest of many vectors."""

    name: str

    def __len__(self) -> int: ...

    @property
    def labelled(self) -> bool:
        """Whether :meth:`annotate` has something to transfer."""
        ...

    def search(self, vectors: NDArray[np.float32], k: int) -> Sequence[Sequence[Hit]]:
        """For each of (n, dimension) vectors at most ``k`` hits, nearest first."""
        ...

    def annotate(self, vectors: NDArray[np.float32]) -> Sequence[Sequence[Annotation]]:
        """For each of (n, dimension) vectors the labels of its neighbours, most votes first."""
        ...


def open_index(folder: str | Path, encoder: Encoder) -> Index:
    """Open the index of a folder for the vectors of an encoder.

    Raises:
        InputError: if there is none, it is damaged, or its vectors are another encoder's.
    """
    from limbeck.search import open_index as opened

    return opened(folder, encoder)


def encoder_of_index(folder: str | Path, **options: Any) -> Encoder:
    """Load the encoder that an index was made with.

    Args:
        folder: of the index.
        options: ``device`` and ``threads`` as :func:`limbeck.load` takes them.

    Raises:
        InputError: if there is no index, or its encoder cannot be loaded.
    """
    from limbeck.search.folder import read_manifest
    from limbeck.search.queries import encoder_of

    return encoder_of(read_manifest(folder), **options)
