"""What a test may have been told: variants in training as well, and proteins from the encoder's own training corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from limbeck.encoders import Encoder
from limbeck.encoders.contexts import SHIPPED_NAME
from limbeck.encoders.student import DEFAULT_NAME, RANDOM_NAME, student_folder
from limbeck.landscapes.assay import Assay, expressed
from limbeck.landscapes.naming import names_of
from limbeck.landscapes.sketch import CorpusSketch, K
from limbeck.landscapes.splits import Split
from limbeck.residues import RESIDUES, to_ids

__all__ = ["SKETCH", "Leak", "corpus_leaks", "nearest_identity", "one_apart", "train_test_leaks"]

SKETCH = "corpus.safetensors"
"""What a model's folder keeps of its training corpus: a :class:`limbeck.landscapes.sketch.CorpusSketch`."""
EXAMPLES = 5
WORD = 5
ALIKE = 0.9
"""Identity from which unrelated proteins count as near duplicates."""
FOLLOWED = 100
"""Training proteins that are looked at for one word of residues."""
ROWS_AT_ONCE = 1024

_CORPORA = {
    "esm2": "UniRef50, with members of its clusters from UniRef90",
    "esm1b": "UniRef50",
    "esm1v": "UniRef90",
    "prot_t5": "BFD and UniRef50",
    "prot_bert": "UniRef100 or BFD",
    "ankh": "UniRef50",
    "unirep": "UniRef50",
}
"""What encoders were trained on, by a part of their names, as their authors say."""


@dataclass(frozen=True)
class Leak:
    """One count of variants that the model may have met before.

    Attributes:
        kind: ``"exact duplicates"``, ``"one residue apart"``, ``"near duplicates"``, ``"training corpus"``.
        split: name of the split; ``None`` if it is about the encoder.
        encoder: name of the encoder; ``None`` if it is about a split.
        count: how many.
        of: out of how many.
        share: ``count / of``; NaN where it is not known.
        sentence: the same for people.
        examples: names of at most five of them.
    """

    kind: str
    split: str | None
    encoder: str | None
    count: int
    of: int
    share: float
    sentence: str
    examples: list[str]


# --- train and test


def train_test_leaks(assay: Assay, split: Split) -> list[Leak]:
    """Test variants that training or validation has, too, or nearly.

    Exact duplicates express the same protein. Near duplicates differ by one residue from a variant in training, which
    among variants of one protein is no fault of a split but says how far the test reaches; of proteins without a wild
    type also those whose identity to one in training is 90 % or more by the words that they share
    (:func:`nearest_identity`).
    """
    seen = np.concatenate([split.train, split.valid])
    known = {assay.sequences[i] for i in seen}
    exact = np.array([assay.sequences[i] in known for i in split.test], dtype=bool)
    near = one_apart(assay.letters[split.test], assay.letters[seen])
    found = [
        _of_split(
            assay, split, "exact duplicates", split.test, exact, "express the same protein as a training variant"
        ),
        _of_split(
            assay, split, "one residue apart", split.test, near, "differ from a training variant by one residue at most"
        ),
    ]
    alone = split.test[assay.parents[split.test] == ""]
    if len(alone):
        identity, _ = nearest_identity([assay.sequences[i] for i in alone], [assay.sequences[i] for i in seen])
        what = f"have {100 * ALIKE:.0f} % identity or more to a training protein, by the words of residues they share"
        found.append(_of_split(assay, split, "near duplicates", alone, identity >= ALIKE, what))
    return found


def _of_split(assay: Assay, split: Split, kind: str, rows: NDArray[np.intp], hit: NDArray[np.bool_], what: str) -> Leak:
    count, total = int(hit.sum()), len(rows)
    share = count / total if total else float("nan")
    how_many = f"{count:,} of {total:,} test variants ({100 * share:.1f} %)" if count else "No test variants"
    examples = names_of(assay, rows[hit][:EXAMPLES])
    return Leak(kind, split.name, None, count, total, share, f"{split.name}: {how_many} {what}.", examples)


def one_apart(test: NDArray[np.uint8], train: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which rows of ``test``, (n, width) ASCII, differ in one column at most from a row of ``train``, (m, width).

    Two such rows are equal once the column is taken out of both. So each row gets a hash of 64 bits that is a sum over
    its columns, and for each column the hashes without it are compared: sorting instead of n times m comparisons.
    """
    table = np.random.default_rng(0).integers(0, 2**64, (test.shape[1], 256), dtype=np.uint64)
    sums = [np.zeros(len(part), np.uint64) for part in (test, train)]
    for total, part in zip(sums, (test, train), strict=True):
        for column, numbers in enumerate(table):
            total += numbers[part[:, column]]
    near = np.isin(sums[0], sums[1])
    first = train[0] if len(train) else np.zeros(test.shape[1], np.uint8)
    for place in np.flatnonzero((train != first).any(axis=0) | (test != first).any(axis=0)):
        open_rows = np.flatnonzero(~near)
        left = sums[0][open_rows] - table[place][test[open_rows, place]]
        near[open_rows] = np.isin(left, sums[1] - table[place][train[:, place]])
    return near


def nearest_identity(
    test: Sequence[str], train: Sequence[str], word: int = WORD
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """For each protein the identity to the most similar training protein, (n,), and which that is, (n,), -1 for none.

    Estimated without alignment: of the different words of residues of the shorter protein a share C stands in the
    longer one, and C ** (1 / word) is the identity if differences are spread evenly (Ondov et al. 2016,
    doi:10.1186/s13059-016-0997-x). The candidate is the training protein with the most words in common; of a word that
    more than a hundred have, a hundred are looked at, always the same ones.
    """
    train_words, test_words = _words(train, word), _words(test, word)
    best = np.full(len(test), -1, np.intp)
    if train_words[1].size and test_words[1].size:
        vocabulary, columns = np.unique(train_words[1], return_inverse=True)
        followed = _followed(columns, train_words[0], len(train))
        shape = (len(vocabulary), len(train))
        ones = np.ones(len(followed), np.int32)
        index = sp.csr_array(sp.coo_array((ones, (columns[followed], train_words[0][followed])), shape=shape))
        best = _most_shared(test_words, vocabulary, index, len(test))
    identity = np.array(
        [
            0.0 if b < 0 else _shared_part(s, train[b], word) ** (1 / word)
            for s, b in zip(test, best.tolist(), strict=True)
        ]
    )
    return identity, best


def _words(sequences: Sequence[str], word: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Protein and code of each different word of each protein."""
    if not sequences:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ids = to_ids("X".join(sequences)).astype(np.int64)
    size = max(0, len(ids) - word + 1)
    codes, known = np.zeros(size, np.int64), np.ones(size, bool)
    for offset in range(word):
        column = ids[offset : offset + size]
        codes = codes * len(RESIDUES) + column
        known &= column < len(RESIDUES)
    ends = np.cumsum([len(s) + 1 for s in sequences])
    places = np.flatnonzero(known)
    pairs = np.unique(np.searchsorted(ends, places, side="right") * len(RESIDUES) ** word + codes[places])
    return pairs // len(RESIDUES) ** word, pairs % len(RESIDUES) ** word


def _followed(columns: NDArray[np.int64], owners: NDArray[np.int64], count: int) -> NDArray[np.intp]:
    """Entries of the first ``FOLLOWED`` proteins of each word, in an order of the proteins that is drawn once."""
    rank = np.random.default_rng(0).permutation(count)[owners]
    order = np.lexsort((rank, columns))
    starts = np.searchsorted(columns[order], columns[order])
    return order[np.arange(len(order)) - starts < FOLLOWED]


def _most_shared(
    words: tuple[NDArray[np.int64], NDArray[np.int64]], vocabulary: NDArray[np.int64], index: sp.csr_array, count: int
) -> NDArray[np.intp]:
    owners, codes = words
    columns = np.minimum(np.searchsorted(vocabulary, codes), len(vocabulary) - 1)
    known = vocabulary[columns] == codes
    shape = (count, len(vocabulary))
    ones = np.ones(int(known.sum()), np.int32)
    matrix = sp.csr_array(sp.coo_array((ones, (owners[known], columns[known])), shape=shape))
    best = np.full(count, -1, np.intp)
    for start in range(0, count, ROWS_AT_ONCE):
        shared = sp.csr_array(matrix[start : start + ROWS_AT_ONCE] @ index)
        for row in np.flatnonzero(np.diff(shared.indptr)):
            part = slice(shared.indptr[row], shared.indptr[row + 1])
            best[start + row] = shared.indices[part][np.argmax(shared.data[part])]
    return best


def _shared_part(a: str, b: str, word: int) -> float:
    """Share of the words of the protein with fewer different ones that the other has, too."""
    first, second = ({s[i : i + word] for i in range(len(s) - word + 1)} for s in (a, b))
    fewer = min(len(first), len(second))
    return len(first & second) / fewer if fewer else 0.0


# --- the encoder's own training corpus


def corpus_leaks(assay: Assay, encoder: Encoder) -> list[Leak]:
    """Wild types and variants that the encoder's own training corpus held, exactly or nearly.

    What is known of the corpus is a sketch beside the model (:mod:`limbeck.landscapes.sketch`). Of encoders without one
    a sentence says so, and nothing is counted; of encoders that learned nothing there is nothing to say.
    """
    if encoder.parameters == 0 or encoder.name == RANDOM_NAME:
        return []
    path = _sketch_path(encoder)
    if path is None:
        return [_unknown(encoder, len(assay))]
    sketch = CorpusSketch.read(path)
    exact = sketch.contains(assay.sequences)
    corpus = f"the training corpus of {encoder.name} ({int(sketch.notes['proteins']):,} proteins)"
    examples = names_of(assay, np.flatnonzero(exact)[:EXAMPLES])
    count, total = int(exact.sum()), len(assay)
    sentence = f"{count:,} of {total:,} variants were in {corpus}." if count else f"No variant was in {corpus}."
    found = [Leak("training corpus", None, encoder.name, count, total, count / total, sentence, examples)]
    if assay.wild_types:
        named = {name or "the wild type": expressed(row) for name, row in assay.wild_types.items()}
        found.append(_near(sketch, named, encoder, corpus, "wild types"))
    alone = np.flatnonzero(assay.parents == "")
    if len(alone):
        labels = names_of(assay, alone)
        named = {f"{label} (row {i})": assay.sequences[i] for label, i in zip(labels, alone, strict=True)}
        found.append(_near(sketch, named, encoder, corpus, "proteins without a wild type"))
    return found


def _near(sketch: CorpusSketch, named: dict[str, str], encoder: Encoder, corpus: str, what: str) -> Leak:
    """How many of some proteins the corpus holds exactly or nearly."""
    names, sequences = list(named), list(named.values())
    exact = sketch.contains(sequences)
    shares, looked_up = sketch.containment(sequences)
    hit = exact | sketch.near(sequences)
    mute = (looked_up == 0) & ~exact
    count, total = int(hit.sum()), len(names)
    if total == 1 and what == "wild types":
        found = round(float(np.nan_to_num(shares[0])) * int(looked_up[0]))
        sentence = _one(names[0], bool(exact[0]), bool(hit[0]), found, int(looked_up[0]), corpus)
    else:
        near = int((hit & ~exact).sum())
        sentence = (
            f"Of {total:,} {what} {int(exact.sum()):,} were in {corpus}, and {near:,} more nearly, by its {K}-mers"
        )
        sentence += f"; {int(mute.sum()):,} are too short to tell." if mute.any() else "."
    examples = [names[i] for i in np.flatnonzero(hit)[:EXAMPLES]]
    return Leak("near the training corpus", None, encoder.name, count, total, count / total, sentence, examples)


def _one(name: str, exact: bool, near: bool, found: int, looked_up: int, corpus: str) -> str:
    if exact:
        return f"The wild type {name!r} was in {corpus}."
    evidence = f"{found} of {looked_up} of its {K}-mers that could be looked up are there"
    if near:
        return f"A near duplicate of the wild type {name!r} was in {corpus}: {evidence}."
    if looked_up:
        return f"The wild type {name!r} was not in {corpus}, nor was a near duplicate found: {evidence}."
    return f"The wild type {name!r} was not in {corpus}; whether a near duplicate was, its few {K}-mers cannot tell."


def _sketch_path(encoder: Encoder) -> Path | None:
    # The context library was read off the same corpus as the default student, which it taught.
    folder = student_folder(DEFAULT_NAME if encoder.name == SHIPPED_NAME else encoder.name)
    path = folder / SKETCH
    return path if path.is_file() else None


def _unknown(encoder: Encoder, total: int) -> Leak:
    sentence = f"The training corpus of {encoder.name} is not known here"
    plain = encoder.name.lower().replace("-", "_")
    corpus = next((text for part, text in _CORPORA.items() if part in plain), None)
    if corpus:
        sentence += f"; its authors name {corpus}, so a natural wild type is probably in it"
    return Leak("training corpus", None, encoder.name, 0, total, float("nan"), f"{sentence}.", [])
