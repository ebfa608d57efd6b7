"""Published tasks, and one protocol that scores any encoder on them.

:func:`tasks` lists what a data folder holds, :func:`score` scores an encoder, :func:`quick_probes` is a look at
the two data sets that come with the source, for use during training. The protocol is written down in
``results/probes/README.md``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache as remember
from pathlib import Path
from typing import Any

from limbeck.benchmarks import published
from limbeck.benchmarks.candidates import Choice, choices
from limbeck.benchmarks.protocol import score_tasks
from limbeck.benchmarks.task import Task
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

__all__ = ["Choice", "Task", "choices", "quick_probes", "score", "shipped_data", "tasks"]


def tasks(data: Path) -> list[Task]:
    """The published tasks whose folder lies under ``data``.

    Raises:
        InputError: if there is none.
    """
    found = [task for task in _all_tasks() if task.here(data)]
    if not found:
        folders = ", ".join(sorted({task.folder for task in _all_tasks()}))
        raise InputError(f"{data}: no data set is here; give a folder that holds some of: {folders}")
    return found


def score(
    encoder: Encoder | Sequence[Choice],
    tasks: Sequence[Task],
    scale: str = "small",
    split: str = "test",
    data: Path | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Score one encoder.

    Args:
        encoder: an encoder, or several candidates (layers, poolings) of which each task takes the one that is best
            on its validation proteins.
        tasks: from :func:`tasks`.
        scale: ``"small"`` or ``"full"``; a task without that scale is left out.
        split: ``"test"``; or ``"valid"`` to choose between models without a look at test: validation proteins
            are scored, and a fifth of train makes the choices.
        data: the folder of data sets; by default those of the source tree.
        cache: folder for features and scores; nothing is kept without one.

    Returns:
        For each task, and for each further method as ``TASK_METHOD``: ``metric``, ``value``, ``interval`` (95 %),
        ``replicates`` (of the bootstrap; the samples are the same for every encoder, so differences are paired),
        ``metrics`` (all of them), ``chosen``, ``valid`` (its score on validation), ``n``, ``in_mean`` (whether it
        counts in a mean over tasks), ``stand_in`` (what was scored instead, where the encoder has no features of
        residues), ``seconds``.

    Raises:
        InputError: if a data set is not as documented, or there is no such scale or split.
    """
    candidates = [Choice("default", encoder)] if isinstance(encoder, Encoder) else list(encoder)
    if scale not in (known := sorted({s for task in _all_tasks() for s in task.sizes})):
        raise InputError(f"there is no scale {scale!r}; choose from: {', '.join(known)}")
    chosen = [task for task in tasks if scale in task.sizes]
    return score_tasks(candidates, chosen, data or shipped_data(), scale, split, cache)


def quick_probes(encoder: Encoder, data: Path | None = None) -> dict[str, float]:
    """Two scores on validation proteins of the data sets that come with the source: seconds, for use in training.

    Returns:
        ``remote_homology``: accuracy of the nearest neighbour's fold over 300 of TAPE's validation proteins, among at
        most two train proteins of each of their folds; ``structural_class``: accuracy of the solved probe over 250
        proteins held out of train, from 200. All have at most 150 residues. Not comparable with :func:`score`'s.

    Raises:
        InputError: if the data sets are not there.
    """
    data = data or shipped_data()
    chosen = [task for task in tasks(data) if "quick" in task.sizes]
    scored = score_tasks([Choice("default", encoder)], chosen, data, "quick", "valid", log=None)
    names = {"remote_homology_nearest": "remote_homology", "structural_class": "structural_class"}
    return {short: scored[name]["value"] for name, short in names.items() if name in scored}


def shipped_data() -> Path:
    """The folder ``datasets`` of the source tree.

    Raises:
        InputError: if limbeck was installed without it.
    """
    for folder in (Path(__file__).parents[1] / "datasets", Path(__file__).parents[3] / "datasets"):
        if folder.is_dir():
            return folder
    raise InputError("limbeck was installed without its data sets; give the folder `datasets` of its source")


@remember
def _all_tasks() -> tuple[Task, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(published.__path__))
    modules = [importlib.import_module(f"{published.__name__}.{name}") for name in names]
    return tuple(task for module in modules for task in module.TASKS)
