"""From a FASTA file to a corpus with families and homology profiles."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from limbeck.distillation.corpus import write_corpus
from limbeck.errors import InputError
from limbeck.homology.mmseqs import MMseqs, write_fasta
from limbeck.homology.profiles import MOST_CANDIDATES, read_profiles
from limbeck.records import Locator, clean_record, read_records

__all__ = ["PER_FAMILY", "build_corpus", "choose_queries"]

SHORTEST, LONGEST = 40, 800
"""Proteins outside these lengths lend their residues to profiles, but get none of their own."""
PER_FAMILY = 3
SINGLES_KEPT = 0.2
SMALL = 2000
"""Proteins up to which those without a relative are all kept."""


def choose_queries(
    families: dict[str, str], lengths: dict[str, int], per_family: int = PER_FAMILY, seed: int = 0
) -> list[str]:
    """A choice of proteins balanced over families: at most ``per_family`` usable members of each, and, unless
    there are few proteins, a fifth of those that have no relative at all.

    Args:
        families: {id: family}.
        lengths: {id: residues}.
        per_family: the most proteins of one family.

    Returns:
        Ids, shuffled.
    """
    rng = random.Random(seed)
    members: dict[str, list[str]] = defaultdict(list)
    for name, family in families.items():
        members[family].append(name)
    chosen: list[str] = []
    for group in members.values():
        usable = [name for name in group if SHORTEST <= lengths[name] <= LONGEST]
        rng.shuffle(usable)
        if len(group) == 1 and rng.random() > SINGLES_KEPT and len(families) > SMALL:
            continue
        chosen += usable[:per_family]
    rng.shuffle(chosen)
    return chosen


def build_corpus(
    fasta: Path,
    output: Path,
    *,
    per_family: int = PER_FAMILY,
    threads: int = 1,
    say: Callable[[str], None] = lambda message: None,
) -> tuple[int, int]:
    """Cluster the proteins of a file into families, search a balanced choice of them against all, and write their
    homology profiles.

    Args:
        fasta: proteins, in any format that ``limbeck embed`` reads.
        output: the corpus file (HDF5) that ``limbeck contexts`` and ``limbeck distill`` read.
        per_family: see :func:`choose_queries`.
        threads: of MMseqs2.
        say: called with a line at each stage.

    Returns:
        The number of proteins and of residues written.
    """
    if not output.parent.is_dir():
        raise InputError(f"the output's folder {str(output.parent)!r} does not exist; create it first")
    locator = Locator(fasta)
    names, sequences = [], {}
    for number, record in enumerate(read_records(fasta)):
        # MMseqs2 rewrites ids that look like a databank's, so it gets numbers.
        names.append(record.id)
        sequences[str(number)] = clean_record(record, locator)
    with MMseqs.open(threads, beside=output) as runner:
        everything = write_fasta(runner.folder / "all.fasta", sequences.items())
        database = runner.database(everything, "all")
        say(f"{len(sequences):,} proteins: clustering into families")
        families, representatives = database.families()
        different = {name: family for name, family in families.items() if name in representatives}
        queries = choose_queries(different, {name: len(s) for name, s in sequences.items()}, per_family)
        if not queries:
            raise InputError(f"{fasta}: none of its {len(sequences)} proteins has {SHORTEST} to {LONGEST} residues")
        say(f"{len(set(families.values())):,} families; searching {len(queries):,} proteins for their relatives")
        chosen = {query: sequences[query] for query in queries}
        queried = runner.database(write_fasta(runner.folder / "queries.fasta", chosen.items()), "queries")
        table = database.search(queried, MOST_CANDIDATES)
        say("building profiles")
        with table.open() as lines:
            profiles = read_profiles(lines, chosen)
            return write_corpus(output, ((names[int(q)], families[q], chosen[q], p) for q, p in profiles))
