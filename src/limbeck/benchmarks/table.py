"""The table of :func:`limbeck.benchmarks.run.benchmark` as text: for a terminal and as Markdown; and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from limbeck.benchmarks.quoted import QUOTED
from limbeck.encoders.student import RANDOM_NAME

if TYPE_CHECKING:
    from limbeck.benchmarks.run import Benchmark

__all__ = ["LEAKY", "claims", "compared", "leaky", "markdown", "sure", "terminal"]

COUNTS = ("composition", "dipeptides", "kmers-3")
PAPER_LOSS = 0.015
"""What MTDP loses against its teachers, as a share of their score (arXiv 2405.11735)."""
PAPER_TIME = 0.7
"""What it saves of their time."""
STAND_IN = "a one-hot window of 15 residues stands in, as the encoder has no features of residues; in no mean"
LEAKY = (
    "Leaky: ten random folds, so relatives of test proteins are in train, and the epoch that is best on the test fold. "
    "To be set beside figures that were published so, and beside nothing else."
)


def terminal(found: Benchmark, width: int = 100) -> str:
    """Rows are encoders, best mean first; columns that don't fit go to further blocks."""
    titles = _titles(found)
    columns: list[tuple[str, dict[str, str]]] = [
        (title, {label: _short(row["means"].get(title)) for label, row in found.rows.items()}) for title in titles
    ]
    columns.append(
        ("residues/s", {label: f"{row['speed']['residues_per_second']:,.0f}" for label, row in found.rows.items()})
    )
    for name in found.tasks:
        marks = {label: _marked(row, name) for label, row in found.rows.items()}
        columns.append((name.replace("_", " "), marks))
    order = ranked(found)
    first = max(len("encoder"), *(len(label) for label in order))
    lines: list[str] = []
    while columns:
        block: list[tuple[str, dict[str, str], int]] = []
        used = first
        while columns:
            size = max(len(columns[0][0]), *(len(cell) for cell in columns[0][1].values()))
            if block and used + 2 + size > width:
                break
            block.append((*columns.pop(0), size))
            used += 2 + size
        lines.append("  ".join(["encoder".ljust(first), *(head.rjust(size) for head, _, size in block)]))
        lines += [
            "  ".join([label.ljust(first), *(cells[label].rjust(size) for _, cells, size in block)]) for label in order
        ]
        lines.append("")
    lines.append(f"+ or -: better or worse than {found.reference}, by the 95 % interval of the paired difference.")
    if any(score["stand_in"] for row in found.rows.values() for score in row["scores"].values()):
        lines.append(f"*: {STAND_IN}.")
    return "\n".join(lines)


def ranked(found: Benchmark) -> list[str]:
    """Labels, the best mean over the tasks of proteins first; those without a mean last."""
    titles = _titles(found)

    def key(label: str) -> float:
        means = found.rows[label]["means"]
        return -means[titles[0]]["value"] if titles and titles[0] in means else 1.0

    return sorted(found.rows, key=key)


def sure(difference: Mapping[str, Any] | None) -> int:
    """1 or -1 if the interval of a difference is above or below zero, else 0."""
    if difference is None:
        return 0
    low, high = difference["interval"]
    return int(low > 0) - int(high < 0)


def _marked(row: Mapping[str, Any], name: str) -> str:
    score = row["scores"].get(name)
    if score is None:
        return ""
    sign = {1: "+", -1: "-", 0: " "}[sure(row["differences"].get(name))]
    return f"{score['value']:.3f}{'*' if score['stand_in'] else sign}"


def _short(mean: Mapping[str, Any] | None) -> str:
    return "" if mean is None else f"{mean['value']:.3f}"


def _titles(found: Benchmark) -> list[str]:
    return list(dict.fromkeys(title for row in found.rows.values() for title in row["means"]))


def markdown(found: Benchmark) -> str:
    """Tables of scores, differences, choices and tasks, and what they say."""
    titles, names, order = _titles(found), found.tasks, ranked(found)
    metrics = {n: next(r["scores"][n]["metric"] for r in found.rows.values() if n in r["scores"]) for n in names}
    heads = [*titles, *(f"{name}: {metrics[name]}" for name in names)]
    lines = [
        "# Benchmark",
        "",
        f"Scores on the {found.content['split']} proteins, scale {found.content['scale']}, with 95 % bootstrap "
        f"intervals; speed on {found.content['machine']['processor']}.",
        "",
        *_rows(["encoder", "residues/s", *heads], (_scores(found, label, titles, names) for label in order)),
        "",
        f"`*` {STAND_IN}.",
    ]
    if len(order) > 1:
        others = (_differences(found, label, titles, names) for label in order if label != found.reference)
        lines += [
            "",
            f"Difference to {found.reference}, paired over the same samples:",
            "",
            *_rows(["encoder", *heads], others),
        ]
    if found.content["split"] == "test":
        lines += ["", "## What it says", "", *(f"- {sentence}" for sentence in claims(found))]
    lines += _leaky(found)
    chosen = ([label, *(_chosen(found, label, name) for name in names)] for label in order)
    lines += ["", "## Choices", "", "Made on validation proteins.", "", *_rows(["encoder", *names], chosen)]
    return "\n".join([*lines, "", *_tasks(found)]) + "\n"


def _rows(head: list[str], rows: Iterator[list[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def _scores(found: Benchmark, label: str, titles: list[str], names: list[str]) -> list[str]:
    row = found.rows[label]
    cells = [cell(row["means"].get(title)) for title in titles] + [cell(row["scores"].get(name)) for name in names]
    return [label, f"{row['speed']['residues_per_second']:,.0f}", *cells]


def _differences(found: Benchmark, label: str, titles: list[str], names: list[str]) -> list[str]:
    row = found.rows[label]
    cells = [cell(row["mean_differences"].get(title), "+") for title in titles]
    return [label, *cells, *(cell(row["differences"].get(name), "+") for name in names)]


def cell(value: Mapping[str, Any] | None, sign: str = "") -> str:
    """A score or a difference with its interval."""
    if value is None:
        return ""
    low, high = value["interval"]
    mark = " *" if value.get("stand_in") else ""
    return f"{value['value']:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f}){mark}"


def leaky(found: Benchmark) -> list[tuple[str, str, str, str, str, str]]:
    """By MTDP's protocol: encoder, task, metric, median over the folds, with an honest choice of the epoch, gain."""
    rows = []
    for label in ranked(found):
        for name, result in found.rows[label].get("mtdp", {}).items():
            metric = result["metric"]
            honest, gain = result["honest"][metric]["median"], result["optimism"][metric]["mean"]
            cells = (metric.replace("_", " "), f"{result['median']:.3f}", f"{honest:.3f}", f"{gain:+.3f}")
            rows.append((label, name, *cells))
    return rows


def _leaky(found: Benchmark) -> list[str]:
    rows = leaky(found)
    if not rows:
        return []
    head = ["encoder", "task", "metric", "median of the folds", "with the epoch chosen honestly", "gain by the choice"]
    return ["", "## By MTDP's protocol", "", LEAKY, "", *_rows(head, (list(row) for row in rows))]


def _chosen(found: Benchmark, label: str, name: str) -> str:
    chosen = found.rows[label]["scores"].get(name, {}).get("chosen", {})
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in chosen.values())


def _tasks(found: Benchmark) -> list[str]:
    first = {name: row["scores"][name] for row in found.rows.values() for name in row["scores"]}
    rows = []
    for name, task in found.content["tasks"].items():
        if name in first:
            n = ", ".join(f"{count:,}" for count in first[name]["n"].values())
            numbers = [n, f"{first[name]['units']:,}", str(first[name]["near"]), str(first[name]["unseen_labels"])]
            rows.append(
                [name, task["question"], *numbers, task["split"], task["caution"], task["citation"], task["license"]]
            )
    lines = [
        "## Tasks",
        "",
        "Near: scored proteins at least half of whose 5-mers stand in one protein that was fitted on. Unseen: scored "
        "items of a class that no fitted one has.",
        "",
        *_rows(
            [
                "task",
                "question",
                "fitted, chosen, scored on",
                "bootstrap units",
                "near",
                "unseen",
                "split",
                "caution",
                "cite",
                "licence",
            ],
            iter(rows),
        ),
    ]
    quoted = [q for q in QUOTED if q.task in first]
    if quoted:
        lines += ["", "## Published by others", "", "Quoted, not measured here, and mostly not comparable.", ""]
        rows = [[q.task, q.model, q.metric, q.value, q.source, q.caution] for q in quoted]
        lines += _rows(["task", "model", "metric", "score", "source", "caution"], iter(rows))
    return lines


def compared(found: Benchmark) -> list[str]:
    """Labels of pretrained encoders beside the reference: neither counts nor an untrained network."""
    return [label for label in ranked(found) if label != found.reference and not _is_floor(found.rows[label])]


def _is_floor(row: Mapping[str, Any]) -> bool:
    names = {candidate["name"] for candidate in row["candidates"].values()}
    return not row["parameters"] or RANDOM_NAME in names


def claims(found: Benchmark) -> list[str]:
    """What the table says on the claims of the papers, each in a sentence with its numbers.

    - MTDP (arXiv 2405.11735): a student within 1.5 % of its teachers, in 70 % less time.
    - Shanehsazzadeh et al. (arXiv 2011.03443): simple features are enough for some tasks.
    """
    base, own = found.rows[found.reference], found.reference
    title = next(iter(base["means"]), None)
    sentences = []
    for label in compared(found):
        row = found.rows[label]
        if title is None or title not in row["means"]:
            continue
        mean, (low, high) = row["means"][title]["value"], row["mean_differences"][title]["interval"]
        change = -row["mean_differences"][title]["value"] / mean, -high / mean, -low / mean
        saved = 1 - row["speed"]["residues_per_second"] / base["speed"]["residues_per_second"]
        sentences.append(
            f"{own} against {label}, {title}: {base['means'][title]['value']:.3f} against {mean:.3f}, "
            f"{change[0]:+.1%} ({change[1]:+.1%} to {change[2]:+.1%}), {_within(change[1], change[2])}; {_time(saved)}."
        )
    for label in (name for name in COUNTS if name in found.rows):
        enough = [
            name for name, task in found.content["tasks"].items()
            if name in found.rows[label]["differences"] and sure(found.rows[label]["differences"][name]) >= 0
            and task["kind"] != "residues"
        ]  # fmt: skip
        if label != own:
            listed = ", ".join(name.replace("_", " ") for name in enough)
            sentences.append(
                f"{label} is not surely below {own} on {listed}."
                if enough
                else f"{label} is below {own} on every task."
            )
    return sentences


def _within(low: float, high: float) -> str:
    if low >= -PAPER_LOSS:
        return f"within MTDP's {PAPER_LOSS:.1%} or better"
    return (
        f"further below than MTDP's {PAPER_LOSS:.1%}"
        if high < -PAPER_LOSS
        else f"too uncertain for MTDP's {PAPER_LOSS:.1%}"
    )


def _time(saved: float) -> str:
    if saved >= 0:
        return f"{saved:.0%} less time (MTDP: {PAPER_TIME:.0%})"
    return f"{1 / (1 - saved):.2f} times as fast"
