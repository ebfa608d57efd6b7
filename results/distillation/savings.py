"""What cheaper training saves: subnetworks first (EST), and an informative fifth of the proteins (INGENIOUS).

    python results/distillation/savings.py --corpus proteins.fasta --teacher cs-hmm-k1000.hmm --work FOLDER

One teacher, one small student, the same seeds. *Subnetworks*: loss on held-out proteins after as many steps as the
whole network, and that of the whole network given only the operations that subnetworks spent. *Subset*: the same
number of steps on all proteins, on an informative fifth, and on a random fifth. Writes ``savings.json`` and
``savings.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import limbeck
from limbeck.distillation.config import StudentConfig, TrainingConfig
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.features import Features, features_of
from limbeck.distillation.network import Student
from limbeck.distillation.objectives import FeatureMatching, HiddenResidues
from limbeck.distillation.subnetworks import operations, sample
from limbeck.distillation.subset import informative
from limbeck.distillation.training import train
from limbeck.files import whole

HERE = Path(__file__).parent
STUDENT = StudentConfig(width=128, inner=128, states=256)
BATCH = 6144
SHARE = 0.2


def shorter(config: TrainingConfig) -> int:
    """Steps of the whole network that take as many operations as the subnetworks do."""
    spent = sum(operations(STUDENT, sample(STUDENT, step, config.steps, config.seed)) for step in range(config.steps))
    return round(spent / operations(STUDENT))


def random_share(corpus: Corpus, seed: int) -> NDArray[np.bool_]:
    training = np.flatnonzero(~corpus.is_validation)
    chosen = np.random.default_rng(seed).choice(training, size=round(SHARE * len(training)), replace=False)
    mask = corpus.is_validation.copy()
    mask[chosen] = True
    return mask


def run(
    corpus: Corpus, features: Features, config: TrainingConfig, folder: Path, chosen: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """The last line of a run's log."""
    log = folder / "log.jsonl"
    if not log.exists():
        torch.manual_seed(config.seed)
        objectives = [FeatureMatching(features, STUDENT), HiddenResidues()]
        train(config, corpus, objectives, folder, student=Student(STUDENT), chosen=chosen)
    last: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    validation = last["validation"]
    matched = sum(value for name, value in validation.items() if name != "hidden")
    return {
        "matched": matched,
        "hidden": validation["hidden"],
        "operations": last["operations"],
        "seconds": last["seconds"],
    }


def table(report: dict[str, Any]) -> str:
    whole_network = np.mean([r["operations"] for r in report["runs"]["whole network, all proteins"]])
    lines = [
        f"Losses on held-out proteins, mean over {len(report['seeds'])} seeds ± standard error; "
        f"{report['steps'] * BATCH:,} residues; operations of the whole network = 100 %.",
        "",
        "| run | teacher's features | hidden residues, nats | operations |",
        "|---|---|---|---|",
    ]
    for name, runs in report["runs"].items():
        cells = []
        for key in ("matched", "hidden"):
            values = [r[key] for r in runs]
            error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            cells.append(f"{np.mean(values):.4f} ± {error:.4f}")
        share = np.mean([r["operations"] for r in runs]) / whole_network
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * share:.0f} % |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    corpus = Corpus(options.corpus, held_out=0.05)
    features = features_of(limbeck.load(options.teacher), corpus, folder=options.work / "features", share=0.5)
    report: dict[str, Any] = {
        "steps": options.steps,
        "seeds": options.seeds,
        "share": SHARE,
        "teacher": Path(options.teacher).name,
        "proteins": len(corpus),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "limbeck": limbeck.__version__},
        "runs": {},
    }
    for seed in options.seeds:
        config = TrainingConfig(
            steps=options.steps,
            batch_residues=BATCH,
            warmup=10,
            contrast=0.0,
            ema=0.9,
            seed=seed,
            evaluate_every=options.steps,
            compile=False,
            student=STUDENT,
        )
        steps = shorter(config)
        less = dataclasses.replace(config, steps=steps, evaluate_every=steps)
        plans: dict[str, tuple[TrainingConfig, NDArray[np.bool_] | None]] = {
            "whole network, all proteins": (config, None),
            "subnetworks first (EST)": (dataclasses.replace(config, subnetworks=True), None),
            "whole network, as few operations": (less, None),
            "an informative fifth (INGENIOUS)": (config, informative(corpus, SHARE, seed=seed)),
            "a random fifth": (config, random_share(corpus, seed)),
        }
        for name, (settings, chosen) in plans.items():
            folder = options.work / f"{name.split('(')[0].strip().replace(' ', '-').replace(',', '')}-{seed}"
            result = run(corpus, features, settings, folder, chosen)
            report["runs"].setdefault(name, []).append({"seed": seed, **result})
            print(seed, name, json.dumps(result), flush=True)
        with whole(options.output / "savings.json") as partial:
            partial.write_text(json.dumps(report, indent=1) + "\n")
        with whole(options.output / "savings.md") as partial:
            partial.write_text(table(report))


if __name__ == "__main__":
    main()
