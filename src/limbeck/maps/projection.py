"""From vectors to points of the plane: principal components, and t-SNE on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError

__all__ = ["PROJECTIONS", "principal_components", "project"]

PROJECTIONS = ("tsne", "pca")
COMPONENTS = 50
PERPLEXITY = 30
FEWEST = 8
"""Proteins below which neighbourhoods say nothing, and t-SNE is refused."""
SEED = 0

Floats = NDArray[np.float64]


def project(vectors: NDArray[np.floating], method: str = "tsne", *, threads: int = 1) -> Floats:
    """Points of the plane, (n, 2), the same ones each time on one machine.

    ``pca`` are the first two principal components: distances are those of the vectors, as far as two numbers hold
    them. ``tsne`` (van der Maaten and Hinton 2008; by interpolation, Linderman et al. 2019) starts from them and keeps
    neighbours together, so that families show; distances between far groups then mean little.

    Args:
        vectors: (n, dimension).
        method: one of :data:`PROJECTIONS`.
        threads: of t-SNE.

    Raises:
        InputError: if there are too few proteins, or no such method.
    """
    if method not in PROJECTIONS:
        raise InputError(f"unknown projection {method!r}; choose {' or '.join(PROJECTIONS)}")
    components = principal_components(vectors, 2 if method == "pca" else COMPONENTS)
    if method == "pca":
        return components
    if len(vectors) < FEWEST:
        raise InputError(f"{len(vectors)} proteins are too few for t-SNE; use --projection pca")
    from openTSNE import TSNE

    spread = components[:, 0].std() or 1.0
    start = 1e-4 * components[:, :2] / spread
    model = TSNE(
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
        initialization=start,
        n_jobs=threads,
        random_state=SEED,
    )
    return np.asarray(model.fit(components), np.float64)


def principal_components(vectors: NDArray[np.floating], count: int) -> Floats:
    """The first components of vectors (n, dimension), (n, count); zeros where there are fewer.

    The sign of each is chosen so that its largest weight is positive, because a solver's choice is none.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    dimension = vectors.shape[1]
    covariance = np.zeros((dimension, dimension))
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192] - mean
        covariance += block.T @ block
    _, directions = np.linalg.eigh(covariance)
    axes = directions[:, ::-1][:, : min(count, dimension)]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    result = np.zeros((len(vectors), count))
    for start in range(0, len(vectors), 8192):
        result[start : start + 8192, : axes.shape[1]] = (vectors[start : start + 8192] - mean) @ axes
    return result
