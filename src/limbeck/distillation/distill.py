"""One call from proteins and teachers to a student's folder."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.distillation.card import Budget, Teacher, licence_of, model_card, with_stated_licences
from limbeck.distillation.config import StudentConfig, TrainingConfig
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.export import export, nested_dimensions, run_record
from limbeck.distillation.features import DEFAULT_SHARE, Features, features_of
from limbeck.distillation.network import Student
from limbeck.distillation.objectives import Contexts, FamilyContrast, HiddenResidues, Objective, build, build_choice
from limbeck.distillation.precision import resolve_precision
from limbeck.distillation.projection import fit_projection
from limbeck.distillation.start import Start
from limbeck.distillation.training import Machines, Progress, train
from limbeck.encoders import Encoder, load
from limbeck.encoders.contexts import read_library
from limbeck.encoders.registry import file_hash
from limbeck.errors import InputError
from limbeck.version import __version__

__all__ = ["distill", "load_teacher"]

_LAYERS = re.compile(r"(?P<name>.+)@(?P<layers>all|-?\d+(,-?\d+)*)$")


def load_teacher(spec: str, device: str = "auto") -> Encoder:
    """Load a teacher from ``NAME`` or ``NAME@LAYERS``, such as ``facebook/esm2_t33_650M_UR50D@20,33`` or
    ``unirep.safetensors@all``."""
    match = _LAYERS.match(spec)
    if match is None or Path(spec).exists():
        return _load(spec, None, device)
    layers = match["layers"]
    numbers: Any = layers if layers == "all" else tuple(int(n) for n in layers.split(","))
    return _load(match["name"], numbers[0] if isinstance(numbers, tuple) and len(numbers) == 1 else numbers, device)


def _load(name: str, layer: Any, device: str) -> Encoder:
    try:
        return load(name, layer=layer, device=device)
    except InputError:
        # Teachers that are no network run on the processor alone, beside a student on another device.
        if device in ("auto", "cpu"):
            raise
        return load(name, layer=layer)


def distill(
    corpus: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    contexts: str | os.PathLike[str] | None = None,
    teachers: Sequence[str] = (),
    cache: str | os.PathLike[str] | None = None,
    share: float = DEFAULT_SHARE,
    live: Sequence[str] = (),
    start: str | os.PathLike[str] | None = None,
    config: TrainingConfig | None = None,
    name: str | None = None,
    license: str | None = None,
    teacher_licenses: Sequence[str] = (),
    machines: Machines | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    command: Sequence[str] | None = None,
    probe: Callable[[Encoder], dict[str, float]] | None = None,
    report: Callable[[Progress], None] | None = None,
    on_features: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Distil teachers into a student, or pretrain one from scratch where there is no teacher.

    Args:
        corpus: proteins in any format that ``limbeck embed`` reads, or the file that ``limbeck profiles`` wrote.
        output: the student's folder. The run's checkpoint, log and, without ``cache``, its teachers' features are
            in ``output/training``, which may be removed when the student is done.
        contexts: a context library of ``limbeck contexts``, read off the corpus's profiles.
        teachers: names or paths of encoders, each with its layers if it has a choice: ``NAME@LAYERS``.
        cache: where the teachers' features are kept between runs; ``output/training/features`` by default.
        share: part of the residues whose features the cache holds; 0 keeps features of proteins alone.
        live: those of ``teachers`` whose features are computed whenever they are needed instead of kept.
        start: a student's folder or name whose weights are the first; its shape is the new student's.
        config: options of the training.
        name: of the student; by default the folder's.
        license: of the student's weights; see :func:`limbeck.distillation.card.licence_of`.
        teacher_licenses: ``NAME=LICENCE`` for teachers without a licence note.
        machines: where to train.
        resume: go on with an unfinished run.
        tensorboard: write curves for TensorBoard.
        command: the command line, to be recorded.
        probe: scores a student at each validation.
        report: called after each step.
        on_features: called with (teacher, residues done, residues in all) while features are computed.

    Returns:
        The student's folder, which :func:`limbeck.load` opens.

    Raises:
        InputError: if an input cannot be used.
    """
    config, output, machines = config or TrainingConfig(), Path(output), machines or Machines()
    if (output / "config.json").exists():
        raise InputError(f"{output} already holds a student; choose another folder")
    _check_names(teachers, live)
    fabric = machines.fabric(config.precision)
    proteins = Corpus(Path(corpus))
    _check_combination(config, proteins, corpus, contexts, teachers)
    fabric.launch()
    # Each process on its own device.
    encoders = [load_teacher(spec, str(fabric.device)) for spec in teachers]
    described = [Teacher(spec, e.license, e.fingerprint) for spec, e in zip(teachers, encoders, strict=True)]
    if contexts is not None:
        described.insert(0, _library(Path(contexts)))
    first = None if start is None else Start.of(os.fspath(start))
    if first is not None and first.teacher.name not in teachers:
        # Whose weights a student begins with binds it as a teacher does.
        described.append(first.teacher)
    described = with_stated_licences(described, teacher_licenses)
    license = licence_of(described, license)
    # Heads are made here and in the run: one seed, set first, for both.
    torch.manual_seed(config.seed)
    student: Student | None = None
    if first is not None:
        student = first.network
        if config.student not in (StudentConfig(), student.config):
            raise InputError(f"the student goes out from {start}, in its shape; leave --width and its like out")
        config = replace(config, student=student.config)
    labels = _labels(teachers)
    features: list[Features] = []
    # The first process fills a cache, the others open it.
    with fabric.rank_zero_first():
        for spec, encoder in zip(teachers, encoders, strict=True):
            features.append(
                features_of(
                    encoder,
                    proteins,
                    folder=Path(cache) if cache else output / "training" / "features",
                    share=share if "match" in config.objectives else 0.0,
                    live=spec in live,
                    on_progress=_named(on_features, labels[spec]) if fabric.is_global_zero else None,
                )
            )
            features[-1].name = labels[spec]
    # What is cached needs its encoder no more.
    del encoders
    objectives = _objectives(config, contexts, features, proteins)
    taught = list(dict.fromkeys(o.teacher for o in objectives if o.teacher))
    trained = train(
        config,
        proteins,
        objectives,
        output / "training",
        student=student,
        choice=build_choice(config.teachers_used, taught, config.student.width, config.seed),
        chosen=_subset(proteins, config),
        fabric=fabric,
        resume=resume,
        probe=_student_probe(probe, config) if probe else None,
        tensorboard=tensorboard,
        report=report,
    )
    if not fabric.is_global_zero:
        return output
    # Pooling over contexts is worth something only if a teacher or the families trained it.
    pooling = "combined" if taught or proteins.profiles is not None else "mean"
    if pooling == "combined":
        fit_projection(
            trained,
            proteins,
            device=str(fabric.device),
            bf16=resolve_precision(config.precision, machines.device) == "bf16",
        )
    described = [teacher._replace(name=labels.get(teacher.name, teacher.name)) for teacher in described]
    last = json.loads((output / "training" / "log.jsonl").read_text().splitlines()[-1])
    name = name or output.name
    card = model_card(
        name,
        license,
        proteins,
        Path(corpus).name,
        described,
        config,
        last["validation"],
        pooling=pooling,
        nested=nested_dimensions(config.student.width, pooling),
        objectives=sorted(last["losses"]),
        budget=Budget(int(last["residues"]), last["seconds"] / 3600, _machine(fabric), last["operations"]),
        scores=last["probes"],
    )
    run = run_record(
        options=config,
        corpus=Path(corpus).name,
        corpus_fingerprint=proteins.fingerprint,
        proteins=len(proteins),
        residues=int(proteins.offsets[-1]),
        held_out=int(proteins.is_validation.sum()),
        teachers=described,
        command=command,
        started_from=None if start is None else os.fspath(start),
    )
    export(trained, output, name=name, version=__version__, license=license, pooling=pooling, card=card, run=run)
    return output


def _check_names(teachers: Sequence[str], live: Sequence[str]) -> None:
    for list_name, names in (("teacher", teachers), ("live teacher", live)):
        if repeated := sorted({t for t in names if list(names).count(t) > 1}):
            raise InputError(f"{list_name} {repeated[0]} is named twice; name each once")
    if strangers := sorted(set(live) - set(teachers)):
        raise InputError(f"--live names {strangers[0]}, which is no teacher of this run; name it with --teacher too")


def _objectives(
    config: TrainingConfig,
    contexts: str | os.PathLike[str] | None,
    features: Sequence[Features],
    proteins: Corpus,
) -> list[Objective]:
    objectives: list[Objective] = []
    if contexts is not None:
        objectives.append(Contexts(Path(contexts), config.student))
    objectives += build(config.objectives, features, config.student, standardise=config.standardise, head=config.head)
    if hidden := _hidden_weight(config, contexts is not None):
        objectives.append(HiddenResidues(weight=hidden))
    if config.contrast and proteins.families.max() + 1 < len(proteins):
        objectives.append(FamilyContrast(config.student.width, weight=config.contrast))
    return objectives


def _check_combination(
    config: TrainingConfig,
    proteins: Corpus,
    corpus: str | os.PathLike[str],
    contexts: str | os.PathLike[str] | None,
    teachers: Sequence[str],
) -> None:
    if contexts is not None and proteins.profiles is None:
        raise InputError(f"{corpus} has no profiles for a context library; make a corpus with 'limbeck profiles'")
    hidden = _hidden_weight(config, contexts is not None)
    if hidden and not config.masked:
        raise InputError("a student that names hidden residues needs some to be hidden; use --masked above 0")
    if contexts is None and not teachers and not hidden:
        raise InputError("nothing to learn: name a --teacher or --contexts, or give --hidden a weight")
    if config.teachers_used != "all" and len(teachers) + (contexts is not None) < 2:
        raise InputError(f"--teachers-used {config.teachers_used} needs two teachers or more; name another --teacher")


def _hidden_weight(config: TrainingConfig, with_contexts: bool) -> float:
    if config.hidden >= 0:
        return config.hidden
    # What else would teach the student which residues to expect?
    return 0.0 if with_contexts else 1.0


def _subset(proteins: Corpus, config: TrainingConfig) -> NDArray[np.bool_] | None:
    if config.subset == 1:
        return None
    from limbeck.distillation.subset import informative

    return informative(proteins, config.subset, seed=config.seed)


def _student_probe(
    probe: Callable[[Encoder], dict[str, float]], config: TrainingConfig
) -> Callable[[Student], dict[str, float]]:
    """What scores an encoder, for a network in training: with mean pooling, which needs no fitted projection."""
    from limbeck.distillation.export import as_encoder

    return lambda student: probe(as_encoder(student, pooling="mean"))


def _labels(teachers: Sequence[str]) -> dict[str, str]:
    """What losses and the card call each teacher: the hub's name, or of a path the last part, for where a file lay is
    of no use to readers; more parts where the last ones are equal."""
    labels: dict[str, str] = {}
    for parts in (1, 2, 1_000):
        for spec in teachers:
            path = spec.split("?")[0].removeprefix("homology:")
            is_path = Path(_LAYERS.sub(r"\g<name>", path)).exists()
            layers = path.removeprefix(_LAYERS.sub(r"\g<name>", path))
            short = "/".join(Path(path.removesuffix(layers)).parts[-parts:]) + layers if is_path else spec
            labels[spec] = f"homology:{short}" if is_path and spec.startswith("homology:") else short
        if len(set(labels.values())) == len(labels):
            break
    return labels


def _library(path: Path) -> Teacher:
    """A context library, which is read off homology profiles, as a teacher."""
    library = read_library(path)
    return Teacher(path.name, library.license, file_hash(path))


def _machine(fabric: Any) -> str:
    if fabric.device.type == "cuda":
        return f"{fabric.world_size} x {torch.cuda.get_device_name(fabric.device)}"
    return f"{fabric.world_size} process(es), {torch.get_num_threads()} threads, {platform.machine()}"


def _named(on_features: Callable[[str, int, int], None] | None, name: str) -> Callable[[int, int], None] | None:
    return (lambda done, total: on_features(name, done, total)) if on_features else None
