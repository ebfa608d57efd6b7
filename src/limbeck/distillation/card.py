"""The model card that a training run writes: what it knows about itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from limbeck.distillation.config import TrainingConfig
from limbeck.distillation.corpus import Corpus
from limbeck.version import __version__

__all__ = ["Teacher", "model_card"]


class Teacher(NamedTuple):
    """What a card says of a teacher."""

    name: str
    license: str


def model_card(
    name: str,
    license: str,
    corpus: Corpus,
    corpus_name: str,
    teachers: Sequence[Teacher],
    config: TrainingConfig,
    validation: dict[str, float],
) -> str:
    """Markdown with the metadata block that model hubs read."""
    shape = config.student
    taught = "\n".join(f"| {t.name} | {t.license} |" for t in teachers) or "| none (pretrained from scratch) | |"
    network = f"{len(shape.dilations)} convolution blocks, width {shape.width}, kernel {shape.kernel}"
    residues = int(corpus.offsets[-1])
    losses = "\n".join(f"| {key} | {value:.4f} |" for key, value in validation.items())
    seen = config.steps * config.batch_residues / 1e6
    return f"""---
library_name: limbeck
license: {license.lower()}
tags: [protein, embedding, distillation]
---
# {name}

A protein encoder of limbeck {__version__}: load its folder with `limbeck.load(path)` or `limbeck embed --encoder path`.

| | |
|---|---|
| network | {network}, dilations {", ".join(map(str, shape.dilations))} |
| receptive field | {shape.radius} residues on either side |
| protein vector | {shape.width} numbers, pooled over {shape.states} sequence contexts |
| corpus | `{corpus_name}`: {len(corpus):,} proteins, {residues:,} residues |
| SHA-256 of its sequences | {corpus.fingerprint} |
| held out | {int(corpus.is_validation.sum()):,} proteins, whole families |
| training | {config.steps:,} steps, about {seen:,.0f} million residues, seed {config.seed} |

## Teachers

| teacher | licence |
|---|---|
{taught}

## Losses on held-out families

| objective | value |
|---|---|
{losses}
"""
