"""What is fine-tuned: a student, or an encoder that runs through ``transformers``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from limbeck.benchmarks.finetuning import network, teachers
from limbeck.benchmarks.finetuning.examples import Reading
from limbeck.benchmarks.finetuning.network import Body, StudentBody
from limbeck.benchmarks.finetuning.settings import Settings
from limbeck.benchmarks.finetuning.teachers import TeacherBody
from limbeck.distillation.precision import resolve_precision
from limbeck.distillation.start import network_of
from limbeck.encoders import load
from limbeck.encoders.automodel import runs_by_transformers
from limbeck.encoders.student import DEFAULT_NAME, FAMILY, RANDOM_NAME, Weights, random_student, student_files
from limbeck.encoders.transformer import TransformerEncoder
from limbeck.errors import InputError

__all__ = ["Base", "opened"]


class Base(Protocol):
    """An encoder, and how to go out from it."""

    @property
    def digest(self) -> str:
        """Of all that determines its vectors."""
        ...

    @property
    def parameters(self) -> int:
        """Its numbers."""
        ...

    @property
    def reading(self) -> Reading:
        """How it takes proteins."""
        ...

    @property
    def features(self) -> dict[str, Any]:
        """Which features of it a head reads, for people."""
        ...

    def body(self, settings: Settings, residues: bool) -> Body:
        """Its network, new, with what learns; ``residues`` if only those are looked at."""
        ...

    def kept(self, body: Any, settings: Settings, task: str) -> tuple[dict[str, Any], Weights]:
        """``config`` and ``weights`` of :class:`limbeck.benchmarks.finetuning.saved.FineTuned` of such a network."""
        ...


def opened(name: str, layer: int | str | Sequence[int] | None = None) -> Base:
    """What an encoder's name stands for.

    Args:
        name: as :func:`limbeck.load` takes it.
        layer: of an encoder of transformers, as :func:`limbeck.load` takes it.

    Raises:
        InputError: if there is no such encoder, or it has no network of PyTorch.
    """
    if FAMILY.recognises(name):
        if layer is not None:
            raise InputError(f"{name} has no choice of layers; leave the layer out")
        return _student(name)
    if not runs_by_transformers(name):
        load(name)  # Of a name that nobody has it says so.
        raise InputError(f"{name} has no network to fine-tune; give a student or a transformers encoder")
    encoder: Any = load(name, layer=layer, device="cpu", precision="f32")
    tokens = encoder.vocabulary
    reading = Reading(tokens.write, len(tokens.before), tokens.special, tokens.pad, encoder.max_length, encoder.overlap)
    return _Teacher(name, encoder.chosen_layers, encoder.fingerprint, encoder.parameters, reading)


@dataclass(frozen=True)
class _Student:
    config: dict[str, Any]
    weights: Weights
    """float32"""
    features: dict[str, Any]
    reading: Reading = field(default_factory=Reading)

    @property
    def parameters(self) -> int:
        return sum(int(value.size) for value in self.weights.values())

    @property
    def digest(self) -> str:
        text = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for key in sorted(self.weights):
            text.update(key.encode())
            text.update(np.ascontiguousarray(self.weights[key]).data)
        return text.hexdigest()

    def body(self, settings: Settings, residues: bool) -> Body:
        student = network_of(str(self.config["name"]), self.config, self.weights)
        if settings.method in {"lora", "prompt"}:
            (network.adapt if settings.method == "lora" else network.prompt)(student, settings.rank)
        else:
            student.requires_grad_(settings.method == "full")
        return StudentBody(student, combined=not residues and self.config["pooling"] == "combined")

    def kept(self, body: StudentBody, settings: Settings, task: str) -> tuple[dict[str, Any], Weights]:
        student = network.merged(body.student)
        name = f"{self.config.get('name', self.features['features'])}, fine-tuned on {task}"
        tuned = {**self.config, "name": name, "nested_dimensions": [int(self.config["limbeck"]["width"])]}
        config = {key: value for key, value in tuned.items() if key != "auto_map"}
        return config, {key: value.detach().numpy() for key, value in student.state_dict().items()}


def _student(name: str) -> _Student:
    if name != RANDOM_NAME:
        return _Student(*student_files(name), {"features": name})
    config, _ = student_files(DEFAULT_NAME)
    config = {**config, "name": name, "license": "CC0-1.0", "version": "1"}
    return _Student(config, random_student()._weights, {"features": name})


@dataclass(frozen=True)
class _Teacher:
    """An encoder of transformers, which is loaded for each model anew: training changes it."""

    name: str
    layers: tuple[int, ...]
    digest: str
    parameters: int
    reading: Reading

    @property
    def features(self) -> dict[str, Any]:
        return {"features": self.name, "layers": list(self.layers)}

    def body(self, settings: Settings, residues: bool) -> Body:
        # What learns is in float32, and what is frozen in the precision that is computed in.
        full = settings.method == "full"
        precision = "f32" if full else resolve_precision(settings.precision, settings.device)
        encoder = load(self.name, layer=self.layers, device=settings.device, precision=precision)
        assert isinstance(encoder, TransformerEncoder)
        return TeacherBody(encoder, settings.method, settings.rank)

    def kept(self, body: TeacherBody, settings: Settings, task: str) -> tuple[dict[str, Any], Weights]:
        config = {
            "name": f"{self.name}, fine-tuned on {task}",
            "encoder": self.name,
            "fingerprint": self.digest,
            "layers": list(self.layers),
            "dimension": body.width,
            "method": settings.method,
            "rank": settings.rank,
        }
        return config, teachers.learned(body.encoder)
