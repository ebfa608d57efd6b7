"""How many scored proteins have a relative among those that are fitted on, by an aligner.

``python results/relatives/run.py --data FOLDER --output FOLDER`` writes ``relatives.json``. It takes each task of whole
proteins at full scale, aligns the scored proteins to the fitted ones by MMseqs2 (E-value 1e-3, sensitivity 5.7), and
counts those with an alignment over at least half of them, by its identity. Tasks of variants are left out: all of their
sequences are relatives, by design.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from limbeck import benchmarks
from limbeck.benchmarks.task import Task
from limbeck.homology.mmseqs import SEARCH_SETTINGS, MMseqs, version, write_fasta

IDENTITIES = (0.2, 0.3, 0.5, 0.9)
COVERED = 0.5
MOST_HITS = 100
VARIANTS = {"stability", "fluorescence", "gb1", "beta_lactamase"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    counts = {}
    for task in benchmarks.tasks(options.data):
        if task.name not in VARIANTS:
            counts[task.name] = relatives(task, benchmarks.place(task, options.data), options.threads)
            print(task.name, counts[task.name], flush=True)
    settings = {"mmseqs": version(), "search": " ".join(SEARCH_SETTINGS), "covered": COVERED, "hits": MOST_HITS}
    text = json.dumps({"settings": settings, "tasks": counts}, indent=1)
    (options.output / "relatives.json").write_text(text + "\n", encoding="utf-8")


def relatives(task: Task, data: Path, threads: int) -> dict[str, float]:
    """Number of scored proteins, and share of them with a relative of at least so much identity."""
    parts = task.parts(data, "full", "test")
    scored = parts.score.proteins
    best: dict[str, float] = defaultdict(float)
    with MMseqs.open(threads) as runner:
        databases = {
            name: runner.database(
                write_fasta(runner.folder / f"{name}.fasta", ((str(i), s) for i, s in enumerate(found))), name
            )
            for name, found in (("fitted", parts.fit.proteins), ("scored", scored))
        }
        with databases["fitted"].search(databases["scored"], MOST_HITS).open() as lines:
            for line in lines:
                query, _, _, _, identity, aligned, _ = line.split("\t")
                if len(aligned.replace("-", "")) >= COVERED * len(scored[int(query)]):
                    best[query] = max(best[query], float(identity))
    shares = {f"{least:.0%}": sum(i >= least for i in best.values()) / len(scored) for least in IDENTITIES}
    return {"scored": len(scored), "fitted": len(parts.fit.proteins)} | {k: round(v, 4) for k, v in shares.items()}


if __name__ == "__main__":
    main()
