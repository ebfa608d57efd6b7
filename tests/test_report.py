"""The training report: residues sorted by the course of their loss, students at equal loss, and the page."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limbeck.distillation.comparison import at_loss, lowest, shared_levels
from limbeck.distillation.training_folder import read_runs
from limbeck.distillation.trajectories import (
    GROUPS,
    LETTERS,
    Trajectories,
    chance,
    classify,
    enrichment,
    read_trajectories,
    shares,
)
from limbeck.errors import InputError
from limbeck.figures import Line, in_short, line_plot, log_ticks, ticks

pytest.importorskip("jinja2")
from limbeck.distillation.report import write_report

CHECKPOINTS = 16
STEPS = np.arange(1, CHECKPOINTS + 1) * 50
PART = np.linspace(0, 1, CHECKPOINTS)
WOBBLE = 0.02 * np.where(np.arange(CHECKPOINTS) % 2, 1, -1)
COURSES = {
    "falling": 3 - PART,
    "stagnant": 2.5 + WOBBLE,
    "rising": 2 + PART,
    "double descent": 3 - np.abs(2 * PART - 1),
}


def line(step, **changes):
    """A line of the log, as training writes it."""
    values = {
        "step": step,
        "residues": step * 1000,
        "seconds": step / 10,
        "residues_per_second": 10_000.0,
        "learning_rate": 1e-3,
        "losses": {"hidden": 3.1 - step / 1000, "esm2 <8M> residues": 0.5},
        "validation": {"hidden": 3.0 - step / 1000, "esm2 <8M> residues": 0.5 - step / 10_000},
        "probes": {"fold": step / 1000},
        "operations": step * 1e12,
    }
    return json.dumps(values | changes) + "\n"


@pytest.fixture
def student(tmp_path):
    """Makes a student's folder with a log, options and residue losses of known course."""

    def make(name, lines, *, residues=True, options=True):
        training = tmp_path / name / "training"
        (training / "validation").mkdir(parents=True)
        (training / "log.jsonl").write_text("".join(lines))
        if options:
            shape = {"width": 16, "dilations": [1, 2]}
            (training / "training.json").write_text(json.dumps({"steps": 1000, "masked": 0.1, "student": shape}))
        if residues:
            losses = np.stack([COURSES[group] for group in GROUPS], axis=1)
            for step, loss in zip(STEPS, losses, strict=True):
                write_checkpoint(training, step, np.tile(loss, (3, 2)))
        return tmp_path / name

    return make


def write_checkpoint(training, step, loss):
    """Residues A, C, D, E in turn; the last column is beyond the protein's end."""
    rows, length = loss.shape
    padded = np.pad(loss, ((0, 0), (0, 1))).astype(np.float16)
    ids = np.tile(np.arange(length + 1, dtype=np.uint8) % 4, (rows, 1))
    mask = np.arange(length + 1)[None].repeat(rows, axis=0) < length
    np.savez(training / "validation" / f"step-{step:08d}.npz", loss=padded, mask=mask, ids=ids)


# --- residues


def test_courses_known_by_construction():
    losses = np.stack([COURSES[group] for group in GROUPS], axis=1)
    assert [GROUPS[i] for i in classify(losses, STEPS)] == list(GROUPS)


def test_a_clear_slope_below_the_threshold_is_stagnant():
    losses = np.stack([3 - 0.15 * PART, 3 - 0.3 * PART], axis=1)
    assert [GROUPS[i] for i in classify(losses, STEPS)] == ["stagnant", "falling"]
    assert [GROUPS[i] for i in classify(losses, STEPS, threshold=0.05)] == ["falling", "falling"]


def test_only_the_second_half_decides():
    early = np.where(np.arange(CHECKPOINTS) < CHECKPOINTS // 2, 5 - 4 * PART, 3.0)
    assert GROUPS[classify(early[:, None], STEPS)[0]] == "stagnant"


def test_double_descent_after_the_first_fall():
    course = np.interp(PART, [0, 0.25, 0.6, 1], [6, 2, 4, 2])
    assert GROUPS[classify(course[:, None], STEPS)[0]] == "double descent"


def test_noise_is_stagnant_as_often_as_the_test_says():
    # Noise of 1 nat moves a line by more than the threshold nearly always, so the t-test decides alone.
    noise = np.random.default_rng(0).normal(3, 1, size=(8, 20_000))
    found = shares(classify(noise, np.arange(8) * 10))
    # Eight checkpoints: the second half has four. 2.5 % fall and 2.5 % rise, less those that go for double descent.
    np.testing.assert_allclose(found[[0, 2]], 0.025, atol=0.005)
    assert found[3] < 0.005


def test_shuffled_checkpoints_have_hardly_any_trend():
    rng = np.random.default_rng(1)
    losses = (3 - PART[:, None] + rng.normal(0, 0.1, size=(CHECKPOINTS, 2000))).astype(np.float32)
    trajectories = Trajectories(STEPS, losses, np.zeros(2000, np.uint8), np.zeros(2000, np.int64))
    assert shares(classify(losses, STEPS))[0] > 0.9
    assert chance(trajectories)[1] > 0.9


# Multiples of 1/64 make every sum exact; the threshold is none, so that no line ends upon it.
exact = arrays(np.int64, (12, 5), elements=st.integers(0, 512)).map(lambda a: a / 64)


@settings(max_examples=40, deadline=None)
@given(losses=exact, shift=st.integers(-100, 100), order=st.permutations(range(5)))
def test_shift_and_order_of_residues_change_nothing(losses, shift, order):
    steps = np.arange(12) * 10
    groups = classify(losses, steps)
    np.testing.assert_array_equal(classify(losses + shift, steps), groups)
    np.testing.assert_array_equal(classify(losses[:, order], steps), groups[list(order)])
    np.testing.assert_array_equal(classify(losses, steps * 7 + 3), groups)


@settings(max_examples=40, deadline=None)
@given(losses=exact)
def test_upside_down_rising_falls(losses):
    steps = np.arange(12) * 10
    up, down = classify(losses, steps), classify(-losses, steps)
    plain = (up < 3) & (down < 3)
    np.testing.assert_array_equal(up[plain], 2 - down[plain])


def test_enrichment_of_letters():
    # Twenty crops alike: A falls always, C half of the time, D never.
    letters = np.tile(np.array([0, 0, 1, 1, 2, 2], dtype=np.uint8), 20)
    groups = np.tile(np.array([0, 0, 0, 1, 1, 1], dtype=np.int8), 20)
    ratios = enrichment(groups, letters, np.repeat(np.arange(20), 6))
    np.testing.assert_allclose(ratios[[0, 1, 2], 0, 0], [2, 1, 0])
    np.testing.assert_allclose(ratios[0, 0], [2, 2, 2])
    assert np.isnan(ratios[LETTERS.index("W")]).all()
    assert np.isnan(ratios[:, 2]).all()


def test_enrichment_interval_is_wide_where_one_crop_says_it_all():
    letters = np.zeros(40, dtype=np.uint8)
    letters[:20] = np.arange(20) % 2
    groups = np.zeros(40, dtype=np.int8)
    groups[:20] = 1 - np.arange(20) % 2
    ratio, low, high = enrichment(groups, letters, np.repeat([0, 1], 20))[0, 0]
    assert low < ratio < high


def test_trajectories_are_read_without_padding(tmp_path, student):
    found = read_trajectories(student("a", [line(100)]) / "training")
    assert found.losses.shape == (CHECKPOINTS, 24)
    np.testing.assert_array_equal(found.crops, np.repeat([0, 1, 2], 8))
    np.testing.assert_array_equal(found.letters[:8], [0, 1, 2, 3, 0, 1, 2, 3])
    few = read_trajectories(student("b", [line(100)]) / "training", most=5)
    np.testing.assert_array_equal(few.steps[[0, -1]], STEPS[[0, -1]])
    assert len(few.steps) == 5
    for step in STEPS:
        write_checkpoint(tmp_path / "a" / "training", step, np.ones((3, 0)))
    assert read_trajectories(tmp_path / "a" / "training") is None


def test_damaged_checkpoints_are_named(student):
    training = student("a", [line(100)]) / "training"
    last = training / "validation" / f"step-{STEPS[-1]:08d}.npz"
    write_checkpoint(training, STEPS[-1], np.ones((2, 8)))
    with pytest.raises(InputError, match=rf"{last.name} holds other residues"):
        read_trajectories(training)
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{last.name}: not the losses of a checkpoint"):
        read_trajectories(training)


# --- equal loss


def test_value_when_a_loss_was_first_reached():
    losses = np.array([4.0, 3.0, 3.5, 2.0])
    values = np.array([0.0, 10.0, 99.0, 20.0])
    np.testing.assert_array_equal(lowest(losses), [True, True, False, True])
    assert [at_loss(losses, values, level) for level in (4.0, 3.5, 3.0, 2.5, 2.0)] == [0, 5, 10, 15, 20]
    assert np.isnan(at_loss(losses, values, 4.1))
    assert np.isnan(at_loss(losses, values, 1.9))


def test_levels_are_those_that_all_students_came_through():
    levels = shared_levels([np.array([4.0, 2.0]), np.array([3.0, 3.2, 1.0])], count=3)
    np.testing.assert_allclose(levels, [3.0, 2.5, 2.0])
    assert not len(shared_levels([np.array([4.0, 3.0]), np.array([2.0, 1.0])]))
    assert not len(shared_levels([np.array([4.0, 3.0]), np.array([])]))


# --- the log


def test_a_torn_last_line_is_left_out_with_a_note(student):
    (run,) = read_runs([student("a", [line(100), line(200), line(300)[:50]])])
    assert [e.step for e in run.evaluations] == [100, 200]
    assert run.notes == ["The last line of log.jsonl was torn off and is left out."]
    assert run.name == "a"


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ('{"step": 2\n', "line 2: not JSON"),
        ("[]\n", "line 2: not a JSON object"),
        (line(200, residues="many"), "line 2: 'residues' is no number"),
        (line(200, validation=3), "line 2: 'validation' is no object of numbers"),
        (line(200).replace('"learning_rate"', '"rate"'), "line 2: no 'learning_rate'"),
        (line(200).replace('"step": 200', '"step": NaN'), "line 2: "),
    ],
)
def test_other_damage_names_file_and_line(student, damaged, message):
    folder = student("a", [line(100), damaged, line(300)])
    with pytest.raises(InputError, match=re.escape(f"{folder / 'training' / 'log.jsonl'}, {message}")):
        read_runs([folder])


def test_a_resumed_run_counts_each_step_once_and_all_its_time(student):
    lines = [line(100), line(200), line(300), line(200, seconds=5.0, probes={"fold": 1.0}), line(400, seconds=25.0)]
    (run,) = read_runs([student("a", lines)])
    assert [e.step for e in run.evaluations] == [100, 200, 400]
    assert run.evaluations[1].probes == {"fold": 1.0}
    assert run.seconds == 10 + 5 + 20
    # 600 steps of 1,000 residues are left, at 10,000 residues/s.
    assert run.seconds_left == pytest.approx(60)


def test_folders_that_hold_no_run(tmp_path, student):
    with pytest.raises(InputError, match="is no folder"):
        read_runs([tmp_path / "nothing"])
    with pytest.raises(InputError, match=r"holds no training/log\.jsonl"):
        read_runs([tmp_path])
    with pytest.raises(InputError, match="holds no whole line"):
        read_runs([student("torn", [line(100)[:-5]])])
    with pytest.raises(InputError, match="named twice"):
        read_runs([tmp_path / "torn", tmp_path / "torn" / "training"])
    assert [run.name for run in read_runs([student("x/s", [line(1)]), student("y/s", [line(1)])])] == ["x/s", "y/s"]


# --- the page


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a page shows and refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.words, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    @property
    def text(self):
        return " ".join(filter(None, self.words))


def test_page_of_one_student(tmp_path, student):
    folder = student("my <b>student</b> & co", [line(s) for s in STEPS.tolist()])
    assert write_report([folder], tmp_path / "report.html") == tmp_path / "report.html"
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert "my <b>student</b> & co" in page.text
    assert "<b>" not in text
    assert "<script" not in text
    assert page.addresses == []
    assert "24 residues of 3 crops at 16 checkpoints, steps 50 to 800" in page.text
    for group in GROUPS:
        assert re.search(rf"{group} 6 25\.0 %", page.text)
    assert "student.dilations 1, 2" in page.text
    assert "800 of 1,000" in page.text
    assert "800 T" in page.text
    assert "At equal loss" not in page.text
    write_report([folder], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == text
    write_report([folder], tmp_path / "again.html", threshold=5)
    assert "stagnant 24 100.0 %" in Page((tmp_path / "again.html").read_text()).text


def test_page_of_two_students_compares_them_at_equal_loss(tmp_path, student):
    # The second needs twice the steps for the same loss, and probes lower by 0.1 there.
    fast = student("fast", [line(s) for s in range(100, 900, 100)], residues=False)
    slow = student(
        "slow",
        [
            line(s, validation={"hidden": 3.0 - s / 2000}, probes={"fold": s / 2000 - 0.1}, operations=s * 1e11)
            for s in range(200, 1200, 200)
        ],
    )
    write_report([fast, slow], tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    # Shared from 2.9 down to 2.5: five levels.
    assert "fold hidden loss fast slow 2.9000 0.1000 0 2.8000 0.2000 0.1000 2.7000 0.3000 0.2000" in page.text
    assert "2.6000 400.0 k 800.0 k 2.5000 500.0 k 1.000 M" in page.text
    assert page.text.count("Fewer than four checkpoints") == 1
    assert page.addresses == ["https://arxiv.org/abs/2212.09803"]
    with pytest.raises(InputError, match=r"validation loss 'contexts'; losses of all: hidden$"):
        write_report([fast, slow], tmp_path / "report.html", loss="contexts")


def test_page_warns_when_losses_are_of_another_kind(tmp_path, student):
    folders = [student(name, [line(100), line(200)], residues=False) for name in ("a", "b")]
    (folders[1] / "training" / "training.json").write_text(json.dumps({"steps": 1000, "masked": 0.3}))
    with (folders[1] / "training" / "log.jsonl").open("a") as log:
        log.write('{"step": 3')
    write_report(folders, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert "trained with another masked" in page.text
    assert "b: The last line of log.jsonl was torn off" in page.text


def test_page_of_a_single_evaluation_without_extras(tmp_path, student):
    values = json.loads(line(50, losses={}, validation={"hidden": 2.0}, probes={}))
    del values["operations"], values["probes"]
    folder = student("a", [json.dumps(values) + "\n"], residues=False, options=False)
    write_report([folder / "training"], tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert "There is no training.json" in page.text
    assert "FLOP" not in page.text
    assert "hidden 2.0000 (2.0000)" in page.text


def test_too_many_students_and_a_page_without_a_place(tmp_path, student):
    folder = student("a", [line(100)], residues=False)
    with pytest.raises(InputError, match="1 to 8 students, not 9"):
        write_report([folder] * 9, tmp_path / "report.html")
    with pytest.raises(InputError, match="cannot be written"):
        write_report([folder], tmp_path / "nowhere" / "report.html")


# --- plots


@settings(max_examples=200, deadline=None)
@given(low=st.floats(-1e15, 1e15), width=st.floats(0, 1e15))
def test_ticks_are_few_round_and_about_the_range(low, width):
    found = ticks(low, low + width)
    step = found[1] - found[0]
    assert 2 <= len(found) <= 7
    assert found[0] <= low + 1e-6 * step + 1e-9 * abs(low)
    assert found[-1] >= low + width - 1e-6 * step - 1e-9 * abs(low + width)


def test_numbers_in_short():
    assert [in_short(v) for v in (0, 0.5, 12.345, 1234, 2.5e6, 1e18, 1e-7, float("nan"))] == [
        "0",
        "0.500",
        "12.3",
        "1.23 k",
        "2.50 M",
        "1000 P",
        "1.00e-7",
        "-",
    ]


def test_plot_keeps_points_in_the_frame_and_drops_those_not_finite():
    svg = str(line_plot("a", [Line([1, 2, 3, 4], [5.0, float("nan"), 7.0, float("inf")], "b", "c0")], "x"))
    places = re.search(r'<polyline class="c0" points="([^"]*)"', svg)[1].split()
    assert len(places) == 2
    assert all(0 <= float(x) <= 380 and 0 <= float(y) <= 240 for x, y in (p.split(",") for p in places))
    # A higher value is higher up.
    assert float(places[1].split(",")[1]) < float(places[0].split(",")[1])
    assert line_plot("a", [Line([1], [float("nan")], "b", "c0")], "x") == ""


@settings(max_examples=200, deadline=None)
@given(low=st.floats(1e-6, 1e9), ratio=st.floats(1, 1e9))
def test_logarithmic_ticks_are_few_and_rise_within_the_range(low, ratio):
    found = log_ticks(low, low * ratio)
    assert 1 <= len(found) <= 6
    assert found == sorted(found)
    assert low * 0.99 <= found[0] <= found[-1] <= low * ratio * 1.01


def test_intervals_are_whiskers_where_they_are_known():
    line = Line([10, 100, 1000], [1.0, 2.0, 3.0], "b", "c0", low=[0.5, float("nan"), 2.5], high=[1.5, 2.5, 3.5])
    svg = str(line_plot("a", [line], "x", log_x=True))
    whiskers = re.findall(r'whisker c0" x1="([\d.]+)" x2="\1" y1="([\d.]+)" y2="([\d.]+)"', svg)
    places = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]*)"', svg)[1].split()]
    assert len(whiskers) == 2
    assert all(float(high) < y < float(low) for (_, low, high), (_, y) in zip(whiskers, places[::2], strict=True))
    # Equal factors are equal distances.
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.2)
    assert "1.000 (0.5000 to 1.500) at 10.0" in svg
