"""From a FASTA file to a corpus with families and homology profiles."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from limbeck.distillation.corpus import write_corpus
from limbeck.distillation.mmseqs import MMseqs
from limbeck.distillation.profiles import Profile, profile, read_alignments
from limbeck.errors import InputError
from limbeck.records import Locator, clean_record, read_records

__all__ = ["build_corpus", "choose_queries"]

SHORTEST, LONGEST = 40, 800
"""Proteins outside these lengths lend their residues to profiles, but get none of their own."""
MOST_HITS = 100
SINGLES_KEPT = 0.2
SMALL = 2000
"""Proteins up to which those without a relative are all kept."""


def choose_queries(families: dict[str, str], lengths: dict[str, int], seed: int = 0) -> list[str]:
    """A choice of proteins balanced over families: one of a small family, two from 3, three from 8 usable members
    up, and, unless there are few proteins, a fifth of those that have no relative at all.

    Args:
        families: {id: family}.
        lengths: {id: residues}.

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
        wanted = 3 if len(usable) >= 8 else 2 if len(usable) >= 3 else 1
        if len(group) == 1 and rng.random() > SINGLES_KEPT and len(families) > SMALL:
            continue
        chosen += usable[:wanted]
    rng.shuffle(chosen)
    return chosen


def build_corpus(
    fasta: Path, output: Path, *, threads: int = 1, say: Callable[[str], None] = lambda message: None
) -> tuple[int, int]:
    """Cluster the proteins of a file into families, search a balanced choice of them against all, and write their
    homology profiles.

    Args:
        fasta: proteins, in any format that ``limbeck embed`` reads.
        output: the corpus file (HDF5) that ``limbeck contexts`` and ``limbeck distill`` read.
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
        everything = _write_fasta(runner.folder / "all.fasta", sequences, list(sequences))
        database = runner.database(everything, "all")
        say(f"{len(sequences):,} proteins: clustering into families")
        families, representatives = database.families()
        different = {name: family for name, family in families.items() if name in representatives}
        queries = choose_queries(different, {name: len(s) for name, s in sequences.items()})
        if not queries:
            raise InputError(f"{fasta}: none of its {len(sequences)} proteins has {SHORTEST} to {LONGEST} residues")
        say(f"{len(set(families.values())):,} families; searching {len(queries):,} proteins for their relatives")
        chosen = runner.database(_write_fasta(runner.folder / "queries.fasta", sequences, queries), "queries")
        table = database.search(chosen, hits=MOST_HITS + 50)
        say("building profiles")
        profiles = _profiles(table, queries, sequences, families)
        return write_corpus(output, ((names[int(q)], family, s, p) for q, family, s, p in profiles))


def _profiles(
    table: Path, queries: list[str], sequences: dict[str, str], families: dict[str, str]
) -> Iterator[tuple[str, str, str, Profile]]:
    found: set[str] = set()
    with table.open() as lines:
        for query, rows in read_alignments(lines):
            found.add(query)
            alignments = [alignment for target, _, alignment in rows if target != query][:MOST_HITS]
            yield query, families[query], sequences[query], profile(sequences[query], alignments)
    for query in queries:
        if query not in found:
            yield query, families[query], sequences[query], profile(sequences[query], [])


def _write_fasta(path: Path, sequences: dict[str, str], names: list[str]) -> Path:
    with path.open("w") as file:
        file.writelines(f">{name}\n{sequences[name]}\n" for name in names)
    return path
