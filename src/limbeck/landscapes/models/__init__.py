"""The ladder of models, from the training mean up.

``MODELS`` gives each class by its name, which is how a saved model names it. A class is imported when it is asked for:
the neural networks need PyTorch, the others only scikit-learn and SciPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from limbeck.landscapes.models.base import Model

__all__ = ["MODELS", "Model"]

_MODULES = {
    "MeanModel": "limbeck.landscapes.models.mean",
    "RidgeModel": "limbeck.landscapes.models.ridge",
    "GaussianProcessModel": "limbeck.landscapes.models.gaussian_process",
    "InContextLinearModel": "limbeck.landscapes.models.in_context",
    "LinearRanker": "limbeck.landscapes.models.ranker",
    "ZeroLabelModel": "limbeck.landscapes.models.zero_labels",
    "MaxPoolCNN": "limbeck.landscapes.networks",
    "DilatedCNN": "limbeck.landscapes.networks",
    "LinearMaxPoolCNN": "limbeck.landscapes.networks",
    "CNNEnsemble": "limbeck.landscapes.networks",
    "BiLSTM": "limbeck.landscapes.networks",
    "InContextModel": "limbeck.landscapes.in_context",
}


class _Models(Mapping[str, type[Model]]):
    """Class by name, imported on demand."""

    def __getitem__(self, name: str) -> type[Model]:
        return getattr(import_module(_MODULES[name]), name)

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


MODELS: Mapping[str, type[Model]] = _Models()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return MODELS[name]
