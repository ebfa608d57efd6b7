"""Simulated campaigns: which way of choosing the next plate finds the best variants?

    python results/campaigns/landscapes.py --data FOLDER --cache FOLDER    # once: embeds a sample of each landscape
    python results/campaigns/run.py --data FOLDER --cache FOLDER           # minutes for each repeat; goes on if stopped
    python results/campaigns/summary.py                                    # table and figure

A campaign begins with a random plate (which variants may stand on it: landscapes.py), fits a model to what was measured
so far, chooses the next plate from all candidates that were not measured, looks up their scores, and so on. Strategies
of one repeat share their first plate. Each campaign is a line of campaigns.jsonl, written when it is done.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from landscapes import LANDSCAPES, candidates, early, source
from numpy.typing import NDArray

from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models import Model
from limbeck.landscapes.models.gaussian_process import GaussianProcessModel
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.plates import Beliefs, Plan, choose, shortlist
from limbeck.landscapes.vectors import Source

PLATE = 96
ROUNDS = 5
"""Plates of a campaign, the first one included."""
FILE = Path(__file__).parent / "campaigns.jsonl"


@dataclass(frozen=True)
class Arm:
    """A way of choosing plates: ``strategy`` by a model on features; by none at random."""

    name: str
    model: type[Model] | None = None
    features: str = ""
    strategy: str = ""
    diversity: float = 0.0

    def fitted(self, rows: list[str], scores: NDArray[np.float64], vectors: Source, seed: int) -> Model:
        assert self.model is not None
        arguments: dict[str, Any] = {"features": self.features, "random_state": seed}
        if self.features != "one-hot":
            arguments |= {"precision": vectors.precision, "wild_types": vectors.wild_types, "cache": vectors.cache}
        return self.model(**arguments).fit(rows, scores)

    def plate(self, assay: Assay, measured: NDArray[np.intp], vectors: Source, seed: int) -> NDArray[np.intp]:
        """The next one, given what was measured."""
        left = np.setdiff1d(np.arange(len(assay)), measured)
        if self.model is None:
            return np.random.default_rng(seed).choice(left, PLATE, replace=False)
        model = self.fitted([assay.rows[i] for i in measured], assay.scores[measured], vectors, seed)
        beliefs = Beliefs.of(model, [assay.rows[i] for i in left])
        plan = Plan(PLATE, self.strategy, diversity=self.diversity, seed=seed)
        kept = left[shortlist(beliefs, plan)]
        wells = choose(model.posterior([assay.rows[i] for i in kept]), plan)
        return kept[[well.candidate for well in wells]]


def arms(sampled: bool) -> Iterator[Arm]:
    """On all candidates by one-hot features alone, and without the greedy arm that diversity hardly changes."""
    yield Arm("random")
    for features in ("one-hot", "embedding:mean") if sampled else ("one-hot",):
        yield Arm("ridge, greedy", RidgeModel, features, "greedy")
        if sampled:
            yield Arm("GP, greedy", GaussianProcessModel, features, "greedy")
        yield Arm("GP, greedy + diversity", GaussianProcessModel, features, "greedy", diversity=1.0)
        yield Arm("GP, thompson", GaussianProcessModel, features, "thompson")
        yield Arm("GP, ucb", GaussianProcessModel, features, "ucb")


def campaign(arm: Arm, assay: Assay, start: NDArray[np.intp], vectors: Source, seed: int) -> list[dict[str, Any]]:
    """What each round brought."""
    order = np.sort(assay.scores)
    top = order[-(len(order) // 100)]
    plate, measured, rounds = start, start[:0], []
    for number in range(1, ROUNDS + 1):
        began = time.process_time()
        if number > 1:
            plate = arm.plate(assay, measured, vectors, 1000 * seed + number)
        assert not set(plate) & set(measured)
        measured = np.concatenate([measured, plate])
        scores = assay.scores[plate]
        best = float(assay.scores[measured].max())
        rounds.append(
            {
                "best": best,
                "better": int((order > best).sum()),
                "mean": float(scores.mean()),
                "top 1 %": int((assay.scores[measured] >= top).sum()),
                "mutated": _crowding(assay, plate),
                "seconds": round(time.process_time() - began, 1),
            }
        )
    return rounds


def _crowding(assay: Assay, plate: NDArray[np.intp]) -> int:
    """Wells with the residue, at its position, that most of them have mutated."""
    letters, differs = assay.letters[plate], assay.differs[plate]
    return max(int(((letters == letter) & differs).sum(axis=0).max()) for letter in np.unique(letters))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="what landscapes.py filled")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--landscape", action="append", choices=[landscape.name for landscape in LANDSCAPES])
    parser.add_argument("--candidates", choices=["all", "sample"], help="default: first the sample, then all")
    parser.add_argument("--output", type=Path, default=FILE)
    given = parser.parse_args()
    done = (
        {_key(json.loads(line)) for line in given.output.read_text().splitlines()} if given.output.exists() else set()
    )
    chosen = [landscape for landscape in LANDSCAPES if given.landscape is None or landscape.name in given.landscape]
    for which in [given.candidates] if given.candidates else ["sample", "all"]:
        sets = [(landscape, candidates(landscape, given.data, which == "sample")) for landscape in chosen]
        for repeat in range(given.repeats):
            for landscape, assay in sets:
                allowed, vectors = early(landscape, assay), source(assay, given.cache)
                start = np.random.default_rng(repeat).choice(allowed, PLATE, replace=False)
                for arm in arms(which == "sample"):
                    about = {
                        "landscape": landscape.name,
                        "candidates": which,
                        "strategy": arm.name,
                        "features": arm.features,
                        "repeat": repeat,
                    }
                    if _key(about) in done:
                        continue
                    rounds = campaign(arm, assay, start, vectors, repeat)
                    size = {"n": len(assay), "highest": float(assay.scores.max())}
                    with given.output.open("a") as file:
                        file.write(json.dumps({**about, **size, "rounds": rounds}) + "\n")
                    print(*about.values(), *(f"{r['best']:.3g}" for r in rounds), flush=True)


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in ("landscape", "candidates", "strategy", "features", "repeat"))


if __name__ == "__main__":
    main()
