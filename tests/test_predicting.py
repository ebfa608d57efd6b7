import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.landscapes.alignment import residues
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models import MeanModel, RidgeModel
from limbeck.landscapes.mutations import Mutator, parse_mutations
from limbeck.landscapes.naming import names_of, variant_name
from limbeck.landscapes.predicting import Seen, predict, saturate, write_table
from limbeck.landscapes.trained import open_trained, save_trained
from limbeck.residues import RESIDUES

WILD = "MKTAYIAKQRQISF"
FIRST = 21
EFFECTS = {r: (i - 9.5) / 10 for i, r in enumerate(RESIDUES)}


def truth(row):
    return sum(EFFECTS[r] * (1 + p % 3) for p, r in enumerate(row))


def training(count=400, seed=0, positions=12):
    """Variants of one to three mutations at the first positions; no tryptophan."""
    rng = np.random.default_rng(seed)
    rows = {WILD}
    while len(rows) < count:
        letters = list(WILD)
        for p in rng.choice(positions, rng.integers(1, 4), replace=False):
            letters[p] = rng.choice(list(RESIDUES.replace("W", "")))
        rows.add("".join(letters))
    rows = sorted(rows)
    scores = np.array([truth(row) for row in rows])
    return Assay("toy", rows, scores, np.full(len(rows), "toy", object), {"toy": WILD}, first_position={"toy": FIRST})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model"
    assay = training()
    save_trained(RidgeModel("one-hot", alpha=1e-6).fit(assay.rows, assay.scores), path, assay, "one-hot, ridge")
    return path


def written(tmp_path, text, name="variants.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


# --- names


@settings(max_examples=100, deadline=None)
@given(st.text("ACDEFGHIK", min_size=4, max_size=12), st.integers(-3, 40), st.data())
def test_a_name_says_how_to_make_the_variant(wild, first, data):
    slots = data.draw(st.dictionaries(st.integers(1, len(wild) - 1), st.integers(1, 2), max_size=2))
    reference = "".join("-" * slots.get(i, 0) + r for i, r in enumerate(wild))
    row = "".join(data.draw(st.sampled_from("ACD" if r != "-" else "A-")) for r in reference)
    name = variant_name(row, reference, first)
    placed = Mutator(wild, first)(parse_mutations(name))
    assert residues(placed) == row.replace("-", "")


@pytest.mark.parametrize(
    ("row", "wild_type", "name"),
    [
        ("MKTA", "MKTA", "WT"),
        ("MRTC", "MKTA", "K22R:A24C"),
        ("M--A", "MKTA", "K22_T23del"),
        ("MK*-", "MKTA", "T23*"),
        ("MKGSTA", "MK--TA", "K22_T23insGS"),
        ("MKG-TA", "MK--TA", "K22_T23insG"),
        ("MK---A", "MK--TA", "T23del"),
        ("M----A", "MK--TA", "K22_T23del"),
        ("GMK", "-MK", "M21delinsGM"),
        ("MKG", "MK-", "K22delinsKG"),
    ],
)
def test_names_of_variants(row, wild_type, name):
    assert variant_name(row, wild_type, 21) == name


def test_names_in_an_assay():
    parents = np.array(["a", "b", ""], object)
    assay = Assay("x", ["MKT", "MKA", "MAA"], np.zeros(3), parents, {"a": "MKA", "b": "MKA"}, "padded")
    assert names_of(assay, [0, 1, 2]) == ["a A3T", "b WT", "MAA"]
    long = Assay("x", ["A" * 40], np.zeros(1), np.array([""], object), layout="padded")
    assert names_of(long, [0]) == [f"{'A' * 24}... (40 residues)"]


# --- a model with its variants


def test_a_model_comes_back_with_its_variants(folder):
    found, assay = open_trained(folder), training()
    assert found.name == "one-hot, ridge"
    assert found.assay.rows == assay.rows
    assert (found.assay.scores == assay.scores).all()
    assert (found.assay.parents == assay.parents).all()
    assert found.assay.first_position == {"toy": FIRST}
    assert found.assay.layout == "substitutions"


def test_variants_of_several_wild_types_come_back(tmp_path):
    parents = np.array(["a", "", "b", "a"] * 5, object)
    rows = ["MKT-", "MKTA", "MAA-", "MRT-"] * 5
    assay = Assay("x", rows, np.arange(20.0), parents, {"a": "MKT-", "b": "MAC-"}, "padded")
    save_trained(MeanModel().fit(rows, assay.scores), tmp_path / "m", assay, "mean")
    found = open_trained(tmp_path / "m").assay
    assert found.parents.tolist() == parents.tolist()
    assert dict(found.wild_types) == {"a": "MKT-", "b": "MAC-"}


def test_a_model_that_was_saved_without_its_variants_is_refused(tmp_path):
    from limbeck.landscapes.models.saved import save

    model = MeanModel().fit(["AA", "AC"], [1, 2])
    save(model, tmp_path / "m", {})
    with pytest.raises(InputError, match="saved without its training data"):
        open_trained(tmp_path / "m")
    save(model, tmp_path / "n", {}, (["AA", "AC"], [1, 2]))
    with pytest.raises(InputError, match="save the model again"):
        open_trained(tmp_path / "n")


# --- predict


def test_mutations_and_sequences_are_scored_alike(folder, tmp_path):
    mutants = ["A24C", "K22R:T23S", "WT", "Y25H"]
    sequences = ["MKTCYIAKQRQISF", "MRSAYIAKQRQISF", WILD, "MKTAHIAKQRQISF"]
    by_name = predict(folder, written(tmp_path, "mutant\n" + "\n".join(mutants) + "\n", "a.csv"))
    by_sequence = predict(
        folder, written(tmp_path, "".join(f">p{i}\n{s}\n" for i, s in enumerate(sequences)), "b.fasta")
    )
    assert by_name.table["prediction"].tolist() == pytest.approx([truth(s) for s in sequences], abs=1e-3)
    assert by_sequence.table["prediction"].tolist() == pytest.approx(by_name.table["prediction"].tolist())
    assert by_name.table["variant"].tolist() == mutants
    assert by_name.table["id"].tolist() == mutants
    assert by_sequence.table["id"].tolist() == ["p0", "p1", "p2", "p3"]
    assert by_sequence.table["variant"].tolist() == mutants
    assert by_sequence.table["mutations"].tolist() == [1, 2, 0, 1]
    assert (by_name.table["sd"] > 0).all()
    assert (by_name.table["note"] == "").all()


def test_what_training_never_showed_is_flagged(folder, tmp_path):
    found = predict(folder, written(tmp_path, "mutant\nF34C\nA24W\nA24W:S33T:F34C\nA24C\n")).table
    assert found["note"].tolist() == [
        "position 34 never mutated in training",
        "W at position 24 not seen in training",
        "positions 33, 34 never mutated in training; W at position 24 not seen in training",
        "",
    ]
    known = found["note"] == ""
    assert found.loc[~known, "sd"].min() > found.loc[known, "sd"].max()


def test_what_stands_behind_a_stop_was_not_seen():
    """A variant that ends early made deletions behind its end look known."""
    deleted = WILD[:8] + "-" + WILD[9:]
    rows = [WILD, WILD[:3] + "*" + "-" * 10, WILD[:8] + "C" + WILD[9:]]
    parents = np.full(3, "toy", object)
    seen = Seen(Assay("toy", rows, np.arange(3.0), parents, {"toy": WILD}, "aligned"))
    variants = Assay("x", [rows[1], deleted], np.zeros(2), parents[:2], {"toy": WILD}, "aligned")
    assert seen.notes(variants) == ["", "- at position 9 not seen in training"]


def test_flags_agree_with_looking_through_the_training_variants():
    assay = training(60, seed=3)
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(list(RESIDUES), len(WILD))) for _ in range(20)]
    variants = Assay("x", rows, np.zeros(20), np.full(20, "toy", object), {"toy": WILD})
    for row, note in zip(rows, Seen(assay).notes(variants), strict=True):
        unseen = [i for i, r in enumerate(row) if r != WILD[i] and not any(t[i] == r for t in assay.rows)]
        assert bool(note) == bool(unseen)
        assert all(str(FIRST + i) in note for i in unseen)


@pytest.mark.parametrize(("name", "separator"), [("out.csv", ","), ("out.tsv", "\t")])
def test_tables_are_written_by_their_ending(folder, tmp_path, name, separator):
    variants = written(tmp_path, "mutant\nA24C\nWT\n")
    found = predict(folder, variants, tmp_path / name)
    table = pd.read_csv(tmp_path / name, sep=separator, keep_default_na=False)
    assert table["id"].tolist() == ["A24C", "WT"]
    # Text has six digits.
    np.testing.assert_allclose(table["prediction"], found.table["prediction"], rtol=1e-5)
    assert not list(tmp_path.glob("*.partial"))


def test_parquet_and_standard_output(folder, tmp_path, capsys):
    variants = written(tmp_path, "mutant\nA24C\nWT\n")
    found = predict(folder, variants, tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["prediction"].tolist() == found.table["prediction"].tolist()
    predict(folder, variants, "-")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["id"] for row in rows] == ["A24C", "WT"]
    assert float(rows[0]["prediction"]) == pytest.approx(found.table["prediction"][0], rel=1e-5)


def test_another_ending_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(InputError, match=r"\.csv, \.tsv or \.parquet"):
        predict(tmp_path / "no-model", tmp_path / "no-file", tmp_path / "out.xlsx")
    with pytest.raises(InputError, match="cannot be written"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "nowhere" / "out.csv")


def test_rows_that_cannot_be_used(folder, tmp_path):
    variants = written(tmp_path, "mutant\nA24C\nG24C\nK22R\n")
    with pytest.raises(InputError, match="line 3") as error:
        predict(folder, variants)
    assert "\n" not in str(error.value)
    found = predict(folder, variants, skip_invalid=True)
    assert found.table["id"].tolist() == ["A24C", "K22R"]
    assert [line for line, _ in found.skipped] == [3]


def test_several_wild_types_are_named(tmp_path):
    rows = ["MKTA", "MRTA", "MKTC", "WWYA", "WWYC", "WFYA"] * 3
    parents = np.array((["a"] * 3 + ["b"] * 3) * 3, object)
    assay = Assay("x", rows, np.arange(18.0), parents, {"a": "MKTA", "b": "WWYA"}, "padded")
    save_trained(RidgeModel(alpha=1.0).fit(rows, assay.scores), tmp_path / "m", assay, "ridge")
    found = predict(tmp_path / "m", written(tmp_path, ">x\nMRTC\n>y\nWFYC\n", "v.fasta")).table
    assert found["wild_type"].tolist() == ["a", "b"]
    assert found["variant"].tolist() == ["K2R:A4C", "W2F:A4C"]


def test_proteins_without_a_wild_type(tmp_path):
    rows = [s.ljust(6, "-") for s in ("MKTA", "MRTAGG", "MKT", "MKTCAA")] * 5
    assay = Assay("x", rows, np.arange(20.0), np.full(20, "", object), {}, "padded")
    save_trained(RidgeModel("composition", alpha=1.0).fit(rows, assay.scores), tmp_path / "m", assay, "ridge")
    found = predict(tmp_path / "m", written(tmp_path, ">x\nMRTC\n", "v.fasta")).table
    assert found["variant"].tolist() == ["MRTC"]
    assert found["mutations"].isna().all()
    assert found["note"].tolist() == [""]
    with pytest.raises(InputError, match="no wild types"):
        saturate(tmp_path / "m")
    scan = saturate(tmp_path / "m", "MRTC", doubles=0)
    assert len(scan.singles) == 4 * 19


# --- saturate


@pytest.fixture(scope="module")
def scan(folder):
    return saturate(folder, combined=5, doubles=8)


def test_all_single_mutants_are_ranked(scan):
    table = scan.singles
    assert len(table) == 19 * len(WILD)
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert table["prediction"].is_monotonic_decreasing
    assert set(table["variant"]) == {f"{w}{FIRST + i}{r}" for i, w in enumerate(WILD) for r in RESIDUES if r != w}
    assert (table["variant"] == table["wild_type"] + table["position"].astype(str) + table["residue"]).all()
    known = table[table["note"] == ""]
    rows = [
        WILD[: p - FIRST] + r + WILD[p - FIRST + 1 :] for p, r in zip(known["position"], known["residue"], strict=True)
    ]
    assert known["prediction"].tolist() == pytest.approx([truth(row) for row in rows], abs=1e-3)
    assert scan.base == pytest.approx(truth(WILD), abs=1e-3)
    assert known["gain"].tolist() == pytest.approx([truth(row) - truth(WILD) for row in rows], abs=2e-3)


def test_measured_values_stand_beside_predictions(scan):
    measured = dict(zip(training().rows, training().scores, strict=True))
    found = 0
    for row in scan.singles.itertuples():
        place = row.position - FIRST
        expected = measured.get(WILD[:place] + row.residue + WILD[place + 1 :], np.nan)
        assert row.measured == pytest.approx(expected, nan_ok=True)
        found += np.isfinite(row.measured)
    assert found > 0


def test_doubles_combine_the_best_singles_of_different_positions(scan):
    best = scan.singles.drop_duplicates("position").head(5)
    assert len(scan.doubles) == 8
    assert scan.doubles["prediction"].is_monotonic_decreasing
    gains = dict(zip(best["variant"], best["gain"], strict=True))
    for row in scan.doubles.itertuples():
        first, second = row.variant.split(":")
        assert int(first[1:-1]) < int(second[1:-1])
        assert row.additive == pytest.approx(gains[first] + gains[second])
        # A linear model on one-hot columns knows no interaction.
        assert row.gain == pytest.approx(row.additive, abs=1e-6)
    assert any("10 pairs; the best 8 are listed" in note for note in scan.notes)


def test_the_heat_map_holds_the_predictions(scan):
    found = scan.predicted
    assert found.wild_type == WILD
    assert found.positions.tolist() == list(range(FIRST, FIRST + len(WILD)))
    for row in scan.singles.itertuples():
        assert found.values[found.letters.index(row.residue), row.position - FIRST] == row.prediction
    own = [found.values[found.letters.index(r), i] for i, r in enumerate(WILD)]
    assert np.isnan(own).all()
    assert scan.measured.letters == found.letters


def test_a_scan_is_written_as_tables_picture_and_page(scan, tmp_path):
    scan.write(tmp_path / "scan")
    names = {path.name for path in (tmp_path / "scan").iterdir()}
    assert names == {"singles.csv", "doubles.csv", "heatmap.svg", "scan.html"}
    page = (tmp_path / "scan" / "scan.html").read_text()
    assert scan.singles["variant"][0] in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    first = (tmp_path / "scan" / "heatmap.svg").read_bytes()
    scan.write(tmp_path / "scan")
    assert (tmp_path / "scan" / "heatmap.svg").read_bytes() == first
    table = pd.read_csv(tmp_path / "scan" / "singles.csv")
    np.testing.assert_allclose(table["prediction"], scan.singles["prediction"], rtol=1e-5)


def test_another_protein_of_the_frame_can_be_scanned(folder, tmp_path):
    other = "MKTCYIAKQRQISF"
    path = written(tmp_path, f">variant\n{other}\n", "other.fasta")
    found = saturate(folder, path, doubles=0)
    assert found.name == "variant"
    assert found.base == pytest.approx(truth(other), abs=1e-3)
    assert found.measured is None
    assert len(found.doubles) == 0
    assert saturate(folder, other, doubles=0).singles["variant"].tolist() == found.singles["variant"].tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [("two.fasta", "2 proteins"), ("MKTAYIAKQRQISFGGG", "doesn't fit"), ("none.fasta", "is no file")],
)
def test_proteins_that_cannot_be_scanned(folder, tmp_path, given, message):
    written(tmp_path, ">a\nMKTA\n>b\nMKTC\n", "two.fasta")
    path = tmp_path / given if given.endswith(".fasta") else given
    with pytest.raises(InputError, match=message) as error:
        saturate(folder, path)
    assert "\n" not in str(error.value)


def test_numbers_of_doubles_that_make_no_sense(folder):
    with pytest.raises(InputError, match="doubles"):
        saturate(folder, doubles=-1)
