"""Weights of a student that exists, as the first of another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from limbeck.distillation.card import Teacher
from limbeck.distillation.config import StudentConfig
from limbeck.distillation.network import Student
from limbeck.encoders.student import StudentEncoder, Weights, student_files
from limbeck.errors import InputError

__all__ = ["Start", "load_weights", "network_of"]


def load_weights(name: str | os.PathLike[str]) -> Student:
    """The network of a student with its weights, in float32.

    Args:
        name: a student's folder, or the name of one in the package.

    Raises:
        InputError: if it is no student, or is damaged.
    """
    return network_of(os.fspath(name), *student_files(os.fspath(name)))


def network_of(name: str, config: dict[str, Any], weights: Weights) -> Student:
    """The network of a student's configuration and weights, in float32.

    Raises:
        InputError: if they don't fit each other; ``name`` says whose they are.
    """
    student = Student(StudentConfig.of(config["limbeck"]))
    try:
        student.load_state_dict({key: torch.from_numpy(value).float() for key, value in weights.items()})
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name}: the weights do not fit the configuration ({reason}); get the model again") from None
    return student


class Start(NamedTuple):
    """A student that another goes out from."""

    network: Student
    teacher: Teacher
    """What a card says of it."""
    pooling: str
    nested: Sequence[int]

    @classmethod
    def of(cls, name: str) -> Start:
        """Load a student; raises as :func:`load_weights` does."""
        config, weights = student_files(name)
        encoder = StudentEncoder(name, config, weights)
        teacher = Teacher(name, encoder.license, encoder.fingerprint)
        return cls(network_of(name, config, weights), teacher, encoder.pooling, config.get("nested_dimensions", []))
