"""What was computed once, kept in a folder under all that determines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.files import whole

__all__ = ["kept_array", "kept_json"]


def kept_json(cache: Path | None, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``compute`` gives, as JSON has it; without a folder it is computed each time."""
    if cache is None:
        return compute()
    path = _path(cache, key, "json")
    if not path.exists():
        computed = compute()
        with whole(path) as partial:
            partial.write_text(json.dumps(computed), encoding="utf-8")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def kept_array(cache: Path | None, key: str, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """The same for an array."""
    if cache is None:
        return compute()
    path = _path(cache, key, "npy")
    if not path.exists():
        computed = compute()
        with whole(path) as partial, partial.open("wb") as file:
            np.save(file, computed)
    return np.load(path, allow_pickle=False)


def _path(cache: Path, key: str, ending: str) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    return cache / f"{hashlib.sha256(key.encode()).hexdigest()}.{ending}"
