"""``limbeck adapt``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from limbeck.commands.shared import need_pytorch, say
from limbeck.commands.training import add_fields
from limbeck.distillation.config import ADAPTATION, TrainingConfig

__all__ = ["add", "run"]


def add(verbs: Any) -> None:
    parser = verbs.add_parser(
        "adapt",
        help="fit a student to one protein family, without labels",
        description="Fit a student to one protein family by self-distillation: pretrain it further on the family's\n"
        "sequences, then train it anew, near to what that gave.",
        epilog="examples:\n"
        "  limbeck adapt family.fasta -o my-family\n"
        "  limbeck adapt alignment.fasta -o my-family --start my-student --steps 400\n"
        "  limbeck embed variants.csv --encoder my-family\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("family", metavar="FILE", help="its sequences, as `limbeck embed` reads them; gaps are removed")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the adapted student's folder")
    parser.add_argument("--start", metavar="NAME", help="folder or name of a student (default: limbeck's own)")
    parser.add_argument(
        "--weight", type=float, default=1.0, metavar="W",
        help="of the distance to the further-pretrained student (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.1, metavar="SHARE", help="of the sequences, to measure on (default: 0.1)"
    )
    parser.add_argument("--name", help="the student's name (default: the folder's)")
    parser.add_argument("--license", help="licence of its weights, SPDX; that of the start may bind it")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps or auto")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    group = parser.add_argument_group("training, of each of the two runs")
    add_fields(group, TrainingConfig, defaults=ADAPTATION, only=_ADAPTED)


_ADAPTED = ("steps", "batch_residues", "learning_rate", "warmup", "masked", "seed", "evaluate_every", "precision")


def run(options: argparse.Namespace) -> None:
    need_pytorch()
    from limbeck.distillation.adapt import adapt
    from limbeck.distillation.training import Machines

    options.when_interrupted = "; the same command with --resume goes on from the last checkpoint"
    config = dataclasses.replace(ADAPTATION, **{name: getattr(options, name) for name in _ADAPTED})

    def report(run: str, step: Any) -> None:
        if step.evaluation is not None:
            losses = ", ".join(f"{name} {value:.3f}" for name, value in step.evaluation["validation"].items())
            say(f"{run}, step {step.step} of {config.steps}; held-out sequences: {losses}")

    folder = adapt(
        options.family,
        options.output,
        start=options.start,
        config=config,
        weight=options.weight,
        held_out=options.held_out,
        name=options.name,
        license=options.license,
        machines=Machines(options.device),
        resume=options.resume,
        command=["limbeck", *sys.argv[1:]],
        report=report,
    )
    perplexity = json.loads((folder / "training.json").read_text(encoding="utf-8"))["adaptation"]["perplexity"]
    measured = ", ".join(f"{name} {value:.2f}" for name, value in perplexity.items())
    say(f"{folder}: a student; perplexity at hidden residues of held-out sequences: {measured}")
