"""Does this assay need transfer learning? The rule, its sentence, and what to do about it.

The best model without pretraining (the baseline) and the best with it are both chosen on validation data, and then
compared once on the same test variants, by the difference of their Spearman correlations and its 95 % interval:

- *needed*: the interval lies above zero, the difference is at least the margin that is worth having, and the pretrained
  model itself predicts better than chance;
- *not needed*: the interval's upper end lies below the margin, so that a gain worth having can be ruled out;
- *unclear*: else; and always where the test is too small, where too few variants chose the models, where no model
  predicts better than chance, where a model that was not chosen refutes on the test what the comparison would say, or
  where one of the two kinds of models is missing.

A random network's vectors are no pretraining.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.landscapes.scores import FEWEST_UNITS, Bootstrap, bootstrap, score
from limbeck.landscapes.splits import FEWEST_TESTED, FEWEST_VALIDATED, Split

__all__ = ["MARGIN", "VERDICTS", "Contender", "Verdict", "judge", "summarise"]

VERDICTS = ("needed", "not needed", "unclear")
MARGIN = 0.02
"""Difference of Spearman correlations from which an encoder is worth its trouble."""
METRIC = "spearman"
FEWEST_CHOOSING = 20
FARTHEST = 10.0
"""How many times the test is asked to grow, at most, before we advise against it."""
PACE = 0.005
"""Gain in Spearman for a doubling of the training variants that counts as one."""
UNITS = {
    "variant": ("measured together", "variants"),
    "position": ("at one position", "positions"),
    "parent": ("of one wild type", "wild types"),
    "family": ("of one family", "families"),
}
PLACES = {"variant": "", "position": " at {} positions", "parent": " of {} wild types", "family": " of {} families"}


@dataclass(frozen=True)
class Contender:
    """A fitted model of the ladder.

    Attributes:
        name: what people read.
        pretrained: whether it uses an encoder that was trained on other proteins; a random network was not.
        valid: Spearman correlation on the validation variants; NaN if there is none.
        test: (n_test,) predictions of the test variants.
        encoder: its encoder's name; ``None`` for none.
        n_train: training variants that it was fitted to; ``None`` for all of the split's.
    """

    name: str
    pretrained: bool
    valid: float
    test: NDArray[np.float64]
    encoder: str | None = None
    n_train: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What follows for one split.

    Attributes:
        split: its name.
        verdict: one of :data:`VERDICTS`.
        sentence: the verdict with its numbers, for people.
        advice: what to do about it.
        model: the pretrained model compared; empty if there is none.
        baseline: the model without pretraining compared; empty if there is none.
        difference: Spearman correlation of the former less that of the latter; NaN if there are not both.
        low, high: its 95 % interval.
        n: test variants.
        units: units that the bootstrap resampled.
        encoders: the pretrained encoders that were tried, joined by commas.
    """

    split: str
    verdict: str
    sentence: str
    advice: str
    model: str = ""
    baseline: str = ""
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    units: int = 0
    encoders: str = ""


def judge(
    split: Split,
    measured: ArrayLike,
    contenders: Sequence[Contender],
    *,
    curves: Mapping[str, Mapping[int, float]] | None = None,
    margin: float = MARGIN,
    count: int = 1000,
    seed: int = 0,
) -> Verdict:
    """Whether transfer learning is needed for what a split tests.

    Args:
        measured: (n_test,) scores of the split's test variants.
        contenders: all models of the ladder. Where an encoder had to make do with a sample of the training variants,
            its models are compared with those fitted to as many; baselines fitted to more are mentioned in the advice.
        curves: Spearman correlation on these test variants by number of training variants, for some models, by name;
            the advice extrapolates them.
        margin: difference from which an encoder is worth its trouble.
        count: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: if lengths differ.
    """
    pretrained = [c for c in contenders if c.pretrained]
    encoders = ", ".join(dict.fromkeys(c.encoder or c.name for c in pretrained))
    plain = [c for c in contenders if not c.pretrained]
    if not pretrained or not plain:
        return _incomplete(split, pretrained, plain, encoders)
    model = _best(pretrained)
    equal = [c for c in plain if _trained(c, split) == _trained(model, split)]
    baseline = _best(equal or plain)
    fuller = [c for c in plain if _trained(c, split) > _trained(model, split)]
    alike = [c for c in pretrained if _trained(c, split) == _trained(model, split)]
    compared = {
        _MODEL: model,
        _BASELINE: baseline,
        _FULLER: _best(fuller) if fuller and equal else None,
        _OTHER_MODEL: _best_on_test([c for c in alike if c is not model], measured),
        _OTHER_BASELINE: _best_on_test([c for c in equal or plain if c is not baseline], measured),
    }
    some = {role: contender for role, contender in compared.items() if contender}
    samples = bootstrap(measured, {role: c.test for role, c in some.items()}, split.units, count, seed, (METRIC,))
    return _Case(split, some, samples, encoders, curves or {}, margin).verdict()


def summarise(verdicts: Iterable[Verdict]) -> str:
    """One sentence over all splits."""
    judged = list(verdicts)
    named = {kind: [v.split for v in judged if v.verdict == kind] for kind in VERDICTS}
    parts = [f"{kind} for {_joined(splits)}" for kind, splits in named.items() if splits]
    if not parts:
        return "There are too few variants to compare models with, so there is no verdict."
    encoders = dict.fromkeys(name for v in judged for name in v.encoders.split(", ") if name)
    tried = f", by the encoders tried ({', '.join(encoders)})" if encoders else ": no pretrained encoder was tried"
    return f"Transfer learning is {_joined(parts)}{tried}."


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _best(contenders: Sequence[Contender]) -> Contender:
    """The one with the best validation score; of equals the first, which is the simplest."""
    return max(contenders, key=lambda c: -math.inf if math.isnan(c.valid) else c.valid)


def _best_on_test(contenders: Sequence[Contender], measured: ArrayLike) -> Contender | None:
    """The one that ranks the test best. It may refute a verdict, but never makes one."""
    return max(contenders, key=lambda c: score(measured, c.test)[METRIC], default=None)


def _trained(contender: Contender, split: Split) -> int:
    return len(split.train) if contender.n_train is None else contender.n_train


def _incomplete(split: Split, pretrained: Sequence[Contender], plain: Sequence[Contender], encoders: str) -> Verdict:
    missing = "without pretraining" if pretrained else "with a pretrained encoder"
    advice = f"Add a model {missing}: the verdict compares the best of both kinds."
    sentence = f"Whether {split.tested} need transfer learning is unclear: no model {missing} was tried."
    best = [_best(some).name if some else "" for some in (pretrained, plain)]
    units = len(np.unique(split.units))
    return Verdict(
        split.name, "unclear", sentence, advice, best[0], best[1], n=len(split.test), units=units, encoders=encoders
    )


_MODEL, _BASELINE, _FULLER, _OTHER_MODEL, _OTHER_BASELINE = (
    "model",
    "baseline",
    "fuller",
    "other model",
    "other baseline",
)
"""Roles in a comparison: those chosen on validation data; the best baseline fitted to more variants; and of those that
were not chosen the best on the test."""


class _Case:
    """A comparison of the two best models, and what is said of it."""

    def __init__(
        self,
        split: Split,
        compared: Mapping[str, Contender],
        samples: Bootstrap,
        encoders: str,
        curves: Mapping[str, Mapping[int, float]],
        margin: float,
    ) -> None:
        self.split, self.samples, self.encoders, self.curves, self.margin = split, samples, encoders, curves, margin
        self.compared = compared
        self.model, self.baseline, self.fuller = compared[_MODEL], compared[_BASELINE], compared.get(_FULLER)
        self.values = {role: samples.value(role, METRIC) for role in compared}
        self.above_chance = {role: samples.interval(role, METRIC)[0] > 0 for role in (_MODEL, _BASELINE)}
        self.difference, self.low, self.high = samples.difference(_MODEL, _BASELINE, METRIC)
        self.n = len(split.test)
        self.reason = self._why_unsettled()
        self.rival = None if self.reason else self._rival()
        if self.rival:
            self.reason = self._refutation(self.rival)

    def verdict(self) -> Verdict:
        kind = "unclear" if self.reason else "not needed" if self.high < self.margin else "needed"
        notes = [{"needed": self._use_model, "not needed": self._use_baseline, "unclear": self._find_out}[kind]()]
        return Verdict(
            self.split.name, kind, self._sentence(kind), " ".join([*notes, *self._cautions()]),
            self.model.name, self.baseline.name, self.difference, self.low, self.high,
            self.n, self.samples.units, self.encoders,
        )  # fmt: skip

    def _why_unsettled(self) -> str:
        """Why the two models compared do not settle it; empty if they do."""
        if self.n < FEWEST_TESTED:
            return f"only {self.n} variants were tested, and at least {FEWEST_TESTED} are needed"
        if not self.samples.trusted:
            return self._few_units()
        if len(self.split.valid) < FEWEST_VALIDATED:
            return f"only {len(self.split.valid)} variants chose the models, and at least {FEWEST_VALIDATED} are needed"
        if not any(self.above_chance.values()):
            return "no model predicts them better than chance"
        if self.high < self.margin:
            return ""
        if self.low <= 0:
            return f"the test can rule out neither that there is no difference, nor one of {self.high:.3f}"
        if self.difference < self.margin:
            return f"there is a gain, but it may be less than the {self.margin:g} that are worth the trouble"
        return "" if self.above_chance[_MODEL] else "the pretrained model itself predicts no better than chance"

    def _rival(self) -> str | None:
        """The role of a model that was not chosen, but refutes on the test what the two compared would say.

        If that is *not needed*, another pretrained model that gains surely what is worth having; if *needed*, another
        model without pretraining that comes within the margin.
        """
        role = _OTHER_MODEL if self.high < self.margin else _OTHER_BASELINE
        if role not in self.compared:
            return None
        if role == _OTHER_BASELINE:
            refutes = self.values[role] > self.values[_MODEL] - self.margin
        else:
            gain, low, _ = self.samples.difference(role, _BASELINE, METRIC)
            refutes = low > 0 and gain >= self.margin
        return role if refutes else None

    def _refutation(self, role: str) -> str:
        name = self.compared[role].name
        if role == _OTHER_MODEL:
            gain, low, high = self.samples.difference(role, _BASELINE, METRIC)
            return (
                f"{name}, which the validation variants did not choose, gains {gain:+.3f} ({low:+.3f} to {high:+.3f})"
            )
        return (
            f"{name}, which needs no pretraining and which the validation variants did not choose, reaches "
            f"{self.values[role]:.3f}"
        )

    def _few_units(self) -> str:
        units, worth = self.samples.units, math.floor(self.samples.effective)
        one, many = UNITS[self.split.unit]
        uneven = "" if worth >= units else f", which count as {worth} since some hold most of the variants"
        return f"variants {one} are alike, and the test has {units} {many}{uneven}; it takes {FEWEST_UNITS}"

    def _sentence(self, kind: str) -> str:
        tested = self.split.tested
        opening = {
            "needed": f"Transfer learning is needed for {tested}",
            "not needed": f"Transfer learning is not needed for {tested}",
            "unclear": f"Whether transfer learning is needed for {tested} is unclear, since {self.reason}",
        }[kind]
        places = PLACES[self.split.unit].format(self.samples.units)
        interval = "" if math.isnan(self.low) else f", 95 % interval {self.low:+.3f} to {self.high:+.3f}"
        return (
            f"{opening}: {self.model.name} ranks them with a Spearman correlation of {self.values[_MODEL]:.3f}, and "
            f"{self.baseline.name}, the best without pretraining on validation, with {self.values[_BASELINE]:.3f} "
            f"(difference {self.difference:+.3f}{interval}; {self.n:,} test variants{places}), by the encoders tried "
            f"({self.encoders})."
        )

    def _use_model(self) -> str:
        advice = f"Use {self.model.name} for {self.split.tested}."
        if self.fuller and self.values[_FULLER] >= self.values[_MODEL] - self.margin:
            return (
                f"Use {self.model.name} for {self.split.tested} where about {_trained(self.model, self.split):,} "
                f"variants are measured; fitted to all {_trained(self.fuller, self.split):,}, {self.fuller.name} "
                f"reaches {self.values[_FULLER]:.3f} on the same test variants without pretraining."
            )
        return f"{advice} {self._catching_up()}".rstrip()

    def _catching_up(self) -> str:
        """How many training variants the baseline would need if each doubling brought what the last one did."""
        now, pace = self._pace()
        if not now:
            return ""
        doublings = self.difference / pace if pace > PACE else math.inf
        if doublings > math.log2(10 * FARTHEST):
            gained = f"the last doubling of the training variants brought it {pace:+.3f}"
            return f"{self.baseline.name} would not catch up with more of the kind that is in training: {gained}."
        needed = _rounded(now * 2**doublings - now)
        return (
            f"{self.baseline.name} would catch up with about {needed:,} more training variants, at its pace of "
            f"{pace:+.3f} for a doubling."
        )

    def _use_baseline(self) -> str:
        best = self.fuller if self.fuller and self.values[_FULLER] >= self.values[_BASELINE] else self.baseline
        advice = (
            f"Use {best.name}: no encoder is needed, and none of those tried can be expected to gain more than "
            f"{max(self.high, 0.0):.3f}."
        )
        now, pace = self._pace()
        if not now:
            return advice
        brings = "bring more" if pace > max(PACE, self.high) else "bring little as well"
        return f"{advice} More training variants {brings}: {pace:+.3f} for the last doubling, to {now:,}."

    def _pace(self) -> tuple[int, float]:
        """The end of the baseline's learning curve: training variants, and gain for the last doubling; zeros without a
        curve."""
        points = sorted(self.curves.get(self.baseline.name, {}).items())
        if len(points) < 2:
            return 0, 0.0
        (before, less), (now, more) = points[-2:]
        return now, (more - less) / math.log2(now / before)

    def _find_out(self) -> str:
        """What would decide an unclear case, from how far the interval is from deciding it."""
        tested, simpler = self.split.tested, f"Until then use {self.baseline.name}, which needs no pretraining."
        if self.n < FEWEST_TESTED:
            return f"Measure at least {FEWEST_TESTED - self.n} more {tested}, and test on them. {simpler}"
        if not self.samples.trusted:
            return f"{self._more(FEWEST_UNITS / self.samples.effective, elsewhere=True)} {simpler}"
        if len(self.split.valid) < FEWEST_VALIDATED:
            return (
                "Keep more of the training variants for validation: chosen by so few, a model may be any. Until then "
                "judge by the scores of all models."
            )
        if not any(self.above_chance.values()):
            return (
                f"Don't rank {tested} by any of these models. Measure some and train on them; if that fails too, check "
                "whether replicates agree."
            )
        if self.rival:
            return (
                "The validation variants did not tell the models apart: measure more, or keep more of the training "
                f"variants for validation. Until then {self.compared[self.rival].name} is the better bet."
            )
        aim, factor = self._growth()
        if factor > FARTHEST:
            return (
                f"It would take more than {FARTHEST:g} times as many test variants to tell, so treat the two as equal: "
                f"use {self.baseline.name}, which needs no pretraining."
            )
        # Where positions are not the question, more variants of the same positions count too.
        elsewhere = self.split.unit in {"parent", "family"} or self.split.name.startswith("position-")
        more = self._more(factor, elsewhere)
        return f"{more} If the difference stays as it is, that shows it to be {aim}. {self._until()}"

    def _growth(self) -> tuple[str, float]:
        """The verdict that the difference points to, and how many times as many test variants would reach it: the width
        of an interval falls with the square root of their number."""
        if self.difference >= self.margin:
            return "needed", max(((self.difference - self.low) / self.difference) ** 2, 1.1)
        return "not needed", max(((self.high - self.difference) / (self.margin - self.difference)) ** 2, 1.1)

    def _more(self, factor: float, elsewhere: bool) -> str:
        """Asks for a test so many times as large, at other positions (of other wild types, families) if need be."""
        variants = _rounded((factor - 1) * self.n)
        advice = f"Measure about {variants:,} more {self.split.tested}"
        if elsewhere and self.split.unit != "variant":
            places = PLACES[self.split.unit].format(f"about {_rounded((factor - 1) * self.samples.units):,} more")
            advice += f",{places},"
        return f"{advice} and test on them."

    def _until(self) -> str:
        if self.difference >= self.margin and self.above_chance[_MODEL]:
            return f"Until then {self.model.name} is the better bet."
        return f"Until then use {self.baseline.name}, which needs no pretraining."

    def _cautions(self) -> list[str]:
        """What the reader should know of the comparison."""
        cautions = []
        trained = [_trained(c, self.split) for c in (self.model, self.baseline)]
        if trained[0] != trained[1]:
            cautions.append(
                f"The comparison is uneven: {self.model.name} was fitted to {trained[0]:,} variants, "
                f"{self.baseline.name} to {trained[1]:,}."
            )
        if FEWEST_VALIDATED <= len(self.split.valid) < FEWEST_CHOOSING:
            cautions.append(f"Both were chosen by only {len(self.split.valid)} validation variants.")
        return cautions


def _rounded(count: float) -> int:
    """Up to two digits: an estimate has no more."""
    if count <= 1:
        return 1
    step = 10 ** max(math.floor(math.log10(count)) - 1, 0)
    return math.ceil(count / step) * step
