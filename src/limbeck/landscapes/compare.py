"""The ladder on every split: what each model predicts, how sure that is, and what follows."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from limbeck.encoders import Encoder
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.comparison import COLUMNS, Comparison
from limbeck.landscapes.fits import Fit, Fits
from limbeck.landscapes.ladder import Rung
from limbeck.landscapes.leaks import corpus_leaks, train_test_leaks
from limbeck.landscapes.models.base import Model
from limbeck.landscapes.models.features import needs_vectors
from limbeck.landscapes.models.on_features import FeatureModel
from limbeck.landscapes.models.zero_labels import ZeroLabelModel
from limbeck.landscapes.scores import METRICS, Bootstrap, bootstrap, score
from limbeck.landscapes.splits import LeftOut, Split, drawn, learning_sizes, learning_subset
from limbeck.landscapes.vectors import Vectors
from limbeck.landscapes.verdict import MARGIN, Contender, Verdict, judge, summarise
from limbeck.progress import Progress

__all__ = [
    "MOST_SAMPLED",
    "SAMPLED_RESIDUES",
    "Plan",
    "compare",
    "embed",
    "estimates",
    "fitted",
    "prepare",
    "sampled",
    "winner",
]

Rows = NDArray[np.intp]

SAMPLED_RESIDUES = 1_200_000
"""Residues of one split that an encoder reads unless told otherwise: some minutes on two cores."""
MOST_SAMPLED = 20_000
SLACK = 1.3
"""How much more is read to the end rather than sampled: two sets of rows say less than one."""
CURVE_REPEATS = 5
SHARES = {"train": 0.5, "valid": 0.125, "test": 0.375}
"""What a sample is made of, where there is enough of each."""


@dataclass(frozen=True)
class Plan:
    """Which rows of a split are used.

    Attributes:
        split: the rows.
        kind: ``"all"``, or ``"sample"`` where an encoder would take too long for all of them.
    """

    split: Split
    kind: str


def sampled(assay: Assay, split: Split, most: int) -> Plan:
    """As many rows of a split as an encoder can be given: all, or a sample that only the variants decide.

    Args:
        most: rows of a sample; a third more are not sampled.
    """
    parts = {name: getattr(split, name) for name in SHARES}
    total = sum(map(len, parts.values()))
    if total <= SLACK * most:
        return Plan(split, "all")
    # What one part doesn't use, the others get.
    counts = {name: min(len(rows), int(SHARES[name] * most)) for name, rows in parts.items()}
    for name in SHARES:
        counts[name] = min(len(parts[name]), counts[name] + most - sum(counts.values()))
    chosen = {name: np.sort(drawn(assay, parts[name], "sample")[: counts[name]]) for name in parts}
    kept = np.isin(split.test, chosen["test"])
    return Plan(replace(split, **(chosen | {"test": split.test[kept], "units": split.units[kept]})), "sample")


def compare(
    assay: Assay,
    splits: Sequence[Split],
    rungs: Sequence[Rung],
    left_out: Sequence[LeftOut] = (),
    *,
    most: int,
    seed: int = 0,
    replicates: int = 1000,
    margin: float = MARGIN,
    curves: bool = True,
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    shown: bool = False,
) -> Comparison:
    """Fit every rung on every split, score, judge.

    Args:
        most: rows of a split that models on an encoder's vectors are given. Where a split has more, these models and,
            once more, those without an encoder get the same sample, so that like is compared with like.
        replicates: of the bootstrap.
        margin: gain from which an encoder is worth its trouble.
        curves: fit the cheap models to more and more training variants, too.
        folder: where fits are kept; ``None`` keeps nothing.
        settings: noted in the comparison.
        shown: show progress.
    """
    started = time.monotonic()
    run = _Run(assay, rungs, Fits(folder), most, seed, replicates, margin, shown)
    outcomes = run.outcomes(splits)
    curve_table = run.curves(outcomes) if curves else {}
    # The curves are those of the first split, and say nothing about others.
    verdicts = [run.verdict(outcome, {} if index else curve_table) for index, outcome in enumerate(outcomes)]
    leaks = [leak for split in splits for leak in train_test_leaks(assay, split)]
    leaks += [leak for encoder in _pretrained(rungs) for leak in corpus_leaks(assay, encoder)]
    seconds = round(time.monotonic() - started, 1)
    return Comparison(
        assay=assay,
        settings={**(settings or {}), "summary": summarise(verdicts), "seed": seed, "seconds": seconds},
        splits=pd.DataFrame([_described(split) for split in splits]),
        left_out=pd.DataFrame([(item.name, item.reason) for item in left_out], columns=["what", "reason"]),
        scores=pd.DataFrame([row for outcome in outcomes for row in outcome.scores]),
        differences=pd.DataFrame([row for o, v in zip(outcomes, verdicts, strict=True) for row in o.differences(v)]),
        verdicts=pd.DataFrame([asdict(verdict) for verdict in verdicts], columns=list(COLUMNS["verdicts"])),
        predictions=pd.concat([pd.DataFrame(), *(outcome.predictions for outcome in outcomes)], ignore_index=True),
        curves=pd.DataFrame([row for points in curve_table.values() for row in points]),
        leaks=pd.DataFrame(leaks),
    )


def _pretrained(rungs: Sequence[Rung]) -> list[Encoder]:
    return list({id(r.encoder): r.encoder for r in rungs if r.encoder is not None and r.pretrained}.values())


def _described(split: Split) -> dict[str, Any]:
    sizes = {part: len(getattr(split, part)) for part in SHARES}
    units = len(np.unique(split.units))
    return {"split": split.name, "question": split.question, **sizes, "unit": split.unit, "units": units}


@dataclass
class _Outcome:
    """What all models predicted for the rows of one plan, and how well.

    Attributes:
        plans: what was compared, first; beside a sample, all rows.
        fits: for each plan, by the name of the rung.
        scores: lines of the table.
        samples: for each plan, the bootstrap.
    """

    assay: Assay
    plans: list[Plan]
    fits: list[dict[str, Fit]]
    rungs: dict[str, Rung]
    scores: list[dict[str, Any]]
    samples: list[Bootstrap]

    @property
    def compared(self) -> Split:
        return self.plans[0].split

    def valid(self, plan: int, name: str) -> float:
        """Spearman correlation of a model on validation rows; NaN if there are none."""
        rows, predicted = self.plans[plan].split.valid, self.fits[plan][name].valid
        return score(self.assay.scores[rows], predicted)["spearman"] if len(rows) else math.nan

    def contenders(self) -> list[Contender]:
        """All models on the test rows of the first plan."""
        kept = np.isin(self.plans[-1].split.test, self.compared.test)
        found = []
        for index, (plan, fits) in enumerate(zip(self.plans, self.fits, strict=True)):
            for name, fit in fits.items():
                rung = self.rungs[name]
                test = fit.test if index == 0 else fit.test[kept]
                encoder = rung.encoder.name if rung.encoder else None
                found.append(
                    Contender(name, rung.pretrained, self.valid(index, name), test, encoder, len(plan.split.train))
                )
        return found

    def differences(self, verdict: Verdict) -> list[dict[str, Any]]:
        """Every model compared with the verdict's baseline on the same test rows."""
        if not verdict.baseline:
            return []
        samples, rows = self.samples[0], []
        for name in samples.models:
            if name != verdict.baseline:
                for metric in METRICS:
                    value, low, high = samples.difference(name, verdict.baseline, metric)
                    found = {"metric": metric, "value": value, "low": low, "high": high, "n": len(self.compared.test)}
                    rows.append({"split": verdict.split, "model": name, "baseline": verdict.baseline, **found})
        return rows

    @property
    def predictions(self) -> pd.DataFrame:
        """Of test rows, by all models of the first plan and those that only the second has."""
        parts = []
        for index in range(len(self.plans)):
            split = self.plans[index].split
            for name, fit in self.fits[index].items():
                if index == 0 and len(self.plans) > 1 and name in self.fits[1]:
                    continue
                columns = {"split": split.name, "row": split.test, "model": name}
                values = {"measured": self.assay.scores[split.test], "predicted": fit.test, "std": fit.std}
                parts.append(pd.DataFrame({**columns, **values}))
        return pd.concat(parts, ignore_index=True)


class _Run:
    """One assay, its models, and where their fits are kept."""

    def __init__(
        self,
        assay: Assay,
        rungs: Sequence[Rung],
        fits: Fits,
        most: int,
        seed: int,
        replicates: int,
        margin: float,
        shown: bool,
    ) -> None:
        self.assay, self.rungs, self.fits, self.most = assay, rungs, fits, most
        self.seed, self.replicates, self.margin, self.shown = seed, replicates, margin, shown

    def outcomes(self, splits: Sequence[Split]) -> list[_Outcome]:
        plans = [_plans(self.assay, split, self.most) for split in splits]
        self._embed([each[0].split for each in plans])
        total = sum(len(_rungs_of(plan, self.rungs, each)) for each in plans for plan in each)
        found = []
        with Progress("fitting", "models", total, self.shown) as progress:
            for each in plans:
                fits = [self._fit_all(plan, _rungs_of(plan, self.rungs, each), progress) for plan in each]
                found.append(self._outcome(each, fits))
        return found

    def _embed(self, splits: Sequence[Split]) -> None:
        """Have all vectors at hand, so that it is seen how long that takes."""
        used = sorted({int(row) for split in splits for part in SHARES for row in getattr(split, part)})
        models = {rung.encoder.fingerprint: rung.model for rung in self.rungs if rung.encoder is not None}
        for model in models.values():
            embed(model, [self.assay.rows[row] for row in used], self.shown)

    def _fit_all(self, plan: Plan, rungs: Sequence[Rung], progress: Progress) -> dict[str, Fit]:
        found = {}
        for rung in rungs:
            progress.note(f"{plan.split.name}: {rung.name}")
            found[rung.name] = fitted(self.assay, plan.split, rung, plan.split.train, self.fits, self.shown)
            progress.update(1)
        return found

    def _outcome(self, plans: list[Plan], fits: list[dict[str, Fit]]) -> _Outcome:
        rungs = {rung.name: rung for rung in self.rungs}
        samples = [
            bootstrap(
                self.assay.scores[plan.split.test],
                {name: fit.test for name, fit in each.items()},
                plan.split.units,
                self.replicates,
                self.seed,
            )
            for plan, each in zip(plans, fits, strict=True)
        ]
        outcome = _Outcome(self.assay, plans, fits, rungs, [], samples)
        outcome.scores = [row for index in range(len(plans)) for row in _score_rows(outcome, index)]
        return outcome

    def curves(self, outcomes: Sequence[_Outcome]) -> dict[str, list[dict[str, Any]]]:
        """Points of the learning curves of the cheap models on the first split, by model.

        Each point is the mean over :data:`CURVE_REPEATS` draws of training variants; ``low`` and ``high`` are the least
        and the largest of them.
        """
        if not outcomes:
            return {}
        split = outcomes[0].compared
        cheap = [rung for rung in self.rungs if rung.curve]
        sizes = learning_sizes(len(split.train))
        table: dict[str, list[dict[str, Any]]] = {}
        with Progress("learning curves", "models", len(cheap) * len(sizes), self.shown) as progress:
            for rung in cheap:
                progress.note(rung.name)
                for size in sizes:
                    table.setdefault(rung.name, []).append(self._point(split, rung, size))
                    progress.update(1)
        return table

    def _point(self, split: Split, rung: Rung, size: int) -> dict[str, Any]:
        repeats = 1 if size == len(split.train) else CURVE_REPEATS
        values = []
        for repeat in range(repeats):
            rows = learning_subset(self.assay, split, size, repeat)
            fit = fitted(self.assay, split, rung, rows, self.fits, self.shown)
            values.append(score(self.assay.scores[split.test], fit.test)["spearman"])
        spread = {"value": float(np.mean(values)), "low": min(values), "high": max(values)}
        about = {"model": rung.name, "pretrained": rung.pretrained, "n_train": size, "repeats": repeats}
        return {**about, "metric": "spearman", **spread}

    def verdict(self, outcome: _Outcome, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Verdict:
        split = outcome.compared
        known = {name: {point["n_train"]: point["value"] for point in points} for name, points in curves.items()}
        return judge(
            split,
            self.assay.scores[split.test],
            outcome.contenders(),
            curves=known,
            margin=self.margin,
            count=self.replicates,
            seed=self.seed,
        )


def _score_rows(outcome: _Outcome, index: int) -> list[dict[str, Any]]:
    plan, samples = outcome.plans[index], outcome.samples[index]
    rows = []
    for name, fit in outcome.fits[index].items():
        rung = outcome.rungs[name]
        about = {
            "split": plan.split.name,
            "model": name,
            "kind": rung.kind,
            "pretrained": rung.pretrained,
            "encoder": rung.encoder.name if rung.encoder else None,
            "rows": plan.kind,
        }
        sizes = {"n_train": len(plan.split.train), "n_test": len(plan.split.test), "seconds": fit.seconds, "note": ""}
        valid = outcome.valid(index, name)
        for metric in METRICS:
            low, high = samples.interval(name, metric)
            values = {"metric": metric, "value": samples.value(name, metric), "low": low, "high": high}
            rows.append({**about, **values, "valid": valid, **sizes})
    return rows


def _plans(assay: Assay, split: Split, most: int) -> list[Plan]:
    """What is compared, first; and beside a sample, all rows for the models that can take them."""
    compared = sampled(assay, split, most)
    return [compared] if compared.kind == "all" else [compared, Plan(split, "all")]


def _rungs_of(plan: Plan, rungs: Sequence[Rung], plans: Sequence[Plan]) -> list[Rung]:
    """Which models are fitted to the rows of a plan: beside a sample, only those that read the residues themselves."""
    return [rung for rung in rungs if plan is plans[0] or rung.encoder is None]


def fitted(assay: Assay, split: Split, rung: Rung, train: Rows, fits: Fits, shown: bool = False) -> Fit:
    """Predictions of one model that was fitted to ``train``, with the split's validation rows to choose by."""

    def compute(checkpoint: Path | None) -> Fit:
        prepare(rung.model, shown)
        start = time.monotonic()
        rows = assay.rows
        validation = ([rows[i] for i in split.valid], assay.scores[split.valid]) if len(split.valid) else None
        # Networks may take hours, so they show where they are, and go on from there.
        own = {"checkpoint": checkpoint, "progress": shown} if rung.kind == "network" else {}
        model = clone(rung.model).fit([rows[i] for i in train], assay.scores[train], validation=validation, **own)
        test, std = model.predict([rows[i] for i in split.test], return_std=True)
        valid = model.predict(validation[0]) if validation else np.empty(0)
        return Fit(valid, test, std, time.monotonic() - start)

    parts = (train, split.valid, split.test)
    determined_by = {
        "assay": assay.digest,
        "rows": [hashlib.sha256(np.ascontiguousarray(part, np.int64).tobytes()).hexdigest() for part in parts],
        "model": type(rung.model).__name__,
        "arguments": {k: v for k, v in rung.model.get_params().items() if k != "cache"},
        "encoder": [rung.encoder.fingerprint, rung.encoder.precision] if rung.encoder else None,
    }
    return fits.get(determined_by, compute)


def estimates(assay: Assay, splits: Sequence[Split], rungs: Sequence[Rung], most: int) -> list[str]:
    """How long each network will take, line by line, and all of them."""
    networks = [rung for rung in rungs if rung.kind == "network"]
    if not networks:
        return []
    from limbeck.landscapes.networks import CNNEnsemble, NetworkModel, matrix_rate

    rate, total, lines = matrix_rate(), 0.0, []
    for plan in (plan for split in splits for plan in _plans(assay, split, most)):
        rows = [assay.rows[row] for row in plan.split.train]
        for rung in networks:
            # An ensemble takes up its members as they were fitted alone.
            if isinstance(rung.model, NetworkModel) and not isinstance(rung.model, CNNEnsemble):
                seconds = rung.model.estimate(rows).seconds(rate)
                total += seconds
                lines.append(f"{plan.split.name}, {len(rows):,} variants: {rung.name} takes about {_time(seconds)}")
    return [*lines, f"all networks take about {_time(total)} at {rate / 1e9:,.0f} GFLOP/s, at most"]


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def embed(model: Model, rows: Sequence[str], shown: bool) -> None:
    """Have the vectors of a model's encoder at hand, if it has one; with progress, which a fit doesn't show."""
    if isinstance(model, FeatureModel) and needs_vectors(model.features):
        Vectors(replace(model.source(), shown=shown)).pooled(rows)


def prepare(model: Model, shown: bool) -> None:
    """Have what a model's zero-label scores are read off at hand, if it has any: it may take an encoder one pass for
    each position. No part of a fit's time, as embedding is none."""
    if isinstance(model, ZeroLabelModel):
        model.zero_labels().prepare(shown)
    elif isinstance(model, FeatureModel):
        for scores in model.zero_labels():
            scores.prepare(shown)


def winner(comparison: Comparison, rungs: Sequence[Rung]) -> Rung:
    """The model to use: the best on validation variants, on average over the splits; the first if none can be told."""
    scores = comparison.scores
    table = scores[scores["metric"] == "spearman"].pivot_table(
        index="model", columns="split", values="valid", aggfunc="max", dropna=False
    )
    means = table.mean(axis=1, skipna=False).dropna()
    best = rungs[0].name if means.empty else str(means.idxmax())
    return next(rung for rung in rungs if rung.name == best)
