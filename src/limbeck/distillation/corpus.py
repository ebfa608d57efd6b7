"""The proteins that a student learns from, their homology profiles and families, and how batches are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.records import Locator, clean_record, read_records
from limbeck.residues import PAD_ID, RESIDUES, UNKNOWN_ID, to_ids

__all__ = ["CROP_LENGTHS", "Batch", "BatchDraw", "Corpus", "write_corpus"]

CROP_LENGTHS = (64, 128, 256, 384, 512)
"""Every batch has one of these lengths: shapes that never change can be compiled."""
SHORT_CROPS = 0.1
"""Share of the batches that are crops of the shortest length from proteins of any length. Short proteins are few in
nature and many in the laboratory; without such crops a student hardly sees a residue whose neighbours are missing."""
MINIMUM_LENGTH = 40
_ROWS = ("ids", "mask", "hidden", "residues", "profiles", "proteins", "starts", "families")
_LETTERS = np.frombuffer((RESIDUES + "X").encode(), dtype=np.uint8)


@dataclass(frozen=True)
class Batch:
    """Crops of equal length from several proteins."""

    ids: NDArray[np.uint8]
    """(rows, length) residue ids, some replaced by ``UNKNOWN_ID``, ``PAD_ID`` beyond the protein."""
    mask: NDArray[np.bool_]
    """(rows, length) true where there is a residue."""
    hidden: NDArray[np.bool_]
    """(rows, length) true where the residue was replaced by ``UNKNOWN_ID``."""
    residues: NDArray[np.uint8]
    """(rows, length) the residue ids before any was hidden."""
    profiles: NDArray[np.float16] | None
    """(rows, margin + length + margin, 20) homology profiles of the crop and of what lies beside it, if the corpus
    has profiles."""
    proteins: NDArray[np.int64]
    """(rows,) index of the protein in the corpus."""
    starts: NDArray[np.int64]
    """(rows,) first residue of the crop."""
    families: NDArray[np.int64]
    """(rows,) family of the protein."""
    residues_per_row: float
    """Mean number of residues in a row of the whole batch, of which this may be a part: a loss divided by it averages
    over processes and micro-batches to what it would be over the whole."""
    hidden_per_row: float
    """The same for hidden residues; above 0 even if there is none."""

    def __len__(self) -> int:
        return len(self.proteins)

    def parts(self, count: int) -> list[Batch]:
        """The batch in ``count`` parts of equal numbers of rows, each with pairs of one family left together."""
        rows = {name: getattr(self, name) for name in _ROWS if getattr(self, name) is not None}
        size = len(self) // count
        if size * count != len(self):
            raise ValueError(f"{len(self)} rows cannot be split into {count} equal parts")
        return [
            replace(self, **{name: value[i * size : (i + 1) * size] for name, value in rows.items()})
            for i in range(count)
        ]


def write_corpus(path: Path, proteins: Iterable[tuple[str, str, str, NDArray[np.floating]]]) -> tuple[int, int]:
    """Write (id, family, cleaned sequence, (length, 20) profile) of each protein to an HDF5 file.

    Returns:
        The number of proteins and of residues.
    """
    names, families, offsets, residues = [], [], [0], 0
    with whole(path) as partial, h5py.File(partial, "w") as file:
        ids = file.create_dataset("ids", (0,), "u1", maxshape=(None,), chunks=(1 << 16,))
        profiles = file.create_dataset("profiles", (0, 20), "f2", maxshape=(None, 20), chunks=(1 << 12, 20))
        for name, family, sequence, profile in proteins:
            names.append(name)
            families.append(family)
            residues += len(sequence)
            offsets.append(residues)
            ids.resize(residues, axis=0)
            profiles.resize(residues, axis=0)
            ids[offsets[-2] :] = to_ids(sequence)
            profiles[offsets[-2] :] = profile.astype(np.float16)
        file["offsets"] = np.array(offsets, dtype=np.int64)
        file["names"] = np.array(names, dtype=h5py.string_dtype())
        file["families"] = np.array(families, dtype=h5py.string_dtype())
    return len(names), residues


class Corpus:
    """A corpus in memory: 1 byte a residue, and 40 more if it has profiles.

    Args:
        path: what :func:`write_corpus` wrote, or proteins in any format that ``limbeck embed`` reads; those have no
            profiles, and only equal sequences form a family.
        held_out: share of the families kept for validation. Whole families, so that no validation protein
            has a member of its family among the training proteins.

    Raises:
        InputError: if the file is no corpus, or a record is bad.
    """

    def __init__(self, path: Path, held_out: float = 0.015) -> None:
        self.profiles: NDArray[np.float16] | None = None
        families = self._read_hdf5(path) if h5py.is_hdf5(path) else self._read_records(path)
        self.lengths = np.diff(self.offsets)
        _, self.families = np.unique(families, return_inverse=True)
        if not len(families):
            raise InputError(f"{path}: the corpus holds no protein; make another with 'limbeck profiles'")
        rng = np.random.default_rng(0)
        draws = rng.random(self.families.max() + 1)
        # A small corpus holds out one family all the same.
        usable = np.unique(self.families[self.lengths >= MINIMUM_LENGTH])
        held = draws <= max(held_out, draws[usable].min() if len(usable) else 0.0)
        self.is_validation = held[self.families]

    def __len__(self) -> int:
        return len(self.lengths)

    def sequence(self, protein: int) -> str:
        """The cleaned sequence of one protein."""
        ids = self.ids[self.offsets[protein] : self.offsets[protein + 1]]
        return _LETTERS[ids].tobytes().decode()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the sequences in their order."""
        digest = hashlib.sha256(self.offsets.tobytes())
        digest.update(self.ids)
        return digest.hexdigest()

    def _read_hdf5(self, path: Path) -> NDArray[np.object_]:
        try:
            with h5py.File(path) as file:
                self.ids, self.profiles = file["ids"][:], file["profiles"][:]
                self.offsets = file["offsets"][:]
                families: NDArray[np.object_] = file["families"][:]
        except (OSError, KeyError) as error:
            raise InputError(f"{path}: not a corpus of profiles ({error}); make one with 'limbeck profiles'") from None
        return families

    def _read_records(self, path: Path) -> NDArray[np.str_]:
        locator = Locator(path)
        proteins = [to_ids(clean_record(record, locator)) for record in read_records(path)]
        self.ids = np.concatenate(proteins)
        self.offsets = np.cumsum([0, *map(len, proteins)])
        # Copies of one protein must not stand on both sides of the validation split.
        return np.array([hashlib.sha256(protein.tobytes()).hexdigest() for protein in proteins])

    def crop(
        self,
        proteins: NDArray[np.int64],
        length: int,
        rng: np.random.Generator,
        *,
        margin: int,
        masked: float = 0.0,
    ) -> Batch:
        """Cut one random crop of ``length`` residues from each protein, padding those that are shorter.

        Args:
            margin: columns of the profile to add on either side (zeros beyond the protein's ends).
            masked: share of the residues replaced by X, to be read off their neighbours.
        """
        rows = len(proteins)
        ids = np.full((rows, length), PAD_ID, dtype=np.uint8)
        mask = np.zeros((rows, length), dtype=np.bool_)
        with_profiles = self.profiles is not None
        profiles = np.zeros((rows, length + 2 * margin, 20), dtype=np.float16) if with_profiles else None
        starts = np.zeros(rows, dtype=np.int64)
        for row, protein in enumerate(proteins):
            offset, size = self.offsets[protein], self.lengths[protein]
            start = starts[row] = rng.integers(max(0, size - length) + 1)
            stop = min(size, start + length)
            ids[row, : stop - start] = self.ids[offset + start : offset + stop]
            mask[row, : stop - start] = True
            if profiles is not None and self.profiles is not None:
                left, right = max(0, start - margin), min(size, stop + margin)
                at = left - (start - margin)
                profiles[row, at : at + right - left] = self.profiles[offset + left : offset + right]
        hidden = mask & (rng.random(ids.shape) < masked)
        residues = ids.copy()
        ids[hidden] = UNKNOWN_ID
        per_row = float(mask.sum() / rows), max(float(hidden.sum() / rows), 1e-6)
        return Batch(ids, mask, hidden, residues, profiles, proteins, starts, self.families[proteins], *per_row)


class BatchDraw:
    """Draws batches as a function of the seed and the step alone, so that a resumed run sees what an
    uninterrupted one would have seen.

    With ``pairs`` up to half of a batch are pairs from one family, for contrast; the rest are single proteins. A
    protein is cropped to the longest of ``CROP_LENGTHS`` that it fills. How often a length occurs follows from the
    residues that the corpus has at it, but for :data:`SHORT_CROPS`.

    Args:
        corpus: where to draw from.
        residues: residues in a batch, about.
        seed: changes every draw.
        validation: draw from the families held out.
        by_family: draw families evenly, and a protein of each, instead of proteins evenly.
        chosen: (proteins,) bool, the proteins that may be drawn; all by default.
        multiple: the number of rows is a multiple of it.
        pairs: draw pairs of one family for up to half of the rows.
    """

    def __init__(
        self,
        corpus: Corpus,
        residues: int,
        seed: int,
        *,
        validation: bool = False,
        by_family: bool = False,
        chosen: NDArray[np.bool_] | None = None,
        multiple: int = 1,
        pairs: bool = True,
    ) -> None:
        self.corpus, self.residues, self.seed, self.multiple, self.pairs = corpus, residues, seed, multiple, pairs
        usable = (corpus.is_validation == validation) & (corpus.lengths >= MINIMUM_LENGTH)
        if chosen is not None:
            usable &= chosen
        votes = np.ones(len(corpus))
        if by_family:
            sizes = np.bincount(corpus.families[usable], minlength=corpus.families.max() + 1)
            votes = 1.0 / np.maximum(sizes, 1)[corpus.families]
        bucket = np.maximum(np.searchsorted(CROP_LENGTHS, corpus.lengths, side="right") - 1, 0)
        self._singles = [np.flatnonzero(usable & (bucket == b)) for b in range(len(CROP_LENGTHS))]
        # Pieces of 64 residues of two long relatives would seldom be pieces of the same place.
        longest = [0, *range(2, len(CROP_LENGTHS) + 1)]
        self._pairs = [
            self._family_members(np.flatnonzero(usable & (bucket >= b) & (bucket <= longest[b])))
            for b in range(len(CROP_LENGTHS))
        ]
        weight = np.array([votes[s].sum() * length for s, length in zip(self._singles, CROP_LENGTHS, strict=True)])
        if not weight.sum():
            kind = "validation" if validation else "training"
            raise InputError(f"the corpus has no {kind} protein of at least {MINIMUM_LENGTH} residues")
        self._probability = (1 - SHORT_CROPS) * weight / weight.sum()
        self._votes = [votes[s] / votes[s].sum() if by_family and len(s) else None for s in self._singles]
        # Proteins that fill longer crops join the shortest ones, with their share of the votes.
        short, longer = self._singles[0], np.flatnonzero(usable & (bucket > 0))
        masses = np.array([self._probability[0], SHORT_CROPS if len(longer) else 0.0])
        self._probability[0] += SHORT_CROPS
        if len(longer):
            parts = [m * votes[s] / max(votes[s].sum(), 1e-300) for m, s in zip(masses, (short, longer), strict=True)]
            self._singles[0], joined = np.concatenate([short, longer]), np.concatenate(parts)
            self._votes[0] = joined / joined.sum()

    def _family_members(self, proteins: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        order = proteins[np.argsort(self.corpus.families[proteins], kind="stable")]
        groups = np.split(order, np.flatnonzero(np.diff(self.corpus.families[order])) + 1)
        return [group for group in groups if len(group) > 1]

    def draw(self, step: int, *, margin: int, masked: float = 0.0) -> Batch:
        """The batch of one step; see :meth:`Corpus.crop` for ``margin`` and ``masked``."""
        rng = np.random.default_rng([self.seed, step])
        bucket = int(rng.choice(len(CROP_LENGTHS), p=self._probability))
        length = CROP_LENGTHS[bucket]
        # An even number to a part, so that a pair is never split.
        unit = 2 * self.multiple
        rows = max(unit, self.residues // length // unit * unit)
        families = self._pairs[bucket]
        chosen: list[NDArray[np.int64]] = []
        wanted = min(rows // 4, len(families)) if self.pairs else 0
        for index in rng.choice(len(families), size=wanted, replace=False) if wanted else ():
            chosen.append(rng.choice(families[index], size=2, replace=False))
        paired = sum(map(len, chosen))
        chosen.append(rng.choice(self._singles[bucket], size=rows - paired, p=self._votes[bucket]))
        return self.corpus.crop(np.concatenate(chosen), length, rng, margin=margin, masked=masked)
