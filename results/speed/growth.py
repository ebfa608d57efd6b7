"""Time and memory of ``limbeck embed`` against the number of proteins and against their length.

    python results/speed/growth.py --output results/speed/amx

Random proteins, each run in a process of its own. Each run is written to ``growth.json`` at once, and
the same command goes on from there. Then draws ``growth-number.svg`` and ``growth-length.svg``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from figure import panels

from limbeck.files import whole
from limbeck.residues import RESIDUES

HERE = Path(__file__).parent
COUNTS = {
    "limbeck-9m": ((50, 350), (10, 100, 1_000, 10_000, 100_000)),
    "composition": ((10, 50), (100, 1_000, 10_000, 100_000, 1_000_000)),
}
"""Lengths and numbers of proteins. ``composition`` costs next to nothing, and so shows the pipeline alone."""
LENGTHS = (50, 200, 1_000, 4_000, 15_000, 30_000)
RESIDUES_EACH = 30_000
"""For each length, so many residues in proteins of it."""
EMBED = """
import json, sys, limbeck
summary = limbeck.embed(sys.argv[1], sys.argv[2], encoder=sys.argv[3], progress=False)
print(json.dumps({"seconds": summary.seconds, "peak_memory": summary.peak_memory, "stages": summary.stages}))
"""


def plan() -> list[dict[str, Any]]:
    numbers = [
        {"varied": "number", "encoder": encoder, "proteins": count, "lengths": lengths}
        for encoder, (lengths, counts) in COUNTS.items()
        for count in counts
    ]
    lengths = [
        {"varied": "length", "encoder": "limbeck-9m", "proteins": max(1, RESIDUES_EACH // n), "lengths": (n, n)}
        for n in LENGTHS
    ]
    # As JSON reads it back.
    return [run | {"lengths": list(run["lengths"])} for run in (*lengths, *numbers)]


def write(path: Path, proteins: int, shortest: int, longest: int) -> int:
    """Returns the number of residues."""
    rng = np.random.default_rng(proteins)
    lengths = rng.integers(shortest, longest + 1, size=proteins)
    letters = np.frombuffer(RESIDUES.encode(), dtype=np.uint8)
    with path.open("w") as file:
        for number, length in enumerate(lengths.tolist()):
            file.write(f">p{number}\n{letters[rng.integers(20, size=length)].tobytes().decode()}\n")
    return int(lengths.sum())


def measured(run: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder, "proteins.fasta")
        residues = write(fasta, run["proteins"], *run["lengths"])
        command = [sys.executable, "-c", EMBED, str(fasta), str(Path(folder, "vectors.parquet")), run["encoder"]]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return run | {"residues": residues, "load": os.getloadavg()[0]} | json.loads(done.stdout)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    file = options.output / "growth.json"
    runs: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    end = time.monotonic() + 60 * options.minutes
    for run in plan():
        if any(run.items() <= done.items() for done in runs) or time.monotonic() > end:
            continue
        runs.append(measured(run))
        print(json.dumps(runs[-1]), flush=True)
        with whole(file) as partial:
            partial.write_text(json.dumps(runs, indent=1) + "\n")
    draw(options.output, runs)


def draw(folder: Path, runs: list[dict[str, Any]]) -> None:
    lines: dict[str, Any] = {}
    for encoder in COUNTS:
        chosen = [run for run in runs if run["varied"] == "number" and run["encoder"] == encoder]
        if not chosen:
            continue
        values = {
            "time, s": [run["seconds"] for run in chosen],
            "peak memory, MB": [run["peak_memory"] / 2**20 for run in chosen],
        }
        lines[encoder] = [run["proteins"] for run in chosen], values
    panels(folder / "growth-number.svg", "proteins", lines)
    chosen = [run for run in runs if run["varied"] == "length"]
    values = {
        "time of a residue, microseconds": [1e6 * run["seconds"] / run["residues"] for run in chosen],
        "peak memory, MB": [run["peak_memory"] / 2**20 for run in chosen],
    }
    lines = {"limbeck-9m": ([run["lengths"][0] for run in chosen], values)}
    panels(folder / "growth-length.svg", "residues in each protein", lines)


if __name__ == "__main__":
    main()
