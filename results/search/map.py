"""How long does a map of 100,000 proteins take to make, and to draw in a browser?

The vectors are made from a real table as in engines.py; each has the label of the point it was drawn near. Frames are
timed in headless Chromium without a graphics card: a frame is all that the page does to draw, at every step of a zoom.

    python map.py table.npz --labels table.csv --work FOLDER --output map.json
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limbeck.embedding.stores import read_metadata, write_table
from limbeck.maps import map_embeddings

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from chromium import Browser  # noqa: E402

STEPS = 40


@dataclass
class Memory:
    """A table that stands in memory."""

    array: np.ndarray
    metadata: Mapping[str, str]
    per_residue = False
    dtype = "float32"

    def __post_init__(self) -> None:
        self.dimension = self.array.shape[1]
        self.lengths = np.ones(len(self.array), np.int32)

    def ids(self) -> Iterator[str]:
        return (f"protein-{number:06}" for number in range(len(self.array)))

    def vectors(self, start: int, stop: int) -> np.ndarray:
        return self.array[start:stop]


def make(table: Path, labels: Path, work: Path, count: int) -> None:
    real = np.load(table)["embeddings"]
    with labels.open() as file:
        known = [row["label"] for row in csv.DictReader(file)]
    centred = real - real.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    near = np.argsort(-(unit @ unit.T), axis=1)[:, 1:11]
    random = np.random.default_rng(0)
    start = random.integers(0, len(real), count)
    end = near[start, random.integers(0, 10, count)]
    noise = random.standard_normal((count, real.shape[1]), np.float32) * 0.35 * real.std(axis=0)
    vectors = real[start] + 0.5 * random.random((count, 1), np.float32) * (real[end] - real[start]) + noise
    write_table(Memory(vectors.astype(np.float32), read_metadata(table)), work / "many.parquet", "parquet")
    rows = (f"protein-{n:06},{known[i]},{vectors[n, 0]:.4f}\n" for n, i in enumerate(start.tolist()))
    (work / "many.csv").write_text("id,class,first_number\n" + "".join(rows))


def frames(page: Path, work: Path) -> dict[str, float]:
    started = time.perf_counter()
    browser = Browser(work / f"profile-{time.time_ns()}", 1280, 800)
    try:
        started = time.perf_counter()
        browser.open(page)
        opening = time.perf_counter() - started
        times = browser.evaluate(
            f"(() => {{ const times = []; for (let n = 0; n < {STEPS}; n++) {{ zoomAt(width / 2, height / 2, 1.06); "
            "const start = performance.now(); draw(); times.push(performance.now() - start); } return times; })()"
        )
        whole = browser.evaluate(
            f"(() => {{ fit(); const times = []; for (let n = 0; n < {STEPS}; n++) {{ const start = performance.now(); "
            "draw(); times.push(performance.now() - start); } return times; })()"
        )
        hover = browser.evaluate(
            "(() => { const start = performance.now(); for (let n = 0; n < 1000; n++) "
            "nearest(width * (n % 40) / 40, height * (n / 1000)); return performance.now() - start; })()"
        )
        return {
            "open_s": opening,
            "frame_ms_whole_map": statistics.median(whole),
            "frame_ms_zooming": statistics.median(times),
            "frame_ms_slowest": max(times + whole),
            "hover_ms": hover / 1000,
            "canvas": browser.evaluate("`${width} x ${height}`"),
        }
    finally:
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--projections", nargs="+", default=["pca", "tsne"])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    make(options.table, options.labels, work, options.count)
    result: dict[str, object] = json.loads(options.output.read_text()) if options.output.exists() else {}
    for projection in options.projections:
        page = work / f"{projection}.html"
        wall, processor = time.perf_counter(), time.process_time()
        map_embeddings(
            work / "many.parquet",
            page,
            table=work / "many.csv",
            colour_by="class",
            projection=projection,
            points=work / f"{projection}.csv",
            progress=False,
        )
        made = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
        result[projection] = {"proteins": options.count, **made, "page_mb": page.stat().st_size / 1e6}
        result[projection].update(frames(page, work))  # type: ignore[attr-defined]
        text = json.dumps(json.loads(json.dumps(result), parse_float=lambda number: round(float(number), 3)), indent=1)
        options.output.write_text(text + "\n")
        print(text)


if __name__ == "__main__":
    main()
