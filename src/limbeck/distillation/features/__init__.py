"""Features of a teacher over a corpus: :class:`CachedFeatures` on disk, :class:`LiveFeatures` computed each time.

Both give whole proteins' vectors and crops of residue features, raw, with mean and scale to standardise them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.distillation.features.cached import DEFAULT_SHARE, CachedFeatures, check_share, estimate
from limbeck.distillation.features.live import LiveFeatures
from limbeck.distillation.features.teaching import has_residue_features
from limbeck.encoders.base import Encoder

if TYPE_CHECKING:
    from limbeck.distillation.corpus import Corpus

__all__ = [
    "DEFAULT_SHARE",
    "CachedFeatures",
    "Features",
    "LiveFeatures",
    "estimate",
    "features_of",
    "has_residue_features",
]


class Features(Protocol):
    """What an objective needs of a teacher; it never asks whether the features are cached or live."""

    name: str
    dimension: int
    """Numbers in one vector, of a residue or of a protein."""
    fingerprint: str
    """SHA-256 (hex) over all that decides the numbers: teacher, layer, precision, corpus, share and seed."""
    share: float
    """About this part of the residues is known; 0 if there are pooled vectors only."""
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    """(dimension,) of the residues, over a fixed sample; never 0. Without residues 0 and 1."""
    protein_mean: NDArray[np.float32]
    protein_scale: NDArray[np.float32]
    """(dimension,) of the protein vectors, likewise."""

    def crops(
        self, proteins: NDArray[np.int64], starts: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Raw features (rows, length, dimension), and whether each residue is known (rows, length)."""
        ...

    def proteins(self, proteins: NDArray[np.int64]) -> NDArray[np.float32]:
        """The teacher's own vectors of whole proteins, (rows, dimension), raw."""
        ...

    def sample(self, n: int) -> NDArray[np.float32]:
        """(n, dimension) residue features drawn with a fixed seed; fewer if there are fewer."""
        ...

    def sample_proteins(self, n: int) -> NDArray[np.float32]:
        """(n, dimension) protein vectors drawn with a fixed seed; fewer if there are fewer."""
        ...


def features_of(
    teacher: Encoder,
    corpus: Corpus,
    *,
    folder: Path,
    share: float = DEFAULT_SHARE,
    live: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
    verify: bool = True,
) -> Features:
    """A teacher's features over a corpus.

    Args:
        folder: where caches live; not touched if ``live``.
        share: the part of the residues that a cache holds. Live features know every residue, unless it is 0: then both
            give pooled vectors only.
        live: compute features whenever they are asked for instead of keeping them.
        on_progress, seed, verify: see :class:`CachedFeatures`.

    Raises:
        InputError: see :class:`CachedFeatures`.
    """
    check_share(share)
    if live:
        return LiveFeatures(teacher, corpus, residues=share > 0)
    return CachedFeatures(folder, teacher, corpus, share=share, seed=seed, verify=verify, on_progress=on_progress)
