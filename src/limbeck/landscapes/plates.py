"""Which variants to measure together: a plate chosen from a joint posterior, well after well.

========== ============================================================================================================
greedy     the highest mean, less what the wells above already tell of it: the greedy MAP of a determinantal point
           process (Kulesza and Taskar 2012, arXiv 1207.6083; Chen, Zhang and Zhou 2018, arXiv 1709.05135) whose
           qualities are the means and whose similarities the posterior's correlations
thompson   each well is the best variant of one joint draw (Thompson 1933; in parallel: Hernandez-Lobato et al. 2017,
           arXiv 1706.01825; Kandasamy et al. 2018, arXiv 1705.09236), or the next best where that is taken
ucb        the highest mean + beta * standard deviation, the latter as if the wells above had been measured (GP-BUCB:
           Desautels, Krause and Burdick 2014, JMLR 15:4053; what comes out is taken to be the mean, so it is also the
           kriging believer of Ginsbourger et al. 2010)
========== ============================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.landscapes.models.base import Model
from limbeck.landscapes.models.posterior import Conditioned, Posterior
from limbeck.landscapes.predicting import scores

__all__ = ["STRATEGIES", "Beliefs", "Plan", "Well", "choose", "shortlist"]

STRATEGIES = ("greedy", "thompson", "ucb")
SHORTLIST = 2000
"""Candidates whose joint posterior is looked at: its memory grows with the square, and time with the cube of it."""
FARTHEST = 3.0
"""Standard deviations above its mean within which a candidate must come up to the others to be on the shortlist."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Beliefs:
    """What a model believes of n candidates, one by one.

    Attributes:
        mean: (n,) predictions.
        measured: (n,) standard deviation of a new measurement; NaN where the model has none.
        noise: variance of a measurement around the true score; NaN if the model has no joint posterior.
    """

    mean: Array
    measured: Array
    noise: float

    @classmethod
    def of(cls, model: Model, rows: Sequence[str], shown: bool = False) -> Beliefs:
        """Of a fitted model and n rows, at least one; with progress if that is to be shown."""
        mean, measured = scores(model, rows, shown, "scoring candidates")
        try:
            return cls(mean, measured, model.posterior(rows[:1]).noise)
        except InputError:
            return cls(mean, measured, np.nan)

    @property
    def joint(self) -> bool:
        """Whether the model has a joint posterior."""
        return bool(np.isfinite(self.noise))

    @property
    def sd(self) -> Array:
        """(n,) standard deviation of the true score."""
        return np.sqrt(np.maximum(0.0, self.measured**2 - self.noise))


@dataclass(frozen=True)
class Plan:
    """How a plate is to be chosen.

    Attributes:
        size: wells.
        strategy: one of ``STRATEGIES``; docs/propose.md says from which campaigns the default follows.
        beta: standard deviations that ``ucb`` adds to a mean.
        diversity: for ``greedy``. A variant's value is its mean + ``diversity * s * ln(v / v0) / 2``: v is the variance
            of its measurement given those of the wells above, v0 given none, and s the median of ``sqrt(v0)``. 0 takes
            the highest means.
        per_position: most wells that mutate the same position; ``None`` for any number.
        seed: of the draws of ``thompson``.

    Raises:
        InputError: if one of them has no meaning.
    """

    size: int = 96
    strategy: str = "ucb"
    beta: float = 2.0
    diversity: float = 1.0
    per_position: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(f"--strategy {self.strategy!r} is unknown; use one of {', '.join(STRATEGIES)}")
        for option, number in (("--plate", self.size), ("--per-position", self.per_position)):
            if number is not None and number < 1:
                raise InputError(f"{option} must be at least 1, not {number}")
        for option, weight in (("--beta", self.beta), ("--diversity", self.diversity)):
            if not 0 <= weight < np.inf:
                raise InputError(f"{option} must be a number from 0 up, not {weight:g}")
        if self.seed < 0:
            raise InputError(f"--seed must be 0 or more, not {self.seed}")


def shortlist(beliefs: Beliefs, plan: Plan) -> NDArray[np.intp]:
    """The candidates that a plate is chosen from, ascending: those that may come out on top.

    All, if they are at most ``SHORTLIST``; else so many (or ten for each well, if these are more) with the highest
    means for ``greedy``, and for the others with the highest ``mean + max(3, beta) * sd``.
    """
    most = max(SHORTLIST, 10 * plan.size)
    if len(beliefs.mean) <= most:
        return np.arange(len(beliefs.mean))
    hope = beliefs.mean if plan.strategy == "greedy" else beliefs.mean + max(FARTHEST, plan.beta) * beliefs.sd
    return np.sort(np.argsort(-hope, kind="stable")[:most])


class Well(NamedTuple):
    """A variant of a plate.

    Attributes:
        candidate: index of the variant.
        why: it was chosen, in words.
    """

    candidate: int
    why: str


def choose(posterior: Posterior, plan: Plan, mutated: NDArray[np.bool_] | None = None) -> list[Well]:
    """The variants of a plate, first choice first; fewer than the plan's if no more may be chosen.

    Args:
        posterior: of n variants.
        plan: how.
        mutated: (n, positions) which positions each variant mutates; needed for ``per_position`` alone.
    """
    state = Conditioned(posterior)
    free = np.ones(len(posterior), dtype=bool)
    counts = np.zeros(0 if mutated is None else mutated.shape[1], dtype=np.int64)
    wells: list[Well] = []
    for values, why in _RANKED[plan.strategy](posterior, state, plan):
        if len(wells) == plan.size or not free.any():
            break
        index = int(np.argmax(np.where(free, values, -np.inf)))
        wells.append(Well(index, _explained(posterior, state, index, values, why)))
        state.measure(index)
        free[index] = False
        if mutated is not None and plan.per_position is not None:
            counts += mutated[index]
            free &= ~mutated[:, counts >= plan.per_position].any(axis=1)
    return wells


Ranking = Iterator[tuple[Array, str]]
"""For well after well the value of each variant, (n,), and a template of the reason."""


def _greedy(posterior: Posterior, state: Conditioned, plan: Plan) -> Ranking:
    before = posterior.variance + posterior.noise
    before = np.where(before > 0, before, 1.0)
    price = 0.5 * plan.diversity * float(np.median(np.sqrt(before)))
    while True:
        left = np.maximum(state.variance + posterior.noise, 1e-12 * before)
        yield posterior.mean + (price * np.log(left / before) if price else 0.0), "{place} mean, {mean}{told}"


def _thompson(posterior: Posterior, state: Conditioned, plan: Plan) -> Ranking:
    for number, draw in enumerate(posterior.draws(plan.size, np.random.default_rng(plan.seed)), 1):
        yield draw, f"{{best}} of draw {number} from the posterior, with {{value}}"


def _ucb(posterior: Posterior, state: Conditioned, plan: Plan) -> Ranking:
    while True:
        bound = posterior.mean + plan.beta * np.sqrt(state.variance)
        yield bound, f"upper bound {{value}} = {{mean}} + {plan.beta:g} x {{left}}{{told}}"


_RANKED: dict[str, Callable[[Posterior, Conditioned, Plan], Ranking]] = {
    "greedy": _greedy,
    "thompson": _thompson,
    "ucb": _ucb,
}


def _explained(posterior: Posterior, state: Conditioned, index: int, values: Array, why: str) -> str:
    sd, left = np.sqrt(posterior.variance[index]), np.sqrt(state.variance[index])
    return why.format(
        value=f"{values[index]:.3g}",
        mean=f"{posterior.mean[index]:.3g}",
        left=f"{left:.3g}",
        place=_ordinal(int((posterior.mean > posterior.mean[index]).sum()), "highest"),
        best=_ordinal(int((values > values[index]).sum()), "best"),
        told=f"; the wells above leave {left / sd:.0%} of its sd" if left < 0.995 * sd else "",
    )


def _ordinal(better: int, best: str) -> str:
    """``best``, ``2nd best``, ``3rd best``, ..."""
    number = better + 1
    if number == 1:
        return best
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending} {best}"
