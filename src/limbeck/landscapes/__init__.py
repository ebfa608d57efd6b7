"""Landscapes: does this assay need transfer learning? Baselines, honest splits, a verdict, and a model to use.

:func:`landscape` does all of it and gives a :class:`Comparison`; :func:`predict` and :func:`saturate` use the model
that it saved, :func:`explain` names the training variants behind a prediction, :func:`propose` the variants to
measure next. Without an assay :func:`predict`, :func:`saturate` and :func:`propose` take the name of what needs no
label. Needs the extra ``limbeck[landscape]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.landscapes.assay import Assay as Assay
    from limbeck.landscapes.comparison import Comparison as Comparison
    from limbeck.landscapes.explaining import explain as explain
    from limbeck.landscapes.predicting import predict as predict
    from limbeck.landscapes.predicting import saturate as saturate
    from limbeck.landscapes.proposing import propose as propose
    from limbeck.landscapes.reading import read_assay as read_assay
    from limbeck.landscapes.run import landscape as landscape

__all__ = ["Assay", "Comparison", "explain", "landscape", "predict", "propose", "read_assay", "saturate"]

_PLACES = {
    "Assay": "assay",
    "Comparison": "comparison",
    "explain": "explaining",
    "landscape": "run",
    "predict": "predicting",
    "propose": "proposing",
    "read_assay": "reading",
    "saturate": "predicting",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Imported when asked for: they need pandas and scikit-learn, and modules of this package need not.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
