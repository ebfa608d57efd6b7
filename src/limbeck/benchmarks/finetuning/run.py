"""A task's result with a fine-tuned encoder, in the form that :func:`limbeck.benchmarks.score` gives."""

from __future__ import annotations

import importlib.util
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
from limbeck.encoders.student import DEFAULT_NAME
from limbeck.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.benchmarks.finetuning.bases import Base
    from limbeck.benchmarks.finetuning.examples import Examples, Reading
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
            encoder's numbers, and those that were learned, the head's aside: of them, or of adapters beside them.
        models: one for each seed.
    """

    result: dict[str, Any]
    models: list[FineTuned]


def finetune(
    task: Task,
    parts: Parts,
    *,
    encoder: str = DEFAULT_NAME,
    layer: int | str | Sequence[int] | None = None,
    settings: Settings | None = None,
    seeds: Sequence[int] = (0, 1),
    residues: int | None = None,
    say: Callable[[str], None] | None = None,
) -> FineTuning:
    """Fine-tune an encoder on a task: weights from ``fit``, stopping by ``choose``, the score from ``score``.

    Args:
        task: of whole proteins or of residues.
        parts: its proteins.
        encoder: a student (its folder, the name of one in the package, or ``random-student``), or a name or folder of
            one that runs through ``transformers``. Its vectors, pooling and windows are those of :func:`limbeck.load`.
        layer: of an encoder of transformers, as :func:`limbeck.load` takes it; by default its last.
        settings: how; by default LoRA.
        seeds: one model each; a head alone needs a single one, since nothing is drawn.
        residues: residue tasks: about so many of each part are looked at, the same as by the probe; all by default.
        say: is told what goes on, line by line.

    Raises:
        InputError: if PyTorch is missing, ``encoder`` has no network to fine-tune, the task is one of pairs, a part is
            empty or has nothing in common with ``fit`` to be right about, or the loss is no number.
    """
    settings = settings or Settings()
    started = time.monotonic()
    goal = _Goal.of(task, parts, residues)
    base = _opened(encoder, layer)
    # A head is solved: there is nothing to draw.
    seeds = list(seeds)[:1] if settings.method == "head" else list(seeds)
    runs = [_run(goal, base, settings, seed, say) for seed in seeds]
    labels = goal.labels
    outcome = Outcome(
        scores=[run.scores for run in runs],
        chosen=_chosen(base, settings, runs, seeds),
        valid=float(np.mean([run.valid for run in runs])),
        tried=1,
    )
    result = protocol.result_of(task, parts, labels, outcome, settings.method, task.primary, started)
    result |= {"parameters": base.parameters, "trainable": runs[0].trainable}
    return FineTuning(result, [run.model for run in runs])


def finetune_tasks(
    tasks: Sequence[Task],
    place: Callable[[Task], Path],
    scale: str,
    split: str = "test",
    *,
    encoder: str = DEFAULT_NAME,
    layer: int | str | Sequence[int] | None = None,
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
    digest = _opened(encoder, layer).digest
    for task in (t for t in tasks if scale in t.sizes and t.kind != "pairs"):
        parts = task.parts(place(task), scale, split)

        def compute(task: Task = task, parts: Parts = parts) -> dict[str, Any]:
            found = finetune(
                task,
                parts,
                encoder=encoder,
                layer=layer,
                settings=settings,
                seeds=seeds,
                residues=task.sizes[scale].residues,
            )
            return found.result

        key = f"fine-tuned {VERSION} {protocol.PROTOCOL} {settings} {tuple(seeds)} {task.name} {task.metrics}"
        key += f" {task.sizes[scale]} {parts.digest} {digest}"
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

    def examples(self, part: str, reading: Reading) -> Examples:
        """Proteins and targets of a part, for a network that reads so; classes as outputs, values standardised."""
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
        return Examples(items.sequences, targets, None if self.rows is None else self.rows[index], reading)

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
    model: FineTuned


def _run(goal: _Goal, base: Base, settings: Settings, seed: int, say: Any) -> _Run:
    import torch

    from limbeck.benchmarks.finetuning.network import Tuned
    from limbeck.benchmarks.finetuning.training import frozen, scored, solve_head, train
    from limbeck.encoders.transformer import resolve_device

    kind = goal.task.kind
    fit, choose, score = (goal.examples(part, base.reading) for part in ("fit", "choose", "score"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = base.body(settings, residues=kind == "residues")
        network = Tuned(body, len(goal.columns)).to(resolve_device(settings.device))
    vectors = [frozen(network, examples, settings) for examples in (fit, choose)]
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
    scores = goal.wide(scored(network, score, settings))
    if say:
        say(f"    seed {seed}: validation {' '.join(f'{v:.3f}' for v in epochs)}; epoch {epoch} kept")
    trainable = network.trainable
    about: dict[str, Any] = {"task": goal.task.name, "question": goal.task.question, "citation": goal.task.citation}
    about |= {"encoder": base.features["features"], "settings": asdict(settings), "seed": seed, "valid": valid}
    # A network may be large: of each seed only what it learned is kept.
    return _Run(scores, valid, head, epoch, epochs, trainable, _model(network.cpu(), goal, base, settings, about))


def _chosen(base: Base, settings: Settings, runs: Sequence[_Run], seeds: Sequence[int]) -> dict[str, Any]:
    chosen: dict[str, Any] = {**base.features, "seeds": list(seeds), **runs[0].head}
    if settings.method == "head":
        return chosen
    chosen |= {"learning_rate": settings.peak, "epochs": [run.epoch for run in runs]}
    chosen["validation"] = [[round(v, 4) for v in run.epochs] for run in runs]
    return chosen | ({"rank": settings.rank} if settings.method in {"lora", "prompt"} else {})


def _model(network: Tuned, goal: _Goal, base: Base, settings: Settings, about: dict[str, Any]) -> FineTuned:
    """The head takes vectors as the encoder gives them, and gives values in the assay's own unit."""
    weight = (network.head.weight / network.spread).detach().double().numpy().T
    bias = network.head.bias.detach().double().numpy() - network.mean.double().numpy() @ weight
    if goal.task.kind == "values":
        weight, bias = weight * goal.spread, bias * goal.spread + goal.centre
    config, weights = base.kept(network.body, settings, goal.task.name)
    return FineTuned(
        config,
        weights,
        goal.task.kind,
        goal.names,
        weight.astype(np.float32),
        bias.astype(np.float32),
        about,
        device=settings.device,
    )


def _opened(encoder: str, layer: int | str | Sequence[int] | None) -> Base:
    if importlib.util.find_spec("torch") is None:
        raise InputError("fine-tuning needs PyTorch; pip install 'limbeck[train]'")
    from limbeck.benchmarks.finetuning.bases import opened

    return opened(encoder, layer)
