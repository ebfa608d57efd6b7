"""Processor seconds from the start of Python to the first batch, without and with the compiled network in the cache.

    python results/speed/startup.py --output results/speed/amx

One thread, medians of several processes each. Wall time is ``limbeck speed --start-up``. Writes ``startup.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from limbeck.files import whole

HERE = Path(__file__).parent
REPEATS = 3
PARTS = ("python", "import limbeck", "load", "compile or read", "first batch")
FIRST_BATCH = """
from time import process_time
times = [process_time()]
import limbeck
times.append(process_time())
encoder = limbeck.load(threads=1)
times.append(process_time())
encoder._compiled("combined")
times.append(process_time())
encoder.encode(["MKTAYIAKQRQISFVK" * 20] * 4)
print(*times, process_time())
"""


def measured(cache: Path) -> list[float]:
    environment = os.environ | {"LIMBECK_CACHE": str(cache)}
    command = [sys.executable, "-c", FIRST_BATCH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [after - before for before, after in pairwise([0.0, *map(float, done.stdout.split())])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "first": [measured(Path(folder, str(number))) for number in range(REPEATS)],
            "later": [measured(Path(folder, str(number))) for number in range(REPEATS)],
        }
    for name, found in runs.items():
        result[name] = dict(zip(PARTS, map(statistics.median, zip(*found, strict=True)), strict=True))
        result[name]["all"] = statistics.median(map(sum, found))
    with whole(options.output / "startup.json") as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
