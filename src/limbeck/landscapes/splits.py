"""Splits that ask the real question: which variants will the model meet that it was not trained on?

Every part that is drawn is drawn by a hash of the variants themselves, so a split depends on which variants there are
and on the seed, not on the order of the file. Validation parts are made as the test part is, since hyperparameters have
to be chosen for the question that is asked.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.homology import mmseqs
from limbeck.landscapes.assay import Assay

__all__ = [
    "FEWEST_TESTED",
    "FEWEST_VALIDATED",
    "SPLITS",
    "LeftOut",
    "Split",
    "drawn",
    "learning_sizes",
    "learning_subset",
    "make_splits",
]

Rows = NDArray[np.intp]
Parts = tuple[Rows, Rows, Rows]

SPLITS = ("random", "position-modulo", "position-contiguous", "few-to-many", "low-to-high", "family", "parent")
FILE = "file: "
FEWEST_TESTED = 30
FEWEST_VALIDATED = 10
FEWEST_TRAINED = 20
FOLDS = 5
TEST, VALID = 0.2, 0.1
FEWEST_COMBINED = 8
"""Variants that combine mutations at fewer positions than this are a combinatorial library: nearly all share positions,
which then are no units of resampling. The same holds for proteins of fewer families."""


@dataclass(frozen=True)
class Split:
    """Rows of an assay to train on, to choose by, and to test on.

    Attributes:
        name: one of :data:`SPLITS`, or ``"file: NAME"``.
        question: what is tested, in one line for people.
        train, valid, test: rows of the assay, ascending, disjoint.
        units: (n_test,) what the bootstrap resamples whole: an integer for each test row, equal where they belong
            together.
        unit: what a unit is: ``"variant"``, ``"position"``, ``"parent"`` or ``"family"``.
        tested: the test variants as a plural noun, to speak of more of their kind.
    """

    name: str
    question: str
    train: Rows
    valid: Rows
    test: Rows
    units: NDArray[Any]
    unit: str
    tested: str = "variants"


@dataclass(frozen=True)
class LeftOut:
    """A split that the data doesn't allow, and why, as a clause with its numbers."""

    name: str
    reason: str


class _CannotSplit(Exception):
    """The reason is the message."""


def make_splits(
    assay: Assay,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    families: Sequence[Any] | None = None,
) -> tuple[list[Split], list[LeftOut]]:
    """The splits that an assay allows, and those that it doesn't, with the reason.

    Args:
        names: which: of :data:`SPLITS`, ``"file: NAME"`` or just ``NAME`` for one of the file's own, ``"file"`` for all
            of these. ``None`` is all.
        seed: of everything that is drawn.
        families: (n,) a label for each variant's family; ``None`` clusters natural proteins by MMseqs2 where it is
            installed.

    Raises:
        InputError: if there is no split of a name, or one asked for by name cannot be made.
        ValueError: if ``families`` has not one label for each row.
    """
    if families is not None and len(families) != len(assay):
        raise ValueError(f"{len(families)} families for {len(assay)} variants; give one for each")
    maker = _Maker(assay, seed, families)
    known = [*SPLITS, *(f"{FILE}{name}" for name in assay.splits)]
    splits, left_out = [], []
    for name in known if names is None else _chosen(names, known):
        try:
            splits.append(maker.make(name))
        except _CannotSplit as reason:
            if names is not None:
                raise InputError(f"split {name!r} cannot be made of {assay.name}: {reason}; leave it out") from None
            left_out.append(LeftOut(name, str(reason)))
    return splits, left_out


def learning_sizes(n_train: int) -> list[int]:
    """Sizes for a learning curve: 16, 32, 64 and so on, and all. The last step is at least a factor of 1.4."""
    doubled = (2**power for power in range(4, 64))
    return [*_until(doubled, n_train / 1.4), n_train]


def learning_subset(assay: Assay, split: Split, size: int, repeat: int = 0) -> Rows:
    """A share of a split's training rows: those of one repeat are nested, each holding all smaller ones.

    Args:
        size: how many; as :func:`learning_sizes` lists them.
        repeat: another number draws others.
    """
    return np.sort(drawn(assay, split.train, f"learning {repeat}")[:size])


def _until(sizes: Iterator[int], end: float) -> Iterator[int]:
    for size in sizes:
        if size > end:
            return
        yield size


def _chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    chosen: dict[str, None] = {}
    for name in names:
        own = [other for other in known if other.startswith(FILE)]
        matching = own if name == "file" else [k for k in known if k == name] or [k for k in own if k == FILE + name]
        if not matching:
            raise InputError(f"there is no split {name!r}; choose from: {', '.join(known)}")
        chosen |= dict.fromkeys(matching)
    return list(chosen)


def drawn(assay: Assay, rows: Rows, salt: object) -> Rows:
    """The rows in an order that is random, but the same wherever they stand in the file.

    Args:
        salt: another one gives another order.
    """

    def key(row: int) -> bytes:
        text = f"{salt}\t{assay.parents[row]}\t{assay.rows[row]}"
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    return np.array(sorted(rows.tolist(), key=key), np.intp)


class _Maker:
    """Makes splits of one assay by name."""

    def __init__(self, assay: Assay, seed: int, families: Sequence[Any] | None) -> None:
        self.assay, self.seed = assay, seed
        self._given = families
        self._all = np.arange(len(assay))

    def make(self, name: str) -> Split:
        makers: dict[str, Callable[[], Split]] = {
            "random": self.random,
            "position-modulo": lambda: self.positions("position-modulo"),
            "position-contiguous": lambda: self.positions("position-contiguous"),
            "few-to-many": self.few_to_many,
            "low-to-high": self.low_to_high,
            "family": self.family,
            "parent": self.parent,
        }
        split = self.file(name.removeprefix(FILE)) if name.startswith(FILE) else makers[name]()
        _check(split)
        return split

    def random(self) -> Split:
        """A fifth is tested and a tenth chooses; of a small assay more, so that the test says something."""
        n = len(self.assay)
        test = min(max(round(TEST * n), FEWEST_TESTED), n // 3)
        valid = min(max(round(VALID * n), 2 * FEWEST_VALIDATED), n // 3)
        order = self._drawn(self._all)
        parts = order[test + valid :], order[test : test + valid], order[:test]
        return self._split("random", "variants drawn at random", "variants like the measured ones", parts)

    def positions(self, name: str) -> Split:
        """The mutated positions in five folds: one is tested, one chooses, three train.

        Training has all variants that are mutated in its folds only, and wild types. The other parts have single
        mutants, as ProteinGym's: two variants of several positions may share any of them, so that no resampling unit
        would hold them apart. Which folds, the seed says; others take their turn where those have too few variants.
        """
        touched = self._folds(name)
        known, single = self.assay.mutations >= 0, (self.assay.mutations == 1) & (touched.sum(axis=0) == 1)
        sizes = (touched & single).sum(axis=1)
        turns = np.random.default_rng(self.seed).permutation(FOLDS).tolist()
        pairs = ((t, v) for t in turns for v in turns if t != v)
        test, valid = next(
            ((t, v) for t, v in pairs if sizes[t] >= FEWEST_TESTED and sizes[v] >= FEWEST_VALIDATED), (None, None)
        )
        if test is None:
            raise _CannotSplit(
                f"a fifth of the mutated positions has at most {sizes.max()} single mutants; at least {FEWEST_TESTED} "
                "are needed"
            )
        training = known & ~touched[test] & ~touched[valid]
        parts = (
            np.flatnonzero(training),
            np.flatnonzero(touched[valid] & single),
            np.flatnonzero(touched[test] & single),
        )
        question = "single mutants at positions that were never mutated in training "
        question += "(every fifth position)" if name == "position-modulo" else "(one stretch of the protein)"
        if unused := int(known.sum()) - sum(map(len, parts)):
            question += f"; {unused:,} variants mutated at these positions and elsewhere are not used"
        tested = "single mutants at positions not measured yet"
        return self._split(name, question, tested, parts, (self._position(parts[2]), "position"))

    def _folds(self, name: str) -> NDArray[np.bool_]:
        """(folds, n) which variants are mutated in which fold of the mutated positions."""
        self._need_wild_types()
        differs = self.assay.differs
        columns = np.flatnonzero(differs.any(axis=0))
        if len(columns) < FOLDS:
            raise _CannotSplit(f"only {len(columns)} positions are mutated; at least {FOLDS} are needed")
        rank = np.arange(len(columns))
        fold = rank % FOLDS if name == "position-modulo" else rank * FOLDS // len(columns)
        return np.stack([differs[:, columns[fold == f]].any(axis=1) for f in range(FOLDS)])

    def few_to_many(self) -> Split:
        """Up to t mutations train, more are tested; t parts the variants most evenly."""
        self._need_wild_types()
        mutations = self.assay.mutations
        known = np.flatnonzero(mutations >= 0)
        counts = np.unique(mutations[known][mutations[known] > 0])
        if len(counts) < 2:
            kind = "single mutants" if counts.tolist() == [1] else f"variants of {_mutations(*counts)}"
            raise _CannotSplit(f"all variants are {kind}")
        sizes = {int(t): int((mutations[known] <= t).sum()) for t in counts[:-1]}
        fit = [t for t, size in sizes.items() if size >= FEWEST_TRAINED and len(known) - size >= FEWEST_TESTED]
        if not fit:
            counted = ", ".join(f"{size:,} with up to {_mutations(t)}" for t, size in sizes.items())
            raise _CannotSplit(
                f"of {len(known):,} variants {counted}: no number leaves at least {FEWEST_TRAINED} up to it to train "
                f"on, and {FEWEST_TESTED} beyond it to test"
            )
        most = min(fit, key=lambda t: abs(sizes[t] - len(known) / 2))
        few, many = known[mutations[known] <= most], known[mutations[known] > most]
        question = f"variants with more mutations than any in training (up to {most} there)"
        parts = *self._most_mutated(few), many
        return self._split("few-to-many", question, f"variants with more than {_mutations(most)}", parts)

    def _most_mutated(self, few: Rows) -> tuple[Rows, Rows]:
        """Training rows, and those to choose by: all with the most mutations if that leaves half of the rows; else a
        tenth, from those."""
        mutations = self.assay.mutations[few]
        most = mutations == mutations.max()
        if mutations.max() > 1 and most.sum() >= FEWEST_VALIDATED and most.mean() <= 0.5:
            return few[~most], few[most]
        return self._cut(few, self._drawn(few[most]))

    def low_to_high(self) -> Split:
        """Scores up to the wild type's train, if it was measured and both sides have a tenth; else up to the median."""
        scores = self.assay.scores
        threshold, what = self._wild_type_score(), "the wild type's"
        if threshold is None or not 0.1 <= (scores > threshold).mean() <= 0.9:
            threshold, what = float(np.median(scores)), "the median"
        low, high = np.flatnonzero(scores <= threshold), np.flatnonzero(scores > threshold)
        order = self._drawn(low)
        train, valid = self._cut(low, order[np.argsort(-scores[order], kind="stable")], share=TEST)
        question = f"variants that score above any in training: above {what}, {threshold:.4g}"
        tested = f"variants that score above {threshold:.4g}"
        return self._split("low-to-high", question, tested, (train, valid, high))

    def _wild_type_score(self) -> float | None:
        unmutated = np.flatnonzero(self.assay.mutations == 0)
        return float(self.assay.scores[unmutated[0]]) if len(unmutated) == 1 else None

    def parent(self) -> Split:
        """Whole wild types are tested, with all their variants."""
        self._need_wild_types()
        known = np.flatnonzero(self.assay.mutations >= 0)
        question, tested = "variants of wild types that are not in training", "variants of other wild types"
        return self._by_group("parent", question, tested, known, self.assay.parents)

    def family(self) -> Split:
        """Whole families of natural proteins are tested."""
        if self.families is None:
            raise _CannotSplit(self._no_families)
        question, tested = "proteins of families that are not in training", "proteins of other families"
        return self._by_group("family", question, tested, self._all, self.families)

    @cached_property
    def families(self) -> NDArray[Any] | None:
        """(n,) labels: as given, or by MMseqs2 where proteins are natural and it is installed."""
        if self._given is not None:
            return np.asarray(self._given).astype(str)
        if self._no_families:
            return None
        return _clustered(self.assay.sequences)

    @cached_property
    def _no_families(self) -> str:
        """Why families can't be found out; empty if they can."""
        if self.assay.layout != "padded" or (self.assay.mutations >= 0).any():
            return "the variants are of one length or of known wild types; families are for natural proteins"
        if not mmseqs.is_installed():
            return "grouping proteins needs MMseqs2, which is not installed ('apt install mmseqs2')"
        return ""

    def _by_group(self, unit: str, question: str, tested: str, rows: Rows, labels: NDArray[Any]) -> Split:
        groups, group, sizes = np.unique(labels[rows].astype(str), return_inverse=True, return_counts=True)
        if len(groups) < 2:
            raise _CannotSplit(
                f"all {len(rows):,} variants belong to one {'wild type' if unit == 'parent' else 'family'}"
            )
        order = sorted(range(len(groups)), key=lambda g: hashlib.blake2b(f"{self.seed} {groups[g]}".encode()).digest())
        testing = _fill(order, sizes, TEST * len(rows), FEWEST_TESTED)
        rest = [g for g in order if g not in set(testing)]
        choosing = _fill(rest, sizes, VALID * len(rows), FEWEST_VALIDATED) if len(rest) > 1 else []
        test, valid = rows[np.isin(group, testing)], rows[np.isin(group, choosing)]
        train = rows[~np.isin(group, [*testing, *choosing])]
        if not choosing:
            train, valid = self._cut(train, self._drawn(train))
        units = group[np.isin(group, testing)]
        return self._split(unit, question, tested, (train, valid, test), (units, unit))

    def file(self, name: str) -> Split:
        """As the file has it; without a validation part, a tenth of its training part."""
        label = self.assay.splits[name]
        train, valid, test = (np.flatnonzero(label == part) for part in ("train", "valid", "test"))
        if not len(train):
            raise _CannotSplit("the file names no variant to train on")
        if not len(valid):
            train, valid = self._cut(train, self._drawn(train))
        question, tested = "variants that the file keeps for testing", f"variants as in the test part of {name}"
        new = not np.isin(self._parents(test), self._parents(train)).any()
        units = self._parent(test) if new else None
        return self._split(FILE + name, question, tested, (train, valid, test), units)

    def _split(
        self, name: str, question: str, tested: str, parts: Parts, units: tuple[Rows, str] | None = None
    ) -> Split:
        """A split of (train, valid, test) rows; of units that the test rows themselves suggest unless given."""
        train, valid, test = (np.sort(part) for part in parts)
        number, unit = units if units is not None else self._units(test)
        return Split(name, question, train, valid, test, number, unit, tested)

    def _drawn(self, rows: Rows) -> Rows:
        return drawn(self.assay, rows, self.seed)

    def _cut(self, rows: Rows, order: Rows, share: float = VALID) -> tuple[Rows, Rows]:
        """Rows without, and with, the first of ``order``: as many as are a share of all rows."""
        valid = order[: max(min(FEWEST_VALIDATED, len(rows) // 4), round(share * len(rows)))]
        return np.setdiff1d(rows, valid), valid

    def _need_wild_types(self) -> None:
        if not (self.assay.mutations >= 0).any():
            raise _CannotSplit("no wild type is known, so mutated positions are not either")

    def _units(self, test: Rows) -> tuple[Rows, str]:
        """What test rows are resampled by: the position; the family of natural proteins; else the variant."""
        mutated = self.assay.differs[test]
        positions = int(mutated.any(axis=0).sum())
        combined = (self.assay.mutations[test] > 1).mean() > 0.5 if len(test) else False
        if positions and not (combined and positions < FEWEST_COMBINED):
            return self._position(test), "position"
        if not positions and self.families is not None:
            names, family = np.unique(self.families[test], return_inverse=True)
            if len(names) >= FEWEST_COMBINED:
                return family, "family"
        return self._variant(test), "variant"

    def _parents(self, rows: Rows) -> NDArray[Any]:
        return self.assay.parents[rows].astype(str)

    def _parent(self, test: Rows) -> tuple[Rows, str] | None:
        """Wild types as units, if each variant has one and there are several."""
        names, parent = np.unique(self._parents(test), return_inverse=True)
        return (parent, "parent") if len(names) > 1 and "" not in names else None

    def _variant(self, test: Rows) -> Rows:
        """A unit for each row, numbered by the variants and not by the file."""
        place = {row: number for number, row in enumerate(self._drawn(test).tolist())}
        return np.array([place[row] for row in test.tolist()], np.intp)

    def _position(self, test: Rows) -> Rows:
        """A unit for each position of each wild type. A variant with several counts to the one that most test variants
        share; one without any (a wild type, or a variant of unknown wild type) is a unit of its own."""
        width, differs = self.assay.width, self.assay.differs[test]
        names, parent = np.unique(self._parents(test), return_inverse=True)
        units = len(names) * width + self._variant(test)
        for number in range(len(names)):
            rows = np.flatnonzero((parent == number) & differs.any(axis=1))
            most_shared_first = np.argsort(-differs[rows].sum(axis=0), kind="stable")
            first = np.argmax(differs[np.ix_(rows, most_shared_first)], axis=1)
            units[rows] = number * width + most_shared_first[first]
        return units


def _clustered(sequences: Sequence[str]) -> NDArray[Any]:
    """A family for each protein, by MMseqs2."""
    proteins = sorted(set(sequences))
    with tempfile.TemporaryDirectory() as folder, mmseqs.MMseqs.open(os.cpu_count() or 1) as runner:
        named = ((str(index), protein) for index, protein in enumerate(proteins))
        database = runner.database(mmseqs.write_fasta(Path(folder) / "proteins.fasta", named), "proteins")
        families, _ = database.families()
    # MMseqs2 leaves out what it cannot use, such as proteins of a few residues: each of these is its own family.
    of = {protein: families.get(str(index), str(index)) for index, protein in enumerate(proteins)}
    return np.array([of[protein] for protein in sequences])


def _fill(order: Sequence[int], sizes: NDArray[Any], target: float, least: int) -> list[int]:
    """Groups in order until the target is met, without those that overshoot it by half; one group of enough if none."""
    chosen: list[int] = []
    total = 0
    for group in order:
        if total < max(target, least) and total + sizes[group] <= 1.5 * max(target, least):
            chosen.append(group)
            total += sizes[group]
    if total >= least:
        return chosen
    return [min(order, key=lambda g: (sizes[g] < least, sizes[g] if sizes[g] >= least else -sizes[g]))]


def _mutations(count: int) -> str:
    return "1 mutation" if count == 1 else f"{count} mutations"


def _check(split: Split) -> None:
    for part, rows, least in (("tested", split.test, FEWEST_TESTED), ("left to choose by", split.valid, 2)):
        if len(rows) < least:
            raise _CannotSplit(f"only {len(rows)} variants would be {part}; at least {least} are needed")
    if len(split.train) < FEWEST_TRAINED:
        raise _CannotSplit(
            f"only {len(split.train)} variants would be left to train on; at least {FEWEST_TRAINED} are needed"
        )
