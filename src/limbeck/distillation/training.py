"""The training loop: one readable recipe."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.distillation.config import TrainingConfig
from limbeck.distillation.corpus import Batch, BatchDraw, Corpus
from limbeck.distillation.files import whole
from limbeck.distillation.network import Student
from limbeck.distillation.objectives import FamilyContrast, Objective
from limbeck.errors import InputError

__all__ = ["Progress", "train"]


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after each step."""

    step: int
    losses: dict[str, float]
    residues_per_second: float
    validation: dict[str, float] | None = None


class Distiller(nn.Module):
    """The student, its objectives with the heads that only training needs, and the contrast between families."""

    def __init__(self, student: Student, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.student = student
        self.objectives = nn.ModuleList(objectives)
        self.contrast = FamilyContrast(student.config.width)

    def forward(self, ids: Tensor, mask: Tensor, targets: list[list[Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name but for the contrast, and the protein vectors that it needs."""
        outputs = self.student(ids, mask)
        losses: dict[str, Tensor] = {}
        for objective, target in zip(self.objectives, targets, strict=True):
            losses |= objective(outputs, target)
        return losses, outputs.vectors


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
        config: TrainingConfig,
        corpus: Corpus,
        objectives: Sequence[Objective],
        student: Student | None,
        device: str,
    ) -> None:
        self.config, self.objectives, self.device = config, objectives, torch.device(device)
        self.margin = max(objective.margin for objective in objectives)
        torch.manual_seed(config.seed)
        self.model = Distiller(student or Student(config.student), objectives).to(self.device)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
            fused=True,
        )
        self.draw = BatchDraw(corpus, config.batch_residues, config.seed)
        self.validation = BatchDraw(corpus, config.batch_residues, seed=1, validation=True)
        self.forward = torch.compile(self.model, dynamic=False) if config.compile else self.model

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        ids = torch.from_numpy(batch.ids.astype(np.int64)).to(self.device)
        mask = torch.from_numpy(batch.mask).to(self.device)[..., None].float()
        targets = [[t.to(self.device) for t in o.targets(batch)] for o in self.objectives]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            losses, vectors = self.forward(ids, mask, targets)
        if self.model.training and self.config.contrast:
            losses["contrast"] = self.model.contrast(vectors, torch.from_numpy(batch.families).to(self.device))
        return losses

    def step(self, step: int) -> dict[str, float]:
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.config)
        batch = self.draw.draw(step, margin=self.margin, masked=self.config.masked)
        losses = self.losses(batch)
        weighted = [v * (self.config.contrast if k == "contrast" else 1.0) for k, v in losses.items()]
        total = torch.stack(weighted).sum()
        if not torch.isfinite(total):
            raise InputError(f"the loss is not finite at step {step}; lower --learning-rate")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {name: value.item() for name, value in losses.items()}

    @torch.no_grad()
    def evaluate(self, batches: int = 6) -> dict[str, float]:
        self.model.eval()
        rows = [{k: v.item() for k, v in self.losses(self._validation_batch(i)).items()} for i in range(batches)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _validation_batch(self, index: int) -> Batch:
        return self.validation.draw(index, margin=self.margin, masked=self.config.masked)

    def save(self, path: Path, step: int) -> None:
        state = {"step": step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        with whole(path) as partial:
            torch.save(state, partial)

    def restore(self, path: Path) -> int:
        try:
            state = torch.load(path, weights_only=True, map_location=self.device)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path} is damaged ({reason}); remove it to begin anew") from None
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])


def train(
    config: TrainingConfig,
    corpus: Corpus,
    objectives: Sequence[Objective],
    folder: Path,
    *,
    student: Student | None = None,
    device: str = "cpu",
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Student:
    """Train a student; checkpoints and a log of every validation go to ``folder``.

    A resumed run draws the same batches as an uninterrupted one. ``student`` is a network to train instead of a fresh
    one of the shape in ``config``; it and the heads of ``objectives`` are trained in place.

    Raises:
        InputError: if ``folder`` holds a run with other options, or one that was not asked to be resumed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, options = folder / "checkpoint.pt", folder / "training.json"
    _check_device(device)
    wanted = json.loads(json.dumps(asdict(config)))
    wanted["corpus"] = corpus.fingerprint
    wanted["teachers"] = [objective.fingerprint for objective in objectives]
    first = 0
    run = _Run(config, corpus, objectives, student, device)
    if checkpoint.exists():
        if not resume:
            raise InputError(f"{folder} holds a run already; add --resume to go on with it, or choose another folder")
        found = json.loads(options.read_text()) if options.exists() else {}
        if differing := sorted(k for k in wanted if wanted[k] != found.get(k)):
            raise InputError(f"{folder} was trained with another {', '.join(differing)}; use the same options")
        first = run.restore(checkpoint)
    else:
        for objective in objectives:
            objective.prepare(run.model.student, corpus)
    options.write_text(json.dumps(wanted, indent=1) + "\n")
    for progress in _steps(run, config, first):
        if progress.validation is not None:
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(asdict(progress)) + "\n")
            run.save(checkpoint, progress.step)
        if report:
            report(progress)
    return run.model.student.eval()


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"device {device!r} is not on this machine; use --device cpu") from None


def _steps(run: _Run, config: TrainingConfig, first: int) -> Iterator[Progress]:
    started, residues = time.perf_counter(), 0
    for step in range(first, config.steps):
        losses = run.step(step)
        residues += config.batch_residues
        last = step + 1 == config.steps
        validation = run.evaluate() if (step + 1) % config.evaluate_every == 0 or last else None
        yield Progress(step + 1, losses, residues / (time.perf_counter() - started), validation)
