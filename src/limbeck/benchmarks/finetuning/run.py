"""A task's result with a fine-tuned student, in the form that :func:`limbeck.benchmarks.score` gives."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from limbeck.benchmarks import protocol
from limbeck.benchmarks.cache import kept_json
from limbeck.benchmarks.finetuning.saved import FineTuned
from limbeck.benchmarks.finetuning.settings import Settings
from limbeck.benchmarks.protocol import Labels, Outcome
from limbeck.benchmarks.task import Parts, Task
from limbeck.encoders.student import DEFAULT_NAME, FAMILY, RANDOM_NAME, Weights, random_student, student_files
from limbeck.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.benchmarks.finetuning.examples import Examples
    from limbeck.benchmarks.finetuning.network import Tuned

__all__ = ["FineTuning", "finetune", "finetune_tasks"]

Floats = NDArray[np.float32]

VERSION = 1
"""Raised when the recipe changes, so that cached scores of an older one are not used."""
IGNORED = -100
"""What PyTorch's cross entropy passes over."""
NEVER = np.float32(-1e30)
"""Score of a class that was not there to learn."""


@dataclass(frozen=True)
class FineTuning:
    """What came of it.

    Attributes:
        result: in the form of :func:`limbeck.benchmarks.score` for a task, and ``parameters`` and ``trainable``: the
            student's numbers, and those of them that were learned.
        models: one for each seed.
    """

    result: dict[str, Any]
    models: list[FineTuned]


def finetune(
    task: Task,
    parts: Parts,
    *,
    student: str = DEFAULT_NAME,
    settings: Settings | None = None,
    seeds: Sequence[int] = (0, 1),
    residues: int | None = None,
    say: Callable[[str], None] | None = None,
) -> FineTuning:
    """Fine-tune a student on a task: weights from ``fit``, stopping by ``choose``, the score from ``score``.

    Args:
        task: of whole proteins or of residues.
        parts: its proteins.
        student: a student's folder, the name of one in the package, or ``random-student``.
        settings: how; by default LoRA.
        seeds: one model each; a head alone needs a single one, since nothing is drawn.
        residues: residue tasks: about so many of each part are looked at, the same as by the probe; all by default.
        say: is told what goes on, line by line.

    Raises:
        InputError: if PyTorch is missing, ``student`` is none, the task is one of pairs, a part is empty or has
            nothing in common with ``fit`` to be right about, or the loss is no number.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError("fine-tuning needs PyTorch; pip install 'limbeck[train]'")
    settings = settings or Settings()
    started = time.monotonic()
    goal = _Goal.of(task, parts, residues)
    config, weights = _opened(student)
    # A head is solved: there is nothing to draw.
    seeds = list(seeds)[:1] if settings.method == "head" else list(seeds)
    runs = [_run(goal, config, weights, settings, seed, say) for seed in seeds]
    labels = goal.labels
    outcome = Outcome(
        scores=[run.scores for run in runs],
        chosen=_chosen(student, settings, runs, seeds),
        valid=float(np.mean([run.valid for run in runs])),
        tried=1,
    )
    result = protocol.result_of(task, parts, labels, outcome, settings.method, task.primary, started)
    result |= {"parameters": sum(int(value.size) for value in weights.values()), "trainable": runs[0].trainable}
    about = {"task": task.name, "question": task.question, "citation": task.citation, "student": student}
    models = [
        _model(run, goal, config, {**about, "settings": asdict(settings), "seed": seed, "valid": run.valid})
        for run, seed in zip(runs, seeds, strict=True)
    ]
    return FineTuning(result, models)


def finetune_tasks(
    tasks: Sequence[Task],
    place: Callable[[Task], Path],
    scale: str,
    split: str = "test",
    *,
    student: str = DEFAULT_NAME,
    settings: Settings | None = None,
    seeds: Sequence[int] = (0, 1),
    cache: Path | None = None,
    log: TextIO | None = sys.stderr,
) -> dict[str, Any]:
    """Results by task, as :func:`limbeck.benchmarks.score` gives them; without tasks of pairs or without the scale.

    Args:
        place: the data folder of a task, such as :func:`limbeck.benchmarks.place`.
        cache: folder for results: a run that was stopped goes on with the next task.

    Raises as :func:`finetune` does.
    """
    settings = settings or Settings()
    results: dict[str, Any] = {}
    for task in (t for t in tasks if scale in t.sizes and t.kind != "pairs"):
        parts = task.parts(place(task), scale, split)

        def compute(task: Task = task, parts: Parts = parts) -> dict[str, Any]:
            found = finetune(
                task, parts, student=student, settings=settings, seeds=seeds, residues=task.sizes[scale].residues
            )
            return found.result

        key = f"fine-tuned {VERSION} {protocol.PROTOCOL} {settings} {tuple(seeds)} {task.name} {task.metrics}"
        key += f" {task.sizes[scale]} {parts.digest} {_digest(student)}"
        results[task.name] = scored = kept_json(cache, key, compute)
        if log:
            low, high = scored["interval"]
            text = f"  {task.name}, {settings.method}: {scored['metric']} {scored['value']:.3f}"
            print(f"{text} ({low:.3f} to {high:.3f}), {scored['seconds']:.0f} s", file=log, flush=True)
    return results


@dataclass(frozen=True)
class _Goal:
    """What is to be learned, in numbers."""

    task: Task
    parts: Parts
    labels: Labels
    names: list[str]
    """Of the outputs: classes that ``fit`` has, or labels."""
    columns: NDArray[np.intp]
    """(outputs,) which classes of ``labels`` they are."""
    rows: list[list[NDArray[np.intp]]] | None
    """Of residue tasks, for each part and protein the residues that are looked at."""
    centre: float = 0.0
    spread: float = 1.0
    """Of the values of ``fit``; a network learns values less the one, in units of the other."""

    @classmethod
    def of(cls, task: Task, parts: Parts, residues: int | None) -> _Goal:
        for name in ("fit", "choose", "score"):
            if not len(getattr(parts, name)):
                raise InputError(f"task {task.name} has no protein in part {name!r}; take a larger scale")
        if task.kind == "pairs":
            raise InputError(f"task {task.name} is one of pairs, which are not fine-tuned; use the probe")
        rows = None
        if task.kind == "residues":
            rows = [protocol.sampled(p, residues) for p in (parts.fit, parts.choose, parts.score)]
            labels = protocol.labels_of_residues(parts, rows)
        else:
            labels = protocol.labels_of(task, parts)
        names = labels.names
        if task.kind == "values":
            centre, spread = float(np.mean(labels.fit)), float(np.std(labels.fit)) or 1.0
            return cls(task, parts, labels, names, np.arange(1), rows, centre, spread)
        if task.kind == "labels":
            return cls(task, parts, labels, names, np.arange(labels.classes), rows)
        seen = np.unique(labels.fit)
        if len(seen) < 2:
            raise InputError(f"task {task.name} has a single class to learn, {names[seen[0]]!r}; take a larger scale")
        for part, truth in (("choose", labels.choose), ("score", labels.score)):
            if not np.isin(truth, seen).any():
                text = f"task {task.name}: no label of part {part!r}, such as {names[int(truth[0])]!r}, is in 'fit'"
                raise InputError(f"{text}, so none can be learned; take a larger scale")
        return cls(task, parts, labels, [names[i] for i in seen], seen, rows)

    def examples(self, part: str) -> Examples:
        """Proteins and targets of a part; classes as outputs, values standardised."""
        import torch

        from limbeck.benchmarks.finetuning.examples import Examples

        labels, items = getattr(self.labels, part), getattr(self.parts, part)
        if self.task.kind == "values":
            targets = torch.from_numpy((labels - self.centre) / self.spread).float()
        elif self.task.kind == "labels":
            targets = torch.from_numpy(labels).float()
        else:
            # Classes that are not there to learn have no output, and no loss.
            output = np.full(self.labels.classes, IGNORED)
            output[self.columns] = np.arange(len(self.columns))
            targets = torch.from_numpy(output[labels])
        index = ("fit", "choose", "score").index(part)
        return Examples(items.sequences, targets, None if self.rows is None else self.rows[index])

    def wide(self, scores: Tensor) -> Floats:
        """Scores (n, outputs) as a metric takes them, (n, classes): values, probabilities of labels, logits."""
        if self.task.kind == "values":
            scores = scores * self.spread + self.centre
        if self.task.kind == "labels":
            scores = scores.sigmoid()
        result = np.full((len(scores), self.labels.classes), NEVER, np.float32)
        result[:, self.columns] = scores.numpy()
        return result

    def valid(self, scores: Tensor) -> float:
        """How good scores of validation are."""
        return protocol.validation(self.task, self.labels, self.wide(scores))


@dataclass(frozen=True)
class _Run:
    """One seed."""

    scores: Floats
    valid: float
    head: dict[str, Any]
    epoch: int
    epochs: list[float]
    trainable: int
    network: Tuned


def _run(goal: _Goal, config: dict[str, Any], weights: Weights, settings: Settings, seed: int, say: Any) -> _Run:
    import torch

    from limbeck.benchmarks.finetuning.network import Tuned, adapt, prompt
    from limbeck.benchmarks.finetuning.training import frozen, scored, solve_head, train
    from limbeck.distillation.start import network_of
    from limbeck.encoders.transformer import resolve_device

    kind = goal.task.kind
    fit, choose, score = (goal.examples(part) for part in ("fit", "choose", "score"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = network_of(str(config["name"]), config, weights)
        if settings.method in {"lora", "prompt"}:
            (adapt if settings.method == "lora" else prompt)(student, settings.rank)
        else:
            student.requires_grad_(settings.method == "full")
        pooling = "residues" if kind == "residues" else str(config["pooling"])
        network = Tuned(student, pooling, len(goal.columns)).to(resolve_device(settings.device))
    vectors = [frozen(network, examples, settings) for examples in (fit, choose)]
    network.cpu()
    start, head = solve_head(
        network,
        kind,
        (vectors[0], fit.targets),
        (vectors[1], choose.targets),
        goal.valid,
    )
    valid, epoch, epochs = start, 0, [start]
    if settings.method != "head":
        course = train(network, kind, fit, choose, goal.valid, start, settings, seed)
        valid, epoch, epochs = course.valid, course.epoch, course.epochs
    network.to(resolve_device(settings.device))
    scores = goal.wide(scored(network, score, settings))
    if say:
        say(f"    seed {seed}: validation {' '.join(f'{v:.3f}' for v in epochs)}; epoch {epoch} kept")
    return _Run(scores, valid, head, epoch, epochs, network.trainable, network.cpu())


def _chosen(student: str, settings: Settings, runs: Sequence[_Run], seeds: Sequence[int]) -> dict[str, Any]:
    chosen: dict[str, Any] = {"features": student, "seeds": list(seeds), **runs[0].head}
    if settings.method == "head":
        return chosen
    chosen |= {"learning_rate": settings.peak, "epochs": [run.epoch for run in runs]}
    chosen["validation"] = [[round(v, 4) for v in run.epochs] for run in runs]
    return chosen | ({"rank": settings.rank} if settings.method in {"lora", "prompt"} else {})


def _model(run: _Run, goal: _Goal, config: dict[str, Any], about: dict[str, Any]) -> FineTuned:
    """The head takes vectors as the encoder gives them, and gives values in the assay's own unit."""
    from limbeck.benchmarks.finetuning.network import merged

    network = run.network
    student = merged(network.student)
    weight = (network.head.weight / network.spread).detach().double().numpy().T
    bias = network.head.bias.detach().double().numpy() - network.mean.double().numpy() @ weight
    if goal.task.kind == "values":
        weight, bias = weight * goal.spread, bias * goal.spread + goal.centre
    name = f"{config.get('name', about['student'])}, fine-tuned on {goal.task.name}"
    tuned = {**config, "name": name, "nested_dimensions": [int(config["limbeck"]["width"])]}
    return FineTuned(
        {key: value for key, value in tuned.items() if key != "auto_map"},
        {key: value.detach().numpy() for key, value in student.state_dict().items()},
        goal.task.kind,
        goal.names,
        weight.astype(np.float32),
        bias.astype(np.float32),
        about,
    )


def _opened(name: str) -> tuple[dict[str, Any], Weights]:
    """Configuration and weights, float32."""
    if not FAMILY.recognises(name):
        text = f"{name} is no student of limbeck, and only those are fine-tuned"
        raise InputError(f"{text}; give {DEFAULT_NAME} or a student's folder")
    if name != RANDOM_NAME:
        return student_files(name)
    config, _ = student_files(DEFAULT_NAME)
    return {**config, "name": name, "license": "CC0-1.0", "version": "1"}, random_student()._weights


def _digest(student: str) -> str:
    config, weights = _opened(student)
    text = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for key in sorted(weights):
        text.update(key.encode())
        text.update(np.ascontiguousarray(weights[key]).data)
    return text.hexdigest()
