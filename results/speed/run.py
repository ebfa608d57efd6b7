"""limbeck and its peers on the same proteome: residues a second.

    python results/speed/run.py --proteome examples/mycoplasma_genitalium.fasta.gz --output results/speed/amx

Every contestant runs in a process of its own, one after another, for several rounds; figures are medians, by wall time.
Slow ones see fewer proteins, all of them at even steps of the proteome sorted by length. Each run is written to
``speed.json`` at once, and the same command goes on from there; ``--minutes`` ends it early. Then writes ``speed.md``
and ``speed.svg``.

On a machine that does other work, wall time says little: ``--clock processor --threads 1`` says more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from figure import bars
from peers import operations

import limbeck
from limbeck.encoders.student import load_student
from limbeck.files import whole
from limbeck.profiling import product_rate
from limbeck.records import read_records

HERE = Path(__file__).parent
OWN = "limbeck-9m"
USUAL = "f32, batches of 8 in the file's order, padded to the longest"
BEST = "bf16 where the processor multiplies it, else f32; batches of like length, at most 4,096 tokens"
CONTESTANTS = {
    (OWN, "usual"): ("its defaults", 512),
    ("MTDP", "usual"): ("as its repository: f32, 10 proteins a batch, padded to 1,001 and cut there", 20),
    ("sentence-transformers, ESM-2 8M", "usual"): ("f32, batches of 32, which it sorts by length", 64),
    ("ESM-2 8M", "usual"): (USUAL, 64),
    ("ESM-2 8M", "best"): (BEST, 64),
    ("ESM-2 35M", "usual"): (USUAL, 32),
    ("ESM-2 35M", "best"): (BEST, 32),
    ("ESM-2 150M", "usual"): (USUAL, 16),
    ("ESM-2 150M", "best"): (BEST, 16),
    ("ESM-2 650M", "usual"): (USUAL, 8),
    ("ESM-2 650M", "best"): (BEST, 8),
    ("ProtT5-XL, encoder", "usual"): (USUAL, 8),
    ("ProtT5-XL, encoder", "best"): (BEST, 8),
}
"""By name and settings: the settings in words, and how many proteins it sees."""
CLOCKS = {"wall": "seconds", "processor": "processor_seconds"}


def sample(path: Path, out: Path, proteins: int) -> None:
    """So many proteins, at even steps of their lengths, shuffled."""
    records = sorted(((r.id, r.text) for r in read_records(path)), key=lambda record: len(record[1]))
    places = (np.arange(proteins) + 0.5) / proteins * len(records)
    np.random.default_rng(0).shuffle(places)
    out.write_text("".join(f">{records[int(i)][0]}\n{records[int(i)][1]}\n" for i in places))


def measured(key: tuple[str, str], threads: int, proteome: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder, "proteins.fasta")
        sample(proteome, fasta, CONTESTANTS[key][1])
        command = [sys.executable, str(HERE / "peers.py"), *key, str(threads), str(fasta)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)}
        )
    if done.returncode:
        sys.exit(f"{', '.join(key)}: {done.stderr.splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"name": key[0], "settings": key[1], "threads": threads, "load": os.getloadavg()[0]} | found


def summary(key: tuple[str, str], runs: list[dict[str, Any]]) -> dict[str, Any]:
    last = runs[-1]
    return {
        "name": key[0],
        "kind": key[1],
        "settings": CONTESTANTS[key][0],
        "rates": {
            name: statistics.median(run["residues"] / run[field] for run in runs) for name, field in CLOCKS.items()
        },
        "runs": len(runs),
        "residues": last["residues"],
        "padding": max(0.0, 1 - last["residues"] / last["tokens"]),
    }


def table(rows: list[dict[str, Any]], clock: str) -> str:
    own = next(row["rates"][clock] for row in rows if row["name"] == OWN)
    lines = [
        f"| network | settings | residues/s by {clock} time | limbeck is faster by | padding | residues seen | runs |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        factor = "" if row["name"] == OWN else f"{own / row['rates'][clock]:,.1f}"
        lines.append(
            f"| {row['name']} | {row['settings']} | {row['rates'][clock]:,.0f} | {factor} "
            f"| {100 * row['padding']:.0f} % | {row['residues']:,} | {row['runs']} |"
        )
    return "\n".join(lines) + "\n"


def operations_table() -> str:
    lengths = (50, 350, 1000, 30_000)
    rows = {OWN: [load_student().operations()] * len(lengths)}
    for name, kind in CONTESTANTS:
        if kind == "usual" and name != OWN and not name.startswith("sentence"):
            rows[name] = [operations(name, length) for length in lengths]
    head = "| millions of operations per residue, at length | " + " | ".join(f"{n:,}" for n in lengths) + " |"
    body = (f"| {name} | " + " | ".join(f"{n / 1e6:,.1f}" for n in found) + " |" for name, found in rows.items())
    return "\n".join([head, "|---|" + "---:|" * len(lengths), *body]) + "\n"


def show(folder: Path, result: dict[str, Any]) -> None:
    by_key = {key: [run for run in result["runs"] if (run["name"], run["settings"]) == key] for key in CONTESTANTS}
    rows = [summary(key, runs) for key, runs in by_key.items() if runs]
    clock, threads = result["clock"], result["threads"]
    (folder / "speed.md").write_text(f"{table(rows, clock)}\n{operations_table()}")
    values = {f"{row['name']} ({row['kind']})": row["rates"][clock] for row in rows}
    title = f"Residues per second of {clock} time, {threads} thread{'s' * (threads > 1)}"
    bars(folder / "speed.svg", title, values, OWN)
    print(table(rows, clock))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proteome", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    file = options.output / "speed.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"runs": []}
    encoder = load_student()
    result |= {"limbeck": limbeck.__version__, "cores": os.cpu_count(), "precision": encoder.precision}
    result |= {"threads": options.threads, "clock": options.clock}
    end = time.monotonic() + 60 * options.minutes
    for number in range(options.rounds):
        for key in CONTESTANTS:
            done = sum((run["name"], run["settings"]) == key for run in result["runs"])
            if done > number or time.monotonic() > end:
                continue
            result["runs"].append(measured(key, options.threads, options.proteome))
            result["runs"][-1]["product_rate"] = product_rate(encoder.precision, options.threads)
            with whole(file) as partial:
                partial.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(result["runs"][-1]), flush=True)
    show(options.output, result)


if __name__ == "__main__":
    main()
