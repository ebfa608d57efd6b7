"""What a benchmark says on the claims of the papers that limbeck grew from, in sentences and a table for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from limbeck.benchmarks.comparison import difference, is_fine_tuned, is_floor, sure
from limbeck.benchmarks.folder import Benchmark

__all__ = ["Claim", "claims"]

COUNTS = ("composition", "dipeptides", "kmers-3")
LOSS = 0.015
"""What MTDP loses against its teachers at most, as a share of their scores."""


@dataclass(frozen=True)
class Claim:
    """One claim, and what the rows of the table say of it."""

    title: str
    sentences: list[str]
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def claims(found: Benchmark) -> list[Claim]:
    """The claims that the rows can speak to.

    - MTDP (arXiv:2405.11735): a student within 1.5 % of its teachers' scores, in 70 % less time.
    - MTDP again: several teachers are better than one.
    - Shanehsazzadeh et al. (arXiv:2011.03443): simple features are enough for some tasks.

    Nothing on validation proteins, which choices between models have seen, or if the reference is itself a baseline.
    """
    if found.content["split"] != "test" or is_floor(found.rows[found.reference]):
        return []
    return [claim for claim in (_as_good(found), _several_teachers(found), _counts(found)) if claim]


def _as_good(found: Benchmark) -> Claim | None:
    own = found.reference
    rows, sentences = [], []
    for label, title in _others(found):
        base, other = found.rows[own], found.rows[label]
        share = difference(found, own, label, title, relative=True)
        near, time = _within(share), _time(base, other)
        values = [_value(base["means"][title]), _value(other["means"][title]), _percent(share)]
        rows.append([label, title, *values, near, time, _tally(found, label)])
        sentences.append(
            f"{own} against {label}, {title}: {values[0]} and {values[1]}, {values[2]}, {_WITHIN[near]}; {time}."
        )
    if not rows:
        return None
    tasks = f"tasks: {own} better, worse, no difference"
    head = ["encoder", "mean", own, "it", "relative difference", "within 1.5 %", "time", tasks]
    return Claim("As good as large encoders within 1.5 %, in 70 % less time? (MTDP's claim)", sentences, head, rows)


_WITHIN = {
    "yes": "within 1.5 % or better",
    "no": "further below than 1.5 %",
    "unclear": "which may or may not be within 1.5 %",
}


def _others(found: Benchmark) -> Iterator[tuple[str, str]]:
    """Labels of the pretrained encoders beside the reference, and of a mean that both have."""
    base = found.rows[found.reference]
    for label, row in found.rows.items():
        title = next((title for title in base["means"] if title in row["means"]), None)
        if label != found.reference and title is not None and not (is_floor(row) or is_fine_tuned(row)):
            yield label, title


def _within(share: Mapping[str, Any]) -> str:
    low, high = share["interval"]
    return "yes" if low >= -LOSS else "no" if high < -LOSS else "unclear"


def _time(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    own, base = row["speed"], other["speed"]
    if own["machine"] != base["machine"]:
        return "time measured on another machine"
    share = base["residues_per_second"] / own["residues_per_second"]
    if round(share, 1) == 1:
        return "the same time within 5 %"
    if share > 1:
        return f"{share:.2g} times the time"
    return f"{100 * (1 - share):.0f} % less time"


def _tally(found: Benchmark, label: str) -> str:
    """On how many tasks the reference is surely better than a row, surely worse, neither."""
    differences = found.rows[label]["differences"]
    signs = [sure(differences[name]) for name in _fair(found) if name in differences]
    return ", ".join(str(signs.count(sign)) for sign in (-1, 1, 0))


def _fair(found: Benchmark) -> list[str]:
    """Names of the scores that say something: a task's own, where its split does not give the answers away."""
    return [name for name, task in found.content["tasks"].items() if not task["caution"].startswith("leaky")]


def _value(score: Mapping[str, Any]) -> str:
    return f"{score['value']:.3f}"


def _percent(share: Mapping[str, Any]) -> str:
    low, high = share["interval"]
    return f"{100 * share['value']:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f})"


def _several_teachers(found: Benchmark) -> Claim | None:
    rows, sentences = [], []
    for label, one, title in _taught(found):
        gain = difference(found, label, one, title)
        verdict = {1: "better", -1: "worse", 0: "no difference that is sure"}[sure(gain)]
        low, high = gain["interval"]
        shown = f"{gain['value']:+.3f} ({low:+.3f} to {high:+.3f})"
        teachers = " + ".join(found.rows[label]["teachers"])
        rows.append([label, teachers, one, found.rows[one]["teachers"][0], title, shown, verdict])
        sentences.append(f"{label} ({teachers}) against {one} ({rows[-1][3]} alone), {title}: {shown}, {verdict}.")
    if not rows:
        return None
    head = ["student", "teachers", "student", "teacher", "mean", "difference", "the first is"]
    return Claim("Are several teachers better than one?", sentences, head, rows)


def _taught(found: Benchmark) -> Iterator[tuple[str, str, str]]:
    """Students of several teachers, those of one of them, and a mean that both have."""
    for label, row in found.rows.items():
        for one, other in found.rows.items():
            title = next((title for title in row["means"] if title in other["means"]), None)
            two_and_one = len(row["teachers"]) > 1 and len(other["teachers"]) == 1
            if (
                two_and_one
                and not is_fine_tuned(row)
                and not is_fine_tuned(other)
                and title is not None
                and other["teachers"][0] in row["teachers"]
            ):
                yield label, one, title


def _counts(found: Benchmark) -> Claim | None:
    labels = [label for label in COUNTS if label in found.rows]
    own = found.rows[found.reference]["scores"]
    names = [name for name in _fair(found) if any(name in found.rows[label]["differences"] for label in labels)]
    if not names:
        return None
    rows = []
    for name in names:
        enough = [
            label for label in labels if name in found.rows[label]["differences"] and _sign(found, label, name) >= 0
        ]
        values = [_counted(found.rows[label], name) for label in labels]
        rows.append([name.replace("_", " "), _value(own[name]), *values, ", ".join(enough) or "none"])
    sentences = [_of_counts(found, label, names) for label in labels]
    head = ["task", found.reference, *labels, "not surely below"]
    return Claim("Where are counts of residues enough?", sentences, head, rows)


def _sign(found: Benchmark, label: str, name: str) -> int:
    return sure(found.rows[label]["differences"].get(name))


def _counted(row: Mapping[str, Any], name: str) -> str:
    if name not in row["differences"]:
        return ""
    low, high = row["differences"][name]["interval"]
    return f"{_value(row['scores'][name])} ({low:+.3f} to {high:+.3f})"


def _of_counts(found: Benchmark, label: str, names: list[str]) -> str:
    scored = [name for name in names if name in found.rows[label]["differences"]]
    below, level, above = (
        [name.replace("_", " ") for name in scored if _sign(found, label, name) == sign] for sign in (-1, 0, 1)
    )
    text = f"{label} is surely below {found.reference} on {len(below)} of {len(scored)} tasks"
    if level:
        text += f"; no sure difference on {', '.join(level)}"
    if above:
        text += f"; surely above on {', '.join(above)}"
    return text + "."
