"""A fine-tuned encoder with its head: using it, and keeping it in a folder, without pickle; a student without PyTorch.

Of a student:

``config.json``           the student's, so that ``limbeck.load`` opens the folder as an encoder of its own
``model.safetensors``     the student's weights, float32

Of another encoder, which may be large, and not ours to hand on:

``adapters.json``         which encoder it is, by name and fingerprint, and what was learned
``adapters.safetensors``  the numbers that were learned, float32

Of both:

``head.safetensors``      the head's
``head.json``             what is predicted, what it was learned from, checksums

``head.json`` is written last and names the SHA-256 of the others, so a folder is read only if it is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from limbeck.encoders.base import ResidueEncoder, cleaned
from limbeck.encoders.registry import Options, file_hash
from limbeck.encoders.student import StudentEncoder, Weights, student_files
from limbeck.errors import InputError
from limbeck.files import finished, whole

__all__ = ["FineTuned", "load_finetuned"]

Floats = NDArray[np.float32]

FORMAT = "limbeck-fine-tuned"
VERSION = 1
_DESCRIPTION = "head.json"
_STUDENT = ("config.json", "model.safetensors")
_ADAPTERS = ("adapters.json", "adapters.safetensors")
_HEAD = "head.safetensors"
KINDS = ("classes", "values", "labels", "residues")


@dataclass(frozen=True)
class FineTuned:
    """An encoder that was fine-tuned, and the linear head that it was tuned with.

    Attributes:
        config: the student's ``config.json``; or, of another encoder, its name, fingerprint, layers and dimension, and
            the method and rank of what was learned.
        weights: the student's, by name; or of another encoder the numbers that were learned.
        kind: ``"classes"``, ``"values"``, ``"labels"`` or ``"residues"``.
        names: of the outputs: classes or labels; empty for values.
        weight: (dimension, outputs) of the head.
        bias: (outputs,)
        about: where it comes from: task, method, encoder, what was chosen.
        threads: most processor threads; all by default.
        device: where an encoder that is no student runs.
    """

    config: Mapping[str, Any]
    weights: Weights
    kind: str
    names: Sequence[str]
    weight: Floats
    bias: Floats
    about: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        # The order of the numbers in memory shows in the last bit of a product, and a file keeps only one order.
        for name in ("weight", "bias"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), np.float32))

    @property
    def is_student(self) -> bool:
        """Whether it holds all of its network, which then needs no PyTorch."""
        return "limbeck" in self.config

    def encoder(self) -> ResidueEncoder:
        """What was tuned, without the head, as an encoder in float32.

        Log-probabilities of residues, where it has some, are those from before it was tuned.

        Raises:
            InputError: if it is no student, and the encoder that it belongs to is not here, or is another by now.
        """
        return self._encoder

    @cached_property
    def _encoder(self) -> ResidueEncoder:
        if self.is_student:
            options = Options(precision="f32", threads=self.threads)
            return StudentEncoder(str(self.config["name"]), dict(self.config), self.weights, options)
        try:
            from limbeck.benchmarks.finetuning.teachers import restored
        except ImportError:
            raise InputError(f"{self.config['name']} needs PyTorch; pip install 'limbeck[transformers]'") from None
        return restored(self.config, self.weights, self.device, self.threads)

    def scores(self, sequences: Sequence[str]) -> list[Floats]:
        """For each protein what the head says.

        Returns:
            (outputs,) float32: a value, logits of classes or of labels, in the order of ``names``; (length, outputs)
            for residues. A protein's scores depend neither on its neighbours nor on its length.

        Raises:
            limbeck.residues.InvalidResidue: if a sequence holds a character that is no residue.
            ValueError: if a sequence is empty.
        """
        encoder = self.encoder()
        vectors = encoder.encode_residues(sequences) if self.kind == "residues" else encoder.encode(sequences)
        return [v @ self.weight + self.bias for v in vectors]

    def predict(self, sequences: Sequence[str]) -> list[Any]:
        """For each protein its class, value, labels (at a probability of a half or more), or string of residue classes.

        Raises as :meth:`scores` does.
        """
        found = self.scores(cleaned(sequences))
        if self.kind == "values":
            return [float(s[0]) for s in found]
        if self.kind == "labels":
            return [[name for name, logit in zip(self.names, s, strict=True) if logit >= 0] for s in found]
        if self.kind == "residues":
            return ["".join(self.names[i] for i in s.argmax(axis=1)) for s in found]
        return [self.names[int(s.argmax())] for s in found]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder, which is made, or which holds an older fine-tuned encoder.

        Of an encoder that is no student only what was learned is written: with ``full`` that is all its weights.

        Raises:
            InputError: if the folder holds something else.
        """
        target = Path(folder)
        _check_free(target)
        target.mkdir(parents=True, exist_ok=True)
        # Without its description, whatever is in the folder is no model: an older one is not mixed with the new one.
        (target / _DESCRIPTION).unlink(missing_ok=True)
        config, weights = _STUDENT if self.is_student else _ADAPTERS
        for name in {*_STUDENT, *_ADAPTERS} - {config, weights}:
            (target / name).unlink(missing_ok=True)
        with whole(target / weights) as partial:
            save_file({k: np.ascontiguousarray(v, np.float32) for k, v in self.weights.items()}, partial)
        with whole(target / _HEAD) as partial:
            save_file({"weight": self.weight, "bias": self.bias}, partial)
        _write_json(target / config, dict(self.config))
        description = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "names": list(self.names),
            "about": dict(self.about),
            "sha256": {name: file_hash(target / name) for name in (config, weights, _HEAD)},
        }
        _write_json(target / _DESCRIPTION, description)


def load_finetuned(
    folder: str | os.PathLike[str],
    threads: int | None = None,
    *,
    device: str = "auto",
    encoder: str | os.PathLike[str] | None = None,
) -> FineTuned:
    """Open what :meth:`FineTuned.save` wrote: the same scores, bit for bit, on the same machine and threads.

    Args:
        folder: where it was saved.
        threads: most processor threads; all by default.
        device: where an encoder that is no student runs, as :func:`limbeck.load` takes it.
        encoder: where the encoder is by now that it was tuned on, if that is no student and no longer where it was.

    Raises:
        InputError: if the folder holds no fine-tuned encoder, or it is damaged, or made by a newer limbeck, or the
            encoder that it belongs to is not here or another.
    """
    source = Path(folder)
    try:
        description = json.loads((source / _DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT or int(description["version"]) > VERSION:
            raise InputError(f"{source} was made by another program or a newer limbeck; install that")
        sums = description["sha256"]
        files = _STUDENT if _STUDENT[0] in sums else _ADAPTERS
        for name in (*files, _HEAD):
            if file_hash(source / name) != sums[name]:
                raise InputError(f"{source / name} is damaged; copy it again, or fine-tune again")
        config, weights = student_files(source) if files == _STUDENT else _adapters(source, encoder)
        head = load_file(source / _HEAD)
        kind, names, about = description["kind"], description["names"], description["about"]
        weight, bias = head["weight"], head["bias"]
        outputs = 1 if kind == "values" else len(names)
        width = config["limbeck"]["width"] if files == _STUDENT else config["dimension"]
        if kind not in KINDS or weight.shape != (width, outputs) or bias.shape != (outputs,):
            raise KeyError("head")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source} holds no fine-tuned encoder ({error}); give the folder of one") from None
    found = FineTuned(config, weights, kind, names, weight, bias, about, threads, device)
    found.encoder()
    return found


def _adapters(folder: Path, encoder: str | os.PathLike[str] | None) -> tuple[dict[str, Any], Weights]:
    """Their description, with another place of the encoder if one is given, and their numbers."""
    config = json.loads((folder / _ADAPTERS[0]).read_text(encoding="utf-8"))
    return config | ({} if encoder is None else {"encoder": os.fspath(encoder)}), load_file(folder / _ADAPTERS[1])


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder; give a new name")
    if folder.is_dir():
        strangers = finished(folder) - {_DESCRIPTION, *_STUDENT, *_ADAPTERS, _HEAD}
        if strangers:
            raise InputError(f"{folder} holds something else ({min(strangers)}); give a new folder")


def _write_json(path: Path, content: Any) -> None:
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
