"""Scoring encoders on published tasks: splits, probes, metrics, the cache, the command."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

import limbeck
from fake_encoder import FakeEncoder
from limbeck import benchmarks
from limbeck.benchmarks import metrics, probes
from limbeck.benchmarks.candidates import Choice, parse
from limbeck.benchmarks.features import one_hot_windows, residue_features, residue_sample
from limbeck.benchmarks.overlap import near_duplicates
from limbeck.benchmarks.task import SEED, Items, Task, numbers, read_table, sequences
from tiny_encoders import protein, write_unirep

SHIPPED = Path(__file__).parents[1] / "datasets"
STATES = "HEC"


def write_table(path: Path, **columns: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def two_kinds(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Proteins rich in one of two sets of letters, and which."""
    random = np.random.default_rng(seed)
    labels = [str(int(x)) for x in random.integers(0, 2, count)]
    letters = {"0": "ACDEFGHIKLMNPQRSTVWYAAAALLLL", "1": "ACDEFGHIKLMNPQRSTVWYVVVVTTTT"}
    texts = ["".join(random.choice(list(letters[label]), 40)) for label in labels]
    return texts, labels


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Small sets in the documented layout: solubility (classes), esol (values), secondary structure (residues)."""
    folder = tmp_path / "data"
    texts, labels = two_kinds(150, 0)
    split = ["valid"] * 100 + ["test"] * 50
    write_table(folder / "solubility_deepsol/deepsol_valid_test.csv.gz", sequence=texts, solubility=labels, split=split)
    texts, _ = two_kinds(90, 1)
    shares = [t.count("A") / len(t) for t in texts]
    split = ["train"] * 60 + ["test"] * 30
    write_table(folder / "solubility_esol/esol.csv.gz", gene=texts, sequence=texts, solubility=shares, split=split)
    texts, _ = two_kinds(30, 2)
    states = ["".join(STATES[ord(letter) % 3] for letter in t) for t in texts]
    split = ["train"] * 20 + ["valid"] * 10
    seen = ["0" + "1" * 39] * 30
    write_table(
        folder / "flip_secondary_structure/secondary_structure.csv.gz",
        id=texts, sequence=texts, ss3=states, resolved_mask=seen, split=split,
    )  # fmt: skip
    texts, _ = two_kinds(10, 3)
    digits = ["".join(str(ord(letter) % 3) for letter in t) for t in texts]
    write_table(folder / "tape_secondary_structure/test_cb513.csv.gz", sequence=texts, ss3=digits, disorder=seen[:10])
    return folder


MADE = ("secondary_structure", "solubility", "solubility_esol")
"""The tasks that the folder ``data`` holds."""


def made(data: Path) -> list[Task]:
    return [by_name(data, name) for name in MADE]


def by_name(data: Path, name: str) -> Task:
    return next(task for task in benchmarks.tasks(data) if task.name == name)


def test_a_folder_lists_the_tasks_that_it_holds(data: Path, tmp_path: Path) -> None:
    assert [t.name for t in benchmarks.all_tasks() if t.here(data)] == list(MADE)
    found = {t.name for t in benchmarks.tasks(data)}
    # What the folder lacks comes with limbeck; what neither has is not there.
    assert {*MADE, "melting", "stability"} <= found
    assert "localisation" not in found
    assert benchmarks.place(by_name(data, "solubility"), data) == data
    assert benchmarks.place(by_name(data, "melting"), data) == benchmarks.shipped_data()
    with pytest.raises(limbeck.InputError, match="tape_stability"):
        benchmarks.tasks(tmp_path / "nowhere")


def test_every_task_says_where_it_comes_from() -> None:
    tasks = benchmarks.all_tasks()
    assert len({t.name for t in tasks}) == len(tasks)
    for task in tasks:
        assert "doi:" in task.citation or "arXiv:" in task.citation
        assert task.license
        assert task.split
        assert set(task.metrics) <= set(metrics.METRICS)
        assert task.files


def test_no_sequence_is_in_two_parts_or_twice_in_one(tmp_path: Path) -> None:
    texts = [protein(30, seed) for seed in range(30)]
    train, valid, test = texts[:20] + texts[:2], texts[18:26], [*texts[24:], texts[24]]
    for part, rows in (("train", train), ("valid", valid), ("test", test)):
        write_table(tmp_path / f"tape_remote_homology/{part}.csv.gz", sequence=rows, fold_label=["1"] * len(rows))
    task = by_name(tmp_path, "remote_homology")
    parts = task.parts(tmp_path, "full", "test")
    assert sorted(parts.fit.sequences) == sorted(texts[:18])
    assert sorted(parts.choose.sequences) == sorted(texts[18:24])
    assert sorted(parts.score.sequences) == sorted(texts[24:])


def test_split_valid_never_sees_test(data: Path) -> None:
    task = by_name(data, "solubility_esol")
    on_test, on_valid = (task.parts(data, "full", split) for split in ("test", "valid"))
    assert sorted(on_valid.score.sequences) == sorted(on_test.choose.sequences)
    assert sorted(on_valid.fit.sequences + on_valid.choose.sequences) == sorted(on_test.fit.sequences)
    assert not set(on_test.score.sequences) & {
        *on_valid.fit.sequences, *on_valid.choose.sequences, *on_valid.score.sequences,
    }  # fmt: skip


def test_the_proteins_of_a_scale_do_not_depend_on_the_order_of_the_file(data: Path) -> None:
    path = data / "solubility_esol/esol.csv.gz"
    task = by_name(data, "solubility_esol")
    before = task.parts(data, "small", "test").digest
    table = read_table(path, "gene", "sequence", "solubility", "split")
    rows = np.random.default_rng(0).permutation(len(table["gene"]))
    write_table(path, **{name: [column[i] for i in rows] for name, column in table.items()})
    assert task.parts(data, "small", "test").digest == before


def test_inner_split_keeps_homology_groups_whole() -> None:
    from limbeck.benchmarks.task import _cut

    texts = [protein(20, seed) for seed in range(12)]
    fit, choose = _cut(Items(texts, np.arange(12.0), groups=np.array(list("001122001122"))))
    assert set(fit.groups) == {"0", "1"}
    assert set(choose.groups) == {"2"}


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    with pytest.raises(limbeck.InputError, match="no such file"):
        read_table(path, "sequence")
    path.write_bytes(b"plain text")
    with pytest.raises(limbeck.InputError, match="copy it again"):
        read_table(path, "sequence")
    write_table(path, sequence=["MA"])
    with pytest.raises(limbeck.InputError, match="no column 'label'"):
        read_table(path, "label")
    with pytest.raises(limbeck.InputError, match="line 3: character '1'"):
        sequences(path, ["MA", "M1"])
    with pytest.raises(limbeck.InputError, match="line 2: the sequence has no residues"):
        sequences(path, [""])
    with pytest.raises(limbeck.InputError, match="line 3: 'nan' is not a number"):
        numbers(path, ["1.5", "nan"])


def test_train_can_be_limited_to_the_labels_that_are_scored() -> None:
    task = next(t for t in benchmarks.all_tasks() if t.name == "remote_homology")
    parts = task.parts(SHIPPED, "glance", "valid")
    assert {*parts.fit.labels, *parts.choose.labels} <= set(parts.score.labels)
    assert max(map(len, parts.fit.sequences)) <= 150
    assert len(parts.score) == 300


def test_unknown_scale_and_split_are_refused(data: Path) -> None:
    task = by_name(data, "solubility_esol")
    with pytest.raises(limbeck.InputError, match="full, medium, small"):
        task.parts(data, "huge", "test")
    with pytest.raises(limbeck.InputError, match="valid or test"):
        task.parts(data, "full", "train")


@pytest.mark.parametrize("shape", [(60, 12), (20, 50)])
def test_ridge_is_scikit_learns(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=shape).astype(np.float32) * random.uniform(0.5, 2, shape[1]).astype(np.float32) + 1
    y = x[:, 0] + random.normal(size=shape[0])
    for scaling in ("common", "each"):
        for strength, model in probes.ridges(x, y, scaling):
            spread = x.std(axis=0) if scaling == "each" else np.sqrt(x.var(axis=0).mean())
            z = (x - x.mean(axis=0)) / spread
            expected = Ridge(alpha=strength * shape[0]).fit(z.astype(float), y).predict(z)
            np.testing.assert_allclose(model(x)[:, 0], expected, atol=3e-3)


@pytest.mark.parametrize("dimension", [6, 80])
def test_discriminants_are_scikit_learns(dimension: int) -> None:
    random = np.random.default_rng(1)
    y = random.integers(0, 3, 60)
    x = (random.normal(size=(60, dimension)) + y[:, None] * 0.5).astype(np.float32)
    residuals = x - np.stack([x[y == k].mean(axis=0) for k in range(3)])[y]
    for strength, model in probes.discriminants(x, y, 3, "common"):
        # scikit-learn mixes (1 - share) of the covariance with share of its mean variance.
        ratio = strength * x.var(axis=0).mean() / residuals.var(axis=0).mean()
        share = ratio / (1 + ratio)
        expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share).fit(x.astype(float), y)
        weight = expected.coef_.T * (1 - share)
        np.testing.assert_allclose(
            model.weight - model.weight[:, :1], weight - weight[:, :1], rtol=1e-3, atol=1e-3 * np.abs(weight).max()
        )
        if ratio < 1e-2:
            assert (model(x).argmax(axis=1) == expected.predict(x)).all()


def test_a_class_without_train_proteins_is_never_predicted() -> None:
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    y = np.array([0, 2] * 10)
    for _, model in probes.discriminants(x, y, 4, "each"):
        assert set(model(x * 3).argmax(axis=1)) <= {0, 2}


def test_nearest_takes_the_direction_and_not_the_length() -> None:
    train = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    queries = np.array([[9, 1], [-0.01, 0.1]], np.float32)
    assert probes.nearest(train, np.array([5, 6, 7, 8]), queries).tolist() == [5, 6]


def test_metrics_are_those_of_the_usual_libraries() -> None:
    random = np.random.default_rng(0)
    none = np.empty(0)
    truth, predicted = random.integers(0, 2, 80), random.integers(0, 2, 80)
    margins, values = random.integers(0, 9, 80) / 3, random.normal(size=80)
    assert metrics.METRICS["mcc"](predicted, truth, none) == pytest.approx(matthews_corrcoef(truth, predicted))
    assert metrics.METRICS["auroc"](margins, truth, none) == pytest.approx(roc_auc_score(truth, margins))
    assert metrics.spearman(margins, values) == pytest.approx(spearmanr(margins, values).statistic)
    many, guesses = random.integers(0, 4, 80), random.integers(0, 4, 80)
    assert metrics.METRICS["macro_f1"](guesses, many, none) == pytest.approx(f1_score(many, guesses, average="macro"))
    strata = np.repeat(["a", "b", "c"], [40, 35, 5])
    within = [spearmanr(margins[r], values[r]).statistic for r in (slice(40), slice(40, 75))]
    expected = np.average(within, weights=[40, 35])
    assert metrics.METRICS["spearman_within"](margins, values, strata) == pytest.approx(expected)


def test_bootstrap_draws_whole_units_and_the_same_ones_each_time() -> None:
    none = np.empty(0)
    truth = np.repeat([0, 1], 50)
    predicted = np.zeros(100, int)
    units = np.repeat(["x", "y"], 50)
    samples = metrics.replicates("accuracy", predicted, truth, none, units, 200, SEED)
    assert set(samples) == {0.0, 0.5, 1.0}
    assert (samples + metrics.replicates("accuracy", 1 - predicted, truth, none, units, 200, SEED) == 1).all()
    each = metrics.replicates("accuracy", predicted, truth, none, np.arange(100), 500, SEED)
    assert each.std() == pytest.approx(0.05, rel=0.15)
    low, high = metrics.interval(each)
    assert low < 0.5 < high


def test_residue_sample_is_of_known_residues_and_the_protein_own() -> None:
    text = protein(400, 1)
    known = np.arange(400) % 2 == 0
    chosen = residue_sample(text, known, 0.5)
    assert known[chosen].all()
    assert 60 < len(chosen) < 140
    assert chosen.tolist() == residue_sample(text, known, 0.5).tolist()
    assert residue_sample(text, known, 1.0).tolist() == np.flatnonzero(known).tolist()


def test_residue_features_are_the_encoders_rows() -> None:
    encoder = FakeEncoder()
    texts = [protein(length) for length in (30, 50, 7)]
    rows = [np.array([0, 29]), np.array([], int), np.array([6])]
    expected = np.concatenate([f[r] for f, r in zip(encoder.encode_residues(texts), rows, strict=True)])
    assert (residue_features(encoder, texts, rows, None) == expected).all()


def test_one_hot_windows_show_the_neighbours_and_the_ends() -> None:
    windows = one_hot_windows(["MKV"], [np.array([0, 2])]).reshape(2, 15, 21)
    letters = ["ACDEFGHIKLMNPQRSTVWYX"[row.argmax()] if row.any() else "-" for row in windows[1]]
    assert "".join(letters) == "-----MKV-------"
    assert windows.sum() == 6


def test_score_finds_what_is_there_and_keeps_it(data: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder(dimension=16)
    cache = tmp_path / "cache"
    scores = benchmarks.score(encoder, made(data), "full", "test", data, cache)
    assert scores["solubility"]["value"] > 0.85
    assert scores["solubility_esol"]["value"] > 0.85
    assert scores["secondary_structure"]["value"] > 0.9  # the state is a function of the letter
    assert scores["secondary_structure"]["labels"]["score"] == 10 * 39
    for scored in scores.values():
        low, high = scored["interval"]
        assert low <= scored["value"] <= high
        assert scored["in_mean"]
    calls = len(encoder.calls)
    again = benchmarks.score(encoder, made(data), "full", "test", data, cache)
    assert again == scores
    assert len(encoder.calls) == calls


def test_labels_of_test_do_not_move_the_choices(data: Path) -> None:
    tasks = [by_name(data, "solubility")]
    before = benchmarks.score(FakeEncoder(), tasks, "full", "test", data)["solubility"]
    path = data / "solubility_deepsol/deepsol_valid_test.csv.gz"
    table = read_table(path, "sequence", "solubility", "split")
    rows = zip(table["solubility"], table["split"], strict=True)
    flipped = [str(1 - int(label)) if part == "test" else label for label, part in rows]
    write_table(path, **{**table, "solubility": flipped})
    after = benchmarks.score(FakeEncoder(), tasks, "full", "test", data)["solubility"]
    assert after["chosen"] == before["chosen"]
    assert after["valid"] == before["valid"]
    assert after["value"] == pytest.approx(1 - before["value"], abs=1e-3)


def test_the_best_candidate_is_chosen_on_validation(data: Path) -> None:
    blind = FakeEncoder("blind", scale=0.0)
    candidates = [Choice("blind", blind), Choice("sees", FakeEncoder(dimension=16))]
    scores = benchmarks.score(candidates, [by_name(data, "solubility_esol")], "full", "test", data)
    assert scores["solubility_esol"]["chosen"]["features"] == "sees"


def test_an_encoder_without_residues_gets_a_named_stand_in(data: Path) -> None:
    scores = benchmarks.score(limbeck.load("composition"), made(data), "small", "test", data)
    assert scores["secondary_structure"]["stand_in"] == "one-hot window of 15"
    assert not scores["secondary_structure"]["in_mean"]
    assert scores["solubility"]["in_mean"]


def test_auto_tries_every_layer_from_one_run(tmp_path: Path) -> None:
    path = write_unirep(tmp_path / "weights.safetensors")
    found = benchmarks.choices(str(path), ["auto"])
    assert [c.label for c in found] == ["layer 1", "layer 2", "layer 3", "layer 4", "all layers"]
    texts = [protein(20), protein(31)]
    third = limbeck.load(path, layer=3).encode(texts)
    np.testing.assert_allclose(found[2].encoder.encode(texts)[:, found[2].columns], third, atol=1e-6)
    assert [c.label for c in benchmarks.choices("limbeck-contexts", ["auto"])] == ["mean", "sqrt-mean"]
    assert [c.label for c in benchmarks.choices("composition", ["auto"])] == ["default"]
    assert benchmarks.choices(str(path), ["2"])[0].encoder.fingerprint == limbeck.load(path, layer=2).fingerprint


def test_encoder_arguments() -> None:
    assert parse("limbeck-9m") == ("limbeck-9m", "limbeck-9m", [])
    assert parse("mine=a/b.safetensors@3@mean") == ("mine", "a/b.safetensors", ["3", "mean"])
    with pytest.raises(limbeck.InputError, match="there is no name"):
        parse("mine=")


def test_near_duplicates_share_half_of_their_words_with_one_protein() -> None:
    one, other = protein(100, 1), protein(100, 2)
    assert near_duplicates([one, other], [one[:70] + protein(30, 3), one[:30] + protein(70, 4), other, "MK"]) == 2
    assert near_duplicates([], [one]) == 0


def test_quick_probes_run_on_the_shipped_data() -> None:
    values = benchmarks.quick_probes(limbeck.load("composition"), SHIPPED)
    assert values.keys() == {"remote_homology", "structural_class"}
    assert 0.01 < values["remote_homology"] < 0.2
    assert 0.35 < values["structural_class"] < 0.8
