"""The verdict on data whose answer is known by construction, and how often the rule errs."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from limbeck.landscapes.assay import Assay
from limbeck.landscapes.scores import bootstrap, score
from limbeck.landscapes.splits import Split, make_splits
from limbeck.landscapes.verdict import VERDICTS, Contender, Verdict, judge, summarise

Floats = NDArray[np.float64]
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
WIDTH = 60


def library(seed: int, doubles: int = 600) -> tuple[list[str], NDArray[np.intp]]:
    """Single mutants of every position, and doubles; and the position of each mutation, -1 for none."""
    random = np.random.default_rng(seed)
    changes: dict[str, tuple[int, int]] = {}
    for place, letter in itertools.product(range(WIDTH), LETTERS[1:]):
        changes["A" * place + letter + "A" * (WIDTH - place - 1)] = (place, -1)
    while doubles:
        one, two = sorted(random.choice(WIDTH, 2, replace=False).tolist())
        letters = ["A"] * WIDTH
        letters[one], letters[two] = random.choice(list(LETTERS[1:]), 2)
        doubles -= "".join(letters) not in changes
        changes["".join(letters)] = (one, two)
    return list(changes), np.array(list(changes.values()))


def one_hot(rows: list[str]) -> Floats:
    letters = np.array([list(row) for row in rows])
    return (letters[:, :, None] == np.array(list(LETTERS))).reshape(len(rows), -1).astype(float)


class Landscape:
    """Scores are the sum over mutations of what the position is worth; an encoder may know these worths or not."""

    def __init__(self, seed: int, known: bool, noise: float = 0.3, worth: float = 1.0, doubles: int = 600) -> None:
        random = np.random.default_rng(seed)
        rows, places = library(seed, doubles)
        worths = np.append(worth * random.normal(size=WIDTH), 0.0)
        scores = worths[places].sum(axis=1) + noise * random.normal(size=len(rows))
        self.assay = Assay("test", rows, scores, np.array(["wt"] * len(rows), object), {"wt": "A" * WIDTH})
        hidden = worths if known else np.append(random.normal(size=WIDTH), 0.0)
        self.features = {
            "composition": np.stack([[row.count(x) for x in LETTERS] for row in rows]).astype(float),
            "one-hot": one_hot(rows),
            "random network": random.normal(size=(len(rows), 10)),
            "encoder": np.column_stack([hidden[places].sum(axis=1), random.normal(size=(len(rows), 5))]),
        }
        self.features["one-hot + encoder"] = np.hstack([self.features["one-hot"], 5 * self.features["encoder"]])

    def contenders(self, split: Split) -> list[Contender]:
        return [self.fitted(name, split, split.train) for name in self.features]

    def fitted(self, name: str, split: Split, train: NDArray[np.intp]) -> Contender:
        pretrained = name.endswith("encoder")
        x, y = self.features[name], self.assay.scores
        middle = x[train].mean(axis=0)
        gram = (x[train] - middle).T @ (x[train] - middle) + np.eye(x.shape[1])
        weights = np.linalg.solve(gram, (x[train] - middle).T @ (y[train] - y[train].mean()))
        valid, test = ((x[rows] - middle) @ weights for rows in (split.valid, split.test))
        chosen_by = score(y[split.valid], valid)["spearman"]
        return Contender(name, pretrained, chosen_by, test, "tiny-esm" if pretrained else None, len(train))

    def split(self, name: str) -> Split:
        return make_splits(self.assay, names=[name])[0][0]

    def verdict(self, name: str, **options: object) -> Verdict:
        split = self.split(name)
        return judge(split, self.assay.scores[split.test], self.contenders(split), count=200, **options)


def test_an_additive_landscape_needs_no_encoder() -> None:
    found = Landscape(0, known=False).verdict("random")
    assert found.verdict == "not needed"
    assert found.baseline == "one-hot"
    assert found.high < 0.02
    assert found.sentence.startswith(
        "Transfer learning is not needed for variants like the measured ones: one-hot + encoder ranks them with a "
        "Spearman correlation of 0.9"
    )
    assert found.sentence.endswith(
        f"95 % interval {found.low:+.3f} to {found.high:+.3f}; {found.n} test variants at {found.units} positions), "
        "by the encoders tried (tiny-esm)."
    )
    assert found.advice.startswith("Use one-hot: no encoder is needed")


@pytest.mark.parametrize("name", ["position-modulo", "position-contiguous"])
def test_what_only_the_encoder_knows_of_unseen_positions_is_needed_there_and_not_elsewhere(name: str) -> None:
    landscape = Landscape(1, known=True, noise=0.2)
    found = landscape.verdict(name)
    assert found.verdict == "needed"
    assert found.low > 0.2
    assert found.model in {"encoder", "one-hot + encoder"}
    assert "Transfer learning is needed for single mutants at positions not measured yet" in found.sentence
    assert f"at {found.units} positions" in found.sentence
    assert found.advice == f"Use {found.model} for single mutants at positions not measured yet."
    assert landscape.verdict("random").verdict == "not needed"


def test_noise_is_unclear_since_no_model_predicts_it() -> None:
    found = Landscape(2, known=True, worth=0.0).verdict("random")
    assert found.verdict == "unclear"
    assert "unclear, since no model predicts them better than chance" in found.sentence
    assert found.advice.startswith("Don't rank variants like the measured ones by any of these models.")


def judged(test: Split, measured: Floats, *contenders: Contender, **options: object) -> Verdict:
    return judge(test, measured, contenders, count=150, **options)


def made(n: int, units: int, unit: str = "position", *, train: int = 500, valid: int = 50) -> Split:
    rows = np.arange(n + train + valid)
    number = np.arange(n) % units
    return Split("made", "", rows[:train], rows[train : train + valid], rows[train + valid :], number, unit, "variants")


def rivals(
    random: np.random.Generator, split: Split, gain: float = 0.0, signal: float = 1.0
) -> tuple[Floats, list[Contender]]:
    """Three baselines and three pretrained models, equal but for how much of their errors the latter are spared. Errors
    are shared within a unit. Each is chosen on validation data that tell nothing."""
    units = split.units.max() + 1
    measured = random.normal(size=units)[split.units] + random.normal(size=len(split.test))

    def contender(name: str, pretrained: bool) -> Contender:
        error = random.normal(size=units)[split.units] + random.normal(size=len(split.test))
        predicted = signal * measured + (1 - gain * pretrained) * error
        return Contender(name, pretrained, random.random(), predicted, name if pretrained else None)

    return measured, [contender(f"{kind}{i}", kind == "encoder") for kind in ("plain", "encoder") for i in range(3)]


def share(verdict: str, trials: int, split: Split, **options: float) -> float:
    random = np.random.default_rng(0)
    found = 0
    for _ in range(trials):
        measured, contenders = rivals(random, split, **options)
        found += judged(split, measured, *contenders).verdict == verdict
    return found / trials


@pytest.mark.parametrize(("n", "units"), [(60, 60), (120, 12)])
def test_where_encoders_gain_nothing_they_are_found_needed_in_at_most_a_twentieth(n: int, units: int) -> None:
    assert share("needed", 100, made(n, units)) <= 0.05


def test_where_encoders_gain_much_they_are_rarely_missed() -> None:
    split = made(200, 40)
    assert share("needed", 40, split, gain=0.6) >= 0.9
    assert share("not needed", 40, split, gain=0.6) == 0


def test_a_gain_worth_having_is_denied_in_at_most_a_twentieth() -> None:
    """The gain is 0.03 to 0.04, a little more than the margin."""
    assert share("not needed", 100, made(300, 300), gain=0.06) <= 0.05


def test_chance_alone_is_rarely_a_verdict() -> None:
    assert share("unclear", 50, made(150, 150), signal=0.0) >= 0.9


def two(
    split: Split, gain: float, noise: float = 0.5, seed: int = 0, **options: object
) -> tuple[Floats, Contender, Contender]:
    """Measured scores, a baseline, and an encoder spared a share of its errors."""
    random = np.random.default_rng(seed)
    measured = random.normal(size=len(split.test))
    error = noise * random.normal(size=len(split.test))
    own = 0.1 * noise * random.normal(size=len(split.test))
    plain = Contender("one-hot", False, 0.5, measured + error)
    return measured, plain, Contender("esm ridge", True, 0.6, measured + (1 - gain) * error + own, "esm", **options)


def test_a_small_test_is_unclear_and_says_what_to_measure() -> None:
    split = made(22, 22, "variant")
    measured, plain, encoder = two(split, 0.9)
    found = judged(split, measured, plain, encoder)
    assert found.verdict == "unclear"
    assert "only 22 variants were tested, and at least 30 are needed" in found.sentence
    assert found.advice.startswith("Measure at least 8 more variants, and test on them.")


def test_few_positions_are_unclear_however_many_variants_they_have() -> None:
    split = made(400, 4)
    measured, plain, encoder = two(split, 0.9)
    found = judged(split, measured, plain, encoder)
    assert found.verdict == "unclear"
    assert "variants at one position are alike, and the test has 4 positions; it takes 8" in found.sentence
    assert found.advice.startswith("Measure about 400 more variants, at about 4 more positions, and test on them.")
    lone = replace(split, units=np.zeros(400, np.intp), unit="parent")
    found = judged(lone, measured, plain, encoder)
    assert found.verdict == "unclear"
    assert "interval" not in found.sentence
    uneven = replace(split, units=np.maximum(np.arange(400) - 380, 0), unit="family")
    assert "the test has 20 families, which count as 1 since some hold most of the variants" in (
        judged(uneven, measured, plain, encoder).sentence
    )


def test_a_gain_that_may_be_too_small_is_unclear() -> None:
    split = made(3000, 3000, "variant")
    measured, plain, encoder = two(split, 0.14)
    found = judged(split, measured, plain, encoder, margin=0.025)
    assert 0 < found.low < found.difference < 0.025 < found.high + 0.003
    wider = judged(split, measured, plain, encoder, margin=(found.difference + found.high) / 2)
    assert wider.verdict == "unclear"
    assert "there is a gain, but it may be less than the 0.0" in wider.sentence
    assert judged(split, measured, plain, encoder, margin=0.1).verdict == "not needed"
    assert judged(split, measured, plain, encoder, margin=0.001).verdict == "needed"


def test_the_advice_of_an_unclear_case_would_decide_it() -> None:
    """As many more test variants as advised narrow the interval to one that decides."""
    decided = 0
    for seed in range(20):
        split = made(80, 80, "variant")
        measured, plain, encoder = two(split, 0.1, 1.5, seed)
        found = judged(split, measured, plain, encoder)
        if found.verdict != "unclear" or "Measure about" not in found.advice:
            continue
        more = int(found.advice.split("about ")[1].split(" more")[0].replace(",", ""))
        assert found.difference - (found.difference - found.low) * math.sqrt(80 / (80 + more)) >= -1e-9
        decided += "shows it to be needed" in found.advice
    assert decided >= 3


def test_what_cannot_be_told_at_a_sensible_cost_is_a_tie() -> None:
    split = made(60, 60, "variant")
    measured, plain, encoder = two(split, 0.05, 1.0)
    difference = judged(split, measured, plain, encoder).difference
    found = judged(split, measured, plain, encoder, margin=difference + 0.001)
    assert found.verdict == "unclear"
    assert "It would take more than 10 times as many test variants to tell" in found.advice
    assert "use one-hot, which needs no pretraining" in found.advice


@pytest.mark.parametrize(("name", "places"), [("random", ""), ("position-modulo", ", at about 64 more positions,")])
def test_more_positions_are_asked_for_where_positions_are_the_question(name: str, places: str) -> None:
    split = replace(made(60, 60), name=name)
    measured, plain, encoder = two(split, 0.1, 1.5, 1)
    found = judged(split, measured, plain, encoder)
    assert found.verdict == "unclear"
    assert found.advice.startswith(f"Measure about 64 more variants{places} and test on them.")


def test_both_are_chosen_by_validation_scores_and_not_by_the_test() -> None:
    split = made(100, 100, "variant")
    measured, plain, encoder = two(split, 0.5)
    worse = replace(encoder, name="worse", valid=0.9, test=encoder.test + np.random.default_rng(1).normal(size=100))
    unknown = replace(plain, name="unknown", valid=math.nan, test=measured)
    found = judged(split, measured, unknown, plain, encoder, worse)
    assert (found.model, found.baseline) == ("worse", "one-hot")
    assert found.encoders == "esm"
    equal = bootstrap(measured, {"a": worse.test, "b": plain.test}, split.units, 150)
    assert (found.difference, found.low, found.high) == pytest.approx(equal.difference("a", "b", "spearman"))


def test_a_model_that_was_not_chosen_can_refute_a_verdict_but_make_none() -> None:
    split = made(300, 300, "variant")
    measured, plain, encoder = two(split, 0.5)
    assert judged(split, measured, plain, encoder).verdict == "needed"
    overlooked = replace(plain, name="CNN", valid=0.1, test=encoder.test)
    found = judged(split, measured, plain, encoder, overlooked)
    assert (found.verdict, found.model, found.baseline) == ("unclear", "esm ridge", "one-hot")
    reached = score(measured, encoder.test)["spearman"]
    assert (
        f"CNN, which needs no pretraining and which the validation variants did not choose, reaches {reached:.3f}"
        in (found.sentence)
    )
    assert found.advice.startswith("The validation variants did not tell the models apart")
    assert found.advice.endswith("Until then CNN is the better bet.")
    worse = replace(overlooked, test=plain.test)
    assert judged(split, measured, plain, encoder, worse).verdict == "needed"
    # The other way round.
    useless = replace(encoder, name="esm GP", valid=0.9, test=plain.test)
    assert judged(split, measured, plain, useless).verdict == "not needed"
    found = judged(split, measured, plain, encoder, useless)
    assert (found.verdict, found.model) == ("unclear", "esm GP")
    assert "since esm ridge, which the validation variants did not choose, gains +0.0" in found.sentence
    assert found.advice.endswith("Until then esm ridge is the better bet.")
    assert judged(split, measured, plain, useless, replace(useless, name="other")).verdict == "not needed"
    # What was fitted to more variants is another comparison.
    more = replace(overlooked, n_train=None)
    sampled = replace(encoder, n_train=100)
    few = replace(plain, n_train=100)
    assert judged(split, measured, few, sampled, more).verdict == "needed"


def test_a_random_network_is_no_pretraining() -> None:
    split = made(100, 100, "variant")
    measured, plain, encoder = two(split, 0.5)
    random_network = Contender("random network", False, 0.7, encoder.test, "random-student")
    found = judged(split, measured, plain, random_network, encoder)
    assert (found.baseline, found.difference, found.encoders) == ("random network", 0.0, "esm")


def test_an_encoder_that_had_a_sample_is_compared_with_baselines_of_the_same() -> None:
    split = made(300, 300, "variant", train=5000)
    measured, full, encoder = two(split, 0.6, 1.0, n_train=500)
    random = np.random.default_rng(9)
    few = replace(full, n_train=500)
    better = replace(full, test=measured + 0.1 * random.normal(size=300), valid=0.9)
    found = judged(split, measured, better, few, encoder)
    assert (found.verdict, found.baseline) == ("needed", "one-hot")
    assert found.difference == pytest.approx(
        score(measured, encoder.test)["spearman"] - score(measured, few.test)["spearman"]
    )
    assert "where about 500 variants are measured; fitted to all 5,000, one-hot reaches 0.99" in found.advice
    uneven = judged(split, measured, better, encoder)
    assert "The comparison is uneven: esm ridge was fitted to 500 variants, one-hot to 5,000." in uneven.advice


def test_learning_curves_say_what_more_training_would_bring() -> None:
    split = made(300, 300, "variant")
    measured, plain, encoder = two(split, 0.6, 1.0)
    rising = judged(split, measured, plain, encoder, curves={"one-hot": {128: 0.5, 256: 0.55, 512: 0.65}})
    more = 512 * 2 ** (rising.difference / 0.1) - 512
    advised = int(rising.advice.split("about ")[1].split(" more")[0].replace(",", ""))
    assert more <= advised <= 1.1 * more
    flat = judged(split, measured, plain, encoder, curves={"one-hot": {256: 0.65, 512: 0.651}, "other": {1: 0.0}})
    assert "one-hot would not catch up with more of the kind that is in training" in flat.advice
    no_gain = Contender("same", True, 0.9, plain.test, "esm")
    spend = judged(split, measured, plain, no_gain, curves={"one-hot": {256: 0.6, 512: 0.65}})
    assert "More training variants bring more: +0.050 for the last doubling, to 512." in spend.advice


def test_few_validation_variants_are_mentioned() -> None:
    split = made(100, 100, "variant", valid=12)
    measured, plain, encoder = two(split, 0.5)
    found = judged(split, measured, plain, encoder)
    assert found.verdict == "needed"
    assert "Both were chosen by only 12 validation variants." in found.advice


def test_models_that_too_few_variants_chose_decide_nothing() -> None:
    split = made(100, 100, "variant", valid=3)
    found = judged(split, *two(split, 0.5))
    assert found.verdict == "unclear"
    assert "only 3 variants chose the models, and at least 10 are needed" in found.sentence
    assert "Keep more of the training variants for validation" in found.advice


def test_both_kinds_of_models_are_needed() -> None:
    split = made(100, 100, "variant")
    measured, plain, encoder = two(split, 0.5)
    without = judged(split, measured, plain)
    assert (without.verdict, without.model, without.baseline, without.n) == ("unclear", "", "one-hot", 100)
    assert "no model with a pretrained encoder was tried" in without.sentence
    assert "no model without pretraining was tried" in judged(split, measured, encoder).sentence


def test_the_summary_names_every_split_once() -> None:
    kinds = ["needed", "not needed", "unclear", "needed"]
    verdicts = [Verdict(f"split{i}", kind, "", "", encoders="a, b") for i, kind in enumerate(kinds)]
    assert summarise(verdicts) == (
        "Transfer learning is needed for split0 and split3, not needed for split1 and unclear for split2, by the "
        "encoders tried (a, b)."
    )
    assert summarise(verdicts[1:2]) == "Transfer learning is not needed for split1, by the encoders tried (a, b)."
    assert summarise([]) == "There are too few variants to compare models with, so there is no verdict."
    assert "no pretrained encoder was tried" in summarise([Verdict("split", "unclear", "", "")])
    assert set(kinds) == set(VERDICTS)


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "verdict.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(block, {})
    assert "Transfer learning is not needed for variants like the measured ones" in capsys.readouterr().out
