"""How long, how large and how dear: the arithmetic of docs/scale.md.

    python results/scale/run.py

Embedding's rate is the measured one of ``results/embed/embed.json``. Reading's is measured here, in processor seconds,
so that a busy machine matters little. The rest is multiplication; its assumptions are options, and stand in the JSON.
Writes ``scale.json`` and ``scale.md`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from limbeck.distributed.blocks import Limits, Reading, blocks
from limbeck.embedding.index import Index
from limbeck.residues import RESIDUES

HERE = Path(__file__).parent


def reading_rate(proteins: int, length: int) -> float:
    """Proteins that one processor reads, checks and digests in a second."""
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "proteins.fasta")
        with path.open("w") as file:
            for number in range(proteins):
                file.write(f">UniRef50_A0A{number:07d} text\n{''.join(generator.choices(RESIDUES, k=length))}\n")
        started = time.process_time()
        for block in blocks(str(path), Reading(Limits(2**16, 2**23)), lambda error: None):
            assert block.digest
            assert block.id_digests
        return proteins / (time.process_time() - started)


def index_bytes(proteins: int) -> float:
    """Bytes on disk for each protein of the index that every run, and so every part of ``--shard``, builds."""
    with tempfile.TemporaryDirectory() as folder, Index(Path(folder)) as index:
        for number in range(proteins):
            # All different; what is kept of a sequence is as long for each.
            index.add(f"UniRef50_A0A{number:07d}", "".join(RESIDUES[int(digit)] for digit in str(number)))
        index.finish()
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / proteins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proteins", type=float, default=250e6)
    parser.add_argument("--length", type=float, default=350, help="residues of a protein, on average")
    parser.add_argument("--price", type=float, default=0.04, help="of one core for one hour, in US dollars")
    parser.add_argument("--store", type=float, default=0.023, help="of one GB kept for one month, in US dollars")
    parser.add_argument("--cores", type=int, default=1000, help="for the hours that a cluster takes")
    options = parser.parse_args()

    measured = json.loads((HERE.parent / "embed" / "embed.json").read_text())
    rate = measured["proteome"]["residues_per_second_whole_command"] / measured["machine"]["cores"]
    dimension = 384
    residues = options.proteins * options.length
    core_hours = residues / rate / 3600
    read_hours = options.proteins / reading_rate(100_000, round(options.length)) / 3600
    pooled, per_residue = options.proteins * dimension * 2 / 1e9, residues * dimension * 2 / 1e9
    block = 2**23
    found = {
        "assumed": vars(options),
        "measured": {"residues_per_second_and_core": rate, "machine": measured["machine"]},
        "residues": residues,
        "core_hours": core_hours,
        "days_on_16_cores": core_hours / 16 / 24,
        "hours_on_the_cluster": core_hours / options.cores,
        "cost_of_cores": core_hours * options.price,
        "gpu_hours_at_a_million_residues_per_second": residues / 1e6 / 3600,
        "gb_one_float16_vector_a_protein": pooled,
        "gb_one_float16_vector_a_residue": per_residue,
        "cost_of_a_month_pooled": pooled * options.store,
        "cost_of_a_month_per_residue": per_residue * options.store,
        "hours_to_read_all_once": read_hours,
        "parts_of_the_dataset": residues / block,
        "mb_of_a_part": block / options.length * dimension * 2 / 1e6,
        "gb_of_memory_of_the_driver_for_ids": options.proteins * (16 + 16 + 8) / 1e9,
        "gb_that_one_h5_file_adds": options.proteins * 450 / 1e9,
        "gb_of_disk_for_the_index_of_one_part": options.proteins * index_bytes(100_000) / 1e9,
        "parts_at_which_reading_alone_costs_as_much_as_computing": core_hours / (2 * read_hours),
        "megabytes_per_second_written_by_the_cluster": pooled * 1e3 / (core_hours / options.cores * 3600),
    }
    (HERE / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = ["| | |", "|---|---:|"]
    lines += [f"| {name.replace('_', ' ')} | {_text(value)} |" for name, value in found.items() if _is_number(value)]
    (HERE / "scale.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _is_number(value: object) -> bool:
    return isinstance(value, float)


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2g}"


if __name__ == "__main__":
    main()
