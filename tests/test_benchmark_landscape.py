"""The shipped landscapes, and the benchmark that runs on them."""

import csv
import gzip
import json
import shutil
from pathlib import Path

import pytest

from limbeck.benchmarks import shipped_data
from limbeck.benchmarks.landscape import LANDSCAPES, benchmark_landscapes, read_landscape, table_of
from limbeck.errors import InputError

# Rows of the files, less those that are a variant measured before.
SIZES = {"beta-lactamase": 5_199, "gb1": 8_733, "bgl3": 26_303}


@pytest.mark.parametrize("name", SIZES)
def test_shipped_landscapes_are_read_as_documented(name: str) -> None:
    assay = read_landscape(name, shipped_data())
    entry = next(entry for entry in LANDSCAPES if entry.name == name)
    assert len(assay) == SIZES[name]
    assert len(assay.wild_types) == 1
    assert {split.removeprefix("file: ") for split in entry.splits if split.startswith("file: ")} <= set(assay.splits)


def test_stability_has_the_published_parts() -> None:
    assay = read_landscape("stability", shipped_data())
    parts = assay.splits["tape"].tolist()
    assert [parts.count(part) for part in ("train", "valid", "test")] == [53_614, 2_512, 12_851]
    assert len(assay.wild_types) == 17
    tested = assay.take(range(len(assay) - 12_851, len(assay)))
    assert set(tested.mutations.tolist()) <= {0, 1}


@pytest.fixture
def little_data(tmp_path: Path) -> Path:
    """A data folder with 180 variants of Ube4b, the first of each part."""
    source = shipped_data() / "dms_nn4dms"
    folder = tmp_path / "data" / "dms_nn4dms"
    folder.mkdir(parents=True)
    shutil.copy(source / "ube4b.fasta", folder)
    with gzip.open(source / "ube4b.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [
        row
        for part, count in (("train", 100), ("valid", 30), ("test", 50))
        for row in [r for r in rows if r["split_main"] == part and "*" not in r["variant"]][:count]
    ]
    with gzip.open(folder / "ube4b.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    return tmp_path / "data"


@pytest.mark.slow
def test_benchmark_writes_a_report_for_each_and_one_table(little_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "benchmark"
    (row,) = benchmark_landscapes(output, only=["ube4b"], data=little_data)
    assert row["assay"] == "ube4b"
    assert row["split"] == "split_main"
    assert row["verdict"] in ("needed", "not needed", "unclear")
    assert row["model"].find("limbeck-9m") >= 0
    assert "limbeck-9m" not in row["baseline"]
    assert row["difference"] == pytest.approx(row["model_value"] - row["baseline_value"], abs=2e-4)
    assert json.loads((output / "landscape.json").read_text()) == [row]
    assert (output / "landscape.md").read_text() == table_of([row]) + "\n"
    assert (output / "ube4b" / "report.html").exists()


def test_benchmark_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no landscape 'gb2'; choose from: fluorescence"):
        benchmark_landscapes(tmp_path, only=["gb2"])
    with pytest.raises(InputError, match=r"gb1\.csv\.gz: no such file"):
        benchmark_landscapes(tmp_path, only=["gb1"], data=tmp_path)
