"""A comparison: its frames, its file, its terminal table, its plots, and the numbers of its heat map."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape_fixture import MODELS, make_assay, make_comparison
from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.comparison import COLUMNS, Comparison
from limbeck.landscapes.effects import effects, wild_types_by_size


@pytest.fixture(scope="module")
def comparison():
    return make_comparison(splits=2)


def assert_same(one, two):
    for name in COLUMNS:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(two, name))
    assert one.settings == two.settings
    assert one.assay.digest == two.assay.digest
    assert (one.assay.name, one.assay.layout, one.assay.notes) == (two.assay.name, two.assay.layout, two.assay.notes)
    assert one.assay.first_position == two.assay.first_position
    for part in ("lines", "replicates", "spread"):
        np.testing.assert_array_equal(getattr(one.assay, part), getattr(two.assay, part))


def nothing(**frames):
    """A comparison of an assay with two variants, with these frames."""
    assay = Assay("tiny", ["MK", "MR"], np.array([1.0, 2.0]), np.array(["wt", "wt"], object), {"wt": "MK"})
    return Comparison(assay, {}, **{name: frames.get(name, pd.DataFrame()) for name in COLUMNS})


# --- the file


def test_what_was_written_is_read(tmp_path, comparison):
    page = comparison.write(tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    assert sorted(p.name for p in page.parent.iterdir()) == ["report.html", "report.json"]
    assert_same(Comparison.read(page.parent), comparison)
    assert_same(Comparison.read(page.parent / "report.json"), comparison)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


VALUES = {
    "text": st.none() | st.text(max_size=8),
    "count": st.integers(-(2**53), 2**53),
    "number": st.floats(),
    "flag": st.booleans(),
    "any": st.none() | st.lists(st.text(max_size=5), max_size=3) | st.text(max_size=5),
}


@st.composite
def frames(draw):
    result = {}
    for name, columns in COLUMNS.items():
        size = draw(st.integers(0, 4))
        fixed = {"split": st.sampled_from("ab"), "model": st.sampled_from(["x", "</script>"])}
        values = {c: fixed.get(c, VALUES[k]) for c, k in columns.items()}
        result[name] = pd.DataFrame(
            {c: pd.Series([draw(v) for _ in range(size)], dtype=object) for c, v in values.items()}
        )
    return result


@settings(max_examples=12, deadline=None)
@given(frames=frames(), options=st.dictionaries(st.text(max_size=4), st.floats() | st.lists(st.integers(), max_size=3)))
def test_round_trip_of_any_frames(tmp_path_factory, frames, options):
    path = tmp_path_factory.mktemp("any") / "report.json"
    one = nothing(**frames)
    one = Comparison(one.assay, options, **{name: getattr(one, name) for name in COLUMNS})
    one.to_json(path)
    json.loads(path.read_text(), parse_constant=refuse)
    assert_same(Comparison.read(path), one)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_round_trip_of_any_variants(tmp_path_factory, data):
    width = data.draw(st.integers(1, 12))
    row = st.text("AKM-", min_size=width, max_size=width)
    stopped = st.builds(lambda r, i: (r[:i] + "*").ljust(width, "-")[:width], row, st.integers(0, width - 1))
    rows = data.draw(st.lists(row | stopped, min_size=1, max_size=6))
    wild_types = {"a": data.draw(row), "b": data.draw(row)}
    parents = np.array([data.draw(st.sampled_from(["a", "b", ""])) for _ in rows], object)
    scores = np.arange(len(rows)) / 3
    one = nothing()
    one.assay = Assay(
        "any", rows + list(wild_types.values()), np.append(scores, [7, 8]), np.append(parents, ["a", "b"]), wild_types
    )
    path = tmp_path_factory.mktemp("variants") / "report.json"
    one.to_json(path)
    assert Comparison.read(path).assay.rows == one.assay.rows


def test_variants_are_written_by_their_substitutions(tmp_path):
    wild_type = "MKTAYIAKQRQ"
    rows = [wild_type, "MKTVYIAKQRE", "MKTA*------", "GG---------"]
    one = nothing()
    one.assay = Assay("wt", rows, np.arange(4.0), np.array(["w", "w", "w", ""], object), {"w": wild_type})
    one.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["assay"]["variants"] == ["=", "A4V:Q11E", "Y5*", rows[3]]


def test_damage_is_one_line_that_names_the_file(tmp_path, comparison):
    comparison.to_json(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()
    content = json.loads(text)

    def refused(damaged, message):
        (tmp_path / "report.json").write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
        with pytest.raises(InputError, match=message) as caught:
            Comparison.read(tmp_path)
        assert str(tmp_path / "report.json") in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(text[: len(text) // 2], "damaged: not JSON")
    refused("[]", "no report of limbeck landscape")
    refused(content | {"schema": 99}, "schema 99.*update limbeck")
    refused({k: v for k, v in content.items() if k != "verdicts"}, r"damaged \(no 'verdicts'\)")
    refused(content | {"splits": content["splits"] | {"train": [1]}}, "damaged .*differ in length")
    refused(content | {"scores": content["scores"] | {"pretrained": [3] * len(content["scores"]["model"])}}, "no flag")
    refused(content | {"assay": content["assay"] | {"variants": ["Z9999Y"] * 600}}, "damaged")
    refused(content | {"assay": content["assay"] | {"scores": [1.0]}}, "damaged")
    refused(content | {"predictions": 3}, "damaged")
    with pytest.raises(InputError, match="cannot be read"):
        Comparison.read(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        comparison.write(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"):
        comparison.to_json(tmp_path / "nowhere" / "report.json")


def test_frames_of_other_columns_are_refused():
    with pytest.raises(ValueError, match=r"left_out must have the columns what, reason; these differ: reason, why"):
        nothing(left_out=pd.DataFrame({"what": ["a"], "why": ["b"]}))
    with pytest.raises(ValueError, match="column row must hold whole numbers"):
        nothing(predictions=make_comparison(splits=1, models=2).predictions.assign(row=0.5))


def test_kinds_are_told_where_they_are_not_given(comparison):
    untold = nothing(scores=comparison.scores.drop(columns="kind"))
    assert {model: untold.kind(model) for model, *_ in MODELS} == {model: kind for model, kind, *_ in MODELS}


# --- asking


def test_ranking_is_best_first_and_a_constant_comes_last(comparison):
    for metric, sign in (("spearman", -1), ("mse", 1)):
        values = sign * comparison.ranking("random", metric)["value"].to_numpy()
        assert (np.diff(values) >= 0).all()
    scores = comparison.scores.copy()
    scores.loc[(scores["model"] == "composition, ridge") & (scores["metric"] == "spearman"), "value"] = -0.3
    scores.loc[(scores["model"] == "CNN, max pool") & (scores["metric"] == "spearman"), "value"] = np.nan
    assert list(nothing(scores=scores).ranking("random")["model"])[-3:][0] == "composition, ridge"
    assert comparison.best("random") == comparison.ranking("random")["model"].iloc[0]
    assert comparison.verdict("nowhere") is None


def test_summary_names_every_split(comparison):
    assert comparison.summary.startswith("Transfer learning is needed for position-modulo and not needed for random")
    assert "limbeck-9m, facebook/esm2_t33_650M_UR50D" in comparison.summary


# --- the terminal


@pytest.mark.parametrize("width", [72, 80, 100, 120, 160])
def test_table_fits_and_says_it_all(width):
    comparison = make_comparison(splits=7, sample=True)
    text = comparison.table(width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)
    flat = re.sub(r"\s+", " ", text)
    for row in comparison.verdicts.itertuples():
        assert row.sentence in flat
        assert row.advice in flat
    for text in [*comparison.leaks["sentence"], *comparison.left_out["reason"], *comparison.splits["question"]]:
        assert text in flat
    # Verdicts come before all scores.
    assert flat.index("NOT NEEDED random") < flat.index("Spearman")


def test_table_has_the_scores_in_their_order(comparison):
    part = comparison.table(120).split("--- random")[1].split("--- position-modulo")[0]
    lines = [line for line in part.splitlines() if re.search(r"\d\.\d{3} \(", line)]
    values = [float(re.search(r"(-?\d\.\d{3}) \(", line)[1]) for line in lines]
    assert len(values) == len(MODELS)
    assert values == sorted(values, reverse=True)
    assert lines[-1].startswith("  mean of training")
    marked = {line[0]: line[2:] for line in lines if line[0] != " "}
    assert marked["="].startswith("one-hot, Gaussian process")
    assert marked[">"].startswith("one-hot + facebook")
    row = comparison.ranking("random").iloc[0]
    assert f"{row.value:.3f} ({row.low:.2f} to {row.high:.2f})" in lines[0]


def test_table_of_nothing_is_a_table():
    assert "too few variants to compare models" in nothing().table(80)


# --- heat map


def test_effects_are_means_of_the_variants_that_carry_a_residue():
    assay = make_assay(n=400, width=12, most=4)
    (parent,) = wild_types_by_size(assay)
    found = effects(assay, parent)
    assert found.singles
    assert found.centre == pytest.approx(assay.scores[assay.mutations == 0].mean())
    wild_type = assay.wild_types[parent]
    for i, letter in enumerate(found.letters):
        for j, position in enumerate(found.positions - 227):
            kept = [
                score
                for row, score, count in zip(assay.rows, assay.scores, assay.mutations, strict=True)
                if count == 1 and row[position] == letter != wild_type[position]
                and "*" not in row[:position]
            ]  # fmt: skip
            assert found.counts[i, j] == len(kept)
            assert (np.isnan(found.values[i, j]) and not kept) or found.values[i, j] == pytest.approx(np.mean(kept))
    assert found.wild_type == wild_type


def test_effects_of_multiple_mutants_count_for_each_mutation():
    rows = ["AAAA", "CCAA", "CADA", "AADC"]
    assay = Assay("x", rows, np.array([0.0, 1, 2, 4]), np.array(["w"] * 4, object), {"w": "AAAA"})
    found = effects(assay, "w")
    assert not found.singles
    cell = {
        (letter, p): found.values[found.letters.index(letter), i]
        for i, p in enumerate(found.positions)
        for letter in "CD"
    }
    assert (cell["C", 1], cell["C", 2], cell["D", 3], cell["C", 4]) == (1.5, 1, 3, 4)
    assert (found.centre, found.centred_at) == (0.0, "wild type")
    part = effects(assay, "w", [1], [7.0], like=found)
    assert part.values.shape == found.values.shape
    assert (part.centre, part.limit) == (found.centre, found.limit)
    assert np.nansum(part.values) == 14
    assert effects(assay, "w", [0]) is None
    assert effects(assay.take([1, 2, 3]), "w").centred_at == "median"


# --- plots


def test_plots_draw_where_they_are_told_and_leave_nothing_open(comparison):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    figure, axes = pyplot.subplots(1, 4)
    assert comparison.plot_scores(ax=axes[0]) is axes[0]
    assert comparison.plot_parity("random", ax=axes[1]) is axes[1]
    assert comparison.plot_learning_curves(ax=axes[2]) is axes[2]
    assert comparison.plot_heatmap(ax=axes[3]) is axes[3]
    assert all(ax.get_xlabel() for ax in axes)
    pyplot.close(figure)
    model = MODELS[10][0]
    for ax in (
        comparison.plot_scores("random"),
        comparison.plot_parity("random", model),
        comparison.plot_learning_curves(metric="mse"),
        comparison.plot_heatmap(model, parent="GB1 & co"),
    ):
        ax.figure.canvas.draw()
    assert pyplot.get_fignums() == before


def test_plots_show_the_numbers(comparison):
    pytest.importorskip("matplotlib")
    ax = comparison.plot_scores("random")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == list(comparison.ranking("random")["model"])
    drawn = sorted(container.lines[0].get_xdata()[0] for container in ax.containers)
    np.testing.assert_allclose(drawn, np.sort(comparison.ranking("random")["value"]))
    predictions = comparison.predictions[comparison.predictions["split"] == "random"]
    part = predictions[predictions["model"] == comparison.best("random")]
    points = comparison.plot_parity("random").collections[0].get_offsets()
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(part["measured"]))
    image = comparison.plot_heatmap().images[0]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), effects(comparison.assay, "GB1 & co").values)


def test_plots_say_what_there_is(comparison):
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="no split 'x'; splits: random, position-modulo"):
        comparison.plot_scores("x")
    with pytest.raises(InputError, match="no predictions of a model 'x'; models with predictions: mean of training, "):
        comparison.plot_parity("random", "x")
    with pytest.raises(InputError, match="no predictions of a model 'x'"):
        comparison.plot_heatmap("x")
    with pytest.raises(InputError, match="wild types that have some: GB1 & co"):
        comparison.plot_heatmap(parent="x")
    with pytest.raises(InputError, match="metrics with curves: spearman, mse"):
        comparison.plot_learning_curves(metric="ndcg")
    with pytest.raises(InputError, match="wild types that have some: none"):
        make_comparison(make_assay(n=30, wild_types=False), splits=1, models=2).plot_heatmap()
