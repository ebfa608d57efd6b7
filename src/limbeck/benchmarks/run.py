"""A table of encoders over the published tasks, which grows by a row whenever one more is scored."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from limbeck import benchmarks
from limbeck.benchmarks.candidates import Choice, parse
from limbeck.benchmarks.comparison import FINE_TUNED, compare
from limbeck.benchmarks.cost import machine, speed
from limbeck.benchmarks.finetuning.settings import METHODS as TUNINGS
from limbeck.benchmarks.folder import Benchmark, join, read, write, writing
from limbeck.benchmarks.protocol import PROTOCOL, RESAMPLES
from limbeck.benchmarks.task import SEED, Task
from limbeck.encoders import load
from limbeck.encoders.base import Encoder
from limbeck.encoders.student import DEFAULT_NAME, RANDOM_NAME, StudentEncoder, student_folder
from limbeck.encoders.transformer import TransformerEncoder
from limbeck.errors import InputError
from limbeck.version import __version__

__all__ = ["FLOOR", "Benchmark", "benchmark"]

FLOOR = ("composition", "dipeptides", "kmers-3", RANDOM_NAME)
"""What any encoder has to beat: counts, and the default student's network untrained."""
FIELDS = ("name", "dimension", "parameters", "license", "version", "pooling", "precision", "fingerprint")
TUNABLE = (StudentEncoder, TransformerEncoder)
MOST_NUMBERS = 4096
"""MTDP's network has a map of dimension by dimension: for 3-mers, 64 million numbers trained 400 times over."""
ABOUT = ("question", "kind", "split", "citation", "license", "caution", "primary")


def benchmark(
    output: str | os.PathLike[str],
    *,
    encoders: Sequence[str] = (),
    default: bool = True,
    floor: bool = True,
    tasks: Sequence[str] | None = None,
    scale: str | None = None,
    split: str | None = None,
    data: str | os.PathLike[str] | None = None,
    methods: Sequence[str] = (),
    mtdp: bool = False,
    finetune: str | None = None,
    reference: str | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Benchmark:
    """Score encoders on published tasks and add them to the table in a folder.

    What was scored before is taken from the folder's cache, so a run that was stopped goes on, and a row costs what is
    new in it.

    Args:
        output: folder for ``benchmark.json``, ``benchmark.md``, ``benchmark.html``, ``replicates.npz`` and the cache.
        encoders: ``[LABEL=]NAME[@OPTION]``: a name as :func:`limbeck.load` takes it, with a layer, a pooling, or
            ``auto`` for all that it has, of which each task takes the best on its validation proteins.
        default: score limbeck's own student, too.
        floor: score residue counts and an untrained network, too.
        tasks: names of some. By default those of the table in the folder; in a new one all that the scale has and
            whose data are here.
        scale: ``"quick"``, ``"small"``, ``"medium"`` or ``"full"``; by default the table's, in a new one ``"small"``.
        split: ``"test"``, or ``"valid"`` to choose between models without a look at test; by default the table's, in
            a new one ``"test"``.
        data: a folder of data sets beside those that come with limbeck.
        methods: ``"mlp"``: a small network beside each task's linear probe; those of the table are kept up.
        mtdp: score each encoder by MTDP's protocol, too, which leaks; its numbers stand in a table of their own.
            Not vectors of more than 4,096 numbers (3-mers).
        finetune: ``"lora"``, ``"prompt"``, ``"full"`` or ``"head"``: a further row for each student and each encoder
            of transformers, fine-tuned on each task; of ``auto`` the default layer.
        reference: label of the row that others are compared with; by default the table's, in a new one the first.
        threads: as :func:`limbeck.load` takes it.
        say: is told what goes on, line by line.

    Raises:
        InputError: if there is no such task, scale, split or encoder, a data set is not as documented, the folder
            holds a table of other proteins or settings, or none of the encoders can be fine-tuned.
    """
    folder = Path(output)
    _check(mtdp, finetune)
    wanted = _unique([*([DEFAULT_NAME] if default else []), *encoders, *(FLOOR if floor else ())])
    given = None if data is None else Path(data)
    prepare = partial(_prepared, folder, given, scale, split, tasks, methods)
    _check_rows(prepare()[0], wanted, reference)
    # A name that cannot be loaded should not be found out after hours of the others'; but several large encoders at
    # once may not fit into memory.
    tunable = [isinstance(benchmarks.choices(name, o, threads)[0].encoder, TUNABLE) for name, o in wanted.values()]
    if finetune and wanted and not any(tunable):
        raise InputError(f"{next(iter(wanted))} has no network to fine-tune; give a student or a transformers encoder")
    with writing(folder):
        # Once more, as another run may have added rows meanwhile.
        found, chosen = prepare()
        for label, (name, options) in wanted.items():
            if say:
                say(label)
            candidates = benchmarks.choices(name, options, threads)
            row = _row(found, label, name, candidates, chosen, given, threads)
            if mtdp and candidates[0].encoder.dimension <= MOST_NUMBERS:
                row["mtdp"] |= _by_mtdp(found, candidates[0].encoder, chosen, given, known=row["mtdp"])
            _add(found, label, row, reference)
            if finetune and isinstance(candidates[0].encoder, TUNABLE):
                tuned = _tuned(found, _default(name, candidates, threads), finetune, chosen, given)
                _add(found, f"{label}, {FINE_TUNED} ({finetune})", {**row, **tuned}, reference)
        if not wanted:
            _finish(found, reference)
    return found


def _check(mtdp: bool, finetune: str | None) -> None:
    if finetune is not None and finetune not in TUNINGS:
        raise InputError(f"there is no fine-tuning {finetune!r}; choose from: {', '.join(TUNINGS)}")
    if (finetune or mtdp) and importlib.util.find_spec("torch") is None:
        raise InputError("fine-tuning and MTDP's protocol need PyTorch; pip install 'limbeck[landscape]'")


def _check_rows(found: Benchmark, wanted: Mapping[str, Any], reference: str | None) -> None:
    if not wanted and not found.rows:
        raise InputError("there is nothing to score; name an encoder")
    labels = {**found.rows, **wanted}
    if reference is not None and reference not in labels:
        raise InputError(f"there is no row {reference!r} to compare with; choose from: {', '.join(labels)}")


def _add(found: Benchmark, label: str, row: dict[str, Any], reference: str | None) -> None:
    """Put a row into the table, and the table onto the disk: a long run can be looked at, and what is done is kept."""
    for name, score in row["scores"].items():
        if "replicates" in score:
            found.replicates[f"{label}/{name}"] = np.array(score.pop("replicates"), np.float32)
    found.rows[label] = row
    _finish(found, reference)


def _finish(found: Benchmark, reference: str | None) -> None:
    """Compare with the row that was asked for, if it is there yet, and write all."""
    if reference in found.rows:
        found.content["reference"] = reference
    elif found.reference not in found.rows:
        found.content["reference"] = next(iter(found.rows))
    compare(found)
    write(found)


def _unique(texts: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Name and options by label, the first of those that are given twice."""
    found: dict[str, tuple[str, list[str]]] = {}
    for text in texts:
        label, name, options = parse(text)
        shown = label if "=" in text else _short(label)
        if found.setdefault(shown, (name, options)) != (name, options):
            raise InputError(f"two encoders are called {shown}; write LABEL=NAME to tell them apart")
    return found


def _short(name: str) -> str:
    """The name as given, or the last folder and file of an absolute path: the rest is one machine's own."""
    name = name.rstrip("/")
    return "/".join(Path(name).parts[-2:]) if Path(name).is_absolute() else name


def _prepared(
    folder: Path,
    data: Path | None,
    scale: str | None,
    split: str | None,
    names: Sequence[str] | None,
    methods: Sequence[str],
) -> tuple[Benchmark, list[Task]]:
    """The table to add rows to, a new one if there is none, and the tasks to score."""
    found = read(folder)
    old: dict[str, Any] = {} if found is None else found.content
    settings: dict[str, Any] = {
        "protocol": PROTOCOL,
        "scale": scale or old.get("scale", "small"),
        "split": split or old.get("split", "test"),
        "seed": SEED,
        "resamples": RESAMPLES,
    }
    if found is not None:
        join(found, settings, {})
    chosen = _tasks(data, settings["scale"], names or list(old.get("tasks", {})) or None)
    checksums = {n: d for task in chosen for n, d in task.checksums(benchmarks.place(task, data)).items()}
    if found is None:
        versions = {"python": platform.python_version(), "numpy": np.__version__, "limbeck": __version__}
        content: dict[str, Any] = {
            **settings,
            "data": {},
            "versions": versions,
            "machine": machine(),
            "methods": [],
            "tasks": {},
        }
        found = Benchmark(folder, {**content, "reference": "", "encoders": {}}, {})
    join(found, settings, checksums)
    found.content["data"] |= checksums
    found.content["tasks"] |= {task.name: {field: getattr(task, field) for field in ABOUT} for task in chosen}
    found.content["methods"] = list(dict.fromkeys([*found.content["methods"], *methods]))
    return found, chosen


def _tasks(data: Path | None, scale: str, names: Sequence[str] | None) -> list[Task]:
    known = {task.name: task for task in benchmarks.all_tasks()}
    if unknown := set(names or ()) - known.keys():
        raise InputError(f"there is no task {min(unknown)!r}; choose from: {', '.join(sorted(known))}")
    scales = sorted({size for task in known.values() for size in task.sizes})
    if scale not in scales:
        raise InputError(f"there is no scale {scale!r}; choose from: {', '.join(scales)}")
    here = benchmarks.tasks(data)
    for task in (known[name] for name in names or ()):
        if task not in here:
            raise InputError(
                f"task {task.name} needs the folder {task.folder}; give the folder that holds it with --data"
            )
        if scale not in task.sizes:
            raise InputError(f"task {task.name} has no scale {scale!r}; choose from: {', '.join(task.sizes)}")
    return [task for task in here if scale in task.sizes and (names is None or task.name in names)]


def _row(
    found: Benchmark,
    label: str,
    name: str,
    candidates: list[Choice],
    tasks: Sequence[Task],
    data: Path | None,
    threads: int | None,
) -> dict[str, Any]:
    """Score an encoder; what the table has of the same encoder on other tasks stays."""
    started = time.monotonic()
    content = found.content
    scored = benchmarks.score(
        candidates, tasks, content["scale"], content["split"], data, found.path / "cache", content["methods"]
    )
    described = {choice.label: _described(choice.encoder) for choice in candidates}
    old = found.rows.get(label, {})
    if old.get("candidates") != described:
        old = {}
        found.replicates = {key: v for key, v in found.replicates.items() if key.rpartition("/")[0] != label}
    encoder = candidates[0].encoder
    cost = old.get("speed")
    if cost is None or cost["machine"] != machine():
        # An encoder that gives all its layers at once has one cost; where it does not, the first stands for all.
        cost = speed(encoder, threads)
    return {
        "candidates": described,
        "scores": old.get("scores", {}) | scored,
        "mtdp": old.get("mtdp", {}),
        "speed": cost,
        "parameters": encoder.parameters,
        "dimension": max(choice.encoder.dimension for choice in candidates),
        "license": encoder.license,
        "teachers": _teachers(name),
        "seconds": round(time.monotonic() - started, 1),
    }


def _described(encoder: Encoder) -> dict[str, Any]:
    return {field: getattr(encoder, field) for field in FIELDS} | {"name": _short(encoder.name)}


def _by_mtdp(
    found: Benchmark, encoder: Encoder, tasks: Sequence[Task], data: Path | None, known: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Results of the tasks that are not known yet."""
    from limbeck.benchmarks.mtdp import METRICS_OF, mtdp_task

    scale, cache = found.content["scale"], found.path / "cache"
    return {
        task.name: mtdp_task(task, encoder, benchmarks.place(task, data), scale, cache=cache)
        for task in tasks
        if task.kind in METRICS_OF and task.name not in known
    }


def _default(name: str, candidates: list[Choice], threads: int | None) -> Encoder:
    """The encoder as it is tuned: where several layers compete it is the default one."""
    encoder = candidates[0].encoder
    several = len(candidates) > 1 and isinstance(encoder, TransformerEncoder)
    return load(name, threads=threads) if several else encoder


def _tuned(found: Benchmark, encoder: Encoder, method: str, tasks: Sequence[Task], data: Path | None) -> dict[str, Any]:
    """What a row of a fine-tuned encoder has other than that of the encoder as it is."""
    from limbeck.benchmarks.finetuning import Settings, finetune_tasks

    started = time.monotonic()
    scores = finetune_tasks(
        tasks,
        lambda task: benchmarks.place(task, data),
        found.content["scale"],
        found.content["split"],
        encoder=encoder.name,
        layer=encoder.chosen_layers if isinstance(encoder, TransformerEncoder) else None,
        # A student is quick to train on a processor; another encoder belongs where it was loaded to.
        settings=Settings(method=method, device=encoder.device if isinstance(encoder, TransformerEncoder) else "cpu"),
        cache=found.path / "cache",
    )
    return {
        "candidates": {f"{FINE_TUNED}, {method}": _described(encoder)},
        "scores": scores,
        "mtdp": {},
        "seconds": round(time.monotonic() - started, 1),
    }


def _teachers(name: str) -> list[str]:
    """Whom a student of ``limbeck distill`` learned from, as its ``training.json`` says; nobody else has one."""
    try:
        record = json.loads((student_folder(name) / "training.json").read_text(encoding="utf-8"))
        return [str(teacher["name"]) for teacher in record["teachers"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
