"""The training loop: one readable recipe on Lightning Fabric, which knows devices, processes and precisions."""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed

from limbeck.distillation.config import TrainingConfig
from limbeck.distillation.corpus import CROP_LENGTHS, Batch, BatchDraw, Corpus
from limbeck.distillation.network import Outputs, Student, Subnetwork
from limbeck.distillation.objectives import Choice, Everyone, FamilyContrast, LossBalance, Objective, processes
from limbeck.distillation.precision import resolve_precision
from limbeck.distillation.subnetworks import operations, sample
from limbeck.encoders.transformer import resolve_device
from limbeck.errors import InputError
from limbeck.files import sweep, whole

__all__ = ["Machines", "Progress", "train"]

VALIDATION_BATCHES = 6


@dataclass(frozen=True)
class Machines:
    """Where a run is computed."""

    device: str = "cpu"
    """``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``."""
    processes: int = 1
    """Processes on this machine: of a GPU each, or of the CPU."""
    nodes: int = 1
    """Machines, each started by ``torchrun`` or a batch system."""

    def fabric(self, precision: str) -> Fabric:
        """Fabric for these machines, not launched yet.

        Raises:
            InputError: if the device is not here.
        """
        resolve_device(self.device)
        kind, _, index = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps"):
            raise InputError(f"nothing is trained on device {self.device!r}; use cpu, cuda, mps or auto")
        if min(self.processes, self.nodes) < 1:
            raise InputError("--processes and --nodes must be at least 1")
        if index and self.processes > 1:
            raise InputError(f"{self.device} is one device, for one process; leave its number out")
        if kind == "cuda" and self.processes > torch.cuda.device_count():
            here = torch.cuda.device_count()
            raise InputError(f"this machine has {here} GPUs, not {self.processes}; lower --processes")
        started = int(os.environ.get("WORLD_SIZE", self.processes * self.nodes))
        if torch.distributed.is_torchelastic_launched() and started != self.processes * self.nodes:
            raise InputError(f"torchrun started {started} processes; give --processes and --nodes to match")
        several = self.processes * self.nodes > 1
        # A part of the network may be without a loss, such as the contexts of a student that pools otherwise.
        strategy = DDPStrategy(find_unused_parameters=True) if several else "auto"
        return Fabric(
            accelerator=kind,
            devices=[int(index)] if index else self.processes,
            num_nodes=self.nodes,
            strategy=strategy,
            precision="bf16-mixed" if resolve_precision(precision, self.device) == "bf16" else "32-true",
        )


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after each step."""

    step: int
    losses: dict[str, float]
    residues_per_second: float
    evaluation: dict[str, Any] | None = field(default=None)
    """The line of ``log.jsonl``, after the steps that were followed by a validation."""


class Distiller(nn.Module):
    """The student and its objectives, with the heads that only training needs."""

    def __init__(self, student: Student, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.student = student
        self.objectives = nn.ModuleList(objectives)

    def forward(
        self, ids: Tensor, mask: Tensor, targets: list[list[Tensor]], part: Subnetwork | None = None
    ) -> tuple[list[dict[str, Tensor]], Outputs]:
        """Losses (rows,) by name of each objective, empty for those that run outside; and the student's outputs."""
        outputs = self.student(ids, mask, part)
        losses: list[dict[str, Tensor]] = []
        for objective, target in zip(self.objectives, targets, strict=True):
            losses.append({} if objective.eager else objective(outputs, target))
        return losses, outputs


class WeightAverage:
    """A running average of the student's and the heads' weights (exponential; Polyak & Juditsky 1992), which
    generalises better than the last weights do. The decay rises with the steps, so that the start is soon forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.own = [p for p in model.parameters() if p.is_floating_point()]
        self.average = [p.detach().clone() for p in self.own]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.own], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average weights inside."""
        if self.decay:
            self.swap()
        try:
            yield
        finally:
            if self.decay:
                self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and their average."""
        for parameter, average in zip(self.own, self.average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine from the peak to a twentieth of it."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


class _Run:
    """One training run: model, optimiser, data, checkpoints."""

    def __init__(
        self,
        fabric: Fabric,
        config: TrainingConfig,
        corpus: Corpus,
        objectives: Sequence[Objective],
        student: Student,
        choice: Choice,
        chosen: NDArray[np.bool_] | None,
    ) -> None:
        self.fabric, self.config, self.objectives = fabric, config, objectives
        self.margin = max((objective.margin for objective in objectives), default=0)
        self.parts = fabric.world_size * config.accumulate
        self.distiller = Distiller(student, objectives)
        self.choice = choice.to(fabric.device)
        teachers = list(dict.fromkeys(o.teacher for o in objectives))
        self.balance = LossBalance(teachers, config.balance).to(fabric.device)
        decayed = [p for p in self.distiller.parameters() if p.ndim > 1]
        plain = [p for p in self.distiller.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        if policy := list(self.choice.parameters()):
            groups.append({"params": policy, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        # Five lengths of crops, with and without gradients.
        torch._dynamo.config.cache_size_limit = max(64, torch._dynamo.config.cache_size_limit)
        module: Any = torch.compile(self.distiller, dynamic=False) if config.compile else self.distiller
        self.model, self.optimizer = fabric.setup(module, optimizer)
        self.average = WeightAverage(self.distiller, config.ema)
        self.draw = BatchDraw(
            corpus,
            config.batch_residues,
            config.seed,
            by_family=config.sampling == "family",
            chosen=chosen,
            multiple=self.parts,
            # Pairs are for the contrast; without it they would only make a batch less diverse.
            pairs=any(isinstance(objective, FamilyContrast) for objective in objectives),
        )
        self.validation = BatchDraw(corpus, config.batch_residues, seed=1, validation=True)
        self.pooled: list[Tensor] = []
        self.seen, self.spent = 0, 0.0

    def losses(self, batch: Batch, part: Subnetwork | None = None) -> tuple[dict[str, tuple[str, Tensor]], Outputs]:
        """{name: (teacher, loss (rows,))} of a batch, and what the student said."""
        device = self.fabric.device
        ids = torch.from_numpy(batch.ids.astype(np.int64)).to(device)
        mask = torch.from_numpy(batch.mask).to(device)[..., None].float()
        targets = [[t.to(device) for t in o.targets(batch)] for o in self.objectives]
        # A part of the network has another shape at each step: compiling it would take longer than it saves.
        eager = self.config.compile and part is not None
        with torch.compiler.set_stance("force_eager") if eager else nullcontext():
            computed, outputs = self._computed(ids, mask, targets, part)
        losses: dict[str, tuple[str, Tensor]] = {}
        for objective, target, rows in zip(self.objectives, targets, computed, strict=True):
            losses |= {
                k: (objective.teacher, v) for k, v in (objective(outputs, target) if objective.eager else rows).items()
            }
        return losses, outputs

    def _computed(self, *inputs: Any) -> tuple[list[dict[str, Tensor]], Outputs]:
        try:
            computed: tuple[list[dict[str, Tensor]], Outputs] = self.model(*inputs)
        except BackendCompilerFailed as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)[:150]
            raise InputError(f"torch.compile failed ({reason}); get a C++ compiler or add --no-compile") from None
        return computed

    def step(self, step: int) -> dict[str, float]:
        self.model.train()
        self.choice.train()
        self.balance.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.config)
        batch = self.draw.draw(step, margin=self.margin, masked=self.config.masked)
        part = None
        if self.config.subnetworks:
            part = sample(self.config.student, step, self.config.steps, self.config.seed)
            part = part and part._replace(
                channels=None if part.channels is None else part.channels.to(self.fabric.device)
            )
        self.seen = int(batch.mask.sum())
        self.spent = self.seen * operations(self.config.student, part)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = defaultdict(float)
        own = batch.parts(self.parts)[self.fabric.global_rank :: self.fabric.world_size]
        for index, rows in enumerate(own):
            with self.fabric.no_backward_sync(self.model, enabled=index + 1 < len(own)):
                values = self._backward(rows, part, step)
            for name, value in values.items():
                sums[name] += value / len(own)
        for parameter in self.choice.parameters():
            if parameter.grad is not None:
                parameter.grad = processes.mean(parameter.grad)
        # Apart, or a policy's large gradient would shrink the student's step.
        if policy := list(self.choice.parameters()):
            nn.utils.clip_grad_norm_(policy, 1.0)
        norm = nn.utils.clip_grad_norm_(self.distiller.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise InputError(f"the gradient is not finite at step {step}; lower --learning-rate")
        self.optimizer.step()
        # Once a step, over all processes and micro-batches: they all saw the same centre.
        self.distiller.student.follow(processes.mean(torch.stack(self.pooled).mean(0)))
        self.pooled.clear()
        if self.config.ema:
            self.average.update()
        return sums

    def _backward(self, rows: Batch, part: Subnetwork | None, step: int) -> dict[str, float]:
        losses, outputs = self.losses(rows, part)
        self.pooled.append(outputs.pooled.detach().mean(0))
        by_teacher: dict[str, Tensor] = {}
        for teacher, loss in losses.values():
            by_teacher[teacher] = by_teacher.get(teacher, 0) + loss.detach()
        taught = {teacher: loss for teacher, loss in by_teacher.items() if teacher}
        weights = self.choice(outputs.vectors.detach(), taught) if taught else {}
        factors = self.balance(by_teacher)
        terms = [(weights.get(t, 1.0) * loss).mean() * factors[t] for t, loss in losses.values()]
        extra = self.choice.extra() if taught else {}
        total = torch.stack([*terms, *extra.values()]).sum()
        # Of all processes: one that stops alone leaves the others waiting.
        if not torch.isfinite(processes.mean(total)):
            raise InputError(f"the loss is not finite at step {step}; lower --learning-rate")
        self.fabric.backward(total / self.config.accumulate)
        means = {name: loss.detach().mean().item() for name, (_, loss) in losses.items()}
        return means | {name: value.item() for name, value in extra.items()}

    @torch.no_grad()
    def evaluate(self) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
        """Losses of held-out families, and per residue the loss of what the student expects there, at the same crops
        each time; by the average weights."""
        for module in (self.model, self.choice, self.balance):
            module.eval()
        sums: dict[str, list[float]] = defaultdict(list)
        trails: list[dict[str, NDArray[Any]]] = []
        with self.average.applied():
            for index in range(VALIDATION_BATCHES):
                batch = self.validation.draw(index, margin=self.margin, masked=self.config.masked)
                losses, outputs = self.losses(batch)
                for name, (_, loss) in losses.items():
                    sums[name].append(loss.mean().item())
                trails.append(_residue_losses(batch, outputs, self.margin))
        values = {name: float(np.mean(rows)) for name, rows in sums.items()}
        return values, {key: np.concatenate([trail[key] for trail in trails]) for key in trails[0]}

    def save(self, path: Path, step: int, totals: dict[str, float]) -> None:
        if not self.fabric.is_global_zero:
            return
        state = {
            "step": step,
            "totals": totals,
            "model": self.distiller.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "choice": self.choice.state_dict(),
            "balance": self.balance.state_dict(),
            "average": [t.cpu() for t in self.average.average],
            "average_steps": self.average.steps,
        }
        with whole(path) as partial:
            torch.save(state, partial)

    def restore(self, path: Path) -> tuple[int, dict[str, float]]:
        try:
            state = torch.load(path, weights_only=True, map_location=self.fabric.device)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path} is damaged ({reason}); remove it to begin anew") from None
        self.distiller.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.choice.load_state_dict(state["choice"])
        self.balance.load_state_dict(state["balance"])
        for average, saved in zip(self.average.average, state["average"], strict=True):
            average.copy_(saved)
        self.average.steps = int(state["average_steps"])
        return int(state["step"]), dict(state["totals"])


def _residue_losses(batch: Batch, outputs: Outputs, margin: int) -> dict[str, NDArray[Any]]:
    """Per residue of a validation batch, in crops padded to the longest: with profiles the divergence of what the
    student expects from the profile, else the surprise at residues that were hidden from it."""
    logp = outputs.profile.float().cpu().numpy()
    if batch.profiles is not None:
        target = batch.profiles[:, margin : batch.profiles.shape[1] - margin].astype(np.float32)
        loss = (target * (np.log(np.maximum(target, 1e-9)) - logp)).sum(-1)
        mask = batch.mask
    else:
        mask = batch.hidden & (batch.residues < logp.shape[-1])
        loss = -np.take_along_axis(logp, np.where(mask, batch.residues, 0)[..., None].astype(np.int64), -1)[..., 0]
    beyond = ((0, 0), (0, CROP_LENGTHS[-1] - batch.ids.shape[1]))
    arrays = {"loss": np.where(mask, loss, 0).astype(np.float16), "mask": mask, "ids": batch.residues}
    return {name: np.pad(array, beyond) for name, array in arrays.items()}


def train(
    config: TrainingConfig,
    corpus: Corpus,
    objectives: Sequence[Objective],
    folder: Path,
    *,
    student: Student | None = None,
    choice: Choice | None = None,
    chosen: NDArray[np.bool_] | None = None,
    fabric: Fabric | None = None,
    resume: bool = False,
    probe: Callable[[Student], dict[str, float]] | None = None,
    tensorboard: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Student:
    """Train a student; checkpoints and a log of every validation go to ``folder``.

    A resumed run draws the same batches as an uninterrupted one, and several processes learn what one would have
    learned from the same batches.

    Args:
        config: options.
        corpus: what to learn from.
        objectives: what to learn.
        folder: of checkpoints and logs.
        student: a network to train instead of a fresh one of the shape in ``config``; it and the heads of
            ``objectives`` are trained in place.
        choice: which teachers count for which protein; all by default.
        chosen: (proteins,) bool, those to draw; all by default.
        fabric: of :class:`Machines`, launched; one process on the CPU by default.
        resume: go on with an unfinished run.
        probe: scores the student at each validation, with its average weights.
        tensorboard: write curves to ``folder/tensorboard`` as well.
        report: called after each step, by the first process.

    Returns:
        The student with its average weights, in evaluation mode.

    Raises:
        InputError: if ``folder`` holds a run with other options, or one that was not asked to be resumed.
    """
    if fabric is None:
        fabric = Machines().fabric(config.precision)
        fabric.launch()
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, options = folder / "checkpoint.pt", folder / "training.json"
    wanted = json.loads(json.dumps(asdict(config)))
    wanted["corpus"] = corpus.fingerprint
    wanted["teachers"] = [objective.fingerprint for objective in objectives]
    if checkpoint.exists():
        _check_resumable(folder, options, wanted, resume)
    torch.manual_seed(config.seed)
    student = student or Student(config.student)
    run = _Run(fabric, config, corpus, objectives, student, choice or Everyone(), chosen)
    first, totals = 0, {"residues": 0.0, "seconds": 0.0, "operations": 0.0}
    if checkpoint.exists():
        first, totals = run.restore(checkpoint)
    else:
        for objective in objectives:
            objective.prepare(student, corpus)
        run.average = WeightAverage(run.distiller, config.ema)
    fabric.barrier()
    if fabric.is_global_zero:
        sweep(folder)
        with whole(options) as partial:
            partial.write_text(json.dumps(wanted, indent=1) + "\n")
        _cut(folder / "log.jsonl", first)
    writer = _writer(folder / "tensorboard") if tensorboard and fabric.is_global_zero else None
    for progress in _steps(run, config, first, totals, folder, checkpoint, probe):
        if progress.evaluation is not None and writer is not None:
            _draw(writer, progress.evaluation)
        if report and fabric.is_global_zero:
            report(progress)
    if config.ema:
        run.average.swap()
    return student.eval()


def _check_resumable(folder: Path, options: Path, wanted: dict[str, Any], resume: bool) -> None:
    if not resume:
        raise InputError(f"{folder} holds a run already; add --resume to go on with it, or choose another folder")
    found = json.loads(options.read_text()) if options.exists() else {}
    if differing := sorted(k for k in wanted if wanted[k] != found.get(k)):
        raise InputError(f"{folder} was trained with another {', '.join(differing)}; use the same options")


def _steps(
    run: _Run,
    config: TrainingConfig,
    first: int,
    totals: dict[str, float],
    folder: Path,
    checkpoint: Path,
    probe: Callable[[Student], dict[str, float]] | None,
) -> Iterator[Progress]:
    began, before = time.perf_counter(), totals["seconds"]
    sums: dict[str, list[float]] = defaultdict(list)
    started, residues = began, 0
    for step in range(first, config.steps):
        losses = run.step(step)
        residues += run.seen
        totals["residues"] += run.seen
        totals["operations"] += run.spent
        for name, value in losses.items():
            sums[name].append(value)
        line: dict[str, Any] | None = None
        rate = residues / (time.perf_counter() - started)
        if (step + 1) % config.evaluate_every == 0 or step + 1 == config.steps:
            totals["seconds"] = before + time.perf_counter() - began
            line = {
                "step": step + 1,
                **totals,
                "residues_per_second": rate,
                "learning_rate": learning_rate(step, config),
                "losses": {name: float(np.mean(values)) for name, values in sums.items()},
            }
            _evaluate(run, folder, line, probe)
            run.save(checkpoint, step + 1, totals)
            sums.clear()
            # What validation takes is not the speed of training.
            started, residues = time.perf_counter(), 0
        yield Progress(step + 1, losses, rate, line)


def _evaluate(
    run: _Run, folder: Path, line: dict[str, Any], probe: Callable[[Student], dict[str, float]] | None
) -> None:
    """Add the validation to a line of the log, and write the line and the residues' losses."""
    line["validation"], residues = run.evaluate()
    line["probes"] = {}
    if not run.fabric.is_global_zero:
        return
    if probe:
        with run.average.applied():
            line["probes"] = probe(run.distiller.student)
    path = folder / "validation" / f"step-{line['step']:08d}.npz"
    path.parent.mkdir(exist_ok=True)
    with whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **residues)  # type: ignore[arg-type]
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def _cut(log: Path, step: int) -> None:
    """Drop the lines after a step: a run that was killed between log and checkpoint writes them again."""
    if not log.exists():
        return
    lines = []
    for line in log.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                lines.append(line)
        except ValueError:
            continue  # torn off by a kill
    with whole(log) as partial:
        partial.write_text("".join(line + "\n" for line in lines))


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard is not installed; pip install tensorboard, or leave --tensorboard out") from None
    return SummaryWriter(str(folder))


def _draw(writer: Any, line: dict[str, Any]) -> None:
    for group in ("losses", "validation", "probes"):
        for name, value in line[group].items():
            writer.add_scalar(f"{group}/{name}", value, line["step"])
    for name in ("learning_rate", "residues_per_second"):
        writer.add_scalar(name, line[name], line["step"])
    writer.flush()
