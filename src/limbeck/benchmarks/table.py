"""The table of :func:`limbeck.benchmark` as text: for a terminal and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limbeck.benchmarks.claims import claims
from limbeck.benchmarks.comparison import sure
from limbeck.benchmarks.quoted import QUOTED

if TYPE_CHECKING:
    from limbeck.benchmarks.folder import Benchmark

__all__ = [
    "LEAKY",
    "LEAKY_HEAD",
    "cell",
    "leaky",
    "markdown",
    "metric_of",
    "ranked",
    "ratio",
    "stands_in",
    "terminal",
    "titles",
]

STAND_IN = "a one-hot window of 15 residues stands in, as the encoder has no features of residues; in no mean"
LEAKY = (
    "Leaky: ten random folds, so relatives of test proteins are in train, and the epoch that is best on the test fold. "
    "To be set beside figures that were published so, and beside nothing else."
)


def terminal(found: Benchmark, width: int = 100) -> str:
    """Rows are encoders, best mean first; columns that don't fit go to further blocks."""
    columns: list[tuple[str, dict[str, str]]] = [
        (title, {label: _plain(row["means"].get(title)) for label, row in found.rows.items()})
        for title in titles(found)
    ]
    columns.append(("residues/s", {label: _speed(row) for label, row in found.rows.items()}))
    columns.append(("speed", {label: ratio(found, label) for label in found.rows}))
    columns += [
        (name.replace("_", " "), {label: _marked(row, name) for label, row in found.rows.items()})
        for name in found.tasks
    ]
    lines = _blocks(columns, ranked(found), width)
    lines.append(f"+ or -: better or worse than {found.reference}, by the 95 % interval of the paired difference.")
    if stands_in(found):
        lines.append(f"*: {STAND_IN}.")
    for claim in claims(found):
        lines += ["", claim.title]
        for sentence in claim.sentences:
            lines += textwrap.wrap(sentence, width - 2, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _blocks(columns: list[tuple[str, dict[str, str]]], order: Sequence[str], width: int) -> list[str]:
    """Lines of as many tables as it takes, each with the labels in front."""
    first = max(len("encoder"), *(len(label) for label in order))
    sizes = [max(len(head), *(len(cell) for cell in cells.values())) for head, cells in columns]
    lines: list[str] = []
    start = 0
    while start < len(columns):
        stop, used = start, first
        while stop < len(columns) and (stop == start or used + 2 + sizes[stop] <= width):
            used += 2 + sizes[stop]
            stop += 1
        block = list(zip(columns[start:stop], sizes[start:stop], strict=True))
        lines.append("  ".join(["encoder".ljust(first), *(head.rjust(size) for (head, _), size in block)]))
        lines += [
            "  ".join([label.ljust(first), *(cells[label].rjust(size) for (_, cells), size in block)])
            for label in order
        ]
        lines.append("")
        start = stop
    return lines


def ranked(found: Benchmark) -> list[str]:
    """Labels, the best mean over the tasks of proteins first; those without a mean last."""
    title = next(iter(titles(found)), "")

    def key(label: str) -> float:
        mean = found.rows[label]["means"].get(title)
        return 1.0 if mean is None else -mean["value"]

    return sorted(found.rows, key=key)


def titles(found: Benchmark) -> list[str]:
    """Names of the means that any row has."""
    return list(dict.fromkeys(title for row in found.rows.values() for title in row["means"]))


def metric_of(found: Benchmark, name: str) -> str:
    """What a score is."""
    return next(str(row["scores"][name]["metric"]) for row in found.rows.values() if name in row["scores"])


def stands_in(found: Benchmark) -> bool:
    """Whether anything stands in for an encoder's own features."""
    return any(score["stand_in"] for row in found.rows.values() for score in row["scores"].values())


def ratio(found: Benchmark, label: str) -> str:
    """How many times as fast as the reference a row is; nothing if another machine measured it."""
    own, base = found.rows[label]["speed"], found.rows[found.reference]["speed"]
    if own["machine"] != base["machine"]:
        return ""
    times = own["residues_per_second"] / base["residues_per_second"]
    return f"{times:.0f}x" if times >= 10 else f"{times:.2g}x"


def cell(value: Mapping[str, Any] | None, sign: str = "") -> str:
    """A score or a difference with its interval."""
    if value is None:
        return ""
    low, high = value["interval"]
    mark = " *" if value.get("stand_in") else ""
    return f"{value['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f}){mark}"


def _plain(mean: Mapping[str, Any] | None) -> str:
    return "" if mean is None else f"{mean['value']:.3f}"


def _marked(row: Mapping[str, Any], name: str) -> str:
    score = row["scores"].get(name)
    if score is None:
        return ""
    sign = {1: "+", -1: "-", 0: " "}[sure(row["differences"].get(name))]
    return f"{score['value']:.3f}{'*' if score['stand_in'] else sign}"


def _speed(row: Mapping[str, Any]) -> str:
    return f"{row['speed']['residues_per_second']:,.0f}"


def markdown(found: Benchmark) -> str:
    """Tables of scores, differences, choices and tasks, and what they say."""
    means, names, order = titles(found), found.tasks, ranked(found)
    heads = [*means, *(f"{name}: {metric_of(found, name)}" for name in names)]
    lines = [
        "# Benchmark",
        "",
        f"Scores on the {found.content['split']} proteins, scale {found.content['scale']}, with 95 % bootstrap "
        f"intervals; speed on {found.content['machine']['processor']}, and as a multiple of {found.reference}'s.",
        "",
        *_table(["encoder", "residues/s", "speed", *heads], (_scores(found, label, means, names) for label in order)),
    ]
    if stands_in(found):
        lines += ["", f"`*` {STAND_IN}."]
    if len(order) > 1:
        others = (_differences(found, label, means, names) for label in order if label != found.reference)
        lines += ["", f"Difference to {found.reference}, paired over the same samples:", ""]
        lines += _table(["encoder", *heads], others)
    for claim in claims(found):
        lines += ["", f"## {claim.title}", "", *(f"- {sentence}" for sentence in claim.sentences)]
        if claim.rows:
            lines += ["", *_table(claim.head, claim.rows)]
    lines += _leaky(found)
    chosen = ([label, *(_chosen(found, label, name) for name in names)] for label in order)
    lines += ["", "## Choices", "", "Made on validation proteins.", "", *_table(["encoder", *names], chosen)]
    return "\n".join([*lines, "", *_tasks(found), *_quoted(found)]) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    texts = [[text.replace("|", r"\|") for text in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in texts]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def _scores(found: Benchmark, label: str, means: list[str], names: list[str]) -> list[str]:
    row = found.rows[label]
    cells = [cell(row["means"].get(title)) for title in means] + [cell(row["scores"].get(name)) for name in names]
    return [label, _speed(row), ratio(found, label), *cells]


def _differences(found: Benchmark, label: str, means: list[str], names: list[str]) -> list[str]:
    row = found.rows[label]
    cells = [cell(row["mean_differences"].get(title), "+") for title in means]
    return [label, *cells, *(cell(row["differences"].get(name), "+") for name in names)]


LEAKY_HEAD = (
    "encoder",
    "task",
    "metric",
    "median of the folds",
    "with the epoch chosen honestly",
    "gain by the choice",
)


def leaky(found: Benchmark) -> list[tuple[str, ...]]:
    """By MTDP's protocol: encoder, task, metric, median over the folds, with an honest choice of the epoch, gain."""
    rows: list[tuple[str, ...]] = []
    for label in ranked(found):
        for name, result in found.rows[label]["mtdp"].items():
            metric = result["metric"]
            honest, gain = result["honest"][metric]["median"], result["optimism"][metric]["mean"]
            cells = (metric.replace("_", " "), f"{result['median']:.3f}", f"{honest:.3f}", f"{gain:+.3f}")
            rows.append((label, name, *cells))
    return rows


def _leaky(found: Benchmark) -> list[str]:
    rows = leaky(found)
    return ["", "## By MTDP's protocol", "", LEAKY, "", *_table(LEAKY_HEAD, rows)] if rows else []


def _chosen(found: Benchmark, label: str, name: str) -> str:
    chosen = found.rows[label]["scores"].get(name, {}).get("chosen", {})
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in chosen.values())


def _tasks(found: Benchmark) -> list[str]:
    first = {name: row["scores"][name] for row in found.rows.values() for name in row["scores"]}
    rows = []
    for name, task in found.content["tasks"].items():
        if name in first:
            n = ", ".join(f"{count:,}" for count in first[name]["n"].values())
            numbers = [n, *(f"{first[name][field]:,}" for field in ("units", "near", "unseen_labels"))]
            texts = [task[field] for field in ("split", "caution", "citation", "license")]
            rows.append([name, task["question"], *numbers, *texts])
    head = ["task", "question", "fitted, chosen, scored on", "bootstrap units", "near", "unseen"]
    return [
        "## Tasks",
        "",
        "Near: scored proteins at least half of whose 5-mers stand in one protein that was fitted on. Unseen: scored "
        "items of a class that no fitted one has.",
        "",
        *_table([*head, "split", "caution", "cite", "licence"], rows),
    ]


def _quoted(found: Benchmark) -> list[str]:
    rows = [
        [q.task, q.model, q.metric, q.value, q.source, q.caution] for q in QUOTED if q.task in found.content["tasks"]
    ]
    if not rows:
        return []
    head = ["task", "model", "metric", "score", "source", "why it may not be set against those above"]
    return ["", "## Published by others", "", "Quoted, not measured here.", "", *_table(head, rows)]
