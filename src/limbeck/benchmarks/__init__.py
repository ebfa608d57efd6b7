"""Published tasks, and one protocol that scores any encoder on them.

:func:`tasks` lists what can be scored with the data sets at hand, :func:`score` scores an encoder, :func:`benchmark`
makes a table of several, :func:`quick_probes` is a look at two of the data sets, for use during training. The protocol
is written down in ``docs/benchmark.md``.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Sequence
from functools import cache as remember
from pathlib import Path
from typing import Any

from limbeck.benchmarks import published
from limbeck.benchmarks.candidates import Choice, choices
from limbeck.benchmarks.protocol import METHODS, score_tasks
from limbeck.benchmarks.published.left_out import LEFT_OUT
from limbeck.benchmarks.task import Task
from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

__all__ = ["LEFT_OUT", "Choice", "Task", "all_tasks", "choices", "quick_probes", "score", "shipped_data", "tasks"]


def tasks(data: Path | None = None) -> list[Task]:
    """The published tasks whose data lie under ``data`` or come with limbeck.

    Raises:
        InputError: if ``data`` is given and holds none.
    """
    if data is not None and not any(task.here(data) for task in all_tasks()):
        folders = ", ".join(sorted({task.folder for task in all_tasks()}))
        raise InputError(f"{data}: no data set is here; give a folder that holds some of: {folders}")
    return [task for task in all_tasks() if _place(task, data) is not None]


def _place(task: Task, data: Path | None) -> Path | None:
    """The data folder that has the task: the given one, else that of limbeck.

    A given folder that has a part of the files comes last: reading it says what is missing.
    """
    try:
        shipped = [shipped_data()]
    except InputError:
        shipped = []
    given = [] if data is None else [data]
    whole = [folder for folder in (*given, *shipped) if task.whole(folder)]
    return next(iter([*whole, *(folder for folder in given if task.here(folder))]), None)


def score(
    encoder: Encoder | Sequence[Choice],
    tasks: Sequence[Task],
    scale: str = "small",
    split: str = "test",
    data: Path | None = None,
    cache: Path | None = None,
    methods: Sequence[str] = (),
) -> dict[str, Any]:
    """Score one encoder.

    Args:
        encoder: an encoder, or several candidates (layers, poolings) of which each task takes the one that is best
            on its validation proteins.
        tasks: from :func:`tasks`.
        scale: ``"small"``, ``"medium"`` or ``"full"``; a task without that scale is left out.
        split: ``"test"``; or ``"valid"`` to choose between models without a look at test: validation proteins
            are scored, and a fifth of train makes the choices.
        data: a folder of data sets; what it lacks is taken from those that come with limbeck.
        cache: folder for features and scores; nothing is kept without one.
        methods: ``"mlp"``: a small network beside each task's own methods.

    Returns:
        For each task, and for each further method as ``TASK_METHOD``: ``question``, ``kind``, ``metric``,
        ``value``, ``interval`` (95 %),
        ``replicates`` (of the bootstrap; the samples are the same for every encoder, so differences are paired),
        ``metrics`` (all of them), ``chosen``, ``valid`` (its score on validation), ``n``, ``in_mean`` (whether it
        counts in a mean over tasks), ``stand_in`` (what was scored instead, where the encoder has no features of
        residues), ``near`` (scored proteins with a near duplicate among those that were fitted on), ``unseen_labels``
        (scored items of a class that was not there to learn, which count as errors), ``seconds``.

    Raises:
        InputError: if a data set is not as documented, there is no such scale, split or method, or the encoder gives
            what is no number.
    """
    if unknown := set(methods) - set(METHODS):
        raise InputError(f"there is no method {min(unknown)!r}; choose from: {', '.join(METHODS)}")
    if "mlp" in methods and importlib.util.find_spec("torch") is None:
        raise InputError("a network needs PyTorch; pip install 'limbeck[landscape]'")
    candidates = [Choice("default", encoder)] if isinstance(encoder, Encoder) else list(encoder)
    if scale not in (known := sorted({s for task in all_tasks() for s in task.sizes})):
        raise InputError(f"there is no scale {scale!r}; choose from: {', '.join(known)}")
    chosen = [task for task in tasks if scale in task.sizes]
    return score_tasks(candidates, chosen, lambda task: place(task, data), scale, split, cache, methods=methods)


def place(task: Task, data: Path | None = None) -> Path:
    """The data folder that a task is read from.

    Raises:
        InputError: if its data are nowhere.
    """
    found = _place(task, data)
    if found is None:
        raise InputError(f"task {task.name} needs the folder {task.folder}; give the data folder that holds it")
    return found


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
    chosen = [task for task in tasks(data) if "glance" in task.sizes]
    scored = score_tasks(
        [Choice("default", encoder)], chosen, lambda task: place(task, data), "glance", "valid", log=None
    )
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
def all_tasks() -> tuple[Task, ...]:
    """Every published task, whether its data are here or not."""
    names = sorted(module.name for module in pkgutil.iter_modules(published.__path__))
    modules = [importlib.import_module(f"{published.__name__}.{name}") for name in names]
    return tuple(task for module in modules for task in getattr(module, "TASKS", ()))
