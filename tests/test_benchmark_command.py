"""`limbeck benchmark`: the table that grows by rows, its page, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import limbeck
from limbeck.benchmarks.cost import speed
from limbeck.benchmarks.leaderboard import Point, scatter
from limbeck.benchmarks.quoted import QUOTED
from limbeck.benchmarks.run import Benchmark, benchmark
from limbeck.benchmarks.table import claims, ranked
from limbeck.cli import main

QUICK = ["--quick", "--task", "solubility_esol", "--task", "structural_class", "--no-default", "--no-floor"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two encoders on two shipped tasks."""
    output = tmp_path_factory.mktemp("benchmark") / "table"
    encoders = ["--encoder", "composition", "--encoder", "pairs=dipeptides"]
    assert main(["benchmark", "-o", str(output), *QUICK, *encoders, "-q"]) == 0
    return output


def content(folder: Path) -> dict:
    return json.loads((folder / "benchmark.json").read_text())


def test_rows_have_scores_intervals_speed_and_paired_differences(folder: Path) -> None:
    found = content(folder)
    assert list(found["encoders"]) == ["composition", "pairs"]
    assert found["reference"] == "composition"
    first, second = found["encoders"].values()
    assert first["scores"].keys() == {"solubility_esol", "structural_class"}
    assert first["differences"]["structural_class"] == {"value": 0.0, "interval": [0.0, 0.0]}
    gap = second["scores"]["structural_class"]["value"] - first["scores"]["structural_class"]["value"]
    assert second["differences"]["structural_class"]["value"] == pytest.approx(gap, abs=1e-3)
    mean = np.mean([score["value"] for score in first["scores"].values()])
    assert first["means"]["mean, proteins"]["value"] == pytest.approx(mean, abs=1e-3)
    assert first["speed"]["residues_per_second"] > 0
    assert first["speed"]["product_rate"] > 0
    assert set(found["data"]) == {
        "solubility_esol/esol.csv.gz", "proteinbert_scop/train.csv.gz", "proteinbert_scop/test.csv.gz",
    }  # fmt: skip
    with np.load(folder / "replicates.npz") as samples:
        assert samples["pairs/solubility_esol"].shape == (1000,)


def test_a_later_run_adds_a_row_and_repeats_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(folder)
    assert main(["benchmark", "-o", str(folder), *QUICK, "--encoder", "third=composition", "--mlp", "--mtdp"]) == 0
    shown = capsys.readouterr().out
    after = content(folder)
    assert list(after["encoders"]) == ["composition", "pairs", "third"]
    assert after["encoders"]["pairs"]["scores"] == before["encoders"]["pairs"]["scores"]
    assert after["encoders"]["pairs"]["speed"] == before["encoders"]["pairs"]["speed"]
    assert "structural_class_mlp" in after["encoders"]["third"]["scores"]
    assert re.search(r"^third +0\.\d{3} +[\d,]+ ", shown, re.MULTILINE)
    assert "better or worse than composition" in shown
    text = (folder / "benchmark.md").read_text()
    assert "| third |" in text
    assert "Difference to composition" in text
    assert "Quoted, not measured here" in text
    assert re.search(r"\| third \| structural_class \| macro f1 \| 0\.\d+ \| 0\.\d+ \| \+0\.\d+ \|", text)
    assert after["encoders"]["third"]["mtdp"]["solubility_esol"]["leaky"] is True
    assert "By MTDP" in (folder / "benchmark.html").read_text()


def test_the_page_needs_nothing_but_itself(folder: Path) -> None:
    page = (folder / "benchmark.html").read_text()
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="?http', page)
    assert page.count("<svg") == 1
    for text in ("composition", "pairs", "Published by others", "structural class", "near duplicates", "MIT"):
        assert text in page


def test_names_in_the_page_are_escaped(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "table"
    benchmark(
        output, encoders=["<b>x</b>=composition", "dipeptides"], default=False, floor=False,
        tasks=["structural_class"], scale="quick",
    )  # fmt: skip
    assert "<b>x</b>" not in (output / "benchmark.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quick", "--task", "folding"], "there is no task 'folding'"),
        (["--quick", "--task", "localisation"], "task localisation needs the folder deeploc2"),
        (["--scale", "huge"], "no task is here at scale 'huge'"),
        (["--quick", "--scale", "full"], "--quick is --scale quick"),
        (["--quick", "--encoder", "nobody"], "nobody"),
        (["--quick", "--encoder", "a=composition", "--encoder", "a=dipeptides"], "two encoders are called a"),
        (["--quick", "--no-default", "--no-floor"], "there is nothing to score"),
        (["--quick", "--data", "nowhere"], "nowhere: no data set is here"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "-o", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_table_of_other_proteins_is_not_added_to(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(limbeck.InputError, match="has scale quick, not small; give another folder"):
        benchmark(folder, encoders=["composition"], default=False, floor=False, tasks=["solubility_esol"])
    (tmp_path / "benchmark.json").write_text("{}")
    with pytest.raises(limbeck.InputError, match="is no table of `limbeck benchmark`"):
        benchmark(tmp_path, encoders=["composition"], default=False, floor=False, scale="quick")
    (tmp_path / "file").write_text("")
    with pytest.raises(limbeck.InputError, match="is a file; give a folder"):
        benchmark(tmp_path / "file")
    assert main(["benchmark", "--quick"]) == 2


def test_tasks_are_listed_with_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "tasks"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^localisation +\(its data are not here", shown, re.MULTILINE)
    assert re.search(r"^melting$", shown, re.MULTILINE)
    assert "contact prediction" in shown
    assert max(map(len, shown.splitlines())) <= 140


# --- what a table says


def row(value: float, low: float, high: float, rate: float, parameters: int, difference: tuple) -> dict:
    at, *between = difference
    return {
        "means": {"mean, proteins": {"value": value, "interval": [low, high]}},
        "mean_differences": {"mean, proteins": {"value": at, "interval": between}},
        "scores": {"melting": {"value": value, "interval": [low, high], "stand_in": ""}},
        "differences": {"melting": {"value": at, "interval": between}},
        "speed": {"residues_per_second": rate},
        "parameters": parameters,
        "candidates": {"default": {"name": "any"}},
    }


def table(**rows: dict) -> Benchmark:
    about = {"melting": {"kind": "values", "primary": True}}
    return Benchmark(Path(), {"reference": "own", "encoders": rows, "tasks": about}, {})


def test_claims_are_computed_from_the_rows() -> None:
    own = row(0.50, 0.45, 0.55, 1000, 9, (0.0, 0.0, 0.0))
    found = table(
        own=own,
        worse=row(0.40, 0.3, 0.5, 100, 9, (-0.10, -0.15, -0.05)),
        better=row(0.60, 0.5, 0.7, 100, 9, (0.10, 0.05, 0.15)),
        close=row(0.51, 0.4, 0.6, 4000, 9, (0.01, -0.05, 0.07)),
        composition=row(0.45, 0.4, 0.5, 1e6, 0, (-0.05, -0.1, 0.0)),
    )
    assert ranked(found)[0] == "better"
    sentences = [sentence for sentence in claims(found) if " against " in sentence]
    said = {sentence.split(" against ")[1].split(",")[0]: sentence for sentence in sentences}
    assert said.keys() == {"worse", "better", "close"}
    assert "+25.0% (+12.5% to +37.5%), within MTDP's 1.5% or better; 90% less time" in said["worse"]
    assert "-16.7% (-25.0% to -8.3%), further below than MTDP's 1.5%" in said["better"]
    assert "too uncertain for MTDP's 1.5%; 0.25 times as fast" in said["close"]
    assert "composition is not surely below own on melting." in claims(found)


def test_labels_of_the_picture_hide_neither_each_other_nor_points() -> None:
    points = [
        Point(f"encoder {k}", 1000 + k, {"value": 0.4 + k / 1000, "interval": [0.3, 0.5]}, 10**k, "c0")
        for k in range(8)
    ]
    svg = str(scatter("mean", points))
    places = [(float(x), float(y)) for x, y in re.findall(r'<text class="label [a-z]*" x="([\d.]+)" y="([\d.]+)"', svg)]
    assert len(places) == 8
    for index, (x, y) in enumerate(places):
        for other_x, other_y in places[:index]:
            assert abs(x - other_x) >= 55 or abs(y - other_y) >= 13
    assert scatter("mean", []) == ""


def test_a_point_grows_with_the_parameters() -> None:
    radii = [Point("x", 1, {"value": 0, "interval": [0, 0]}, n, "c0").radius for n in (0, 10**6, 10**8, 10**9)]
    assert radii == sorted(set(radii))


def test_speed_is_of_residues() -> None:
    found = speed(limbeck.load("composition"))
    assert len(found["rounds"]) == 3
    assert min(found["rounds"]) <= found["residues_per_second"] <= max(found["rounds"])


def test_every_quoted_score_names_source_and_caution() -> None:
    from limbeck.benchmarks import all_tasks

    assert {q.task for q in QUOTED} <= {task.name for task in all_tasks()}
    assert all(q.source and q.caution for q in QUOTED)


def test_a_students_fine_tuned_row_stands_beside_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import limbeck.benchmarks.finetuning as finetuning

    def tuned(tasks, place, scale, split, *, student, settings, cache):
        assert (scale, split, student, settings.method) == ("quick", "test", "random-student", "full")
        own = benchmarks.score(limbeck.load("composition"), tasks, scale, split)
        return {name: {**score, "value": 0.99} for name, score in own.items()}

    from limbeck import benchmarks

    monkeypatch.setattr(finetuning, "finetune_tasks", tuned)
    found = benchmark(
        tmp_path, encoders=["random-student"], default=False, floor=False,
        tasks=["structural_class"], scale="quick", finetune="full",
    )  # fmt: skip
    assert list(found.rows) == ["random-student", "random-student, fine-tuned (full)"]
    first, second = found.rows.values()
    assert second["scores"]["structural_class"]["value"] == 0.99
    assert second["speed"] == first["speed"]
    assert first["scores"]["structural_class"]["value"] < 0.99
    with pytest.raises(limbeck.InputError, match="there is no fine-tuning 'some'"):
        benchmark(tmp_path, finetune="some")
