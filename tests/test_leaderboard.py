"""What a benchmark's table says, and its page and picture."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.benchmarks import all_tasks
from limbeck.benchmarks.claims import claims
from limbeck.benchmarks.comparison import ON_ALL, ON_PROTEINS, compare, difference
from limbeck.benchmarks.cost import machine
from limbeck.benchmarks.folder import Benchmark, write
from limbeck.benchmarks.quoted import QUOTED
from limbeck.benchmarks.scatter import Point, radius, scatter
from limbeck.benchmarks.table import markdown, ranked, ratio, terminal

TASKS = ("melting", "solubility", "interaction_random", "secondary_structure")


def row(
    value: float, seed: int, *, speed: float = 1000.0, parameters: int = 9_000_000, teachers: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A row whose scores are all ``value``; ``seed`` decides its samples."""
    scores = {
        name: {
            "metric": "spearman", "value": value, "interval": [value - 0.05, value + 0.05], "metrics": {"spearman": {}},
            "chosen": {"features": "default", "strength": 10.0}, "n": {"fit": 3, "choose": 2, "score": 1}, "units": 1,
            "near": 0, "unseen_labels": 0, "in_mean": name != "interaction_random", "stand_in": "",
        }
        for name in TASKS
    }  # fmt: skip
    if not parameters:
        scores["secondary_structure"] |= {"stand_in": "one-hot window of 15", "in_mean": False}
    return {
        "candidates": {"default": {"name": f"model {seed}"}}, "scores": scores, "mtdp": {},
        "speed": {"residues_per_second": speed, "product_rate": 4e10, "machine": machine(), "threads": 2},
        "parameters": parameters, "dimension": 8, "license": "MIT", "teachers": list(teachers),
    }  # fmt: skip


def table(split: str = "test", spread: float = 0.002, **rows: dict[str, Any]) -> Benchmark:
    """Rows whose bootstrap samples vary together, and by ``spread`` each on its own."""
    random = np.random.default_rng(0)
    common = {name: 0.03 * random.normal(size=1000) for name in TASKS}
    samples = {
        f"{label}/{name}": (score["value"] + common[name] + spread * random.normal(size=1000)).astype(np.float32)
        for label, one in rows.items()
        for name, score in one["scores"].items()
    }
    about = {
        task.name: {
            field: getattr(task, field)
            for field in ("question", "kind", "split", "citation", "license", "caution", "primary")
        }
        for task in all_tasks()
        if task.name in TASKS
    }
    content = {
        "protocol": 2, "scale": "small", "split": split, "seed": 0, "resamples": 1000, "data": {}, "methods": [],
        "versions": {"limbeck": "0"}, "machine": machine(), "tasks": about, "reference": "own", "encoders": rows,
    }  # fmt: skip
    found = Benchmark(Path(), content, samples)
    compare(found)
    return found


@pytest.fixture(scope="module")
def found() -> Benchmark:
    return table(
        own=row(0.50, 0),
        large=row(0.60, 1, speed=100.0, parameters=650_000_000),
        small=row(0.40, 2, speed=250.0),
        close=row(0.505, 3, speed=4000.0),
        composition=row(0.499, 4, speed=1e6, parameters=0),
        **{"kmers-3": row(0.30, 5, speed=1e6, parameters=0)},
    )


def test_differences_are_paired_and_means_are_over_the_tasks_that_count(found: Benchmark) -> None:
    large = found.rows["large"]
    assert large["differences"]["melting"]["value"] == pytest.approx(0.1)
    low, high = large["differences"]["melting"]["interval"]
    # Far narrower than the intervals of the two scores, whose samples vary together.
    assert high - low < 0.02
    assert large["means"].keys() == {ON_PROTEINS, ON_ALL}
    assert found.rows["composition"]["means"].keys() == {ON_PROTEINS}
    assert "secondary_structure" not in found.rows["composition"]["differences"]
    assert ranked(found)[:2] == ["large", "close"]


def test_a_relative_difference_is_a_share_of_the_other(found: Benchmark) -> None:
    share = difference(found, "own", "small", ON_PROTEINS, relative=True)
    assert share["value"] == pytest.approx(0.25)
    assert share["interval"][0] < 0.25 < share["interval"][1]


def test_the_first_claim_compares_with_each_pretrained_encoder(found: Benchmark) -> None:
    claim = claims(found)[0]
    said = dict(zip((line[0] for line in claim.rows), claim.sentences, strict=True))
    assert said.keys() == {"large", "small", "close"}
    assert re.search(r"0\.500 and 0\.600, -16\.7 % \(.* further below than 1\.5 %; 90 % less time", said["large"])
    assert re.search(r"\+25\.0 % .* within 1\.5 % or better; 75 % less time", said["small"])
    assert "4 times the time" in said["close"]
    # Melting, solubility and secondary structure; the leaky task does not count.
    assert {line[0]: line[-1] for line in claim.rows} == {"large": "0, 3, 0", "small": "3, 0, 0", "close": "0, 0, 3"}


def test_what_may_or_may_not_be_is_said_to_be_unclear() -> None:
    noisy = table(spread=0.05, own=row(0.50, 0), other=row(0.51, 1))
    assert "may or may not be within 1.5 %" in claims(noisy)[0].sentences[0]


def test_students_of_several_teachers_are_set_against_those_of_one() -> None:
    found = table(
        own=row(0.5, 0),
        both=row(0.52, 1, teachers=("a", "b")),
        first=row(0.50, 2, teachers=("a",)),
        stranger=row(0.50, 3, teachers=("c",)),
    )
    (claim,) = [claim for claim in claims(found) if "several teachers" in claim.title]
    (sentence,) = claim.sentences
    assert sentence.startswith("both (a + b) against first (a alone), mean, proteins: +0.020 (")
    assert sentence.endswith("better.")


def test_where_counts_are_enough(found: Benchmark) -> None:
    claim = claims(found)[-1]
    assert claim.rows[0][0] == "melting"
    assert {line[0]: line[-1] for line in claim.rows} == {"melting": "composition", "solubility": "composition"}
    assert claim.sentences == [
        "composition is surely below own on 0 of 2 tasks; no sure difference on melting, solubility.",
        "kmers-3 is surely below own on 2 of 2 tasks.",
    ]


def test_nothing_is_claimed_on_validation_or_of_a_baseline() -> None:
    rows = {"own": row(0.5, 0), "other": row(0.6, 1), "composition": row(0.4, 2, parameters=0)}
    assert claims(table(**rows))
    assert claims(table(split="valid", **rows)) == []
    assert claims(table(own=row(0.5, 0, parameters=0), other=row(0.6, 1))) == []


def test_a_fine_tuned_student_is_no_teacher() -> None:
    tuned = row(0.6, 1) | {"candidates": {"fine-tuned, lora": {"name": "model 0"}}}
    assert all("MTDP" not in claim.title for claim in claims(table(own=row(0.5, 0), tuned=tuned)))


def test_a_ratio_is_of_one_machine(found: Benchmark) -> None:
    assert ratio(found, "large") == "0.1x"
    moved = table(own=row(0.5, 0), other=row(0.6, 1))
    moved.rows["other"]["speed"]["machine"] = {"processor": "another"}
    assert ratio(moved, "other") == ""
    assert claims(moved)[0].rows[0][-2] == "time measured on another machine"


@pytest.mark.parametrize("width", [40, 100, 400])
def test_the_table_fits_the_terminal(found: Benchmark, width: int) -> None:
    lines = terminal(found, width).splitlines()
    blocks = [line for line in lines if line.startswith("encoder ")]
    assert sum(line.split().count("own") > 0 for line in lines if line.startswith("own ")) >= len(blocks)
    body = lines[: next(n for n, line in enumerate(lines) if line.startswith("+ or -"))]
    assert max(map(len, body)) <= max(width, 45)
    assert "large        0.600" in lines[1] or "0.600" in lines[1]


def test_bars_in_names_do_not_break_the_tables() -> None:
    text = markdown(table(own=row(0.5, 0), **{"a|b": row(0.6, 1)}))
    assert r"| a\|b |" in text
    heads = [line for line in text.splitlines() if line.startswith("| encoder | residues/s")]
    assert len(heads) == 1


def test_mtdps_protocol_stands_apart_and_is_called_leaky(tmp_path: Path) -> None:
    result = {"metric": "pearson", "median": 0.7, "honest": {"pearson": {"median": 0.6}},
              "optimism": {"pearson": {"mean": 0.08}}}  # fmt: skip
    found = table(own=row(0.5, 0) | {"mtdp": {"melting": result}}, other=row(0.6, 1))
    found.path = tmp_path
    write(found)
    for name in ("benchmark.html", "benchmark.md"):
        text = (tmp_path / name).read_text()
        _, _, after = text.partition("By MTDP")
        assert "Leaky: ten random folds" in after
        assert "0.700" in after
        assert "+0.080" in after
    assert "0.700" not in (tmp_path / "benchmark.md").read_text().partition("By MTDP")[0]


def test_the_page_marks_what_is_better_worse_and_quoted(found: Benchmark, tmp_path: Path) -> None:
    found.path = tmp_path
    write(found)
    page = (tmp_path / "benchmark.html").read_text()
    assert not re.search(r'<script|(?:src|href)="?http', page)
    (large,) = re.findall(r"<tr><th [^>]*>large</th>(.*?)</tr>", page, re.DOTALL)
    assert 'class="better best"' in large
    assert "0.1x" in large
    (counts,) = re.findall(r"<tr><th [^>]*>kmers-3</th>(.*?)</tr>", page, re.DOTALL)
    assert 'class="worse"' in counts
    assert "stand-in" in counts
    assert "auroc, leaky" in page or "spearman, leaky" in page
    assert page.index("Quoted, not measured here") > page.index("What it says")
    assert page.count('class="point c1"') == 5  # two means, twice each for the width; and the key


def points(count: int) -> list[Point]:
    return [Point(f"encoder {k}", 1000 + k, 0.4 + k / 1000, 0.3, 0.5, 10**k, "c0", f"{k}") for k in range(count)]


@pytest.mark.parametrize(("width", "height"), [(720.0, 420.0), (380.0, 400.0)])
def test_labels_of_the_picture_hide_neither_each_other_nor_points(width: float, height: float) -> None:
    svg = str(scatter("mean", points(8), width, height))
    boxes = []
    for anchor, x, y, text in re.findall(
        r'<text class="label" text-anchor="(\w+)" x="([\d.]+)" y="([\d.]+)">(.*?)</text>', svg
    ):
        wide = 6.5 * len(text)
        left = float(x) - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        boxes.append((left, float(y) - 11, left + wide, float(y) + 1))
    assert len(boxes) == 8
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for x, y in re.findall(r'<circle class="point c0" cx="([\d.]+)" cy="([\d.]+)"', svg):
        assert not any(a <= float(x) <= c and b <= float(y) <= d for a, b, c, d in boxes)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-2, 1e8), min_size=2, max_size=5), st.floats(-1, 1), st.floats(0, 1))
def test_any_points_lie_within_the_picture(speeds: list[float], value: float, half: float) -> None:
    given = [Point("x", speed, value, value - half, value + half, 0, "c0", "x") for speed in speeds]
    svg = str(scatter("mean", given))
    places = [tuple(map(float, place)) for place in re.findall(r'd="M([-\d.]+) ([-\d.]+)L', svg)]
    assert len(places) == len(speeds)
    assert all(46 <= x <= 700 and 0 <= y <= 380 for x, y in places)


def test_a_picture_needs_two_points() -> None:
    assert scatter("mean", points(1)) == ""


def test_the_frontier_joins_what_nothing_else_is_faster_and_better_than() -> None:
    given = [
        Point(str(k), speed, value, value, value, 1, "c0", "")
        for k, (speed, value) in enumerate([(1, 0.9), (10, 0.5), (100, 0.7), (90, 0.6)])
    ]
    (line,) = re.findall(r'<polyline class="faint c7" points="([^"]*)"', str(scatter("mean", given)))
    assert len(line.split()) == 2


def test_a_point_grows_with_the_parameters_and_has_another_shape_without() -> None:
    radii = [radius(n) for n in (0, 10**6, 10**8, 10**9)]
    assert radii == sorted(set(radii))
    svg = str(scatter("mean", [*points(2), Point("none", 9, 0.1, 0.0, 0.2, 0, "c7 open", "")]))
    assert svg.count("<circle") == 2
    assert svg.count('<path class="point c7 open"') == 1


def test_every_quoted_score_names_source_and_caution() -> None:
    assert {quoted.task for quoted in QUOTED} <= {task.name for task in all_tasks()}
    assert all(quoted.source and quoted.caution for quoted in QUOTED)
    assert all(re.search(r"\d{4}\.\d{4,5}|doi:", quoted.source) for quoted in QUOTED)
