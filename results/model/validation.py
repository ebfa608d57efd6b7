"""Encoders compared without a look at test proteins: the means of seven probes on training and validation proteins.

    python results/model/validation.py --data FOLDER limbeck-9m limbeck-contexts continued=path/to/student

Probes and nearest neighbours as in ``pooling.py`` (small scale, whole proteins, five folds; each protein left out in
turn), on the encoders' own vectors. Writes ``validation.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from pooling import NEAREST, nearest, probe

import limbeck
from limbeck import benchmarks
from limbeck.files import whole

HERE = Path(__file__).parent
TASKS = (
    "localisation", "melting", "remote_homology", "solubility", "solubility_esol", "stability", "structural_class",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="+", metavar="[NAME=]ENCODER")
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for text in given.encoders:
        name, _, encoder = text.rpartition("=")
        loaded = limbeck.load(encoder)
        probes, near = {}, {}
        for task in (task for task in benchmarks.tasks(given.data) if task.name in TASKS):
            parts = task.parts(benchmarks.place(task, given.data), "small", "test")
            vectors = np.concatenate([loaded.encode(getattr(parts, part).sequences) for part in ("fit", "choose")])
            labels = np.concatenate([parts.fit.labels, parts.choose.labels])
            probes[task.name] = round(probe(task, vectors, labels), 4)
            if task.name in NEAREST:
                near[task.name] = round(nearest(vectors, labels), 4)
        mean = round(float(np.mean(list(probes.values()))), 4)
        rows.append({"encoder": name or encoder, "mean of probes": mean, "probes": probes, "nearest": near})
        print(rows[-1], flush=True)
    with whole(HERE / "validation.json") as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
