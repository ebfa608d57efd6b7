"""The page about a comparison: whole, self-contained, escaped, and showing the numbers it is about."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from limbeck.errors import InputError
from limbeck.landscapes.comparison import COLUMNS, Comparison
from limbeck.landscapes.effects import effects

pytest.importorskip("jinja2")
from landscape_fixture import make_assay, make_comparison
from limbeck.landscapes.pictures import MOST_SHOWN, bar_chart, density, heat_map, histogram, interval, parity, thinned
from limbeck.landscapes.report import write_report

VOID = ("meta", "br", "wbr", "input")


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a page shows and refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.words, self.ids, self.unlabelled = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href", "data")]
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "svg" and not (given.get("role") == "img" and given.get("aria-label")):
            self.unlabelled.append(given)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def written(tmp_path, comparison):
    text = write_report(comparison, tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>")
    page = Page(text)
    assert page.addresses == []
    assert page.unlabelled == []
    assert not re.search(r"@import|url\(|https?://", text)
    return text, page


def test_page_says_the_verdicts_first_and_all_the_numbers(tmp_path):
    comparison = make_comparison(std=True)
    text, page = written(tmp_path, comparison)
    for row in comparison.verdicts.itertuples():
        assert row.sentence in page.text
        assert row.advice in page.text
    assert page.text.index(comparison.verdicts["sentence"].iloc[-1]) < page.text.index("Models by split")
    squeezed = page.text.replace(" ", "")
    for row in comparison.scores.query("metric == 'spearman'").itertuples():
        assert f"{row.value:.3f}" in squeezed
        assert f"{row.low:.3f}to{row.high:.3f}" in squeezed
    assert "aa01bb02cc03" in page.text
    assert "CC-BY-4.0" in page.text
    assert "10.5 %" in page.text
    assert "fewer than 50 variants score above the wild type" in page.text
    assert "Left out 3 rows without a score: lines 7, 9 and 12." in page.text
    inside = comparison.predictions.query("split == 'random' and model == 'one-hot, Gaussian process'")
    share = ((inside["measured"] - inside["predicted"]).abs() <= 1.96 * 0.4).mean()
    assert f"{100 * share:.0f} % of them within the 95 % interval of the model" in page.text
    assert len(text) < 600_000


def test_names_are_text_whatever_they_hold(tmp_path):
    text, page = written(tmp_path, make_comparison(splits=1))
    assert "BiLSTM <b>& co</b>" in page.text
    assert "<b>" not in text
    assert "<i>" not in text
    again = write_report(make_comparison(splits=1), tmp_path / "again.html").read_text(encoding="utf-8")
    assert again == text


def test_page_of_one_split_needs_no_choice(tmp_path):
    text, _ = written(tmp_path, make_comparison(splits=1, models=6))
    assert 'type="radio"' not in text
    text, _ = written(tmp_path, make_comparison(splits=3, models=6))
    assert text.count('type="radio"') == 3


def test_page_without_wild_types_has_no_heat_map(tmp_path):
    text, page = written(tmp_path, make_comparison(make_assay(wild_types=False), splits=1))
    assert "Positions by residues" not in page.text
    assert "<script" not in text
    assert "none given" in page.text


def test_page_of_many_parents_shows_some_of_them(tmp_path):
    text, page = written(tmp_path, make_comparison(make_assay(parents=9, n=360, width=30), splits=1))
    assert text.count('class="maps"') == 6
    assert "3 more wild types" in page.text


def test_page_where_a_sample_was_compared(tmp_path):
    text, page = written(tmp_path, make_comparison(splits=1, sample=True))
    # Once in the picture and once in the table: where it was compared.
    assert text.count('class="role">baseline<') == 2
    assert "a sample: 300 in training, 200 in test" in page.text
    assert "all: 300 in training, 200 in test" in page.text


def test_page_of_nothing_is_a_page(tmp_path):
    empty = Comparison(make_assay(n=20), {}, **{name: pd.DataFrame() for name in COLUMNS})
    _, page = written(tmp_path, empty)
    assert "too few variants to compare models" in page.text
    assert "None was found." in page.text


def test_page_without_a_pretrained_model(tmp_path):
    comparison = make_comparison(splits=1, models=6)
    comparison.verdicts = comparison.verdicts.assign(
        verdict="unclear", model="", baseline="", difference=np.nan, low=np.nan, high=np.nan
    )
    _, page = written(tmp_path, comparison)
    assert "unclear" in page.text
    assert "nan" not in page.text.lower().replace("finance", "")


def test_page_of_a_very_wide_protein_stays_small(tmp_path):
    text, _ = written(tmp_path, make_comparison(make_assay(n=3000, width=3000), splits=1, models=5))
    assert len(text) < 3_000_000
    assert "tall" in text


def test_page_without_a_place(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_report(make_comparison(splits=1, models=2), tmp_path / "nowhere" / "report.html")


# --- pictures


def test_interval_is_placed_between_its_ends():
    svg = str(interval(0.5, 0.25, 0.75, (0.0, 1.0), "c1", "a <b>"))
    assert 'cx="50.00%"' in svg
    assert 'x1="25.00%" x2="75.00%"' in svg
    assert "a &lt;b&gt;" in svg
    assert "circle" not in str(interval(np.nan, np.nan, np.nan, (0.0, 1.0), "c1", "a"))
    beyond = str(interval(0.5, -3, 4, (0.0, 1.0), "c1", "a"))
    assert 'x1="0.00%" x2="100.00%"' in beyond


def test_parity_draws_at_most_so_many_points_and_always_the_same():
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000)
    svg = str(parity("m", "s", x, x + rng.normal(size=5000), (-8.0, 8.0)))
    assert sum(path.count("M") for path in re.findall(r'class="points d\d" d="([^"]*)"', svg)) == MOST_SHOWN
    np.testing.assert_array_equal(thinned(5000), thinned(5000))
    assert sorted(thinned(7)) == list(range(7))


def test_density_is_highest_where_most_points_are():
    rng = np.random.default_rng(0)
    crowd, few = rng.normal(0, 0.1, (2, 900)), rng.uniform(4, 10, (2, 100))
    x, y = np.hstack([crowd, few])
    found = density(x, y)
    assert found.max() == 1
    assert found[:900].min() > found[900:].max()
    np.testing.assert_array_equal(density(np.ones(3), np.ones(3)), np.ones(3))


def test_histogram_and_bars_hold_all_they_are_given():
    values = np.random.default_rng(0).normal(size=500)
    heights = [float(v) for v in re.findall(r"to [^:]*: ([\d.]+)</title>", str(histogram("t", values, "x")))]
    assert sum(heights) == 500
    assert histogram("t", np.array([np.nan]), "x") == ""
    one = str(bar_chart("t", np.array([1]), np.array([9]), "mutations", "variants"))
    assert "<title>1: 9" in one
    wide = str(bar_chart("t", np.arange(1000), np.full(1000, 3), "position", "variants"))
    assert wide.count("<rect") <= 120
    assert "nan" not in str(histogram("t", np.full(5, 2.0), "x"))


def test_heat_map_has_a_cell_for_each_value_and_shades_by_side():
    assay = make_assay(n=500, width=200)
    found = effects(assay, "GB1 & co")
    svg = str(heat_map(found, "label"))
    paths = re.findall(r'class="cell (\w+)" d="([^"]*)"', svg)
    counts = {name: sum(p.count("M") for n, p in paths if n == name) for name, _ in paths}
    assert sum(n for name, n in counts.items() if name != "own") == np.isfinite(found.values).sum()
    assert counts["own"] == len(found.positions)
    relative = (found.values - found.centre) / found.limit
    assert (
        sum(n for name, n in counts.items() if name.endswith("n") and name != "own") == (relative < -0.5 / 4.49).sum()
    )
    assert svg.count("<svg") == -(-len(found.positions) // 90) > 1
    assert f"positions {found.positions[0]} to" in svg


def test_numbers_for_the_script_are_those_of_the_map(tmp_path):
    comparison = make_comparison(make_assay(n=200, width=20), splits=1, models=5)
    text, _ = written(tmp_path, comparison)
    numbers = json.loads(re.search(r'<script type="application/json" id="heat-0">(.*?)</script>', text)[1])
    found = effects(comparison.assay, "GB1 & co")
    values = [float(v) if v else np.nan for v in numbers["measured"].split(",")]
    np.testing.assert_allclose(values, found.values.ravel(), rtol=6e-3)
    assert numbers["positions"] == found.positions.tolist()
    assert [int(n or 0) for n in numbers["counts"].split(",")] == found.counts.ravel().tolist()
