"""A table of encoders over the published tasks, which grows by a row whenever one more is scored."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck import benchmarks
from limbeck.benchmarks.candidates import Choice, parse
from limbeck.benchmarks.cost import machine, speed
from limbeck.benchmarks.metrics import interval
from limbeck.benchmarks.protocol import PROTOCOL, RESAMPLES
from limbeck.benchmarks.task import SEED, Task
from limbeck.encoders.base import Encoder
from limbeck.encoders.student import DEFAULT_NAME, RANDOM_NAME, StudentEncoder
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.version import __version__

__all__ = ["FLOOR", "ON_ALL", "ON_PROTEINS", "TUNINGS", "Benchmark", "benchmark"]

FLOOR = ("composition", "dipeptides", "kmers-3", RANDOM_NAME)
"""What any encoder has to beat: counts, and the default student's network untrained."""
ON_PROTEINS, ON_ALL = "mean, proteins", "mean, all"
FIELDS = ("name", "dimension", "parameters", "license", "version", "pooling", "precision", "fingerprint")
TUNINGS = ("lora", "full", "head")
SETTINGS = ("protocol", "scale", "split", "seed", "resamples", "data")
"""What rows must share to stand in one table."""


@dataclass
class Benchmark:
    """What a folder holds: :attr:`content` is ``benchmark.json``."""

    folder: Path
    content: dict[str, Any]
    replicates: dict[str, NDArray[np.float64]]

    @property
    def rows(self) -> dict[str, Any]:
        """By label of the encoder, the reference first."""
        rows: dict[str, Any] = self.content["encoders"]
        return rows

    @property
    def reference(self) -> str:
        return str(self.content["reference"])

    @property
    def tasks(self) -> list[str]:
        """Names of the scores, in the order of the table: a task, or ``TASK_METHOD``."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row["scores"]))

    def table(self, width: int = 100) -> str:
        """For a terminal."""
        from limbeck.benchmarks.table import terminal

        return terminal(self, width)


def benchmark(
    output: str | os.PathLike[str],
    *,
    encoders: Sequence[str] = (),
    default: bool = True,
    floor: bool = True,
    tasks: Sequence[str] | None = None,
    scale: str = "small",
    split: str = "test",
    data: str | os.PathLike[str] | None = None,
    methods: Sequence[str] = (),
    mtdp: bool = False,
    finetune: str | None = None,
    reference: str | None = None,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Benchmark:
    """Score encoders on published tasks and add them to the table in a folder.

    Args:
        output: folder for ``benchmark.json``, ``benchmark.md``, ``benchmark.html``, ``replicates.npz`` and the cache.
        encoders: ``[LABEL=]NAME[@OPTION]``: a name as :func:`limbeck.load` takes it, with a layer, a pooling, or
            ``auto`` for all that it has, of which each task takes the best on its validation proteins.
        default: score limbeck's own student, too.
        floor: score residue counts and an untrained network, too.
        tasks: names of some; by default all that the scale has and whose data are here.
        scale: ``"quick"``, ``"small"`` or ``"full"``.
        split: ``"test"``, or ``"valid"`` to choose between models without a look at test.
        data: a folder of data sets beside those that come with limbeck.
        methods: ``"mlp"``: a small network beside each task's linear probe.
        mtdp: score each encoder by MTDP's protocol, too, which leaks; its numbers stand in a table of their own.
        finetune: ``"lora"``, ``"full"`` or ``"head"``: a further row for each student, fine-tuned on each task.
        reference: label of the row that others are compared with; by default the first.
        threads: as :func:`limbeck.load` takes it.
        say: is told what goes on, line by line.

    Raises:
        InputError: if there is no such task, scale, split or encoder, a data set is not as documented, or the folder
            holds a table of other proteins or settings.
    """
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder")
    wanted = _unique([*([DEFAULT_NAME] if default else []), *encoders, *(FLOOR if floor else ())])
    if not wanted:
        raise InputError("there is nothing to score; name an encoder")
    if finetune is not None and finetune not in TUNINGS:
        raise InputError(f"there is no fine-tuning {finetune!r}; choose from: {', '.join(TUNINGS)}")
    if (finetune or mtdp) and importlib.util.find_spec("torch") is None:
        raise InputError("fine-tuning and MTDP's protocol need PyTorch; pip install 'limbeck[landscape]'")
    given = None if data is None else Path(data)
    chosen = _tasks(given, scale, tasks)
    settings = {
        "protocol": PROTOCOL,
        "scale": scale,
        "split": split,
        "seed": SEED,
        "resamples": RESAMPLES,
        "data": {n: d for t in chosen for n, d in t.checksums(benchmarks.place(t, given)).items()},
    }
    loaded = {label: benchmarks.choices(name, options, threads) for label, name, options in wanted}
    found = _opened(folder, settings, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    for label, candidates in loaded.items():
        if say:
            say(label)
        row = _row(label, candidates, chosen, given, folder, scale, split, methods, found)
        if mtdp:
            row["mtdp"] = _by_mtdp(candidates[0].encoder, chosen, given, folder, scale)
        _add(found, label, row, reference)
        if finetune and isinstance(candidates[0].encoder, StudentEncoder):
            tuned = _tuned(candidates[0].encoder, finetune, chosen, given, folder, scale, split)
            _add(found, f"{label}, fine-tuned ({finetune})", {**row, **tuned}, reference)
    return found


def _add(found: Benchmark, label: str, row: dict[str, Any], reference: str | None) -> None:
    """Put a row into the table, and the table onto the disk: a long run can be looked at, and what is done is kept."""
    for name, score in row["scores"].items():
        if "replicates" in score:
            found.replicates[f"{label}/{name}"] = np.array(score.pop("replicates"))
    found.rows[label] = row
    found.content["reference"] = _reference(found, reference)
    _compare(found)
    _write(found)


def _unique(texts: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Label, name and options of each, the first of those that are given twice."""
    found: dict[str, tuple[str, str, list[str]]] = {}
    for text in texts:
        label, name, options = parse(text)
        shown = label if "=" in text else _short(label)
        if shown in found and found[shown][1:] != (name, options):
            raise InputError(f"two encoders are called {shown}; write LABEL=NAME to tell them apart")
        found[shown] = (shown, name, options)
    return list(found.values())


def _short(name: str) -> str:
    """The name as given, or the last folder and file of an absolute path: the rest is one machine's own."""
    name = name.rstrip("/")
    return "/".join(Path(name).parts[-2:]) if Path(name).is_absolute() else name


def _tasks(data: Path | None, scale: str, names: Sequence[str] | None) -> list[Task]:
    known = {task.name for task in benchmarks.all_tasks()}
    if unknown := set(names or ()) - known:
        raise InputError(f"there is no task {min(unknown)!r}; choose from: {', '.join(sorted(known))}")
    here = benchmarks.tasks(data)
    for name in names or ():
        task = next(task for task in benchmarks.all_tasks() if task.name == name)
        if task not in here:
            raise InputError(f"task {name} needs the folder {task.folder}; give the folder that holds it with --data")
        if scale not in task.sizes:
            raise InputError(f"task {name} has no scale {scale!r}; choose from: {', '.join(task.sizes)}")
    found = [task for task in here if scale in task.sizes and (names is None or task.name in names)]
    if not found:
        scales = ", ".join(sorted({size for task in benchmarks.all_tasks() for size in task.sizes}))
        raise InputError(f"no task is here at scale {scale!r}; choose from: {scales}")
    return found


def _opened(folder: Path, settings: Mapping[str, Any], tasks: Sequence[Task]) -> Benchmark:
    """The table that lies in the folder, or an empty one."""
    about = {
        task.name: {
            "question": task.question,
            "kind": task.kind,
            "split": task.split,
            "citation": task.citation,
            "license": task.license,
            "caution": task.caution,
            "primary": task.primary,
        }
        for task in tasks
    }
    path = folder / "benchmark.json"
    if not path.exists():
        versions = {"python": platform.python_version(), "numpy": np.__version__, "limbeck": __version__}
        content = {
            **settings,
            "versions": versions,
            "machine": machine(),
            "tasks": about,
            "reference": "",
            "encoders": {},
        }
        return Benchmark(folder, content, {})
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        old = {name: content[name] for name in SETTINGS}
        with np.load(folder / "replicates.npz", allow_pickle=False) as file:
            replicates = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no table of `limbeck benchmark` ({error}); give another folder") from None
    for name in SETTINGS:
        if name == "data":
            # More tasks may come; but what both have must be the same.
            other = [file for file, digest in settings["data"].items() if old["data"].get(file, digest) != digest]
            if other:
                raise InputError(f"{path} was made with another {other[0]}; give another folder")
        elif old[name] != settings[name]:
            raise InputError(f"{path} has {name} {old[name]}, not {settings[name]}; give another folder")
    content["data"] |= settings["data"]
    content["tasks"] |= about
    return Benchmark(folder, content, replicates)


def _row(
    label: str,
    candidates: list[Choice],
    tasks: Sequence[Task],
    data: Path | None,
    folder: Path,
    scale: str,
    split: str,
    methods: Sequence[str],
    found: Benchmark,
) -> dict[str, Any]:
    started = time.monotonic()
    scored = benchmarks.score(candidates, tasks, scale, split, data, folder / "cache", methods)
    described = {
        choice.label: {field: getattr(choice.encoder, field) for field in FIELDS}
        | {"name": _short(choice.encoder.name)}
        for choice in candidates
    }
    old = found.rows.get(label, {})
    same = old.get("candidates") == described
    kept = dict(old.get("scores", {})) if same else {}
    kept |= scored
    cost = old.get("speed") if same else None
    return {
        "candidates": described,
        "scores": kept,
        # An encoder that gives all its layers at once has one cost; where it does not, the first stands for all.
        "speed": cost or speed(candidates[0].encoder),
        "parameters": candidates[0].encoder.parameters,
        "dimension": candidates[0].encoder.dimension,
        "license": candidates[0].encoder.license,
        "seconds": round(time.monotonic() - started, 1),
    }


def _by_mtdp(
    encoder: Encoder, tasks: Sequence[Task], data: Path | None, folder: Path, scale: str
) -> dict[str, dict[str, Any]]:
    from limbeck.benchmarks.mtdp import METRICS_OF, mtdp_task

    return {
        task.name: mtdp_task(task, encoder, benchmarks.place(task, data), scale, cache=folder / "cache")
        for task in tasks
        if task.kind in METRICS_OF
    }


def _tuned(
    encoder: StudentEncoder,
    method: str,
    tasks: Sequence[Task],
    data: Path | None,
    folder: Path,
    scale: str,
    split: str,
) -> dict[str, Any]:
    """What a row of a fine-tuned student has other than that of the student as it is."""
    from limbeck.benchmarks.finetuning import Settings, finetune_tasks

    started = time.monotonic()
    scores = finetune_tasks(
        tasks,
        lambda task: benchmarks.place(task, data),
        scale,
        split,
        student=encoder.name,
        settings=Settings(method=method),
        cache=folder / "cache",
    )
    about = {field: getattr(encoder, field) for field in FIELDS} | {"name": _short(encoder.name)}
    seconds = round(time.monotonic() - started, 1)
    return {"candidates": {f"fine-tuned, {method}": about}, "scores": scores, "seconds": seconds, "mtdp": {}}


def _reference(found: Benchmark, wanted: str | None) -> str:
    if wanted is None:
        return found.reference if found.reference in found.rows else next(iter(found.rows))
    return wanted if wanted in found.rows else next(iter(found.rows))


def _compare(found: Benchmark) -> None:
    """Means over tasks, and paired differences to the reference."""
    base = found.rows[found.reference]
    base_means = _means(found, found.reference)
    for label, row in found.rows.items():
        means = _means(found, label)
        row["means"] = {title: _summary(value, samples) for title, (value, samples) in means.items()}
        row["differences"] = {
            name: _summary(
                score["value"] - base["scores"][name]["value"],
                found.replicates[f"{label}/{name}"] - found.replicates[f"{found.reference}/{name}"],
            )
            for name, score in row["scores"].items()
            if name in base["scores"] and score["stand_in"] == base["scores"][name]["stand_in"]
        }
        row["mean_differences"] = {
            title: _summary(means[title][0] - base_means[title][0], means[title][1] - base_means[title][1])
            for title in means
            if title in base_means
        }


def _means(found: Benchmark, label: str) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Of the primary scores: over the tasks of whole proteins, which every encoder does, and over all."""
    primary = [name for name, task in found.content["tasks"].items() if task["primary"]]
    proteins = [name for name in primary if found.content["tasks"][name]["kind"] != "residues"]
    scores = found.rows[label]["scores"]
    results = {}
    for title, names in ((ON_PROTEINS, proteins), (ON_ALL, primary if primary != proteins else [])):
        if names and all(name in scores and scores[name]["in_mean"] for name in names):
            samples = np.mean([_independent(found.replicates[f"{label}/{name}"], name) for name in names], axis=0)
            results[title] = float(np.mean([scores[name]["value"] for name in names])), samples
    return results


def _independent(samples: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Replicates in an order of the task's own: tasks with equally many proteins must not share their draws."""
    return np.random.default_rng(list(name.encode())).permutation(samples)


def _summary(value: float, samples: NDArray[np.float64]) -> dict[str, Any]:
    return {"value": round(float(value), 4), "interval": interval(samples)}


def _write(found: Benchmark) -> None:
    from limbeck.benchmarks.table import markdown

    with whole(found.folder / "replicates.npz") as partial, partial.open("wb") as file:
        kept: dict[str, Any] = {name: values.astype(np.float32) for name, values in found.replicates.items()}
        np.savez_compressed(file, **kept)
    with whole(found.folder / "benchmark.json") as partial:
        partial.write_text(json.dumps(found.content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with whole(found.folder / "benchmark.md") as partial:
        partial.write_text(markdown(found), encoding="utf-8")
    try:
        from limbeck.benchmarks.leaderboard import write_leaderboard
    except ImportError:
        return  # the page needs an extra; scores don't
    write_leaderboard(found, found.folder / "benchmark.html")
