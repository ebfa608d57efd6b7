"""Splits: each keeps what its question says, whatever the order of the file; and says why it can't be made."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.homology import mmseqs
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.splits import SPLITS, Split, learning_sizes, learning_subset, make_splits

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def assay_of(
    rows: Sequence[str], scores: Sequence[float], parents: Sequence[str] | str = "wt", **more: object
) -> Assay:
    names = [parents] * len(rows) if isinstance(parents, str) else list(parents)
    return Assay("test", list(rows), np.array(scores, float), np.array(names, object), **more)


def mutated(wild_type: str, *changes: tuple[int, str]) -> str:
    letters = list(wild_type)
    for position, letter in changes:
        letters[position] = letter
    return "".join(letters)


def library(width: int = 20, doubles: int = 300, seed: int = 0) -> Assay:
    """The wild type, eight single mutants of each position, some doubles and triples."""
    random = np.random.default_rng(seed)
    wild_type = "A" * width
    rows = {wild_type: None} | {mutated(wild_type, (p, x)): None for p in range(width) for x in LETTERS[1:9]}
    for count, size in ((2, doubles), (3, doubles)):
        for _ in range(size):
            places = random.choice(width, count, replace=False)
            rows[mutated(wild_type, *((p, random.choice(list(LETTERS[1:]))) for p in places))] = None
    return assay_of(list(rows), random.normal(size=len(rows)), wild_types={"wt": wild_type})


def singles(width: int = 20) -> Assay:
    return library(width, doubles=0)


def several(parents: int = 12, each: int = 40) -> Assay:
    """Single mutants of unrelated wild types of one length."""
    random = np.random.default_rng(0)
    wild_types = {f"p{i}": "".join(random.choice(list(LETTERS), 30)) for i in range(parents)}
    rows, names = [], []
    for name, wild_type in wild_types.items():
        changes = [(p, x) for p in range(30) for x in LETTERS if x != wild_type[p]]
        rows += [mutated(wild_type, changes[i]) for i in random.choice(len(changes), each, replace=False)]
        names += [name] * each
    return assay_of(rows, random.normal(size=len(rows)), names, wild_types=wild_types)


def natural(families: int = 12, each: int = 12) -> tuple[Assay, list[str]]:
    """Proteins of several lengths, some of them alike, and their families."""
    random = np.random.default_rng(0)
    rows, labels = [], []
    for family in range(families):
        ancestor = "".join(random.choice(list(LETTERS), 60 + family))
        for _ in range(each):
            changes = ((int(p), random.choice(list(LETTERS))) for p in random.choice(len(ancestor), 12, replace=False))
            rows.append(mutated(ancestor, *changes).ljust(60 + families, "-"))
            labels.append(f"f{family}")
    return assay_of(rows, random.normal(size=len(rows)), "", layout="padded"), labels


def only(assay: Assay, name: str, **options: object) -> Split:
    (split,), left_out = make_splits(assay, names=[name], **options)
    assert not left_out
    return split


def reason(assay: Assay, name: str, **options: object) -> str:
    return {item.name: item.reason for item in make_splits(assay, **options)[1]}[name]


def check(assay: Assay, split: Split) -> None:
    """What holds for every split."""
    parts = (split.train, split.valid, split.test)
    for part in parts:
        assert len(part)
        assert (np.diff(part) > 0).all()
        assert part.dtype == np.intp
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    assert len(split.test) >= 30
    assert split.units.shape == split.test.shape
    assert split.unit in {"variant", "position", "parent", "family"}
    assert "\n" not in split.question


def positions(assay: Assay, rows: np.ndarray) -> set[int]:
    return set(np.flatnonzero(assay.differs[rows].any(axis=0)).tolist())


def test_every_possible_split_is_made_and_the_others_have_reasons() -> None:
    splits, left_out = make_splits(library())
    assert [s.name for s in splits] == [
        "random",
        "position-modulo",
        "position-contiguous",
        "few-to-many",
        "low-to-high",
    ]
    assert [item.name for item in left_out] == ["family", "parent"]
    for split in splits:
        check(library(), split)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_splits_do_not_depend_on_the_order_of_the_file(shuffle: int, seed: int) -> None:
    assay = library(doubles=100)
    order = np.random.default_rng(shuffle).permutation(len(assay))
    shuffled = assay.take(order)
    for one, other in zip(make_splits(assay, seed=seed)[0], make_splits(shuffled, seed=seed)[0], strict=True):
        assert (one.name, one.question, one.unit) == (other.name, other.question, other.unit)
        for part in ("train", "valid", "test"):
            assert sorted(order[getattr(other, part)]) == getattr(one, part).tolist()
        units = dict(zip(order[other.test].tolist(), other.units.tolist(), strict=True))
        assert [units[row] for row in one.test.tolist()] == one.units.tolist()


def test_seeds_draw_other_variants() -> None:
    assay = library()
    for name in ("random", "position-modulo", "position-contiguous"):
        tested = [tuple(only(assay, name, seed=seed).test) for seed in (0, 0, 1, 2, 3)]
        assert tested[0] == tested[1]
        assert len(set(tested)) > 1


def test_random_tests_a_fifth_and_more_of_a_small_assay() -> None:
    split = only(library(), "random")
    n = len(library())
    assert (len(split.test), len(split.valid)) == (round(n / 5), round(n / 10))
    assert len(split.train) + len(split.valid) + len(split.test) == n
    plate = singles(12)
    split = only(plate, "random")
    assert (len(plate), len(split.test), len(split.valid), len(split.train)) == (97, 30, 20, 47)
    assert reason(singles(10), "random") == "only 27 variants would be tested; at least 30 are needed"


@pytest.mark.parametrize("name", ["position-modulo", "position-contiguous"])
@pytest.mark.parametrize("seed", range(4))
def test_positions_tested_are_never_mutated_in_training_or_validation(name: str, seed: int) -> None:
    assay = library()
    split = only(assay, name, seed=seed)
    check(assay, split)
    tested, chosen, trained = (positions(assay, rows) for rows in (split.test, split.valid, split.train))
    assert not tested & trained
    assert not tested & chosen
    assert not chosen & trained
    assert (len(tested), len(chosen), len(trained)) == (4, 4, 12)
    assert set(assay.mutations[split.test]) == set(assay.mutations[split.valid]) == {1}
    assert set(assay.mutations[split.train]) == {0, 1, 2, 3}
    if name == "position-modulo":
        assert len({p % 5 for p in tested}) == 1
    else:
        assert tested == set(range(min(tested), min(tested) + 4))
    used = sum(map(len, (split.train, split.valid, split.test)))
    assert f"; {len(assay) - used:,} variants mutated at these positions and elsewhere are not used" in split.question
    assert split.unit == "position"
    assert len(set(split.units.tolist())) == 4


def test_positions_need_a_wild_type_and_enough_of_them() -> None:
    unknown = replace(library(), parents=np.array([""] * len(library()), object), wild_types={})
    for name in ("position-modulo", "few-to-many", "parent"):
        assert reason(unknown, name) == "no wild type is known, so mutated positions are not either"
    assert reason(singles(4), "position-modulo") == "only 4 positions are mutated; at least 5 are needed"
    assert reason(singles(10), "position-contiguous") == (
        "a fifth of the mutated positions has at most 16 single mutants; at least 30 are needed"
    )


def test_few_mutations_train_and_more_are_tested() -> None:
    assay = library()
    split = only(assay, "few-to-many")
    check(assay, split)
    parts = [set(assay.mutations[rows].tolist()) for rows in (split.train, split.valid, split.test)]
    assert parts == [{0, 1, 2}, {2}, {3}]
    assert split.tested == "variants with more than 2 mutations"
    # Doubles are more than half of what could train, so a part of them chooses; few of them, all do.
    fewer = assay.take([i for i, count in enumerate(assay.mutations) if count != 2 or i % 3 == 0])
    split = only(fewer, "few-to-many")
    parts = [set(fewer.mutations[rows].tolist()) for rows in (split.train, split.valid, split.test)]
    assert parts == [{0, 1}, {2}, {3}]


def test_few_to_many_needs_variants_on_both_sides() -> None:
    assert reason(singles(), "few-to-many") == "all variants are single mutants"
    handful = library(doubles=300)
    handful = handful.take(np.flatnonzero((handful.mutations != 1) & (handful.mutations != 2)))
    assert reason(handful, "few-to-many") == "all variants are variants of 3 mutations"
    wild_type = "A" * 20
    rows = [mutated(wild_type, (p, "C")) for p in range(12)]
    rows += [mutated(wild_type, (p, "C"), (q, "C")) for p, q in itertools.combinations(range(20), 2)]
    assay = assay_of(rows, np.arange(len(rows)), wild_types={"wt": wild_type})
    assert reason(assay, "few-to-many").startswith("of 202 variants 12 with up to 1 mutation: no number leaves")


def test_low_scores_train_and_high_ones_are_tested() -> None:
    scores = library().scores.copy()
    scores[0] = 0.7
    assay = replace(library(), scores=scores)
    split = only(assay, "low-to-high")
    check(assay, split)
    assert assay.scores[split.test].min() > 0.7 >= assay.scores[split.valid].max()
    assert assay.scores[split.valid].min() >= assay.scores[split.train].max()
    assert len(split.valid) == round(0.2 * (len(split.valid) + len(split.train)))
    # A wild type better than nearly all variants parts nothing; then the median does.
    scores[0] = 100
    split = only(assay, "low-to-high")
    assert "the median" in split.question
    assert len(split.test) == len(assay) // 2


def test_equal_scores_have_no_high_ones() -> None:
    flat = replace(library(), scores=np.zeros(len(library())))
    assert reason(flat, "low-to-high") == "only 0 variants would be tested; at least 30 are needed"


def test_whole_wild_types_are_tested() -> None:
    assay = several()
    split = only(assay, "parent")
    check(assay, split)
    of = [set(assay.parents[rows]) for rows in (split.train, split.valid, split.test)]
    assert not of[0] & of[1]
    assert not of[2] & (of[0] | of[1])
    assert split.unit == "parent"
    assert len(set(split.units.tolist())) == len(of[2]) == 3
    assert reason(library(), "parent") == "all 761 variants belong to one wild type"


@pytest.mark.parametrize("parents", [2, 3])
def test_few_wild_types_still_leave_one_to_train_on(parents: int) -> None:
    assay = several(parents, each=60)
    split = only(assay, "parent")
    check(assay, split)
    assert len(set(assay.parents[split.test])) == 1
    assert not set(assay.parents[split.test]) & set(assay.parents[split.train])


def test_given_families_are_kept_whole_and_are_the_units() -> None:
    assay, labels = natural()
    split = only(assay, "family", families=labels)
    check(assay, split)
    label = np.array(labels)
    assert not set(label[split.test]) & (set(label[split.train]) | set(label[split.valid]))
    assert split.unit == "family"
    drawn = only(assay, "random", families=labels)
    assert drawn.unit == "family"
    assert len(set(zip(drawn.units.tolist(), label[drawn.test], strict=True))) == len(set(drawn.units.tolist()))
    with pytest.raises(ValueError, match="1 families for 144 variants"):
        make_splits(assay, families=["f"])


def test_families_need_mmseqs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmseqs, "is_installed", lambda: False)
    assay, _ = natural()
    assert "needs MMseqs2, which is not installed" in reason(assay, "family")
    assert only(assay, "random").unit == "variant"
    assert "families are for natural proteins" in reason(library(), "family")


def test_families_are_those_that_mmseqs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in groups proteins by length, which is what tells the families here apart, and leaves one out."""

    class Runner:
        def database(self, fasta: Path, name: str) -> Runner:
            lines = fasta.read_text().split()
            self.proteins = dict(zip((line[1:] for line in lines[::2]), lines[1::2], strict=True))
            return self

        def families(self) -> tuple[dict[str, str], set[str]]:
            return {id: str(len(protein)) for id, protein in self.proteins.items() if id != "0"}, set()

    monkeypatch.setattr(mmseqs, "is_installed", lambda: True)
    monkeypatch.setattr(mmseqs.MMseqs, "open", lambda threads: contextlib.nullcontext(Runner()))
    assay, labels = natural()
    split = only(assay, "family")
    check(assay, split)
    loner = assay.sequences.index(min(assay.sequences))
    label = np.array([f"{label} alone" if row == loner else label for row, label in enumerate(labels)])
    assert not set(label[split.test]) & (set(label[split.train]) | set(label[split.valid]))
    assert len(set(split.units.tolist())) == len(set(label[split.test]))


def own_splits() -> Assay:
    assay = library()
    complete = np.array(["train"] * 500 + ["valid"] * 100 + ["test"] * (len(assay) - 600), object)
    without = np.where(complete == "valid", "", complete)
    tiny = np.array(["train"] * (len(assay) - 7) + ["test"] * 7, object)
    return replace(assay, splits={"complete": complete, "without": without, "tiny": tiny})


def test_the_files_own_splits_are_kept() -> None:
    assay = own_splits()
    split = only(assay, "file: complete")
    assert split.train.tolist() == list(range(500))
    assert split.valid.tolist() == list(range(500, 600))
    assert split.test.tolist() == list(range(600, len(assay)))
    assert only(assay, "complete").name == "file: complete"
    split = only(assay, "file: without")
    check(assay, split)
    assert (len(split.train), len(split.valid)) == (450, 50)
    assert sorted([*split.train, *split.valid]) == list(range(500))
    assert reason(assay, "file: tiny") == "only 7 variants would be tested; at least 30 are needed"


def test_a_files_split_by_wild_types_is_resampled_by_them() -> None:
    assay = several()
    part = np.where(np.isin(assay.parents, ["p1", "p2", "p3"]), "test", "train").astype(object)
    split = only(replace(assay, splits={"mine": part}), "file: mine")
    assert split.unit == "parent"
    assert len(set(split.units.tolist())) == 3


def test_names_choose_and_mistakes_are_told_in_one_line() -> None:
    assay = own_splits()
    splits, _ = make_splits(assay, names=["low-to-high", "random", "random"])
    assert [s.name for s in splits] == ["low-to-high", "random"]
    with pytest.raises(InputError, match=r"there is no split 'rnadom'; choose from: random, .*file: tiny$"):
        make_splits(assay, names=["rnadom"])
    with pytest.raises(InputError, match="split 'parent' cannot be made of test: all 761 variants belong to one"):
        make_splits(assay, names=["parent"])
    with pytest.raises(InputError, match="there is no split 'file'"):
        make_splits(library(), names=["file"])
    with pytest.raises(InputError, match="only 7 variants would be tested"):
        make_splits(assay, names=["file"])
    assert len(SPLITS) == 7


def test_single_mutants_are_resampled_by_position_of_their_wild_type() -> None:
    assay = several(2, each=150)
    split = only(assay, "random")
    assert split.unit == "position"
    where = [(assay.parents[row], int(np.argmax(assay.differs[row]))) for row in split.test]
    assert len(set(where)) == len(set(split.units.tolist())) == len(set(zip(where, split.units.tolist(), strict=True)))


def test_variants_of_several_positions_count_to_the_one_most_share() -> None:
    wild_type = "A" * 30
    rows = [mutated(wild_type, (0, "C"), (p, x)) for p in range(1, 30) for x in LETTERS[1:6]]
    rows += [mutated(wild_type, (p, x)) for p in range(1, 30) for x in LETTERS[1:6]]
    assay = assay_of(rows, np.arange(len(rows)), wild_types={"wt": wild_type})
    split = only(assay, "random")
    shares_first = assay.differs[split.test, 0]
    assert len(set(split.units[shares_first].tolist())) == 1
    assert not set(split.units[shares_first].tolist()) & set(split.units[~shares_first].tolist())


def test_a_combinatorial_library_is_resampled_by_variant() -> None:
    wild_type = "AAAA"
    rows = ["".join(letters) for letters in itertools.product(LETTERS[:5], repeat=4)]
    assay = assay_of(rows, np.random.default_rng(0).normal(size=len(rows)), wild_types={"wt": wild_type})
    split = only(assay, "random")
    assert split.unit == "variant"
    assert len(set(split.units.tolist())) == len(split.test)


@given(st.integers(1, 100_000))
def test_learning_sizes_double_and_end_with_all(n_train: int) -> None:
    sizes = learning_sizes(n_train)
    assert sizes[-1] == n_train
    assert sizes[:-1] == [16 * 2**i for i in range(len(sizes) - 1)]
    assert all(later / earlier >= 1.4 for earlier, later in itertools.pairwise(sizes))
    assert n_train < 2.8 * sizes[-2] if len(sizes) > 1 else n_train < 23


def test_learning_subsets_are_nested_within_a_repeat() -> None:
    assay = library()
    split = only(assay, "random")
    sizes = learning_sizes(len(split.train))
    for repeat in (0, 1):
        subsets = [set(learning_subset(assay, split, size, repeat).tolist()) for size in sizes]
        assert [len(subset) for subset in subsets] == sizes
        assert all(small < large for small, large in itertools.pairwise(subsets))
        assert subsets[-1] == set(split.train.tolist())
    assert set(learning_subset(assay, split, 16, 0).tolist()) != set(learning_subset(assay, split, 16, 1).tolist())
