"""The default model in int8: how fast, and how close to its usual precision (bf16 where it is fast, else f32)?

    python results/speed/int8.py --proteome examples/mycoplasma_genitalium.fasta.gz --output results/speed/amx
    python results/speed/int8.py --scale small --cache cache --output results/speed/amx

The first compares seconds of processor time of one thread, and vectors: the rank correlation of each protein's
similarities to the others must be above 0.99. Writes ``int8.json``.

The second compares scores on the benchmark's tasks (``limbeck benchmark tasks``), with paired differences: their mean
must be within 0.5 %. Writes ``int8-scores.json``. What was scored is kept in ``--cache``, so a run that was stopped
goes on; take an empty folder when the int8 products have changed. ``--task`` scores only some, for a table of those.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from limbeck import benchmarks
from limbeck.benchmarks.comparison import independent
from limbeck.benchmarks.metrics import interval
from limbeck.encoders.quantised import PROTEINS
from limbeck.encoders.registry import Options
from limbeck.encoders.student import StudentEncoder, load_student
from limbeck.files import whole
from limbeck.profiling import product_rate
from limbeck.records import read_records

HERE = Path(__file__).parent
LEAST_CORRELATION = 0.99
MOST_LOST = 0.005
"""Of the mean score, relative."""


def timed(encoder: StudentEncoder, proteins: list[str]) -> tuple[NDArray[np.float32], float]:
    """Vectors, and seconds of processor time."""
    began = time.process_time()
    vectors = encoder.encode(proteins)
    return vectors, time.process_time() - began


def neighbour_ranks(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean over the proteins of the rank correlation of their similarities to the others."""
    both = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    others = ~np.eye(len(a), dtype=bool)
    similar = [(v @ v.T)[others].reshape(len(a), -1) for v in both]
    return float(np.mean([spearmanr(x, y).statistic for x, y in zip(*similar, strict=True)]))


def speeds(encoders: Mapping[str, StudentEncoder], proteins: list[str], rounds: int) -> dict[str, Any]:
    """Seconds of each encoder, in turns, and how near its vectors are to the first's."""
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    vectors = {}
    for number in range(rounds + 1):
        for name, encoder in encoders.items():
            vectors[name], took = timed(encoder, proteins)
            if number:  # the first prepares
                seconds[name].append(took)
    residues = sum(map(len, proteins))
    usual, int8 = vectors.values()
    correlation = neighbour_ranks(usual, int8)
    return {
        "proteins": len(proteins),
        "residues": residues,
        "microseconds_per_residue": {name: 1e6 * float(np.median(s)) / residues for name, s in seconds.items()},
        "all_seconds": seconds,
        "product_rate": {name: product_rate(name, 1, clock=time.process_time) for name in encoders},
        "neighbour_rank_correlation": correlation,
        "largest_relative_difference": float(np.abs(int8 - usual).max() / np.abs(usual).max()),
        "passed": correlation > LEAST_CORRELATION,
    }


def scores(
    encoders: Mapping[str, StudentEncoder], tasks: list[benchmarks.Task], scale: str, cache: Path | None
) -> dict[str, Any]:
    """Scores of the encoders, the second's differences to the first's, and the same of the means over the tasks that
    count in a mean."""
    found = {name: benchmarks.score(encoder, tasks, scale, cache=cache) for name, encoder in encoders.items()}
    usual, int8 = found.values()
    counted = [task.name for task in tasks if task.primary and usual[task.name]["in_mean"]]
    samples = [
        np.mean([independent(np.array(of[name]["replicates"], np.float32), name) for name in counted], axis=0)
        for of in (usual, int8)
    ]
    values = [float(np.mean([of[name]["value"] for name in counted])) for of in (usual, int8)]
    lost = values[1] / values[0] - 1
    return {
        "scale": scale,
        "tasks": {
            name: {
                "metric": usual[name]["metric"],
                "n": usual[name]["n"],
                "in_mean": name in counted,
                **{label: of[name]["value"] for label, of in found.items()},
                "difference": int8[name]["value"] - usual[name]["value"],
                "interval": interval(np.array(int8[name]["replicates"]) - np.array(usual[name]["replicates"])),
            }
            for name in usual
        },
        "mean": dict(zip(found, values, strict=True)),
        "relative_difference": lost,
        "relative_interval": interval(samples[1] / samples[0] - 1.0),
        "passed": abs(lost) < MOST_LOST,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proteome", type=Path, help="compare speeds and neighbours on its proteins")
    parser.add_argument("--proteins", type=int, default=64, help="to compare on (default: 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", help="compare scores: quick, small, medium or full")
    parser.add_argument("--task", action="append", help="score only this one; may be given again")
    parser.add_argument("--cache", type=Path, help="folder for features and scores")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    if not (options.proteome or options.scale):
        parser.error("give --proteome, --scale, or both")
    known = {task.name: task for task in benchmarks.tasks() if options.scale is None or options.scale in task.sizes}
    if unknown := set(options.task or ()) - set(known):
        parser.error(f"there is no task {min(unknown)!r}; choose from: {', '.join(known)}")
    usual = load_student().precision
    encoders = {name: load_student(options=Options(precision=name, threads=1)) for name in (usual, "int8")}
    results = {}
    if options.proteome:
        texts = [record.text for record in read_records(options.proteome) if 100 <= len(record.text) <= 400]
        others = [text for text in texts if text not in PROTEINS]
        results["int8.json"] = speeds(encoders, others[: options.proteins], options.rounds)
    if options.scale:
        tasks = [task for name, task in known.items() if options.task is None or name in options.task]
        results["int8-scores.json"] = scores(encoders, tasks, options.scale, options.cache)
    for name, result in results.items():
        print(json.dumps(result, indent=1))
        with whole(options.output / name) as partial:
            partial.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
