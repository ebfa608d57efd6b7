"""Variants of one protein, embedded for less than as many proteins.

Where a residue's features see only the letters within a radius, a mutation changes the features around it alone; all
others are the wild type's. So windows around the mutations are computed, and the pooled sums of the rest are the wild
type's. An encoder that can start from the wild type's layers (:meth:`ResidueEncoder.states`) computes of each layer
only what differs, which is less than a window. The result is what ``encode`` gives, up to rounding. Encoders without a
radius, and variants that would cost as much as whole proteins, are computed whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder, OnBatch, ResidueEncoder, cleaned
from limbeck.encoders.batches import Piece, pack, split

__all__ = ["encode_variants"]

VARIANTS_AT_ONCE = 1024
WORTH = 0.8
"""Windows are computed where they cost less than this share of the whole protein."""


def encode_variants(
    encoder: Encoder,
    wild_type: str,
    sequences: Sequence[str],
    positions: Sequence[Sequence[int]] | None = None,
    on_batch: OnBatch | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Vectors of n variants of one protein, and of single positions in them.

    Args:
        encoder: any encoder; windows are used if it is a :class:`ResidueEncoder` with a ``radius``.
        wild_type: the protein they derive from; any protein is right, a near one is fast.
        sequences: n variants, with substitutions, insertions or deletions.
        positions: for each variant the residues (0-based, in the variant) whose features are averaged; none of them
            stands for all residues. ``None`` if no such averages are wanted.
        on_batch: called after each batch, as ``encode`` does.

    Returns:
        What ``encoder.encode`` gives, (n, dimension) float32, and the averages over ``positions``, (n, dimension)
        float32, or ``None``. Both come from one pass where the encoder allows it.

    Raises:
        limbeck.residues.InvalidResidue: as ``encode`` does.
        ValueError: as ``encode`` does.
        limbeck.errors.InputError: if ``positions`` are given and the encoder has no features of single residues.
    """
    variants, reference = cleaned(sequences), cleaned([wild_type])[0]
    if positions is not None and isinstance(encoder, ResidueEncoder):
        encoder.check_residues()
    wanted = None if positions is None else [sorted(set(p)) for p in positions]
    if wanted is not None and len(wanted) != len(variants):
        raise ValueError(f"{len(variants)} sequences but positions of {len(wanted)}")
    pooled = np.zeros((len(variants), encoder.dimension), dtype=np.float32)
    averages = None if wanted is None else np.zeros_like(pooled)
    run = _Variants(encoder, reference, variants, on_batch) if isinstance(encoder, ResidueEncoder) else None
    for start in range(0, len(variants), VARIANTS_AT_ONCE):
        part = slice(start, min(start + VARIANTS_AT_ONCE, len(variants)))
        chosen = None if wanted is None else wanted[part]
        if run is not None:
            pooled[part], means = run.encode(part, chosen)
        else:
            pooled[part], means = _plain(encoder, variants[part], chosen, on_batch)
        if averages is not None:
            averages[part] = means
    return pooled, averages


def _plain(
    encoder: Encoder, variants: list[str], wanted: list[list[int]] | None, on_batch: OnBatch | None
) -> tuple[NDArray[np.float32], Any]:
    """The same from an encoder of which nothing is known."""
    pooled = encoder.encode(variants, on_batch)
    if wanted is None:
        return pooled, None
    features = encoder.encode_residues(variants)
    return pooled, np.stack([f[p or slice(None)].mean(axis=0) for f, p in zip(features, wanted, strict=True)])


@dataclass(frozen=True, slots=True)
class _Region:
    """Residues ``own_start`` to ``own_stop`` of a variant, computed in a window ``start`` to ``stop``.

    They take the place of ``wild_start`` to ``wild_stop`` of the wild type.
    """

    variant: int
    start: int
    stop: int
    own_start: int
    own_stop: int
    wild_start: int
    wild_stop: int
    span: tuple[int, int] | None = None
    """The residues that differ, if the region is computed from the wild type's layers; its window is what it owns."""

    @property
    def owned(self) -> slice:
        return slice(self.own_start - self.start, self.own_stop - self.start)


class _Variants:
    """One call of :func:`encode_variants` with an encoder that computes features of residues in windows."""

    def __init__(self, encoder: ResidueEncoder, reference: str, variants: list[str], on_batch: OnBatch | None) -> None:
        self._encoder, self._reference, self._variants, self._on_batch = encoder, reference, variants, on_batch
        self._regions = [self._whole(i) for i in range(len(variants))]
        self._changed: set[int] = set()
        self._wild_features: NDArray[np.float32] | None = None
        if encoder.radius is not None:
            self._use_windows(encoder.radius)

    def encode(self, part: slice, wanted: list[list[int]] | None) -> tuple[NDArray[Any], Any]:
        """Vectors of the variants of this part, and averages over the positions wanted of each."""
        indices = range(part.start, part.stop)
        regions = [region for i in indices for region in self._regions[i]]
        sums: NDArray[np.float64] | None = None
        means = None if wanted is None else _Averages(wanted, self._encoder.dimension)
        for batch in self._batches(regions):
            added, features = self._computed(batch, means is not None)
            if means is not None:
                for region, feature in zip(batch, features, strict=True):
                    means.add(region.variant - part.start, region, feature)
            if sums is None:
                sums = np.zeros((len(indices), added.shape[1]), dtype=np.float64)
            np.add.at(sums, [region.variant - part.start for region in batch], added)
            self._report(batch)
        if sums is None:
            sums = np.zeros((len(indices), self._wild_sums.shape[1]), dtype=np.float64)
        for row, i in enumerate(indices):
            if i in self._changed:
                sums[row] += self._unchanged(self._regions[i])
        if means is not None:
            self._add_wild(means, part)
        lengths = np.array([len(self._variants[i]) for i in indices], dtype=np.float64)
        return self._encoder.finish(sums, lengths), None if means is None else means.result()

    def _batches(self, regions: list[_Region]) -> list[list[_Region]]:
        """Regions of one kind and of like length together."""
        found = []
        for from_layers in (False, True):
            some = [region for region in regions if (region.span is not None) == from_layers]
            lengths = [self._encoder.tokens(r.stop - r.start) for r in some]
            found += [[some[i] for i in batch] for batch in pack(lengths, self._encoder.token_budget)]
        return found

    def _computed(self, batch: list[_Region], with_features: bool) -> tuple[NDArray[np.floating], Any]:
        """Sums of what each region owns, and the features of its window if they are wanted."""
        if batch[0].span is not None:
            variants = [self._variants[region.variant] for region in batch]
            spans = [region.span for region in batch if region.span is not None]
            return self._encoder.changed_sums_and_features(self._states, variants, spans)
        variants = [self._variants[region.variant] for region in batch]
        texts = [variant[region.start : region.stop] for variant, region in zip(variants, batch, strict=True)]
        pieces = [Piece(r.owned, r.start, len(variant)) for variant, r in zip(variants, batch, strict=True)]
        if with_features:
            return self._encoder.pooled_sums_and_features(texts, pieces)
        return self._encoder.pooled_sums(texts, pieces), None

    def _whole(self, variant: int) -> list[_Region]:
        """All of a variant, in the windows that ``encode`` takes."""
        length, wild = len(self._variants[variant]), len(self._reference)
        windows = split(variant, length, self._encoder.max_length, self._encoder.overlap)
        return [_Region(variant, w.start, w.stop, w.own_start, w.own_stop, 0, wild) for w in windows]

    def _use_windows(self, radius: int) -> None:
        """Choose regions for the variants that get cheaper by them, if together they pay for the wild type."""
        limit = self._encoder.max_length or max(map(len, self._variants), default=0)
        self._states = self._encoder.states(self._reference)
        chosen: dict[int, list[_Region]] = {}
        saved = 0.0
        for i, variant in enumerate(self._variants):
            regions, tokens = self._around(i, variant, radius)
            whole = sum(self._encoder.tokens(r.stop - r.start) for r in self._regions[i])
            if tokens < WORTH * whole and all(r.stop - r.start <= limit for r in regions):
                chosen[i] = regions
                saved += whole - tokens
        if saved > self._encoder.tokens(len(self._reference)):
            self._changed = set(chosen)
            self._wild_sums = self._cumulated()
            for i, regions in chosen.items():
                self._regions[i] = regions

    def _around(self, index: int, variant: str, radius: int) -> tuple[list[_Region], float]:
        """Regions around a variant's changes, and as how many tokens they cost."""
        if self._states is None or len(variant) != len(self._reference):
            # Where the length changes, residues near an end join or leave those that are pooled there. With all of
            # them in a change's region, what lies outside of regions is pooled as in the wild type.
            regions = _around_changes(index, self._reference, variant, max(radius, self._encoder.ends))
            return regions, float(sum(self._encoder.tokens(r.stop - r.start) for r in regions))
        regions = _apart(index, self._reference, variant, radius)
        spans = [region.span for region in regions if region.span is not None]
        return regions, sum(self._encoder.changed_tokens(*span, len(variant)) for span in spans)

    def _cumulated(self) -> NDArray[np.float64]:
        """(length + 1, width) sums over the wild type's first residues of what is pooled."""
        length, encoder = len(self._reference), self._encoder
        parts = []
        for window in split(0, length, encoder.max_length, encoder.overlap):
            piece = Piece(window.owned, window.start, length)
            parts.append(encoder.pooled_rows([self._reference[window.start : window.stop]], [piece])[0][window.owned])
        rows = np.concatenate(parts)
        return np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])

    def _unchanged(self, regions: list[_Region]) -> NDArray[np.float64]:
        """Sum over the wild type's residues that no region takes the place of."""
        total: NDArray[np.float64] = self._wild_sums[-1].copy()
        for region in regions:
            total -= self._wild_sums[region.wild_stop] - self._wild_sums[region.wild_start]
        return total

    def _add_wild(self, means: _Averages, part: slice) -> None:
        """Add the features of those positions that lie outside the regions: the wild type's."""
        for row, i in enumerate(range(part.start, part.stop)):
            if i not in self._changed or not (missing := means.missing(row, self._regions[i], len(self._variants[i]))):
                continue
            if self._wild_features is None:
                self._wild_features = self._encoder.encode_residues([self._reference])[0]
            means.add_features(row, self._wild_features[_in_wild_type(missing, self._regions[i])])

    def _report(self, regions: list[_Region]) -> None:
        if self._on_batch:
            tokens = self._encoder.tokens(max(r.stop - r.start for r in regions)) * len(regions)
            self._on_batch(sum(r.own_stop - r.own_start for r in regions), tokens)


class _Averages:
    """Averages over chosen positions, collected window by window; ``wanted`` lists them for each variant."""

    def __init__(self, wanted: list[list[int]], dimension: int) -> None:
        self._wanted = [np.array(p, dtype=np.intp) for p in wanted]
        self._sums = np.zeros((len(wanted), dimension), dtype=np.float64)
        self._counts = np.zeros(len(wanted))

    def add(self, row: int, region: _Region, features: NDArray[np.float32]) -> None:
        """Take what a window, (its length, dimension), has of a variant's positions."""
        wanted = self._wanted[row]
        if not len(wanted):
            self.add_features(row, features[region.owned])
            return
        inside = wanted[(wanted >= region.own_start) & (wanted < region.own_stop)]
        self.add_features(row, features[inside - region.start])

    def add_features(self, row: int, features: NDArray[np.float32]) -> None:
        """Take features of residues, (k, dimension)."""
        self._sums[row] += features.sum(axis=0, dtype=np.float64)
        self._counts[row] += len(features)

    def missing(self, row: int, regions: list[_Region], length: int) -> list[int]:
        """The positions of a variant that none of its regions owns."""
        owned = np.zeros(length, dtype=bool)
        for region in regions:
            owned[region.own_start : region.own_stop] = True
        wanted = self._wanted[row] if len(self._wanted[row]) else np.arange(length)
        return [int(p) for p in wanted[~owned[wanted]]]

    def result(self) -> NDArray[np.float64]:
        return self._sums / self._counts[:, None]


def _around_changes(variant: int, wild: str, text: str, radius: int) -> list[_Region]:
    """Where a variant's features may differ from the wild type's; near regions are one."""
    regions: list[_Region] = []
    for start, stop, shift in _changes(wild, text):
        own_start, own_stop = max(0, start - radius), min(len(text), stop + radius)
        window = max(0, own_start - radius), min(len(text), own_stop + radius)
        if regions and window[0] < regions[-1].stop:
            last = regions.pop()
            own_start, window = last.own_start, (last.start, window[1])
        regions.append(_Region(variant, *window, own_start, own_stop, own_start, own_stop - shift))
    return regions


def _apart(variant: int, wild: str, text: str, radius: int) -> list[_Region]:
    """Where features of a variant of the wild type's length may differ: spans of changes that don't see each other."""
    spans: list[tuple[int, int]] = []
    for start, stop, _ in _changes(wild, text):
        if spans and start - spans[-1][1] < 2 * radius:
            start = spans.pop()[0]
        spans.append((start, stop))
    ranges = [(max(0, start - radius), min(len(text), stop + radius)) for start, stop in spans]
    return [_Region(variant, a, b, a, b, a, b, span) for (a, b), span in zip(ranges, spans, strict=True)]


def _changes(wild: str, text: str) -> list[tuple[int, int, int]]:
    """Stretches (start, stop, shift) of a variant that are not the wild type's; behind each the wild type goes on
    ``shift`` residues earlier. One stretch for a variant of another length."""
    if len(wild) == len(text):
        differs = [i for i in range(len(text)) if wild[i] != text[i]]
        return [(i, i + 1, 0) for i in differs]
    shorter = min(len(wild), len(text))
    same = [a == b for a, b in zip(wild, text, strict=False)]
    before = next((i for i in range(shorter) if not same[i]), shorter)
    room = shorter - before
    behind = next((i for i in range(room) if wild[-1 - i] != text[-1 - i]), room)
    return [(before, len(text) - behind, len(text) - len(wild))]


def _in_wild_type(positions: list[int], regions: list[_Region]) -> list[int]:
    """The wild type's positions of residues outside the regions."""
    return [p + sum(r.wild_stop - r.own_stop for r in regions if r.own_stop <= p) for p in positions]
