"""Which teachers a protein learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.distillation.objectives import processes
from limbeck.errors import InputError

__all__ = ["CHOICES", "Choice", "Everyone", "Selector", "TeacherDropping", "build_choice"]

CHOICES = ("all", "dropping", "selector")


class Choice(nn.Module):
    """Decides how much each teacher counts for each row; runs outside the compiled graph.

    In evaluation every teacher counts. In training what is drawn depends on the seed, on how often something was
    drawn before (kept in the state dict) and on the row's place in the batch of all processes, so that a resumed run
    and a run in several processes draw the same.
    """

    eager = True

    def forward(self, state: Tensor, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights (rows,) of each teacher.

        Args:
            state: (rows, width) the student's protein vectors, detached.
            losses: (rows,) of each teacher, all its objectives together, detached and not balanced.
        """
        raise TypeError("a choice defines forward")

    def extra(self, reward: Tensor | None = None) -> dict[str, Tensor]:
        """Losses (scalars) of the choice itself, for the choice last made.

        Args:
            reward: (rows,) what the choice brought, instead of the choice's own measure.
        """
        return {}


class Everyone(Choice):
    """Every protein learns from every teacher."""

    def forward(self, state: Tensor, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {teacher: torch.ones_like(loss) for teacher, loss in losses.items()}


class TeacherDropping(Choice):
    """Each protein keeps the teacher with the highest loss, and every other with probability one half (UNIC, Sariyildiz
    et al. 2024, arXiv 2408.05088): no teacher can be left behind for the sake of easier ones.

    A teacher that is kept has weight 1, so that dropping nothing is :class:`Everyone`; UNIC divides by the number kept
    in the batch besides.

    Args:
        probability: with which a teacher is dropped.
        seed: of the draws.
    """

    def __init__(self, probability: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        self.probability = probability
        self.draws = Draws(seed)

    def forward(self, state: Tensor, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        table = torch.stack(list(losses.values()), dim=1)
        if not self.training:
            return _by_teacher(losses, torch.ones_like(table))
        highest = F.one_hot(table.argmax(dim=1), table.shape[1]).bool()
        kept = highest | (self.draws(table) >= self.probability)
        return _by_teacher(losses, kept.to(table.dtype))


class Selector(Choice):
    """A policy picks for each protein the teachers that it learns from, and learns from a reward, as the paper of MTDP
    describes it (Shang et al. 2024, arXiv 2405.11735).

    **This is our reconstruction.** The paper's text names a selector, a distillation stage and a reward that goes back
    from it; it gives neither the policy's form nor the reward, and the released code has no selector at all.

    From Yuan et al. 2021 (arXiv 2012.06048), the closest published recipe: one Bernoulli variable a teacher with
    probability ``sigmoid(W state + b)``; the state holds the student's vector and each teacher's loss; REINFORCE; the
    reward is minus the loss.

    Ours: (1) the variables are conditioned on keeping at least one teacher; (2) the reward is minus the mean loss over
    the teachers kept, each in units of that teacher's loss at the first step, so that neither its unit nor its size
    matters but how far the student has come with it; (3) a moving average of the reward is the baseline; (4) no
    probability leaves [floor, 1 - floor], so that no teacher is lost for good; (5) a teacher kept has weight 1. An
    engine that looks at the same rows again after the step can give ``extra`` another reward, such as minus the loss
    then.

    The reward favours teachers that are easy to follow. It does turn away from one that is noise; it can't tell
    whether an easy one is worth following.

    Args:
        width: of the student's protein vectors.
        teachers: their names, those of the losses.
        seed: of the draws.
        floor: least probability of keeping, and of dropping, before the condition.
        momentum: of the baseline.
    """

    first: Tensor
    baseline: Tensor
    steps: Tensor

    def __init__(
        self, width: int, teachers: Sequence[str], seed: int = 0, floor: float = 0.05, momentum: float = 0.95
    ) -> None:
        super().__init__()
        self.teachers, self.floor, self.momentum = tuple(teachers), floor, momentum
        self.policy = nn.Linear(width + len(self.teachers), len(self.teachers))
        nn.init.zeros_(self.policy.weight)
        nn.init.zeros_(self.policy.bias)
        self.draws = Draws(seed)
        self.register_buffer("first", torch.ones(len(self.teachers)))
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._last: tuple[Tensor, Tensor] | None = None

    def probabilities(self, state: Tensor, losses: Mapping[str, Tensor]) -> Tensor:
        """(rows, teachers) probability of keeping each teacher, before the condition that one is kept."""
        features = torch.cat([F.layer_norm(state.float(), state.shape[1:]), self._relative(losses)], dim=1)
        with torch.autocast(features.device.type, enabled=False):
            return self.floor + (1 - 2 * self.floor) * self.policy(features).sigmoid()

    def forward(self, state: Tensor, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        table = torch.stack([losses[teacher] for teacher in self.teachers], dim=1)
        if not self.training:
            return _by_teacher(self.teachers, torch.ones_like(table))
        begins = self.steps == 0
        self.first.copy_(torch.where(begins, processes.mean(table.float().mean(0)).clamp_min(1e-6), self.first))
        probabilities = self.probabilities(state, losses)
        kept = _at_least_one(probabilities.detach(), self.draws(probabilities))
        reward = -(self._relative(losses) * kept).sum(1) / kept.sum(1)
        self._last = (_log_probability(kept, probabilities), reward)
        return _by_teacher(self.teachers, kept.to(table.dtype))

    def extra(self, reward: Tensor | None = None) -> dict[str, Tensor]:
        """The policy's loss, ``policy``: minus advantage times log-probability of what it chose."""
        if self._last is None:
            return {}
        (log_probability, own), self._last = self._last, None
        reward = own if reward is None else reward.detach().float()
        average = processes.mean(reward.mean())
        baseline = torch.where(self.steps == 0, average, self.baseline)
        self.baseline.copy_(torch.lerp(average, baseline, self.momentum))
        self.steps.add_(1)
        return {"policy": -((reward - baseline) * log_probability).mean()}

    def _relative(self, losses: Mapping[str, Tensor]) -> Tensor:
        """(rows, teachers) each teacher's loss, in units of its loss at the first step."""
        return torch.stack([losses[teacher].float() for teacher in self.teachers], dim=1).detach() / self.first


class Draws(nn.Module):
    """Uniform numbers in [0, 1) that depend on the seed, on how many tables were drawn before, and on the row's place
    in the batch of all processes."""

    count: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, like: Tensor) -> Tensor:
        """As many as ``like`` (rows, columns) has."""
        rank, number = processes.place()
        rows, columns = like.shape
        numbers = np.random.default_rng([self.seed, int(self.count)]).random((number * rows, columns), dtype=np.float32)
        self.count.add_(1)
        return torch.from_numpy(numbers[rank * rows : (rank + 1) * rows]).to(like.device)


def _at_least_one(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Bernoulli draws (rows, n), given that one at least of each row is 1: each in turn, given those before it."""
    none_from_here = (1 - probabilities).flip(1).cumprod(1).flip(1)
    kept = torch.zeros_like(probabilities)
    for column in range(probabilities.shape[1]):
        none_yet = kept.sum(1) == 0
        plain = probabilities[:, column]
        conditioned = torch.where(none_yet, plain / (1 - none_from_here[:, column]), plain)
        kept[:, column] = (uniform[:, column] < conditioned).to(kept.dtype)
    # The last one's probability is 1 then, but for rounding.
    kept[:, -1] = torch.where(kept.sum(1) == 0, 1.0, kept[:, -1])
    return kept


def _log_probability(kept: Tensor, probabilities: Tensor) -> Tensor:
    """(rows,) of what :func:`_at_least_one` drew."""
    each = torch.where(kept > 0, probabilities, 1 - probabilities).log().sum(1)
    return each - torch.log1p(-(1 - probabilities).prod(1))


def _by_teacher(teachers: Sequence[str] | Mapping[str, Tensor], table: Tensor) -> dict[str, Tensor]:
    return dict(zip(teachers, table.unbind(1), strict=True))


def build_choice(name: str, teachers: Sequence[str], width: int, seed: int = 0) -> Choice:
    """One of ``CHOICES``.

    Args:
        name: ``all``, ``dropping`` or ``selector``.
        teachers: names of the teachers.
        width: of the student's protein vectors.
        seed: of the draws.

    Raises:
        InputError: if there is no such choice.
    """
    if name == "all":
        return Everyone()
    if name == "dropping":
        return TeacherDropping(seed=seed)
    if name == "selector":
        return Selector(width, teachers, seed=seed)
    raise InputError(f"teachers are chosen by {', '.join(CHOICES)}, not {name!r}; choose one of these")
