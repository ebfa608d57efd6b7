"""What a model predicted, kept under all that determines it: adding an encoder refits nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from limbeck.files import whole

__all__ = ["Fit", "Fits"]

VERSION = 1
"""Raise it when a model of the same name and arguments learns something else."""


@dataclass(frozen=True)
class Fit:
    """Predictions of one fitted model.

    Attributes:
        valid: of the validation rows, (n_valid,).
        test: of the test rows, (n_test,).
        std: standard deviations of the test rows' new measurements, (n_test,); NaN where the model has none.
        seconds: that fitting and predicting took.
    """

    valid: NDArray[np.float64]
    test: NDArray[np.float64]
    std: NDArray[np.float64]
    seconds: float


class Fits:
    """A folder of fits.

    Args:
        folder: where they are kept; ``None`` keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, determined_by: Mapping[str, Any], compute: Callable[[Path | None], Fit]) -> Fit:
        """The fit that all of ``determined_by`` (written as JSON) determines: as kept, or computed and kept.

        Args:
            compute: is given a folder for checkpoints, one for all fits, so that an ensemble finds its members where
                they were fitted alone; ``None`` if nothing is kept.
        """
        if self._folder is None:
            return compute(None)
        text = json.dumps({"version": VERSION, **determined_by}, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"
        found = _read(path, text)
        if found is not None:
            return found
        fit = compute(self._folder / "training")
        self._folder.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            arrays = {"valid": fit.valid, "test": fit.test, "std": fit.std}
            save_file(arrays, partial, {"determined_by": text, "seconds": repr(fit.seconds)})
        return fit


def _read(path: Path, text: str) -> Fit | None:
    """A kept fit; none if there is none, or it is damaged, or another one has its name."""
    try:
        with safe_open(path, "numpy") as file:
            notes = file.metadata() or {}
            if notes.get("determined_by") != text:
                return None
            valid, test, std = (np.asarray(file.get_tensor(name), np.float64) for name in ("valid", "test", "std"))
            return Fit(valid, test, std, float(notes["seconds"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
