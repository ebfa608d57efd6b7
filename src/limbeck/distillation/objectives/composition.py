"""Objectives by name."""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.features import Features
from limbeck.distillation.objectives.base import Objective
from limbeck.distillation.objectives.features import FeatureMatching
from limbeck.distillation.objectives.mtdp import PooledKL
from limbeck.distillation.objectives.relational import Relational
from limbeck.errors import InputError

__all__ = ["NAMES", "build"]

NAMES = ("match", "kl", "relational")


def build(
    names: Sequence[str],
    features: Sequence[Features],
    student: StudentConfig,
    *,
    standardise: str = "dimension",
    head: str = "linear",
) -> list[Objective]:
    """The objectives of several teachers: for each teacher, each of the names.

    Args:
        names: of ``NAMES``: ``match`` (:class:`FeatureMatching`), ``kl`` (:class:`PooledKL`), ``relational``
            (:class:`Relational`).
        features: the teachers' features over the corpus.
        student: shape of the student.
        standardise: ``dimension``, ``phi-s`` or ``none``, for ``match`` and ``relational``.
        head: ``linear`` or ``mlp``, for ``match``.

    Raises:
        InputError: if a name is unknown or given twice, or an option is unknown.
    """
    for name in names:
        if name not in NAMES:
            raise InputError(f"objectives are {', '.join(NAMES)}, not {name!r}; choose among these")
        if names.count(name) > 1:
            raise InputError(f"objective {name} is named twice; name each once")
    return [_build(name, teacher, student, standardise, head) for teacher in features for name in names]


def _build(name: str, features: Features, student: StudentConfig, standardise: str, head: str) -> Objective:
    if name == "match":
        return FeatureMatching(features, student, standardise, head)
    return PooledKL(features, student) if name == "kl" else Relational(features, standardise)
