"""Weights of a student that exists, as the first of another."""

from __future__ import annotations

import os

import torch

from limbeck.distillation.card import Teacher
from limbeck.distillation.config import StudentConfig
from limbeck.distillation.network import Student
from limbeck.encoders.student import StudentEncoder, student_files
from limbeck.errors import InputError

__all__ = ["described_student", "load_weights"]


def load_weights(name: str | os.PathLike[str]) -> Student:
    """The network of a student with its weights, in float32.

    Args:
        name: a student's folder, or the name of one in the package.

    Raises:
        InputError: if it is no student, or is damaged.
    """
    config, weights = student_files(os.fspath(name))
    shape = config["limbeck"]
    student = Student(StudentConfig(**{**shape, "dilations": tuple(shape["dilations"])}))
    try:
        student.load_state_dict({key: torch.from_numpy(value).float() for key, value in weights.items()})
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name}: the weights do not fit the configuration ({reason}); get the model again") from None
    return student


def described_student(name: str) -> Teacher:
    """What a card says of the student that another goes out from."""
    encoder = StudentEncoder(name, *student_files(name))
    return Teacher(name, encoder.license, encoder.fingerprint)
