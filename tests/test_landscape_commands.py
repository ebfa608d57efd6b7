"""`limbeck landscape` and `limbeck predict` as a user gives them, on small assays cut from the shipped ones."""

import csv
import gzip
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import limbeck
from landscape_fixture import make_comparison
from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.landscapes import compare, few_labels, predict, run
from limbeck.landscapes.in_context import InContextModel
from limbeck.landscapes.ladder import rungs
from limbeck.landscapes.models import MeanModel, ZeroLabelModel
from limbeck.landscapes.reading import read_assay
from limbeck.landscapes.terminal import as_text
from limbeck.landscapes.trained import open_trained, save_trained
from limbeck.landscapes.wild_types import read_wild_types

SHIPPED = Path(__file__).parents[1] / "datasets"
WILD_TYPE = SHIPPED / "dms_nn4dms" / "pab1.fasta"
LENGTH = 75
QUICK = ["--wild-type", str(WILD_TYPE), "--replicates", "100", "--no-curves", "--split", "random"]
CONTEXTS = ["--no-default-encoder", "--encoder", "limbeck-contexts"]


def shipped(name, every):
    """Column names and every so manieth row of a shipped assay."""
    with gzip.open(SHIPPED / name, "rt", newline="") as file:
        names, *rows = csv.reader(file)
    return names, rows[::every]


def written(path, names, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("landscape")


@pytest.fixture(scope="module")
def assay(place):
    """About 120 variants of a domain of 75 residues, one mutation or two."""
    names, rows = shipped("dms_nn4dms/pab1.csv.gz", 310)
    kept = [names.index(name) for name in ("variant", "score")]
    return written(place / "pab1.csv", ["variant", "score"], [[row[i] for i in kept] for row in rows])


@pytest.fixture(scope="module")
def report(place, assay):
    """A report that all tests may read."""
    assert main(["landscape", str(assay), "-o", str(place / "report"), *QUICK, *CONTEXTS, "-q"]) == 0
    return place / "report"


@pytest.fixture
def own(report, tmp_path):
    """A copy of the report, to run again."""
    return Path(shutil.copytree(report, tmp_path / "report"))


@pytest.fixture
def no_networks(monkeypatch):
    """As where PyTorch is not installed; it is quicker, too."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))


def read(folder):
    """The report's data but for what is of the day: how long it took."""
    found = json.loads((folder / "report.json").read_text())
    found["settings"].pop("seconds")
    found["scores"].pop("seconds")
    return found


def fits(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "work" / "fits").glob("*.safetensors")}


def refused(capsys, *command):
    """The one line in which a command is refused, exit code 2."""
    capsys.readouterr()
    try:
        code = main([str(part) for part in command])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


# --- a report


def test_report_has_a_page_data_and_a_model(report):
    assert {path.name for path in report.iterdir()} == {"lock", "model", "report.html", "report.json", "work"}
    data = read(report)
    assert "limbeck-contexts" in data["verdicts"]["sentence"][0]
    assert "ridge on limbeck-contexts" in data["scores"]["model"]
    assert "small CNN" in data["scores"]["model"]
    page = (report / "report.html").read_text()
    assert data["verdicts"]["sentence"][0] in re.sub(r"<wbr>", "", page)
    assert open_trained(report / "model").name == data["settings"]["model"]


def test_default_encoder_and_its_random_double_compete(assay, tmp_path, capsys, no_networks):
    command = ["landscape", str(assay), "-o", str(tmp_path / "r"), *QUICK]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "ridge on limbeck-9m" in out
    assert "ridge on random-student" in out
    # What was taken for what is said before it starts.
    assert "Columns: mutations 'variant', scores 'score'." in err
    assert "first residue is number 126" in err
    kinds = read(tmp_path / "r")["scores"]
    assert dict(zip(kinds["model"], kinds["kind"], strict=True))["ridge on random-student"] == "random network"


def test_without_pytorch_networks_are_left_out_and_named(assay, tmp_path, capsys, no_networks):
    assert main(["landscape", str(assay), "-o", str(tmp_path / "r"), *QUICK, *CONTEXTS]) == 0
    out = capsys.readouterr().out
    assert "CNN" not in out
    assert "networks trained on the scores alone: they need PyTorch" in " ".join(out.split())
    assert "pip install 'limbeck[landscape]'" in " ".join(out.split())


def test_same_command_again_fits_nothing(assay, own):
    before, kept = read(own), fits(own)
    assert main(["landscape", str(assay), "-o", str(own), *QUICK, *CONTEXTS, "-q"]) == 0
    assert fits(own) == kept
    assert read(own) == before


def test_another_encoder_fits_only_its_own(assay, own, capsys):
    kept = fits(own)
    more = ["--encoder", "composition"]
    assert main(["landscape", str(assay), "-o", str(own), *QUICK, *CONTEXTS, *more, "-q"]) == 0
    now = fits(own)
    assert {name: now[name] for name in kept} == kept
    # Ridge and a Gaussian process on its vectors, and ridge on one-hot beside them.
    assert len(now) == len(kept) + 3


def test_interrupted_run_goes_on_to_the_same_end(assay, tmp_path, report, monkeypatch, capsys, no_networks):
    fitted, count = compare.fitted, iter(range(100))

    def stopping(*args, **more):
        if next(count) == 4:
            raise KeyboardInterrupt
        return fitted(*args, **more)

    command = ["landscape", str(assay), "-o", str(tmp_path / "stopped"), *QUICK, *CONTEXTS, "-q"]
    monkeypatch.setattr(compare, "fitted", stopping)
    assert main(command) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    kept = fits(tmp_path / "stopped")
    assert len(kept) == 4
    assert not (tmp_path / "stopped" / "report.json").exists()
    monkeypatch.setattr(compare, "fitted", fitted)
    assert main(command) == 0
    assert {name: fits(tmp_path / "stopped")[name] for name in kept} == kept
    assert main([*command[:3], str(tmp_path / "straight"), *command[4:]]) == 0
    assert read(tmp_path / "stopped") == read(tmp_path / "straight")
    model = (tmp_path / folder / "model" / "weights.safetensors" for folder in ("stopped", "straight"))
    assert next(model).read_bytes() == next(model).read_bytes()


def test_counts_are_no_pretraining(assay):
    """An encoder of the name of a rung took its place, and was said to be pretrained."""
    read_in = read_assay(assay, wild_type=WILD_TYPE)
    found, _ = rungs(read_in, encoders=["composition", "one-hot", "kmers-3"], default_encoder=False)
    names = [rung.name for rung in found]
    assert len(set(names)) == len(names)
    assert not any(rung.pretrained for rung in found)
    # These have no vectors of single residues; one-hot has.
    assert not [name for name in names if "at mutations" in name and "one-hot" not in name]


def test_a_network_that_won_is_not_fitted_again(assay, own, monkeypatch):
    data = pd.DataFrame(read(own)["scores"])
    assert (data["model"] == "small CNN").any()
    read_in = read_assay(assay, wild_type=WILD_TYPE)
    ladder, _ = rungs(read_in, default_encoder=False)
    network = next(rung for rung in ladder if rung.kind == "network")
    monkeypatch.setattr(run, "winner", lambda *_: network)
    command = ["landscape", str(assay), "-o", str(own), *QUICK, *CONTEXTS, "-q"]
    training = own / "work" / "fits" / "training"
    before = set(training.iterdir())
    assert main(command) == 0
    assert len(set(training.iterdir()) - before) == 1
    weights = (own / "model" / "weights.safetensors").read_bytes()
    states = {path: path.stat().st_mtime_ns for path in training.iterdir()}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in training.iterdir()} == states
    assert (own / "model" / "weights.safetensors").read_bytes() == weights


def test_python_gives_what_the_command_gives(assay, report):
    found = limbeck.landscape(
        assay, wild_type=WILD_TYPE, replicates=100, curves=False, splits=["random"], default_encoder=False,
        encoders=["limbeck-contexts"],
    )  # fmt: skip
    expected = pd.DataFrame(read(report)["scores"])
    assert list(found.scores["model"]) == list(expected["model"])
    np.testing.assert_allclose(found.scores[["value", "low", "high"]], expected[["value", "low", "high"]], atol=1e-6)
    assert len(repr(found)) < 200


@pytest.mark.parametrize("width", [80, 100, 140])
def test_table_fits_the_terminal(assay, report, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["landscape", str(assay), "-o", str(report), *QUICK, *CONTEXTS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width


def test_families_have_a_plural():
    found = make_comparison(splits=7)
    text = as_text(found)
    assert "over 6 families" in text
    assert "familys" not in text
    found.splits["units"] = 1
    assert "over 1 family" in as_text(found)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--ladder", "foo"], "there is no ladder 'foo'"),
        (["--encoder", "foo"], "no encoder is called 'foo'"),
        (["--split", "foo"], "there is no split 'foo'"),
        (["--split", "parent"], "all 1"),
        (["--replicates", "3"], "--replicates 3"),
        (["--sample", "-1"], "--sample -1 is too few"),
        (["--sample", "0"], "--sample 0 is too few"),
        (["--sample", "abc"], "'abc' is neither a number nor 'all'"),
        (["--margin", "nan"], "--margin nan"),
        (["--margin", "-1"], "--margin -1"),
        (["--margin", "inf"], "--margin inf"),
        (["--seed", "-5"], "--seed -5"),
        (["--wild-type", "missing.fasta"], "--wild-type 'missing.fasta' is no file"),
        (["--wild-type", "G126A"], "is no file, no column and no sequence"),
        (["--score-column", "nope"], "no column called 'nope'"),
        (["--offset", "7"], "the wild type has positions 7 to 81"),
        (["--input-format", "foo"], "'foo' is unknown"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(assay, tmp_path, capsys, options, says):
    quick = [*QUICK[:2], "--no-default-encoder"]
    assert says in refused(capsys, "landscape", assay, "-o", tmp_path / "r", *quick, *options)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no rows"),
        (b"variant,score\n", "holds no rows"),
        (b"score,score\nG126A,1\n", "several columns are called 'score'"),
        (bytes(range(256)) * 8, "binary data"),
        (b"variant,score\nG126A,0,5\n", "none of its rows can be used; the first, on line 2, has 3 fields"),
        (b"variant;score\n" + b"G126A;0,5\n" * 20, "separated by ';'"),
        (b"variant,score\n" + b"G126A,0.5\n" * 4 + b"N127E,0.5\nI128A,1\nWT,1\n", "4 usable variants"),
    ],
)
def test_files_that_are_no_assay_are_one_line(tmp_path, capsys, content, says):
    (tmp_path / "assay.csv").write_bytes(content)
    command = ("landscape", tmp_path / "assay.csv", "-o", tmp_path / "r", "--wild-type", WILD_TYPE)
    assert says in refused(capsys, *command)
    assert not (tmp_path / "r").exists()


def test_numbers_of_tiny_scores_stand_apart():
    """Dissociation constants in mol/l have squares of eight characters."""
    found = make_comparison()
    scores = found.scores
    scores.loc[scores["metric"] == "mse", "value"] = 3.43e-18
    assert "3.43e-18" in as_text(found)
    assert not re.search(r"\S3\.43e-18", as_text(found))


def test_an_assay_too_small_to_compare_models_gets_the_one_that_few_labels_recommend(tmp_path, capsys):
    names, rows = shipped("dms_nn4dms/pab1.csv.gz", 1000)
    kept = [names.index(name) for name in ("variant", "score")]
    few = written(tmp_path / "few.csv", ["variant", "score"], [[row[i] for i in kept] for row in rows])
    command = ["landscape", few, "-o", tmp_path / "r", "--wild-type", WILD_TYPE]
    message = refused(capsys, *command, "--split", "random")
    assert "split 'random' cannot be made of few: only " in message
    assert not (tmp_path / "r").exists()

    assert main([*map(str, command)]) == 0
    shown = capsys.readouterr().out
    recommended = few_labels.recommend(len(rows)).method
    assert "no verdict" in shown
    assert f"With {len(rows)} variants of one protein, use {recommended}:" in " ".join(shown.split())
    assert "random: only " in shown
    trained = open_trained(tmp_path / "r" / "model")
    assert (trained.name, len(trained.assay)) == (recommended, len(rows))
    page = (tmp_path / "r" / "report.html").read_text()
    assert f"use {recommended}" in page
    assert 'class="card' not in page
    # What is kept predicts, with a standard deviation.
    assert main(["predict", str(tmp_path / "r"), str(few), "-q", "-o", str(tmp_path / "p.csv")]) == 0
    found = pd.read_csv(tmp_path / "p.csv")
    assert len(found) == len(rows)
    assert found[["prediction", "sd"]].notna().all(axis=None)


def test_missing_file_and_folder_are_one_line(tmp_path, capsys):
    assert "no such file" in refused(capsys, "landscape", tmp_path / "none.csv", "-o", tmp_path / "r")
    assert "is a directory" in refused(capsys, "landscape", tmp_path, "-o", tmp_path / "r")


def bad_rows(assay, path):
    """The assay with six rows that cannot be used."""
    lines = assay.read_text().splitlines()
    # The name of a double mutant has a comma, and quotes around it.
    name = next(line for line in lines[1:] if '"' not in line).split(",")[0]
    lines[2], lines[4], lines[6] = "J126A,0.1", f"{name},", f"{name},high"
    lines[8], lines[9], lines[10] = "A126C,0.3", "G999A,0.2", "foo,0.2"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_bad_rows_are_listed_with_their_lines(assay, tmp_path, capsys, no_networks):
    path = bad_rows(assay, tmp_path / "bad.csv")
    command = ["landscape", str(path), "-o", str(tmp_path / "r"), *QUICK, "--no-default-encoder"]
    line = refused(capsys, *command)
    assert "6 of" in line
    assert "line 3: mutation 'J126A'" in line
    assert "line 5: its score is missing" in line
    assert "--skip-invalid" in line
    assert not (tmp_path / "r").exists()
    assert main([*command, "--skip-invalid"]) == 0
    # Silence about them would be a trap.
    assert "6 of" in capsys.readouterr().err
    skipped = (tmp_path / "r" / "skipped.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in skipped] == ["line", "3", "5", "7", "9", "10", "11"]


@pytest.mark.parametrize(
    ("blocked", "says"),
    [("model", "model: not a folder"), ("model/mine.txt", "holds something else"), ("work", "work"), ("", "a folder")],
)
def test_folders_that_cannot_serve_are_refused_before_the_work(assay, tmp_path, capsys, blocked, says):
    path = tmp_path / "r" / blocked
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    assert says in refused(capsys, "landscape", assay, "-o", tmp_path / "r", *QUICK, "--no-default-encoder")
    assert path.read_text() == "mine"
    assert not list(tmp_path.rglob("*.safetensors"))


def test_disk_that_fills_is_one_line(assay, tmp_path, capsys, monkeypatch, no_networks):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "compare", full)
    command = ("landscape", assay, "-o", tmp_path / "r", *QUICK, "--no-default-encoder", "-q")
    assert "No space left on device" in refused(capsys, *command)


# --- predictions


@pytest.fixture(scope="module")
def variants(place):
    return written(place / "new.csv", ["mutant"], [["G126A"], ["N127E:I128A"], ["WT"]])


def test_predictions_are_those_of_the_model(report, variants, tmp_path):
    for ending, reader in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        assert main(["predict", str(report), str(variants), "-o", str(tmp_path / f"y.{ending}"), "-q"]) == 0
        found = reader(tmp_path / f"y.{ending}")
        assert list(found["id"]) == ["G126A", "N127E:I128A", "WT"]
        trained = open_trained(report / "model")
        wild_type = trained.assay.wild_types["pab1"]
        rows = ["A" + wild_type[1:], wild_type[0] + "EA" + wild_type[3:], wild_type]
        # The same vectors up to how they were batched.
        np.testing.assert_allclose(found["prediction"], trained.model.predict(rows), rtol=1e-4, atol=1e-5)
        assert list(found["mutations"]) == [1, 2, 0]
        same = predict(report / "model", variants).table
        pd.testing.assert_frame_equal(same, found.fillna({"note": ""}), check_dtype=False, rtol=1e-4)


def test_predictions_of_sequences_and_fasta(report, tmp_path, capsys):
    wild_type = "".join(WILD_TYPE.read_text().split("\n")[1:])
    (tmp_path / "new.fasta").write_text(f">a\n{wild_type}\n>b\nA{wild_type[1:]}\n")
    written(tmp_path / "new.csv", ["name", "sequence"], [["a", wild_type], ["b", "A" + wild_type[1:]]])
    tables = []
    for name in ("new.fasta", "new.csv"):
        assert main(["predict", str(report), str(tmp_path / name), "-q"]) == 0
        tables.append(capsys.readouterr().out)
        assert "WT" in tables[-1]
        assert "G126A" in tables[-1]


def test_mistakes_with_variants_are_one_line(report, variants, tmp_path, capsys):
    model = report / "model"
    wrong = written(tmp_path / "wrong.csv", ["mutant"], [["A126C"], ["G999A"], ["G126A"]])
    line = refused(capsys, "predict", model, wrong)
    assert "2 of 3 rows" in line
    assert "line 2: mutation 'A126C': the wild type has G at position 126" in line
    assert main(["predict", str(model), str(wrong), "--skip-invalid", "-q"]) == 0
    assert "no saved model" in refused(capsys, "predict", tmp_path, variants)
    assert "no such file" in refused(capsys, "predict", model, tmp_path / "none.csv")
    assert "either a file of variants or --saturate" in refused(capsys, "predict", model)
    assert "there is no folder" in refused(capsys, "predict", model, variants, "-o", tmp_path / "none" / "y.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in refused(capsys, "predict", model, variants, "-o", tmp_path / "folder.csv")
    assert ".csv, .tsv or .parquet" in refused(capsys, "predict", model, variants, "-o", tmp_path / "y.txt")
    assert "give --explain N" in refused(capsys, "predict", model, variants, "--check")
    assert "can be named, not 0" in refused(capsys, "predict", model, variants, "--explain", "0")


def test_damaged_model_is_refused(own, variants, capsys):
    with (own / "model" / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    assert "missing or damaged" in refused(capsys, "predict", own / "model", variants)
    (own / "model" / "model.json").write_text("{")
    assert "model.json is damaged" in refused(capsys, "predict", own / "model", variants)


def test_explanations_name_training_variants(assay, report, tmp_path, capsys):
    with assay.open() as file:
        known = {row["variant"].replace(",", ":"): float(row["score"]) for row in csv.DictReader(file)}
    one = written(tmp_path / "one.csv", ["mutant"], [["G126A"]])
    output = tmp_path / "why.csv"
    command = ["predict", str(report), str(one), "--explain", "3", "--check", "-q", "-o", str(output)]
    assert main(command) == 0
    found = pd.read_csv(output)
    assert (found.groupby("method")["rank"].max() == 3).all()
    plain = found[found["training_variant"].isin(known)]
    # A stop hides what is behind it, so a few are called otherwise in the file.
    assert len(plain) > len(found) / 2
    np.testing.assert_allclose(plain["measured"], [known[name] for name in plain["training_variant"]], rtol=1e-5)
    # What was asked for is said, quiet or not.
    assert "neighbours" in capsys.readouterr().err


# --- saturation


@pytest.fixture(scope="module")
def one_hot(place, assay):
    """A report whose model reads residues only, and scans in no time."""
    find = importlib.util.find_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
        command = ["landscape", str(assay), "-o", str(place / "one-hot"), *QUICK, "--no-default-encoder", "-q"]
        assert main(command) == 0
    return place / "one-hot"


def test_scan_has_all_single_mutants(one_hot, tmp_path, capsys):
    folder = tmp_path / "scan"
    assert main(["predict", str(one_hot), "--saturate", "-o", str(folder), "--doubles", "50"]) == 0
    assert "singles.csv, doubles.csv, heatmap.svg, scan.html" in capsys.readouterr().err
    singles, doubles = pd.read_csv(folder / "singles.csv"), pd.read_csv(folder / "doubles.csv")
    assert len(singles) == singles["variant"].nunique() == 19 * LENGTH
    assert set(singles["position"]) == set(range(126, 126 + LENGTH))
    assert singles["prediction"].is_monotonic_decreasing
    assert len(doubles) == 50
    assert main(["predict", str(one_hot), "--saturate", str(WILD_TYPE), "-o", str(folder), "--doubles", "0"]) == 0
    # Those of the earlier scan are not left beside this one's.
    assert "doubles.csv" not in capsys.readouterr().err
    assert not (folder / "doubles.csv").exists()
    pd.testing.assert_frame_equal(pd.read_csv(folder / "singles.csv"), singles)


def test_mistakes_with_scans_are_one_line_before_the_work(one_hot, variants, tmp_path, capsys):
    """A file that is not there was scanned as the protein that its name spells."""
    scan = ("predict", one_hot, "-o", tmp_path / "scan", "--saturate")
    assert "--saturate 'missing.fasta' is no file" in refused(capsys, *scan, "missing.fasta")
    assert "is no file, no name and no sequence" in refused(capsys, *scan, "G126A")
    assert "is no variant of pab1" in refused(capsys, *scan, "ACDEFGH")
    assert "--doubles" in refused(capsys, *scan, "--doubles", "-1")
    assert "not of --saturate" in refused(capsys, *scan, "--explain", "3")
    assert not (tmp_path / "scan").exists()
    assert "name a folder with -o" in refused(capsys, "predict", one_hot, "--saturate")
    (tmp_path / "file").write_text("mine")
    command = ("predict", one_hot, "--saturate", "-o", tmp_path / "file")
    assert "cannot be made a folder" in refused(capsys, *command)
    assert (tmp_path / "file").read_text() == "mine"


# --- without labels

NUMBERED_FROM = 126


@pytest.fixture(scope="module")
def singles(place):
    """The measured single mutants of the shipped assay; the in-context network learned from none of them."""
    names, rows = shipped("dms_nn4dms/pab1.csv.gz", 1)
    kept = [(row[names.index("variant")], row[names.index("score")]) for row in rows]
    kept = [(name, score) for name, score in kept if "," not in name and "*" not in name]
    return written(place / "singles.csv", ["variant", "score"], kept)


def mutants(path):
    """Sequences and scores of a file of single mutants."""
    wild_type = next(iter(read_wild_types(WILD_TYPE).values()))
    table = pd.read_csv(path)
    places = [int(name[1:-1]) - NUMBERED_FROM for name in table["variant"]]
    rows = [wild_type[:p] + name[-1] + wild_type[p + 1 :] for p, name in zip(places, table["variant"], strict=True)]
    return wild_type, rows, table["score"]


@pytest.mark.parametrize(("name", "least"), [("limbeck-in-context", 0.4), ("limbeck-9m", 0.15)])
def test_a_ranking_without_labels_agrees_with_measurements(singles, tmp_path, capsys, name, least):
    """Measured: 0.488 and 0.207."""
    output = tmp_path / "ranked.csv"
    assert main(["predict", name, str(singles), "--wild-type", str(WILD_TYPE), "-o", str(output)]) == 0
    said = capsys.readouterr().err
    assert f"Scores of {name} without labels only rank variants: higher is better, and they have no units." in said
    assert "Warning" not in said
    found = pd.read_csv(output)
    wild_type, rows, scores = mutants(singles)
    assert spearmanr(found["prediction"], scores)[0] > least
    known = {
        "limbeck-in-context": lambda: InContextModel(wild_types=(wild_type,)).rank(rows),
        "limbeck-9m": lambda: ZeroLabelModel(wild_types=(wild_type,)).ratios(rows),
    }
    np.testing.assert_allclose(found["prediction"], known[name](), rtol=1e-4, atol=1e-4)
    # Named as the file names them, without notes on variants that nothing was fitted to.
    assert list(found["variant"]) == list(pd.read_csv(singles)["variant"])
    assert found[["sd", "note"]].isna().all(axis=None)
    table = predict(name, singles, wild_type=wild_type).table
    np.testing.assert_allclose(table["prediction"], found["prediction"], rtol=1e-4)


def test_a_scan_without_labels_scores_what_predict_scores(singles, tmp_path, capsys):
    folder = tmp_path / "scan"
    command = ["predict", "limbeck-9m", "--saturate", str(WILD_TYPE), "--offset", str(NUMBERED_FROM)]
    assert main([*command, "-o", str(folder), "--doubles", "20"]) == 0
    assert "singles.csv, doubles.csv, heatmap.svg, scan.html" in capsys.readouterr().err
    scan, doubles = pd.read_csv(folder / "singles.csv"), pd.read_csv(folder / "doubles.csv")
    assert len(scan) == scan["variant"].nunique() == 19 * LENGTH
    assert len(doubles) == 20
    known = predict("limbeck-9m", singles, wild_type=WILD_TYPE).table.set_index("variant")["prediction"]
    np.testing.assert_allclose(scan.set_index("variant")["prediction"][known.index], known, rtol=1e-4)
    # Log-likelihood ratios are against the wild type, and add up.
    np.testing.assert_allclose(scan["gain"], scan["prediction"])
    np.testing.assert_allclose(doubles["prediction"], doubles["additive"], rtol=1e-4)
    assert scan[["sd", "measured", "note"]].isna().all(axis=None)
    page = (folder / "scan.html").read_text()
    assert "they have no units" in page
    assert "in training" not in page


def test_a_first_plate_without_labels(singles, tmp_path, capsys, monkeypatch):
    # What lies here is not the report that a model of this name came with.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    command = ["propose", "limbeck-9m", str(singles), "--wild-type", str(WILD_TYPE), "--plate", "20", "-o", "plate.csv"]
    assert main(command) == 0
    assert "they have no units" in capsys.readouterr().err
    found = pd.read_csv("plate.csv")
    ranked = predict("limbeck-9m", singles, wild_type=WILD_TYPE).table.sort_values("prediction", ascending=False)
    assert list(found["mutations"]) == list(ranked["variant"][:20])
    assert found["uncertainty"].isna().all()
    assert main([*command, "--per-position", "1", "--measured", "plate.csv", "-q"]) == 0
    spread = pd.read_csv("plate.csv")
    assert spread["mutations"].str[1:-1].is_unique
    assert not set(spread["mutations"]) & set(found["mutations"])
    said = refused(capsys, *command, "--strategy", "thompson")
    assert "--strategy thompson needs a fitted model" in said
    assert "use --strategy greedy" in said


def test_a_protein_that_the_network_learned_from_is_scored_with_a_warning(tmp_path, capsys):
    # A part of it is as good as known.
    known = InContextModel().learned_from()["SUMO1_HUMAN"][:90]
    path = written(tmp_path / "v.csv", ["mutant"], [[f"{known[9]}10W"], [f"{known[19]}20A"]])
    assert main(["predict", "limbeck-in-context", str(path), "--wild-type", known]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 3
    (line,) = [line for line in err.splitlines() if line.startswith("Warning")]
    assert "learned from measurements of this protein or one much like it (SUMO1_HUMAN)" in line


def test_a_folder_goes_before_a_name_and_an_encoders_folder_is_a_name(singles, tmp_path, monkeypatch):
    shipped_folder = Path(limbeck.__file__).parent / "models" / "limbeck-9m"
    by_path, by_name = (predict(name, singles, wild_type=WILD_TYPE).table for name in (shipped_folder, "limbeck-9m"))
    pd.testing.assert_frame_equal(by_path, by_name)
    assay = read_assay(singles, wild_type=WILD_TYPE)
    save_trained(MeanModel().fit(assay.rows, assay.scores), tmp_path / "limbeck-9m", assay, "training mean")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(predict("limbeck-9m", singles).table["prediction"], assay.scores.mean())
    with pytest.raises(InputError, match="a saved model knows its wild types; leave --wild-type out"):
        predict("limbeck-9m", singles, wild_type=WILD_TYPE)


@pytest.mark.parametrize("verb", ["predict", "propose"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["limbeck-9m", "v.csv"], "limbeck-9m: no folder of a saved model; to score without labels by a name, say of"),
        (["limbeck-in-context", "--saturate", "-o", "s.csv"], "say of which protein: --wild-type"),
        (["limbeck-9m", "v.csv", "--wild-type", "MK7"], "'MK7' is no file and no sequence (character '7' at"),
        (["limbeck-9m", "v.csv", "--wild-type", "bad.fasta"], "bad.fasta, line 2, record 'a': character '7'"),
        (["limbeck-9m", "v.csv", "--wild-type", "none.fasta"], "wild type 'none.fasta' is no file and no sequence"),
        (["limbeck-9m", "v.csv", "--wild-type", "two.fasta"], "two.fasta: holds 2 proteins"),
        (["limbeck-9m", "--saturate", "MKTAY", "--wild-type", "MKTAY", "-o", "s.csv"], "leave --wild-type out"),
        (["limbeck-9m", "v.csv", "--wild-type", "MKTA"], "line 2: inserts 1 residues behind residue 4"),
        (["limbeck-in-context", "v.csv", "--wild-type", "MKTA"], "line 2: inserts 1 residues behind residue 4"),
        (["one-hot", "v.csv", "--wild-type", "MKTAY"], "encoder one-hot has no probabilities of residues"),
        (["limbeck-9n", "v.csv", "--wild-type", "MKTAY"], "no encoder is called 'limbeck-9n'; did you mean limbeck-9m"),
    ],
)
def test_mistakes_without_labels_are_one_line(tmp_path, monkeypatch, capsys, verb, options, says):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "v.csv", ["sequence"], [["MKTAY"]])
    (tmp_path / "bad.fasta").write_text(">a\nMK7TAY\n")
    (tmp_path / "two.fasta").write_text(">a\nMKTAY\n>b\nMKTAC\n")
    assert says in refused(capsys, verb, *options)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_nothing_explains_a_ranking_without_labels(variants, capsys, more):
    command = ("predict", "limbeck-9m", variants, "--wild-type", WILD_TYPE, "--explain", "3", *more)
    assert "it was fitted to no variants that --explain could name" in refused(capsys, *command)
