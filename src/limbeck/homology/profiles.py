"""Homology profiles: what the relatives of a protein have at each of its positions.

A profile is the position-specific residue distribution of a protein, estimated from the alignments that
MMseqs2 (Steinegger & Soeding 2017) finds for it in a corpus. Sequences are weighted by position-based
weights (Henikoff & Henikoff 1994) and smoothed with BLOSUM62 pseudocounts after PSI-BLAST (Altschul et al. 1997):
the evidence of a column is how many different residues the columns around it show on average.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from limbeck.residues import RESIDUES, UNKNOWN_ID, clean, to_ids

__all__ = [
    "MOST_CANDIDATES",
    "MOST_RELATIVES",
    "Alignment",
    "Profile",
    "background",
    "profile",
    "read_alignments",
    "read_profiles",
    "substitution_probabilities",
]

MOST_RELATIVES = 100
"""Relatives of one protein that its profile counts, the most significant ones."""
MOST_CANDIDATES = 150
"""Proteins that a search aligns to one query; some prove to be no relatives."""

GAP_ID = UNKNOWN_ID + 1
BLOSUM62_LAMBDA = 0.3176
PSEUDOCOUNT_WEIGHT = 5.0
NEIGHBOURS = 15
"""Columns on either side over which the evidence of an alignment is averaged."""
# Robinson & Robinson (1991) residue frequencies, in the order of RESIDUES.
_BACKGROUND = (
    0.07805, 0.01925, 0.05364, 0.06295, 0.03856, 0.07377, 0.02199, 0.05142, 0.05744, 0.09019,
    0.02243, 0.04487, 0.05203, 0.04264, 0.05129, 0.07120, 0.05841, 0.06441, 0.01330, 0.03216,
)  # fmt: skip

Profile = NDArray[np.floating]
"""(length, 20), each row a distribution over ``RESIDUES``."""
Alignment = tuple[int, str, str]
"""(0-based start in the query, aligned query, aligned target), both with ``-`` for gaps."""


def background() -> NDArray[np.float32]:
    """Residue frequencies of natural proteins, (20,), summing to one."""
    frequencies = np.asarray(_BACKGROUND, dtype=np.float32)
    return frequencies / frequencies.sum()


def substitution_probabilities() -> NDArray[np.float32]:
    """BLOSUM62 as conditional probabilities, (20, 20): row a is the distribution of what replaces a."""
    text = resources.files("limbeck").joinpath("data/blosum62.txt").read_text()
    scores = np.loadtxt(text.splitlines(), comments="#", dtype=np.float32)
    joint = np.outer(background(), background()) * np.exp(BLOSUM62_LAMBDA * scores)
    return (joint / joint.sum(axis=1, keepdims=True)).astype(np.float32)


_SUBSTITUTIONS = substitution_probabilities()


def _columns(query: NDArray[np.uint8], alignments: Iterable[Alignment]) -> NDArray[np.uint8]:
    """Stack the targets under the query: (1 + targets, length) ids, GAP_ID where a target has no residue."""
    rows = [query]
    for start, aligned_query, aligned_target in alignments:
        of_query = np.frombuffer(aligned_query.encode(), dtype=np.uint8) != ord("-")
        target = np.frombuffer(aligned_target.encode(), dtype=np.uint8)[of_query]
        is_gap = target == ord("-")
        ids = to_ids(clean(target.tobytes().decode().replace("-", "X").replace("*", "X")))
        row = np.full(len(query), GAP_ID, dtype=np.uint8)
        row[start : start + len(ids)] = np.where(is_gap, GAP_ID, ids)
        rows.append(row)
    return np.stack(rows)


def profile(sequence: str, alignments: Iterable[Alignment]) -> NDArray[np.float32]:
    """The homology profile of one protein.

    Args:
        sequence: the cleaned query, L residues.
        alignments: its relatives, each as :data:`Alignment`. None at all is allowed: the profile is
            then the BLOSUM62 smoothing of the sequence itself.

    Returns:
        (L, 20) float32, each row a distribution over ``RESIDUES``.
    """
    columns = _columns(to_ids(sequence), alignments)
    onehot = columns[:, :, None] == np.arange(len(RESIDUES), dtype=np.uint8)
    counts = onehot.sum(axis=0, dtype=np.float32)
    kinds = (counts > 0).sum(axis=1).astype(np.float32)

    # Henikoff weight of a residue in a column: 1 / (kinds in the column x how often it occurs).
    per_cell = np.divide(1.0, kinds[:, None] * counts, where=counts > 0, out=np.zeros_like(counts))
    covered = onehot.any(axis=2)
    weights = np.einsum("nla,la->n", onehot, per_cell) / np.maximum(covered.sum(axis=1), 1)

    weighted = np.einsum("nla,n->la", onehot, weights)
    total = weighted.sum(axis=1, keepdims=True)
    observed = np.where(total > 0, weighted / np.maximum(total, 1e-12), background())
    pseudo = observed @ _SUBSTITUTIONS
    evidence = np.maximum(_smoothed(kinds)[:, None] - 1.0, 0.5)
    mixed = (evidence * observed + PSEUDOCOUNT_WEIGHT * pseudo) / (evidence + PSEUDOCOUNT_WEIGHT)
    return (mixed / mixed.sum(axis=1, keepdims=True)).astype(np.float32)


def _smoothed(kinds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of a column and its neighbours, so that a column which never varies counts for as much as its alignment is
    deep: alone it would look like a protein without relatives."""
    sums = np.concatenate([[0.0], np.cumsum(kinds, dtype=np.float64)])
    middle = np.arange(len(kinds))
    first, last = np.maximum(middle - NEIGHBOURS, 0), np.minimum(middle + NEIGHBOURS + 1, len(kinds))
    return ((sums[last] - sums[first]) / (last - first)).astype(np.float32)


def read_alignments(lines: Iterable[str]) -> Iterator[tuple[str, list[tuple[str, float, Alignment]]]]:
    """Group MMseqs2's table by query.

    Args:
        lines: the output of ``mmseqs convertalis --format-output query,target,qstart,evalue,fident,qaln,taln``,
            grouped by query as MMseqs2 writes it.

    Yields:
        (query id, [(target id, E-value, alignment), ...]).
    """
    split = (line.rstrip("\n").split("\t") for line in lines)
    for query, rows in itertools.groupby(split, key=lambda fields: fields[0]):
        yield query, [(r[1], float(r[3]), (int(r[2]) - 1, r[5], r[6])) for r in rows]


def read_profiles(lines: Iterable[str], sequences: Mapping[str, str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Profiles of all queries of a search.

    A target with the query's id is the query itself, which has its row in the profile already. Of targets with one id
    only the first counts.

    Args:
        lines: as for :func:`read_alignments`.
        sequences: {query id: cleaned sequence}.

    Yields:
        (query id, profile): first the queries of the table, then those for which nothing was found.
    """
    found: set[str] = set()
    for query, rows in read_alignments(lines):
        found.add(query)
        relatives: dict[str, Alignment] = {}
        for target, _, alignment in rows:
            if target != query:
                relatives.setdefault(target, alignment)
        yield query, profile(sequences[query], itertools.islice(relatives.values(), MOST_RELATIVES))
    for query, sequence in sequences.items():
        if query not in found:
            yield query, profile(sequence, [])
