"""Choosing which proteins to learn from: informative subsets by facility location (INGENIOUS).

INGENIOUS (Renduchintala et al. 2023, arXiv 2305.06677) divides a corpus into random partitions, ranks the members of
each by greedy maximisation of the facility-location function on a kernel of cosines, keeps each member's gain, and
draws from each partition a share of the members, with probabilities that rise with the gain. Drawing, instead of taking
the first, keeps some of what is common.

Two things differ here. The paper draws anew every so many steps, with gains from the model as it is then; this subset
is drawn once, before training, so that a run stays a function of its options. The paper embeds text with the model in
training; the default here is the composition of dipeptides, which needs no model. Any encoder may take its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.distillation.corpus import MINIMUM_LENGTH, Corpus
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError
from limbeck.residues import RESIDUES

__all__ = ["cosines", "dipeptides", "facility_location", "informative", "taylor_softmax"]

_EPSILON = 0.01
_LEAST_NORM = 1e-12

Array = NDArray[np.float32]
Vectors = Callable[[NDArray[np.int64]], Array]
"""Protein vectors (n, dimension), raw, of n proteins of the corpus."""


def informative(
    corpus: Corpus,
    share: float,
    *,
    seed: int,
    encoder: Encoder | None = None,
    cache: Path | None = None,
    partition: int = 1500,
) -> NDArray[np.bool_]:
    """Choose a share of the training proteins that represents the rest well.

    Time and memory are those of partitions: some ``partition`` squared numbers at once, in time that grows with the
    number of proteins.

    Args:
        corpus: the proteins.
        share: of the training proteins to choose, above 0 and at most 1.
        seed: of partitions and draws.
        encoder: whose protein vectors are compared; the composition of dipeptides by default.
        cache: folder in which the encoder's vectors are kept between runs; by default they are not kept.
        partition: the most proteins in a partition.

    Returns:
        (proteins,) bool for :class:`~limbeck.distillation.corpus.BatchDraw`. Of the training proteins that are long
        enough to be drawn, the share in all, rounded; of each partition the share within one protein. Held-out
        proteins, and those too short to be drawn, are true: nothing was decided about them.

    Raises:
        InputError: if the share or the partition is out of range, or the encoder fails on a protein.
    """
    if not 0 < share <= 1:
        raise InputError(f"the share of proteins to learn from must be above 0 and at most 1, not {share}")
    if partition < 1:
        raise InputError(f"a partition holds at least 1 protein, not {partition}")
    eligible = np.flatnonzero(~corpus.is_validation & (corpus.lengths >= MINIMUM_LENGTH))
    chosen = np.ones(len(corpus), dtype=np.bool_)
    if share == 1 or not len(eligible):
        return chosen
    chosen[eligible] = False
    rng = np.random.default_rng(seed)
    parts = np.array_split(rng.permutation(eligible), -(-len(eligible) // partition))
    # Rounding the running total, not each part, makes the total exact.
    ends = np.rint(share * np.cumsum([0, *map(len, parts)])).astype(np.int64)
    if not ends[-1]:
        ends[-1] = 1
    vectors = _vectors(corpus, encoder, cache)
    center = _center(vectors, parts)
    for part, budget in zip(parts, np.diff(ends), strict=True):
        kernel = cosines(vectors(part) - center)
        order, gains = facility_location(kernel, len(part), rng, candidates=_candidates(share))
        drawn = _draw(taylor_softmax(gains), int(budget), rng)
        chosen[part[order[drawn]]] = True
    return chosen


def facility_location(
    kernel: NDArray[np.floating], budget: int, rng: np.random.Generator, *, candidates: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Greedy maximisation of f(S) = sum over i of max over j in S of kernel[i, j].

    The function is monotone and submodular, so that the greedy value is at least (1 - 1/e) of the best (Nemhauser et
    al. 1978). With ``candidates``, each step looks only at so many of the rest, drawn at random (stochastic greedy,
    Mirzasoleiman et al. 2015, arXiv 1409.7938): for n members and a budget of k, (n / k) ln(1 / epsilon) candidates
    keep that bound up to epsilon in expectation.

    Args:
        kernel: (n, n) similarities, none below 0.
        budget: how many to pick, at most n.
        rng: draws the candidates.
        candidates: to look at in each step; all by default.

    Returns:
        The picked members (budget,) in their order, and by how much each raised f (budget,).
    """
    columns = np.ascontiguousarray(kernel.T)
    rest = np.arange(len(kernel))
    covered = np.zeros(len(kernel), dtype=columns.dtype)
    order, gains = np.empty(budget, dtype=np.int64), np.empty(budget)
    for step in range(budget):
        if candidates is None or candidates >= len(rest):
            places = np.arange(len(rest))
        else:
            # With replacement: that costs no permutation, and a candidate drawn twice is one fewer of many.
            places = rng.integers(len(rest), size=candidates)
        raised = np.maximum(columns[rest[places]] - covered, 0).sum(1, dtype=np.float64)
        best = int(raised.argmax())
        order[step], gains[step] = rest[places[best]], raised[best]
        np.maximum(covered, columns[order[step]], out=covered)
        rest[places[best]] = rest[-1]
        rest = rest[:-1]
    return order, gains


def taylor_softmax(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (n,) in proportion to 1 + g + g^2 / 2, a Taylor polynomial of exp(g) (de Brebisson and Vincent
    2016, arXiv 1511.05042). A gain of zero keeps some probability, and one of hundreds does not take all."""
    weights = 1 + gains + gains**2 / 2
    return weights / weights.sum()


def cosines(vectors: Array) -> Array:
    """The kernel (n, n) of vectors (n, dimension): their cosines, negative ones as zero, for an unlike protein stands
    for another no less than none does."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(norms, _LEAST_NORM)
    kernel: Array = np.maximum(directions @ directions.T, 0)
    return kernel


def dipeptides(corpus: Corpus, proteins: NDArray[np.int64]) -> Array:
    """Square roots of the frequencies of the 400 dipeptides, (n, 400); the distance of two such vectors is Hellinger's.

    A dipeptide with an ``X`` counts nothing.
    """
    size = len(RESIDUES)
    result = np.zeros((len(proteins), size * size), dtype=np.float32)
    for row, protein in enumerate(proteins):
        ids = corpus.ids[corpus.offsets[protein] : corpus.offsets[protein + 1]].astype(np.int64)
        known = (ids[:-1] < size) & (ids[1:] < size)
        pairs = (ids[:-1] * size + ids[1:])[known]
        result[row] = np.sqrt(np.bincount(pairs, minlength=size * size) / max(1, len(pairs)))
    return result


def _vectors(corpus: Corpus, encoder: Encoder | None, cache: Path | None) -> Vectors:
    if encoder is None:
        return lambda proteins: dipeptides(corpus, proteins)
    from limbeck.distillation.features import features_of

    features = features_of(encoder, corpus, folder=cache or Path(), share=0.0, live=cache is None)
    return features.proteins


def _center(vectors: Vectors, parts: list[NDArray[np.int64]]) -> Array:
    """Mean vector over at most one partition: what all proteins share tells none from another."""
    mean: Array = vectors(parts[0]).mean(0)
    return mean


def _candidates(share: float) -> int:
    """How many candidates a step looks at, so that the bound holds at the size of the subset."""
    return math.ceil(math.log(1 / _EPSILON) / share)


def _draw(probabilities: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` places drawn one after another without replacement: those where log-probability plus Gumbel noise is
    largest (Kool et al. 2019, arXiv 1903.06059)."""
    keys = np.log(probabilities) + rng.gumbel(size=len(probabilities))
    return np.argsort(-keys)[:count]
