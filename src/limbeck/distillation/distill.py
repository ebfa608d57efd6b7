"""One call from proteins and teachers to a student's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from limbeck.distillation.card import Teacher, model_card
from limbeck.distillation.config import TrainingConfig
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.export import export
from limbeck.distillation.features import TeacherFeatures
from limbeck.distillation.objectives import Contexts, EncoderFeatures, HiddenResidues, Objective
from limbeck.distillation.projection import fit_projection
from limbeck.distillation.training import Progress, train
from limbeck.encoders import load
from limbeck.errors import InputError
from limbeck.version import __version__

__all__ = ["distill"]


def distill(
    corpus: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    contexts: str | os.PathLike[str] | None = None,
    teachers: Sequence[str] = (),
    cache: str | os.PathLike[str] | None = None,
    config: TrainingConfig | None = None,
    name: str | None = None,
    license: str = "unknown",
    device: str = "cpu",
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
    on_features: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Distil teachers into a student, or pretrain one from scratch where there is no teacher.

    Args:
        corpus: proteins in any format that ``limbeck embed`` reads, or the file that ``limbeck profiles`` wrote.
        output: the student's folder. The run's checkpoint, log and, without ``cache``, its teachers' features are
            in ``output/training``, which may be removed when the student is done.
        contexts: a context library of ``limbeck contexts``, read off the corpus's profiles.
        teachers: names or paths of encoders with residue features.
        cache: where the teachers' features are kept between runs; ``output/training/features`` by default.
        config: options of the training.
        name: of the student; by default the folder's.
        license: of the student's weights, to be chosen by whoever may: teachers' licences may bind it.
        device: where to train.
        resume: go on with an unfinished run.
        report: called after each step.
        on_features: called with (teacher, residues done, residues in all) while features are computed.

    Returns:
        The student's folder, which :func:`limbeck.load` opens.

    Raises:
        InputError: if an input cannot be used.
    """
    config, output = config or TrainingConfig(), Path(output)
    if (output / "config.json").exists():
        raise InputError(f"{output} already holds a student; choose another folder")
    if repeated := sorted({t for t in teachers if list(teachers).count(t) > 1}):
        raise InputError(f"teacher {repeated[0]} is named twice; name each once")
    proteins = Corpus(Path(corpus))
    if contexts is not None and proteins.profiles is None:
        raise InputError(f"{corpus} has no profiles for a context library; make a corpus with 'limbeck profiles'")
    if contexts is None and not config.masked:
        raise InputError("without a context library a student learns from hidden residues; use --masked above 0")
    # Heads are made here and in the run: one seed, set first, for both.
    torch.manual_seed(config.seed)
    objectives: list[Objective] = []
    described: list[Teacher] = []
    if contexts is not None:
        objectives.append(Contexts(Path(contexts), config.student))
        described.append(Teacher(f"context library {Path(contexts).name}, read off homology profiles", "see its file"))
    for teacher_name in teachers:
        teacher = load(teacher_name)
        folder = Path(cache) if cache else output / "training" / "features"
        progress = _named(on_features, teacher_name)
        objectives.append(EncoderFeatures(TeacherFeatures(folder, teacher, proteins, progress), config.student))
        described.append(Teacher(teacher_name, teacher.license))
    if contexts is None:
        # What else would teach the student which residues to expect?
        objectives.append(HiddenResidues())
    # Pooling over contexts is worth something only if a teacher or the families trained it.
    pooling = "contexts" if described or proteins.profiles is not None else "mean"
    student = train(config, proteins, objectives, output / "training", device=device, resume=resume, report=report)
    if pooling == "contexts":
        fit_projection(student, proteins, device=device, bf16=config.precision == "bf16")
    validation = _last_validation(output / "training" / "log.jsonl")
    card = model_card(name or output.name, license, proteins, Path(corpus).name, described, config, validation)
    export(student, output, name=name or output.name, version=__version__, license=license, pooling=pooling, card=card)
    return output


def _named(on_features: Callable[[str, int, int], None] | None, name: str) -> Callable[[int, int], None] | None:
    return (lambda done, total: on_features(name, done, total)) if on_features else None


def _last_validation(log: Path) -> dict[str, float]:
    last = log.read_text().splitlines()[-1]
    validation: dict[str, float] = json.loads(last)["validation"]
    return validation
