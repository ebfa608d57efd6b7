"""Features of a teacher over a corpus: computed once, kept on disk, resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.distillation.corpus import Corpus
from limbeck.distillation.files import whole
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

__all__ = ["TeacherFeatures"]

PROTEINS_PER_STEP = 256
STATISTICS_RESIDUES = 200_000


class TeacherFeatures:
    """Residue features of one teacher for every protein of a corpus: (residues, dimension) float16 in one file.

    The folder is named by teacher and corpus, so a cache is never taken for another's. It also holds how far an
    unfinished computation came; opening it again goes on from there.

    Args:
        folder: where caches live.
        teacher: any encoder with residue features.
        corpus: the proteins.
        on_progress: called with (residues done, residues in all).

    Raises:
        InputError: if the disk has no room, or the teacher gives a feature that is not finite.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Encoder,
        corpus: Corpus,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        # An encoder without features of residues says so now, before anything is written.
        teacher.encode_residues(["A"])
        self.name, self.dimension, self.corpus = teacher.name, teacher.dimension, corpus
        key = f"{teacher.fingerprint}\n{teacher.precision}\n{corpus.fingerprint}"
        self.fingerprint = hashlib.sha256(key.encode()).hexdigest()
        self.folder = folder / self.fingerprint[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._state = self.folder / "state.json"
        shape = (int(corpus.offsets[-1]), self.dimension)
        values = self.folder / "residues.npy"
        done = self._proteins_done() if values.exists() else 0
        if not values.exists():
            self._check_room(shape)
        self._values = np.lib.format.open_memmap(
            values, mode="r+" if values.exists() else "w+", dtype=np.float16, shape=shape
        )
        for first in range(done, len(corpus), PROTEINS_PER_STEP):
            self._compute(teacher, range(first, min(first + PROTEINS_PER_STEP, len(corpus))))
            if on_progress:
                on_progress(int(corpus.offsets[min(first + PROTEINS_PER_STEP, len(corpus))]), shape[0])
        self.mean, self.scale = self._statistics()

    def crops(self, proteins: NDArray[np.int64], starts: NDArray[np.int64], length: int) -> NDArray[np.float32]:
        """Standardised features of crops, (rows, length, dimension); zero beyond a protein's end."""
        result = np.zeros((len(proteins), length, self.dimension), dtype=np.float32)
        for row, (protein, start) in enumerate(zip(proteins, starts, strict=True)):
            begin = self.corpus.offsets[protein] + start
            end = min(begin + length, self.corpus.offsets[protein + 1])
            result[row, : end - begin] = (self._values[begin:end] - self.mean) / self.scale
        return result

    def _proteins_done(self) -> int:
        try:
            return int(json.loads(self._state.read_text())["proteins"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _compute(self, teacher: Encoder, proteins: range) -> None:
        features = teacher.encode_residues([self.corpus.sequence(p) for p in proteins])
        for protein, values in zip(proteins, features, strict=True):
            if not np.isfinite(values).all():
                raise InputError(f"teacher {self.name} gives features that are not finite for protein {protein + 1}")
            if np.abs(values).max() > np.finfo(np.float16).max:
                raise InputError(f"features of teacher {self.name} exceed the range of float16; choose another layer")
            self._values[self.corpus.offsets[protein] : self.corpus.offsets[protein + 1]] = values
        self._values.flush()
        with whole(self._state) as partial:
            partial.write_text(json.dumps({"proteins": proteins.stop}))

    def _check_room(self, shape: tuple[int, int]) -> None:
        needed, free = 2 * shape[0] * shape[1], shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"the features of {self.name} need {needed / 1e9:.1f} GB in {self.folder.parent}, which has "
                f"{free / 1e9:.1f} GB free; choose another --cache or a smaller corpus"
            )

    def _statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = np.random.default_rng(0)
        total = len(self._values)
        rows = np.sort(rng.choice(total, size=min(total, STATISTICS_RESIDUES), replace=False))
        sample = self._values[rows].astype(np.float32)
        # A feature that never varies has nothing to teach; it must not be blown up either.
        return sample.mean(0), np.maximum(sample.std(0), 1e-4)
