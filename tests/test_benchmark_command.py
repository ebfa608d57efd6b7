"""`limbeck benchmark`: the table that grows by rows, its page, and what it refuses."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import limbeck
from limbeck.benchmarks import cost, run
from limbeck.benchmarks.cost import speed
from limbeck.benchmarks.run import benchmark
from limbeck.cli import main
from limbeck.lock import exclusive

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
        (["--scale", "huge"], "there is no scale 'huge'"),
        (["--quick", "--scale", "full"], "--quick is --scale quick"),
        (["--quick", "--encoder", "nobody"], "nobody"),
        (["--quick", "--encoder", "a=composition", "--encoder", "a=dipeptides"], "two encoders are called a"),
        (["--quick", "--no-default", "--no-floor"], "there is nothing to score"),
        (["--quick", "--no-floor", "--reference", "b"], "there is no row 'b' to compare with; choose from: limbeck-9m"),
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
        benchmark(folder, encoders=["composition"], scale="small")
    with pytest.raises(limbeck.InputError, match="has split test, not valid; give another folder"):
        benchmark(folder, encoders=["composition"], split="valid")
    with gzip.open(tmp_path / "esol.csv.gz", "wt") as file:
        file.write("sequence,solubility,split\nMKV,0.5,train\n")
    (tmp_path / "data" / "solubility_esol").mkdir(parents=True)
    (tmp_path / "esol.csv.gz").rename(tmp_path / "data" / "solubility_esol" / "esol.csv.gz")
    with pytest.raises(limbeck.InputError, match=r"was made with another solubility_esol/esol\.csv\.gz"):
        benchmark(folder, encoders=["composition"], data=tmp_path / "data")
    for text in ("{}", "[]", "no JSON"):
        (tmp_path / "benchmark.json").write_text(text)
        with pytest.raises(limbeck.InputError, match="is no table of `limbeck benchmark`"):
            benchmark(tmp_path, encoders=["composition"], default=False, floor=False, scale="quick")
    (tmp_path / "file").write_text("")
    with pytest.raises(limbeck.InputError, match="is a file; give a folder"):
        benchmark(tmp_path / "file")
    assert main(["benchmark", "--quick"]) == 2


def test_a_row_takes_scale_tasks_and_methods_from_the_table(folder: Path) -> None:
    before = content(folder)
    found = benchmark(folder, encoders=["one-hot"], default=False, floor=False)
    assert found.content["scale"] == "quick"
    assert found.content["tasks"].keys() == before["tasks"].keys()
    assert {name for name in found.rows["one-hot"]["scores"] if not name.endswith("_mlp")} == found.content[
        "tasks"
    ].keys()
    again = benchmark(folder, default=False, floor=False, reference="one-hot")
    assert again.rows.keys() == found.rows.keys()
    assert again.reference == content(folder)["reference"] == "one-hot"
    assert again.rows["one-hot"]["mean_differences"]["mean, proteins"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert benchmark(folder, default=False, floor=False, reference="composition").reference == "composition"


def test_another_model_by_the_same_name_replaces_the_row(tmp_path: Path) -> None:
    how = {"default": False, "floor": False, "scale": "quick"}
    first = benchmark(tmp_path, encoders=["mine=composition"], tasks=["structural_class", "solubility_esol"], **how)
    second = benchmark(tmp_path, encoders=["mine=dipeptides"], tasks=["structural_class"], **how)
    assert first.rows["mine"]["dimension"] == 20
    assert second.rows["mine"]["dimension"] == 400
    # Nothing of the old one is left.
    assert second.rows["mine"]["scores"].keys() == {"structural_class"}
    assert second.replicates.keys() == {"mine/structural_class"}


def test_one_run_at_a_time_writes_a_table(folder: Path) -> None:
    with exclusive(folder / "lock"), pytest.raises(limbeck.InputError, match="another run is writing it"):
        benchmark(folder, encoders=["composition"], default=False, floor=False)


def test_a_speed_belongs_to_a_machine(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "moved"
    shutil.copytree(folder, output)
    monkeypatch.setattr(run, "machine", lambda: {"processor": "another", "cores": 64, "system": "Linux"})
    monkeypatch.setattr(cost, "machine", run.machine)
    found = benchmark(output, encoders=["third=composition"], default=False, floor=False)
    assert found.rows["third"]["speed"]["machine"]["cores"] == 64
    page = (output / "benchmark.html").read_text()
    assert "Measured on another machine, so not in the picture: third" in page


def test_a_students_teachers_come_from_its_folder(tmp_path: Path) -> None:
    shutil.copytree(Path(limbeck.__file__).parent / "models" / "limbeck-9m", tmp_path / "student")
    assert run._teachers(str(tmp_path / "student")) == []
    record = {"teachers": [{"name": "one"}, {"name": "two"}]}
    (tmp_path / "student" / "training.json").write_text(json.dumps(record))
    assert run._teachers(str(tmp_path / "student")) == ["one", "two"]
    assert run._teachers("composition") == []


def test_tasks_are_listed_with_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "tasks"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^localisation +\(its data are not here", shown, re.MULTILINE)
    assert re.search(r"^melting$", shown, re.MULTILINE)
    assert "contact prediction" in shown
    assert max(map(len, shown.splitlines())) <= 140


def test_speed_is_of_residues() -> None:
    found = speed(limbeck.load("composition"))
    assert len(found["rounds"]) == 3
    assert min(found["rounds"]) <= found["residues_per_second"] <= max(found["rounds"])


def test_a_students_fine_tuned_row_stands_beside_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import limbeck.benchmarks.finetuning as finetuning

    def tuned(tasks, place, scale, split, *, encoder, layer, settings, cache):
        assert (scale, split, encoder, layer, settings.method) == ("quick", "test", "random-student", None, "full")
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
