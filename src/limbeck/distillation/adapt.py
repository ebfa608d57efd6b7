"""Fit a student to one protein family without labels, by self-distillation.

The method is that of Lee et al. (2023, Self-distillation for further pre-training of transformers, arXiv 2210.02871):

1. Further-pretrain the student on the family's sequences, by naming hidden residues. Left at that, a network that is
   large for its data drifts far from where it began, and overfits.
2. Start again from the first weights. The loss is naming hidden residues, and the squared distance between what the
   student and the further-pretrained one say of the same sequences with nothing hidden.

The paper matches the vector of the whole input only. Here residue vectors are matched too, for both are used.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from limbeck.distillation.card import Budget, licence_of, model_card
from limbeck.distillation.config import ADAPTATION, StudentConfig, TrainingConfig
from limbeck.distillation.corpus import MINIMUM_LENGTH, Batch, BatchDraw, Corpus
from limbeck.distillation.export import export, nested_dimensions, run_record
from limbeck.distillation.network import Outputs, Student
from limbeck.distillation.objectives import HiddenResidues, Objective
from limbeck.distillation.objectives.base import per_row, residue_loss
from limbeck.distillation.start import Start
from limbeck.distillation.training import Machines, Progress, train
from limbeck.encoders.student import DEFAULT_NAME
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.records import Locator, clean_record, read_records
from limbeck.residues import UNKNOWN_ID
from limbeck.version import __version__

__all__ = ["SelfDistillation", "adapt"]

TEACHER = "further-pretrained"
RUNS = ("further-pretraining", "self-distillation")
LEAST_SEQUENCES = 2
MEASURED_BATCHES = 6
DISTANCE_OPERATIONS = 4 / 3
"""What the distance adds to a step: beside a pass forward and backward, which costs three times a forward pass, another
such pass of the student, and one of the teacher forward only."""


class FixedProjection(Student):
    """A student whose map to protein vectors stays as it is."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.project.requires_grad_(False)

    def follow(self, pooled: Tensor) -> None:
        """Nothing: the average over proteins that is taken off is the start's."""

    @classmethod
    def of(cls, student: Student) -> FixedProjection:
        """A student with the same weights, which are copied."""
        fixed = cls(student.config)
        fixed.load_state_dict(student.state_dict())
        return fixed


class SelfDistillation(Objective):
    """Squared distance to a further-pretrained student, of residue and of protein vectors (arXiv 2210.02871).

    Two losses, each the mean over vectors of the squared Euclidean distance: ``further-pretrained residues`` and
    ``further-pretrained proteins``. As in the paper, both networks see the input with nothing hidden, which is a second
    pass of the student beside the one with hidden residues, and there is no head between them: both began with the same
    weights, so their vectors are in one space.

    The teacher computes the very crop that the student sees, instead of features of whole proteins that a cache would
    keep: a student must not be asked for what lies beyond the ends of its crop.

    Args:
        student: in training; not a part of this module.
        network: the teacher, the further-pretrained student; it is never changed.
        weight: what both losses are multiplied by.
        pooling: ``"combined"`` or ``"mean"``, whichever makes the students' protein vectors.
    """

    teacher = TEACHER

    def __init__(self, student: Student, network: Student, *, weight: float = 1.0, pooling: str = "combined") -> None:
        super().__init__()
        # In a tuple, for a module would own its parameters a second time.
        self._student = (student,)
        self.network = network.requires_grad_(False)
        self.weight, self.pooling = weight, pooling
        self.fingerprint = _digest(network, f"self-distillation\n{weight}\n{pooling}")

    def targets(self, batch: Batch) -> list[Tensor]:
        """Residue ids with none hidden, (rows, length); residues a row."""
        return [torch.from_numpy(batch.residues.astype(np.int64)), per_row(batch.residues_per_row)]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        ids, residues_per_row = targets
        mask = outputs.mask
        with torch.no_grad():
            taught = self.network(ids, mask)
        seen = self._student[0](ids, mask)
        residues = _squared_distance(seen.features, taught.features)
        proteins = _squared_distance(self._pooled(seen), self._pooled(taught))
        return {
            f"{self.teacher} residues": self.weight * residue_loss(residues, mask[..., 0], residues_per_row),
            f"{self.teacher} proteins": self.weight * proteins,
        }

    def _pooled(self, outputs: Outputs) -> Tensor:
        if self.pooling == "combined":
            return outputs.vectors
        return (outputs.features.float() * outputs.mask).sum(1) / outputs.mask.sum(1)


def adapt(
    family: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    start: str | os.PathLike[str] | None = None,
    config: TrainingConfig | None = None,
    weight: float = 1.0,
    held_out: float = 0.1,
    name: str | None = None,
    license: str | None = None,
    machines: Machines | None = None,
    resume: bool = False,
    command: Sequence[str] | None = None,
    report: Callable[[str, Progress], None] | None = None,
) -> Path:
    """Fit a student to one family by self-distillation.

    The adapted student keeps the pooling and the projection of the one it starts from. So its protein vectors have the
    same axes, may be compared with those that the start gives, and their leading numbers serve alone as before. A
    family of n sequences has at most n - 1 principal components of its own, often fewer than a vector has numbers; the
    directions left would be noise.

    Args:
        family: sequences of the family, in any format that ``limbeck embed`` reads; an alignment in FASTA will do, for
            gaps are removed. Equal sequences count once, and those too short to train on are left out.
        output: the student's folder. ``output/training`` holds what it was made from, and may be removed: the sequences
            used (``family.fasta``), the further-pretrained student (``further-pretrained``), and both runs.
        start: a student's folder or name; limbeck's own by default.
        config: options of both runs, :data:`limbeck.distillation.config.ADAPTATION` by default; the second has the
            next seed. The shape is that of ``start``, and the options that choose teachers, objectives or proteins
            count nothing.
        weight: of the squared distances. 0 would be the first run over again.
        held_out: share of the sequences to measure on, at least one. Relatives of theirs are trained on, so this tells
            whether the family was learned, and nothing of other families.
        name: of the student; by default the folder's.
        license: of the student's weights; see :func:`limbeck.distillation.card.licence_of`.
        machines: where to train.
        resume: go on with an unfinished run.
        command: the command line, to be recorded.
        report: called after each step with which run it is, one of :data:`RUNS`.

    Returns:
        The student's folder, which :func:`limbeck.load` opens. Its ``training.json`` and its model card state the
        perplexity of all three students at hidden residues of held-out sequences.

    Raises:
        InputError: if an input cannot be used, or there are fewer than two sequences, one to learn from and one to
            measure on.
    """
    output, machines = Path(output), machines or Machines()
    _check(output, weight, held_out)
    first = Start.of(os.fspath(start) if start is not None else DEFAULT_NAME)
    config = replace(config or ADAPTATION, student=first.network.config)
    if not config.masked:
        raise InputError("a student that names hidden residues needs some to be hidden; use --masked above 0")
    license = licence_of([first.teacher], license)
    proteins, left_out = _distinct(Path(family))
    fabric = machines.fabric(config.precision)
    fabric.launch()
    folder = output / "training"
    if fabric.is_global_zero:
        _write(proteins, folder / "family.fasta", resume)
    fabric.barrier()
    corpus = Corpus(folder / "family.fasta", held_out)

    further, adapted = FixedProjection.of(first.network), FixedProjection.of(first.network)
    _run(config, corpus, folder, RUNS[0], further, [], fabric, resume, report)
    distance = SelfDistillation(adapted, copy.deepcopy(further), weight=weight, pooling=first.pooling)
    # Batches of its own: with the first run's, the second would go the same way whatever the distance says.
    again = replace(config, seed=config.seed + 1)
    _run(again, corpus, folder, RUNS[1], adapted, [distance], fabric, resume, report)
    if not fabric.is_global_zero:
        return output
    facts = {
        "method": "self-distillation (arXiv 2210.02871)",
        "distance_weight": weight,
        "left_out": left_out,
        "perplexity": {
            "start": perplexity(first.network, corpus, config),
            TEACHER: perplexity(further, corpus, config),
            "adapted": perplexity(adapted, corpus, config),
        },
    }
    written = _Written(first, corpus, Path(family).name, config, license, command, facts)
    logs = [_last_line(folder / run) for run in RUNS]
    written.write(folder / TEACHER, further, f"{name or output.name}, further-pretrained only", logs[:1])
    written.write(output, adapted, name or output.name, logs)
    return output


class _Written(NamedTuple):
    """What the folders of both students say."""

    start: Start
    corpus: Corpus
    family: str
    config: TrainingConfig
    license: str
    command: Sequence[str] | None
    facts: dict[str, Any]

    def write(self, folder: Path, student: Student, name: str, logs: Sequence[dict[str, Any]]) -> None:
        """Export a student that came of these runs, of each of which ``logs`` has the last line."""
        pooling, width = self.start.pooling, self.config.student.width
        nested = nested_dimensions(width, pooling, self.start.nested)
        residues, seconds, operations = (sum(log[k] for log in logs) for k in ("residues", "seconds", "operations"))
        if len(logs) == 2:
            operations += DISTANCE_OPERATIONS * logs[1]["operations"]
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
        card = model_card(
            name,
            self.license,
            self.corpus,
            self.family,
            [self.start.teacher],
            self.config,
            logs[-1]["validation"],
            pooling=pooling,
            nested=nested,
            objectives=sorted(logs[-1]["losses"]),
            budget=Budget(int(residues), seconds / 3600, machine, operations),
            held_out="relatives of those trained on",
        )
        run = run_record(
            options=self.config,
            corpus=self.family,
            corpus_fingerprint=self.corpus.fingerprint,
            proteins=len(self.corpus),
            residues=int(self.corpus.offsets[-1]),
            held_out=int(self.corpus.is_validation.sum()),
            teachers=[self.start.teacher],
            command=self.command,
            started_from=self.start.teacher.name,
            adaptation=self.facts,
        )
        export(
            student,
            folder,
            name=name,
            version=__version__,
            license=self.license,
            pooling=pooling,
            card=card + "\n" + self._section(),
            run=run,
            nested=self.start.nested,
        )

    def _section(self) -> str:
        rows = [f"| {name} | {value:.2f} |" for name, value in self.facts["perplexity"].items()]
        table = "\n".join(["| student | perplexity |", "|---|---|", *rows])
        return f"""## Adaptation to a family

Adapted from {self.start.teacher.name} to the proteins of `{self.family}`, without labels, by self-distillation
(Lee et al. 2023, arXiv 2210.02871). First the start was pretrained further, by naming hidden residues. Then the start
was trained anew, by naming hidden residues and by staying near to the further-pretrained student. The projection is the
start's, so protein vectors are comparable with the start's.

Perplexity at hidden residues of held-out proteins, which are relatives of those trained on:

{table}
"""


def perplexity(student: Student, corpus: Corpus, config: TrainingConfig) -> float:
    """Exponential of the mean surprise, in nats, at hidden residues of held-out proteins; the same crops and the same
    hidden residues each time. 20 is what knowing nothing gives."""
    draw = BatchDraw(corpus, config.batch_residues, seed=1, validation=True)
    device = next(student.parameters()).device
    total, count = 0.0, 0
    student.eval()
    for index in range(MEASURED_BATCHES):
        batch = draw.draw(index, margin=0, masked=config.masked)
        named = torch.from_numpy(batch.hidden & (batch.residues < UNKNOWN_ID))
        ids = torch.from_numpy(batch.ids.astype(np.int64)).to(device)
        with torch.no_grad():
            outputs = student(ids, torch.from_numpy(batch.mask).to(device)[..., None].float())
        residues = torch.from_numpy(batch.residues.astype(np.int64))[named]
        total -= outputs.profile.cpu()[named].gather(1, residues[:, None]).sum().item()
        count += len(residues)
    return math.exp(total / max(1, count))


def _check(output: Path, weight: float, held_out: float) -> None:
    if (output / "config.json").exists():
        raise InputError(f"{output} already holds a student; choose another folder")
    if not weight > 0:
        raise InputError(f"the weight of the distance to the further-pretrained student must be above 0, not {weight}")
    if not 0 < held_out < 1:
        raise InputError(f"the share of sequences held out must be above 0 and below 1, not {held_out}")


def _run(
    config: TrainingConfig,
    corpus: Corpus,
    folder: Path,
    name: str,
    student: Student,
    objectives: Sequence[Objective],
    fabric: Fabric,
    resume: bool,
    report: Callable[[str, Progress], None] | None,
) -> None:
    train(
        config,
        corpus,
        [HiddenResidues(), *objectives],
        folder / name,
        student=student,
        fabric=fabric,
        resume=resume,
        report=(lambda progress: report(name, progress)) if report else None,
    )


def _distinct(path: Path) -> tuple[dict[str, str], int]:
    """{sequence: id} of the distinct sequences that are long enough to train on, and how many records that leaves out.

    Equal sequences would stand for a family of their own in a corpus, and be drawn more often than others.
    """
    locator = Locator(path)
    found: dict[str, str] = {}
    records = 0
    for record in read_records(path):
        records += 1
        sequence = clean_record(record, locator)
        if len(sequence) >= MINIMUM_LENGTH:
            found.setdefault(sequence, record.id)
    if len(found) < LEAST_SEQUENCES:
        raise InputError(
            f"{path}: holds {len(found)} distinct sequences of at least {MINIMUM_LENGTH} residues; adaptation needs "
            f"{LEAST_SEQUENCES} or more, to learn from some and measure on the others; add relatives"
        )
    return found, records - len(found)


def _write(proteins: dict[str, str], path: Path, resume: bool) -> None:
    text = "".join(f">{' '.join(id.split())}\n{sequence}\n" for sequence, id in proteins.items())
    if path.exists():
        if not resume:
            raise InputError(
                f"{path.parent} holds a run already; add --resume to go on with it, or choose another folder"
            )
        if path.read_text(encoding="utf-8") != text:
            raise InputError(f"{path.parent} holds a run with other sequences; give the same, or choose another folder")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _last_line(folder: Path) -> dict[str, Any]:
    line: dict[str, Any] = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return line


def _squared_distance(one: Tensor, other: Tensor) -> Tensor:
    return (one.float() - other.float()).square().sum(-1)


def _digest(student: Student, settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for name, tensor in student.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
