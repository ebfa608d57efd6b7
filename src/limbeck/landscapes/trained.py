"""A fitted model with the variants that it was fitted to, in one folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models import Model
from limbeck.landscapes.models.saved import load_model, load_training, save

__all__ = ["Trained", "model_folder", "open_trained", "save_trained"]


@dataclass(frozen=True)
class Trained:
    """A model to use.

    Attributes:
        name: of the model, as people read it.
        model: fitted.
        assay: the variants that it was fitted to; without replicates, splits and lines.
    """

    name: str
    model: Model
    assay: Assay


def save_trained(model: Model, folder: str | os.PathLike[str], assay: Assay, name: str) -> None:
    """Write a model and the variants that it was fitted to into a folder; see :mod:`limbeck.landscapes.models.saved`.

    Raises:
        InputError: if the folder holds something else.
    """
    names = [*assay.wild_types, ""]
    places = {parent: number for number, parent in enumerate(names)}
    parents = [places[str(parent)] for parent in assay.parents]
    meta = {
        "name": name,
        "assay": {
            "name": assay.name,
            "layout": assay.layout,
            "wild_types": dict(assay.wild_types),
            "first_position": {parent: int(first) for parent, first in assay.first_position.items()},
            # Most assays are of one protein.
            "parents": parents if len(set(parents)) > 1 else parents[:1],
        },
    }
    save(model, Path(folder), meta, (assay.rows, assay.scores))


def model_folder(folder: str | os.PathLike[str]) -> Path:
    """Where the model is, of a folder that holds one or of a report's."""
    path = Path(folder)
    return path / "model" if (path / "report.json").exists() else path


def open_trained(folder: str | os.PathLike[str]) -> Trained:
    """Read what :func:`save_trained` wrote.

    Raises:
        InputError: if the folder holds no model with its training variants, or it is damaged.
    """
    model, meta = load_model(Path(folder))
    rows, scores = load_training(Path(folder))
    try:
        about: dict[str, Any] = meta["assay"]
        names = [*about["wild_types"], ""]
        places = about["parents"] * (len(rows) if len(about["parents"]) == 1 else 1)
        assay = Assay(
            name=about["name"],
            rows=rows,
            scores=scores,
            parents=np.array([names[place] for place in places], dtype=object),
            wild_types=about["wild_types"],
            layout=about["layout"],
            first_position=about["first_position"],
        )
        return Trained(str(meta["name"]), model, assay)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        problem = f"its model.json does not describe the training variants ({error!r})"
        raise InputError(f"{os.fspath(folder)}: {problem}; save the model again") from None
