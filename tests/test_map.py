from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromium import EXECUTABLE, Browser
from limbeck.commands import map as map_verb
from limbeck.errors import InputError
from limbeck.maps import map_embeddings
from limbeck.maps.colours import COLOURED, LARGEST_PLACE, colouring
from limbeck.maps.projection import principal_components, project
from search_fixture import families, table

EVIL = "</script><script>throw 1</script>"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 proteins with a page for groups and one for numbers; some have no value, one a name that is no good."""
    folder = tmp_path_factory.mktemp("map")
    vectors, group = families(400, groups=3, spread=0.3)
    names = [f"p{n}" for n in range(399)] + [EVIL]
    table(folder / "p.npz", vectors, names)
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "group", "number"])
        writer.writerows((name, f"group {g}", n) for n, (name, g) in enumerate(zip(names, group, strict=True)) if n % 8)
    for column in ("group", "number"):
        map_embeddings(
            folder / "p.npz",
            folder / f"{column}.html",
            table=folder / "t.csv",
            colour_by=column,
            projection="pca",
            points=folder / "points.csv",
            progress=False,
        )
    return folder


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u2")


def test_a_page_has_all_proteins_and_needs_nothing_else(drawn: Path) -> None:
    data = data_of(drawn / "group.html")
    assert len(data["ids"]) == 400
    assert data["ids"][-1] == EVIL
    assert numbers(data["points"]).size == 800
    places = numbers(data["places"])
    assert (places == 65_535).sum() == 50
    assert data["names"] == sorted(data["names"], key=lambda name: -data["counts"][data["names"].index(name)])
    assert sum(data["counts"]) == 350
    text = (drawn / "group.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=|https?://|@import|url\(", text)


def test_points_keep_their_shape(drawn: Path) -> None:
    with (drawn / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    packed = numbers(data_of(drawn / "group.html")["points"]).reshape(-1, 2).astype(float)
    # One scale for both axes, the middle of the points in the middle of the plane.
    scale = 65_535 / np.ptp(places, axis=0).max()
    expected = (places - (places.max(axis=0) + places.min(axis=0)) / 2) * scale + 65_535 / 2
    np.testing.assert_allclose(packed, expected, atol=1)


def test_principal_components_are_those_of_the_singular_vectors() -> None:
    vectors, _ = families(100, dimension=6)
    found = principal_components(vectors, 3)
    moved = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(moved, full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(moved @ axes[:3].T), atol=1e-5)
    assert principal_components(vectors[:, :2], 3).shape == (100, 3)


def test_tsne_keeps_groups_together_and_comes_out_the_same() -> None:
    pytest.importorskip("openTSNE")
    vectors, group = families(150, groups=3, spread=0.3)
    places = project(vectors)
    np.testing.assert_array_equal(places, project(vectors))
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).mean() > 0.98


def test_colours_of_a_column() -> None:
    few = colouring(["1", "2", "", "2"], "x")
    assert (few.kind, few.names, few.counts, few.places.tolist()) == ("category", ["2", "1"], [2, 1], [1, 0, 65_535, 0])
    scale = colouring([str(n) for n in range(101)], "x")
    assert (scale.kind, scale.low, scale.high, scale.largest) == ("number", 2, 98, 100)
    assert scale.places[[0, 2, 50, 98, 100]].tolist() == [0, 0, LARGEST_PLACE // 2, LARGEST_PLACE, LARGEST_PLACE]
    assert colouring(["1", "2"], "x", "number").kind == "number"
    assert colouring(["3", "3"], "x", "number").places.tolist() == [0, 0]
    assert colouring([str(n) for n in range(101)], "x", "category").kind == "category"
    with pytest.raises(InputError, match="'b', which is no number"):
        colouring(["1", "b"], "x", "number")


def test_a_sample_is_drawn_of_many(tmp_path: Path) -> None:
    vectors, _ = families(300)
    table(tmp_path / "p.h5", vectors)
    for name in ("a.html", "b.html"):
        found = map_embeddings(tmp_path / "p.h5", tmp_path / name, projection="pca", most=50, progress=False)
    assert (found.shown, found.proteins) == (50, 300)
    assert "random from 300" in str(found)
    ids = data_of(tmp_path / "a.html")["ids"]
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes().replace(b"b.html", b"a.html")
    assert len(set(ids)) == 50
    assert ids == sorted(ids, key=lambda id: int(id[1:]))
    assert "random sample of 300" in (tmp_path / "a.html").read_text()


def test_mistakes_are_told(tmp_path: Path) -> None:
    vectors, _ = families(20)
    one = table(tmp_path / "p.npz", vectors)
    other = table(tmp_path / "q.npz", vectors, precision="bf16")
    (tmp_path / "t.csv").write_text("id,x\nq,1\n")
    page = tmp_path / "m.html"
    mistakes = {
        "--colour-by": {"table": tmp_path / "t.csv"},
        "'y'; it has 'id', 'x'": {"table": tmp_path / "t.csv", "colour_by": "y"},
        "has no 'x' for any protein": {"table": tmp_path / "t.csv", "colour_by": "x"},
        "tsne, pca": {"projection": "umap"},
        "at least 2": {"most": 1},
    }
    for message, options in mistakes.items():
        with pytest.raises(InputError, match=message):
            map_embeddings(one, page, progress=False, **options)
    with pytest.raises(InputError, match="bf16"):
        map_embeddings([one, other], page, progress=False)
    with pytest.raises(InputError, match="--projection pca"):
        map_embeddings(table(tmp_path / "few.npz", vectors[:5]), page, progress=False)
    assert not page.exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    monkeypatch.chdir(tmp_path)
    table(tmp_path / "p.npz", families(30)[0])
    parser = argparse.ArgumentParser()
    map_verb.add(parser.add_subparsers())
    options = parser.parse_args(["map", "p.npz", "--projection", "pca"])
    options.run(options)
    assert "30 proteins, first two principal components; p.html" in capsys.readouterr().err
    assert data_of(tmp_path / "p.html")["kind"] == "none"


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if EXECUTABLE is None:
        pytest.skip("no Chromium is installed")
    page = Browser(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


def colours(browser: Browser) -> int:
    """Pixels of the canvas that are not background."""
    return int(browser.evaluate("(() => { draw(); return pixels.reduce((n, p) => n + (p !== background), 0); })()"))


def place_of(browser: Browser, point: int) -> tuple[float, float]:
    """Where a point stands in the window."""
    x, y = browser.evaluate(
        f"(() => {{ const box = canvas.getBoundingClientRect(), corner = [box.left, box.top], i = {point}; return "
        "[points[2 * i] * zoom + left, points[2 * i + 1] * zoom + top_].map((v, k) => v / ratio + corner[k]);"
        " })()"
    )
    return x, y


def lonely(browser: Browser) -> int:
    """A point whose own place finds itself, so that nothing lies over it."""
    return int(
        browser.evaluate(
            "[...order].find((i) => nearest(points[2 * i] * zoom + left, points[2 * i + 1] * zoom + top_) === i)"
        )
    )


def test_a_page_draws_and_hovers(browser: Browser, drawn: Path) -> None:
    browser.open(drawn / "group.html")
    assert colours(browser) > 400
    point = lonely(browser)
    x, y = place_of(browser, point)
    browser.mouse("mouseMoved", x, y)
    browser.settle()
    data = data_of(drawn / "group.html")
    group = numbers(data["places"])[point]
    expected = [data["ids"][point], "no group" if group == 65_535 else data["names"][group]]
    assert browser.evaluate("tip.innerText").split("\n") == expected
    browser.mouse("mouseMoved", 3, 3)
    browser.settle()
    assert browser.evaluate("tip.hidden")
    assert browser.errors == []


def test_wheel_zooms_about_the_pointer_and_dragging_moves(browser: Browser, drawn: Path) -> None:
    browser.open(drawn / "group.html")
    point = lonely(browser)
    x, y = place_of(browser, point)
    before = browser.evaluate("zoom")
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-400)
    browser.settle()
    assert browser.evaluate("zoom") > 1.5 * before
    # The pointer stands on a whole pixel, the point between them.
    assert place_of(browser, point) == pytest.approx((x, y), abs=1)
    x, y = place_of(browser, point)
    browser.mouse("mousePressed", 300, 300, button="left", clickCount=1)
    browser.mouse("mouseMoved", 340, 275, button="left", buttons=1)
    browser.mouse("mouseReleased", 340, 275, button="left", clickCount=1)
    assert place_of(browser, point) == pytest.approx((x + 40, y - 25), abs=0.1)
    browser.evaluate("element('fit').click()")
    assert browser.evaluate("zoom") == before
    assert browser.errors == []


def test_legend_shows_and_hides(browser: Browser, drawn: Path) -> None:
    browser.open(drawn / "group.html")
    every = colours(browser)
    buttons = "[...document.querySelectorAll('#legend button')]"
    assert browser.evaluate(f"{buttons}.map((b) => b.innerText.split('\\n')[0])")[-1] == "no value"
    browser.evaluate(f"{buttons}[0].click()")
    assert browser.evaluate(f"{buttons}[0].getAttribute('aria-pressed')") == "false"
    fewer = colours(browser)
    assert 0 < fewer < every
    hidden = data_of(drawn / "group.html")["counts"][0]
    assert browser.evaluate("shown.reduce((a, b) => a + b, 0)") == 400 - hidden
    browser.evaluate("element('hide').click()")
    assert colours(browser) == 0
    browser.evaluate("element('show').click()")
    assert colours(browser) == every
    assert browser.errors == []


def test_ids_are_found(browser: Browser, drawn: Path) -> None:
    browser.open(drawn / "number.html")
    browser.evaluate("search.value = 'P39'; search.dispatchEvent(new Event('input'))")
    assert browser.evaluate("element('found').innerText").startswith("10 found")
    browser.evaluate("search.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}))")
    browser.settle()
    assert browser.evaluate("tip.innerText").startswith("p39\n")
    browser.evaluate("search.value = 'script'; search.dispatchEvent(new Event('input'))")
    browser.evaluate("search.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}))")
    assert browser.evaluate("tip.innerText").startswith(EVIL)
    browser.evaluate("search.value = ''; search.dispatchEvent(new Event('input'))")
    assert browser.evaluate("marked.length") == 0
    assert browser.errors == []


def test_dark_theme_and_scale(browser: Browser, drawn: Path) -> None:
    browser.open(drawn / "number.html")
    assert browser.evaluate("element('scale').innerText.split(/\\s*\\n\\s*/)") == ["≤ 8.96", "≥ 391"]
    light = browser.evaluate("[background, colours[1]]")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.settle()
    dark = browser.evaluate("[background, colours[1]]")
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    assert browser.evaluate("element('all').checkVisibility()") is False
    assert browser.errors == []


def test_more_categories_than_colours(browser: Browser, tmp_path: Path) -> None:
    vectors, _ = families(90)
    table(tmp_path / "p.npz", vectors)
    (tmp_path / "t.csv").write_text("id,kind\n" + "".join(f"p{n},kind {n % 30:02}\n" for n in range(90)))
    map_embeddings(
        tmp_path / "p.npz",
        tmp_path / "m.html",
        table=tmp_path / "t.csv",
        colour_by="kind",
        projection="pca",
        progress=False,
    )
    browser.open(tmp_path / "m.html")
    labels = browser.evaluate(
        "[...document.querySelectorAll('#legend button')].map((b) => b.innerText.split('\\n')[0])"
    )
    assert len(labels) == COLOURED + 1
    assert labels[-1] == f"{30 - COLOURED} others"
    browser.evaluate("[...document.querySelectorAll('#legend button')].at(-1).click()")
    assert browser.evaluate("shown.reduce((a, b) => a + b, 0)") == 3 * COLOURED
    assert browser.errors == []
