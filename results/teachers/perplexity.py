"""Perplexity of encoders that give log-probabilities of residues, on natural proteins.

It is the check that weights were read and wired rightly: a wrong wiring of UniRep gives more than 26, a context
HMM with the wrong prior 20 to 21. UniRep predicts the next residue, a context HMM the masked one. A student reads the
residue itself, so every tenth residue is hidden from it, in ten passes (``--masked``). Usage:

    python results/teachers/perplexity.py --corpus proteins.fasta.gz --weights weights.safetensors contexts.hmm
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import limbeck
from limbeck.records import read_records
from limbeck.residues import RESIDUES, clean, to_ids

EVERY = 10
"""One residue in so many is hidden at once."""


def sample(path: Path, count: int, shortest: int, longest: int, seed: int) -> list[str]:
    """``count`` proteins of the file within the limits of length, drawn without replacement."""
    texts = (clean(record.text) for record in read_records(path))
    fitting = [text for text in texts if shortest <= len(text) <= longest]
    rng = np.random.default_rng(seed)
    return [fitting[i] for i in sorted(rng.choice(len(fitting), size=min(count, len(fitting)), replace=False))]


def perplexity(encoder: limbeck.Encoder, proteins: list[str]) -> dict[str, float]:
    """exp of the mean negative log-probability of the standard residues, and its standard error over proteins."""
    sums, counts = [], []
    for protein, scores in zip(proteins, encoder.log_probabilities(proteins), strict=True):
        ids = to_ids(protein)
        known = np.flatnonzero(ids < len(RESIDUES))
        sums.append(-float(scores[known, ids[known]].sum(dtype=np.float64)))
        counts.append(len(known))
    return ratio(np.array(sums), np.array(counts))


def masked_perplexity(encoder: limbeck.Encoder, proteins: list[str]) -> dict[str, float]:
    """The same for an encoder that reads what it is asked for: each residue is scored once, from a protein in which it
    and every tenth other one are X."""
    sums, counts = np.zeros(len(proteins)), np.zeros(len(proteins))
    for first in range(EVERY):
        hidden = ["".join("X" if i % EVERY == first else c for i, c in enumerate(p)) for p in proteins]
        for index, scores in enumerate(encoder.log_probabilities(hidden)):
            ids = to_ids(proteins[index])
            known = np.flatnonzero((ids < len(RESIDUES)) & (np.arange(len(ids)) % EVERY == first))
            sums[index] -= float(scores[known, ids[known]].sum(dtype=np.float64))
            counts[index] += len(known)
    return ratio(sums, counts)


def unigram(proteins: list[str]) -> dict[str, float]:
    """The same of the proteins' own residue frequencies."""
    counts = np.stack([np.bincount(to_ids(p), minlength=21)[:20] for p in proteins])
    frequencies = counts.sum(axis=0) / counts.sum()
    return ratio(-(counts * np.log(np.maximum(frequencies, 1e-12))).sum(axis=1), counts.sum(axis=1))


def ratio(sums: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    mean = sums.sum() / counts.sum()
    spread = np.sqrt(((sums - mean * counts) ** 2).sum()) / counts.sum()
    return {"perplexity": round(float(np.exp(mean)), 3), "standard_error": round(float(np.exp(mean) * spread), 3)}


def short(path: str | Path) -> str:
    """A path as given, or the last folder and name of an absolute one: the rest is one machine's own."""
    return "/".join(Path(path).parts[-2:]) if Path(path).is_absolute() else str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="files of natural proteins")
    parser.add_argument("--weights", nargs="*", default=[], help="what limbeck.load takes")
    parser.add_argument("--masked", nargs="+", default=[], help="the same, for encoders that read the residue itself")
    parser.add_argument("--proteins", type=int, default=200)
    parser.add_argument("--shortest", type=int, default=100)
    parser.add_argument("--longest", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="where to write the JSON; else it is printed")
    given = parser.parse_args()

    tables = []
    for corpus in given.corpus:
        proteins = sample(corpus, given.proteins, given.shortest, given.longest, given.seed)
        rows = [{"encoder": "residue frequencies of the sample", **unigram(proteins)}]
        for weights in [*given.weights, *given.masked]:
            encoder = limbeck.load(weights)
            about = {
                "encoder": short(weights),
                "version": encoder.version,
                "parameters": encoder.parameters,
                "license": encoder.license,
            }
            score = masked_perplexity if weights in given.masked else perplexity
            rows.append(about | score(encoder, proteins))
        size = {"proteins": len(proteins), "residues": sum(map(len, proteins))}
        tables.append({"corpus": short(corpus), **size, "rows": rows})
    result = {
        "command": " ".join(["python results/teachers/perplexity.py", *map(short, sys.argv[1:])]),
        "limbeck": limbeck.__version__,
        "normalised_over": RESIDUES,
        "tables": tables,
    }
    text = json.dumps(result, indent=2)
    if given.output:
        given.output.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
