"""A fitted model in a folder, without pickle.

``model.json``            format, class, constructor's arguments, encoder, what predictions need to know, checksums
``weights.safetensors``   fitted tensors
``training.csv.gz``       rows and scores that it was fitted to, if they were given

``model.json`` is written last and names the SHA-256 of the other files, so a folder is read only if it is whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from limbeck.encoders.registry import file_hash
from limbeck.errors import InputError
from limbeck.files import finished, whole
from limbeck.landscapes.models import MODELS, Model
from limbeck.landscapes.models.base import Data, checked_data
from limbeck.version import __version__

__all__ = ["check_free", "load_model", "load_training", "save"]

FORMAT = "limbeck-landscape-model"
VERSION = 1
_DESCRIPTION, _WEIGHTS, _TRAINING = "model.json", "weights.safetensors", "training.csv.gz"


def save(model: Model, folder: str | Path, meta: Mapping[str, Any], training: Data | None = None) -> None:
    """Write a fitted model to a folder, which is made, or which holds an older model.

    Args:
        model: fitted.
        folder: where to.
        meta: what predictions need to know (wild types, layout, first positions, name of the assay), as JSON can hold.
        training: rows and scores that the model was fitted to, which explanations need.

    Raises:
        sklearn.exceptions.NotFittedError: before ``fit``.
        InputError: if the folder holds something else, or an argument can't be written as JSON.
    """
    model.fitted_rows([])
    target = Path(folder)
    check_free(target)
    description = {
        "format": FORMAT,
        "version": VERSION,
        "limbeck": __version__,
        "class": type(model).__name__,
        "parameters": _portable(model),
        "encoder": _encoder(model),
        "meta": dict(meta),
    }
    try:
        json.dumps(description)
    except TypeError as error:
        raise InputError(f"{target}: the model can't be saved: {error}; give encoders by name or path") from None
    target.mkdir(parents=True, exist_ok=True)
    # Without its description, whatever is in the folder is no model: an older one is not mixed with the new one.
    (target / _DESCRIPTION).unlink(missing_ok=True)
    with whole(target / _WEIGHTS) as partial:
        save_file(
            {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in model.state().items()}, partial
        )
    (target / _TRAINING).unlink(missing_ok=True)
    if training is not None:
        with whole(target / _TRAINING) as partial:
            partial.write_bytes(_training_table(training))
    files = [name for name in (_WEIGHTS, _TRAINING) if (target / name).exists()]
    description["sha256"] = {name: file_hash(target / name) for name in files}
    with whole(target / _DESCRIPTION) as partial:
        partial.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def load_model(folder: str | Path) -> tuple[Model, dict[str, Any]]:
    """A fitted model and the ``meta`` it was saved with.

    An encoder is loaded at the first prediction, which refuses any but the one that the model was fitted with.

    Raises:
        InputError: if the folder holds no model, or it is damaged, or made by a newer limbeck, or its encoder's
            folder or file is gone.
    """
    source = Path(folder)
    description = _description(source)
    _check_files(source, description, [_WEIGHTS])
    parameters = {name: _tuples(value) for name, value in description["parameters"].items()}
    if description["encoder"] is not None:
        parameters["encoder"] = _found_encoder(source, parameters["encoder"], description["encoder"].get("path"))
    try:
        model = MODELS[description["class"]](**parameters)
        return model.restore(load_file(source / _WEIGHTS)), description["meta"]
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: the model does not fit its description ({error}); save it again") from None


def load_training(folder: str | Path) -> tuple[list[str], NDArray[np.float64]]:
    """Rows and scores, (n,), that a saved model was fitted to.

    Raises:
        InputError: if the folder holds no model or not its training data, or they are damaged.
    """
    source = Path(folder)
    description = _description(source)
    if _TRAINING not in description["sha256"]:
        raise InputError(f"{source}: the model was saved without its training data; save it with them")
    _check_files(source, description, [_TRAINING])
    with gzip.open(source / _TRAINING, "rt", encoding="ascii", newline="") as file:
        table = list(csv.DictReader(file))
    return [line["row"] for line in table], np.array([float(line["score"]) for line in table])


def check_free(folder: Path) -> None:
    """Refuse a folder with anything but an older model.

    Raises:
        InputError: if it holds something else, or is none.
    """
    if folder.is_dir() and not finished(folder) <= {_DESCRIPTION, _WEIGHTS, _TRAINING}:
        raise InputError(f"{folder}: the folder holds something else than a model; give a new folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder; give a new name")


def _portable(model: Model) -> dict[str, Any]:
    """The constructor's arguments that hold anywhere: a cache is of the machine."""
    parameters: dict[str, Any] = model.get_params(deep=False)
    return parameters | {"cache": None} if "cache" in parameters else parameters


def _encoder(model: Model) -> dict[str, Any] | None:
    encoder = model.embedder()
    if encoder is None:
        return None
    facts = {name: getattr(encoder, name) for name in ("name", "version", "fingerprint", "precision", "license")}
    given = model.get_params(deep=False)["encoder"]
    if isinstance(given, str) and Path(given).exists():
        facts["path"] = str(Path(given).resolve())
    return facts


def _found_encoder(folder: Path, given: str | None, path: str | None) -> str | None:
    """What to load: the path the encoder had, or, from where the user is now, the one that was given."""
    if path is None or given is None:
        return given
    for place in (path, given):
        if Path(place).exists():
            return place
    raise InputError(f"{folder}: its encoder is not at {path} any more; put it back, or train the model again")


def _description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{folder}: no saved model, {_DESCRIPTION} is missing; give a model's folder") from None
    except ValueError:
        raise InputError(f"{folder}: {_DESCRIPTION} is damaged; save the model again") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{folder}: {_DESCRIPTION} is not of a model that limbeck saved; give a model's folder")
    if description.get("version") != VERSION:
        raise InputError(f"{folder}: a model of format {description.get('version')}, not {VERSION}; update limbeck")
    kinds = {"class": str, "parameters": dict, "meta": dict, "sha256": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(description.get(key), kind)]
    if wrong or not isinstance(description.get("encoder"), (dict, type(None))):
        raise InputError(f"{folder}: {_DESCRIPTION} is damaged at {(*wrong, 'encoder')[0]!r}; save the model again")
    return description


def _check_files(folder: Path, description: dict[str, Any], names: list[str]) -> None:
    for name in names:
        path = folder / name
        if not path.is_file() or file_hash(path) != description["sha256"].get(name):
            raise InputError(f"{folder}: {name} is missing or damaged; save the model again")


def _training_table(training: Data) -> bytes:
    """The rows and scores as compressed CSV; the same data give the same bytes."""
    rows, scores = checked_data(*training)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("row", "score"))
    writer.writerows((row, repr(score)) for row, score in zip(rows, scores.tolist(), strict=True))
    return gzip.compress(text.getvalue().encode("ascii"), mtime=0)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, which scikit-learn's arguments are written in."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
