"""Embed a real proteome with one very long protein, and a million short ones: time, memory, padding.

    python results/embed/run.py --proteome yeast.fasta.gz

Each run is the command line in a process of its own. Writes ``embed.json`` and ``embed.md`` beside this file. The
machine's matrix-product rate, by NumPy in float32 and by OpenVINO in bfloat16, is measured before and after.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

import limbeck
from limbeck.records import read_records
from limbeck.residues import RESIDUES

HERE = Path(__file__).parent
LONG = 30_000


def matrix_rates() -> dict[str, float]:
    """TFLOP/s of a matrix product, median of 9: NumPy in float32, OpenVINO in bfloat16 (float32 if it has none)."""
    import openvino as ov
    from openvino import opset13 as op

    m, k, n = 4096, 2048, 2048
    a = np.random.default_rng(0).normal(size=(m, k)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(k, n)).astype(np.float32)
    left = op.parameter([m, k], np.float32)
    model = ov.Model([op.reduce_max(op.matmul(left, op.constant(weight), False, False), 1)], [left], "product")
    core = ov.Core()
    bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"})

    def rate(run: object) -> float:
        seconds = []
        for _ in range(10):
            start = time.perf_counter()
            run()  # type: ignore[operator]
            seconds.append(time.perf_counter() - start)
        return round(2 * m * k * n / statistics.median(seconds[1:]) / 1e12, 3)

    return {
        "numpy_f32": rate(lambda: a @ weight),
        "openvino_bf16" if bf16 else "openvino_f32": rate(lambda: compiled([a])),
    }


def measured(arguments: list[str], folder: Path) -> dict[str, object]:
    """Run ``limbeck embed`` and watch its memory; its own summary is kept as it was printed."""
    command = [sys.executable, "-m", "limbeck.cli", "embed", *arguments]
    start = time.perf_counter()
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, cwd=folder)
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            except psutil.Error:
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    watcher.join()
    text = (folder / "stderr").read_text()
    if code:
        sys.exit(text)
    summary = dict(
        (key.strip(), value.strip()) for key, _, value in (line.partition("  ") for line in text.splitlines()) if value
    )
    return {"seconds": round(seconds, 2), "peak_memory_mb": round(peak / 2**20), "summary": summary}


def proteome_run(path: Path, folder: Path, repeats: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    fasta = folder / "proteome.fasta"
    residues = count = 0
    with fasta.open("w") as out:
        for record in read_records(path):
            out.write(f">{record.id}\n{record.text}\n")
            residues, count = residues + len(record.text), count + 1
        out.write(">LONG\n" + "".join(rng.choice(list(RESIDUES), LONG)) + "\n")
    residues, count = residues + LONG, count + 1
    runs = []
    for _ in range(repeats):
        runs.append(measured([str(fasta), "-o", str(folder / "proteome.h5"), "--restart"], folder))
        print(json.dumps(runs[-1]), flush=True)
    rows = sum(1 for _ in limbeck.read_embeddings(folder / "proteome.h5"))
    seconds = statistics.median(float(str(r["seconds"])) for r in runs)
    return {
        "proteins": count,
        "residues": residues,
        "rows_written": rows,
        "runs": runs,
        "median_seconds": seconds,
        "residues_per_second_whole_command": round(residues / seconds),
    }


def million_run(folder: Path, number: int, encoder: str) -> dict[str, object]:
    rng = np.random.default_rng(1)
    fasta = folder / "million.fasta.gz"
    letters = np.frombuffer(RESIDUES.encode(), dtype=np.uint8)
    with gzip.open(fasta, "wt", compresslevel=1) as out:
        for start in range(0, number, 10_000):
            lengths = rng.integers(8, 33, size=10_000)
            text = letters[rng.integers(20, size=int(lengths.sum()))].tobytes().decode()
            ends = np.cumsum(lengths)
            out.writelines(
                f">p{start + i}\n{text[e - n : e]}\n" for i, (e, n) in enumerate(zip(ends, lengths, strict=True))
            )
    output = folder / "million.parquet"
    run = measured([str(fasta), "-o", str(output), "--encoder", encoder, "--dtype", "float16"], folder)
    print(json.dumps(run), flush=True)
    whole = all(id == f"p{i}" for i, (id, _) in enumerate(limbeck.read_embeddings(output)))
    return {
        "proteins": number,
        "encoder": encoder,
        "rows_in_order": whole,
        "file_mb": output.stat().st_size >> 20,
    } | run


def table(result: dict[str, object]) -> str:
    lines = ["| run | time, s | residues/s, padding | peak memory, MB |", "|---|---:|---:|---:|"]
    for name in ("proteome", "million"):
        run = result[name]
        one = sorted(run["runs"], key=lambda r: r["seconds"])[len(run["runs"]) // 2] if "runs" in run else run
        encoder = one["summary"]["encoder"].partition(",")[0]
        lines.append(
            f"| {run['proteins']:,} proteins, {encoder} | {one['seconds']:,.0f} | {one['summary']['speed']} "
            f"| {one['peak_memory_mb']:,} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proteome", type=Path, required=True, help="FASTA file, plain or compressed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--million", type=int, default=1_000_000, help="number of short proteins")
    parser.add_argument("--million-encoder", default="limbeck-9m")
    options = parser.parse_args()
    before = matrix_rates()
    with tempfile.TemporaryDirectory() as name:
        result = {
            "limbeck": limbeck.__version__,
            "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
            "matrix_tflops_before": before,
            "proteome": proteome_run(options.proteome, Path(name), options.repeats),
            "million": million_run(Path(name), options.million, options.million_encoder),
            "matrix_tflops_after": matrix_rates(),
        }
    (HERE / "embed.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "embed.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
