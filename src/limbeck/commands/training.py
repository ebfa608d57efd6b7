"""What the verbs that train have in common."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from limbeck.commands.shared import integers, say
from limbeck.distillation.config import StudentConfig, TrainingConfig
from limbeck.progress import Progress

__all__ = ["add_fields", "add_machines", "from_fields", "is_first", "training_progress"]


def add_machines(group: Any) -> None:
    group.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps or auto")
    group.add_argument("--processes", type=int, default=1, metavar="N", help="processes on this machine (default: 1)")
    group.add_argument("--nodes", type=int, default=1, metavar="N", help="machines, started by torchrun (default: 1)")


def add_fields(
    group: Any,
    config: type[TrainingConfig | StudentConfig],
    defaults: TrainingConfig | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """One option for each field that describes itself, or for some; the defaults are the fields' or an instance's."""
    for field in dataclasses.fields(config):
        if "help" not in field.metadata or (only is not None and field.name not in only):
            continue
        flag = "--" + field.name.replace("_", "-")
        default = field.default if defaults is None else getattr(defaults, field.name)
        if isinstance(default, bool):
            help_text = f"{field.metadata['help']} (default: {'yes' if default else 'no'})"
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=help_text)
            continue
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        kind: Any = type(default)
        if isinstance(default, tuple):
            kind = integers if isinstance(default[0], int) else words
        group.add_argument(
            flag, type=kind, default=default, metavar="N", help=f"{field.metadata['help']} (default: {shown})"
        )


def from_fields(options: argparse.Namespace, config: type[Any], **others: Any) -> Any:
    described = {f.name: getattr(options, f.name) for f in dataclasses.fields(config) if "help" in f.metadata}
    return config(**described, **others)


def words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


@contextmanager
def training_progress(verb: str, config: TrainingConfig) -> Iterator[Any]:
    """A bar over the residues of a run, and a line for each validation."""
    with Progress(verb, "residues", config.steps * config.batch_residues, shown=is_first()) as progress:
        done = 0

        def report(step: Any) -> None:
            nonlocal done
            losses = ", ".join(f"{name} {value:.3f}" for name, value in step.losses.items())
            progress.note(f"step {step.step}, {losses}")
            (progress.skip if done == 0 else progress.update)((step.step - done) * config.batch_residues)
            done = step.step
            if step.evaluation:
                values = step.evaluation["validation"] | step.evaluation["probes"]
                say(f"step {step.step}, held out: {', '.join(f'{k} {v:.3f}' for k, v in values.items())}")

        yield report


def is_first() -> bool:
    """Of several processes of one run, started by torchrun or Fabric, the first speaks."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
