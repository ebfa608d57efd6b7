"""A model to use: a fitted one with the variants that it was fitted to, in one folder; or by name, what needs none."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models import Model
from limbeck.landscapes.models.saved import load_model, load_training, save
from limbeck.landscapes.models.zero_labels import ZeroLabelModel
from limbeck.landscapes.wild_types import read_wild_types

__all__ = ["IN_CONTEXT", "Trained", "is_saved", "model_folder", "open_model", "open_trained", "save_trained"]

IN_CONTEXT = "limbeck-in-context"
"""Name of the in-context predictor that comes with limbeck."""


@dataclass(frozen=True)
class Trained:
    """A model to use.

    Attributes:
        name: of the model, as people read it.
        model: fitted.
        assay: the variants that it was fitted to, none for what needs no label; without replicates, splits and lines.
        notes: what is to be known of its predictions, in sentences; none for a model that was fitted.
    """

    name: str
    model: Model
    assay: Assay
    notes: list[str] = field(default_factory=list)


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


def model_folder(model: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Where the model is, if this is the folder of a report; else what was given, which holds one or is a name."""
    path = Path(model)
    return path / "model" if (path / "report.json").exists() else model


def is_saved(model: str | os.PathLike[str]) -> bool:
    """Whether this is a folder, of a saved model if of anything, and no name: an encoder's folder is a name, too."""
    return Path(model).is_dir() and not (Path(model) / "config.json").exists()


def open_model(
    model: str | os.PathLike[str], wild_type: str | os.PathLike[str] | None = None, first_position: int | None = None
) -> Trained:
    """A saved model by its folder; or, by its name, what ranks the variants of a protein without a label.

    Args:
        model: what :func:`save_trained` wrote; or :data:`IN_CONTEXT`, or an encoder with ``log_probabilities`` as
            :func:`limbeck.load` takes it. A folder goes before a name.
        wild_type: for a name the protein: a sequence, or a FASTA file with one. A saved model knows its own.
        first_position: number of the protein's first residue; ``None`` is 1, or what a file of mutations says.

    Raises:
        InputError: as :func:`open_trained` does; or if there is no such name, the encoder has no probabilities of
            residues, or there is no such protein.
    """
    if is_saved(model):
        return open_trained(model)
    name = os.fspath(model)
    if wild_type is None:
        raise InputError(
            f"{name}: no folder of a saved model; to score without labels by a name, say of which protein: --wild-type "
            "(a sequence or a FASTA file), or --saturate with one"
        )
    proteins = read_wild_types(wild_type, "wild type", "")
    if len(proteins) != 1:
        raise InputError(f"{os.fspath(wild_type)}: holds {len(proteins)} proteins; give the one to score variants of")
    ((title, protein),) = proteins.items()
    title = title or "the protein"
    assay = Assay(
        name=title,
        rows=[],
        scores=np.empty(0),
        parents=np.empty(0, dtype=object),
        wild_types={title: protein},
        first_position={} if first_position is None else {title: first_position},
    )
    notes = [f"Scores of {name} without labels only rank variants: higher is better, and they have no units."]
    if name == IN_CONTEXT:
        found, learned = _in_context(protein)
        notes += learned
    else:
        found = ZeroLabelModel(name, wild_types=(protein,)).without_labels()
    return Trained(f"{name} without labels", found, assay, notes)


def _in_context(protein: str) -> tuple[Model, list[str]]:
    """The network without labels, and a warning if it learned from measurements of the protein."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(f"{IN_CONTEXT} needs PyTorch; pip install 'limbeck[landscape]'")
    from limbeck.landscapes.in_context import InContextModel

    model = InContextModel.of_file(wild_types=(protein,)).without_labels()
    known = model.learned_as()
    if known is None:
        return model, []
    return model, [
        f"Warning: {IN_CONTEXT} learned from measurements of this protein or one much like it ({known}): how well it "
        "ranks these variants says nothing of other proteins."
    ]


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
