"""Tasks with several labels a protein and with pairs, families for their splits, and what is wrong with data."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import limbeck
from fake_encoder import FakeEncoder
from limbeck import benchmarks
from limbeck.benchmarks import metrics
from limbeck.benchmarks.overlap import families
from limbeck.benchmarks.task import Task, family_parts

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def protein(length: int, seed: int, letters: str = LETTERS) -> str:
    return "".join(np.random.default_rng(seed).choice(list(letters), length))


def write_table(path: Path, **columns: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(rows) + "\n")


def task(name: str) -> Task:
    return next(task for task in benchmarks.all_tasks() if task.name == name)


def changed(text: str, share: float, seed: int) -> str:
    """With so many of its residues drawn anew."""
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(list(LETTERS)) if rng.random() < share else letter for letter in text)


# --- families


def test_relatives_are_one_family_and_strangers_are_not() -> None:
    first, second = protein(300, 1), protein(300, 2)
    found = families([first, second, changed(first, 0.3, 3), changed(second, 0.3, 4), protein(300, 5)])
    assert found[0] == found[2]
    assert found[1] == found[3]
    assert len(set(found)) == 3


def test_repeats_of_one_letter_make_no_family() -> None:
    found = families([protein(100, seed) + "Q" * 60 for seed in range(4)])
    assert len(set(found)) == 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_a_family_is_never_split_and_the_order_does_not_matter(of: list[int], random: Any) -> None:
    sequences = [f"{LETTERS[family]}{index}" for index, family in enumerate(of)]
    parts = family_parts(sequences, np.array(of), (0.5, 0.2, 0.3))
    for family in set(of):
        assert len({part for part, f in zip(parts, of, strict=True) if f == family}) == 1
    order = list(range(len(of)))
    random.shuffle(order)
    again = family_parts([sequences[i] for i in order], np.array([of[i] for i in order]), (0.5, 0.2, 0.3))
    assert [parts[i] for i in order] == list(again)


# --- metrics


def test_mean_aupr_is_scikit_learns_with_ties_and_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 6)) < 0.2).astype(float)
    truth[:, 5] = 0  # nobody has it, so it does not count
    scores = rng.integers(0, 6, (80, 6)) / 5
    expected = np.mean([average_precision_score(truth[:, k], scores[:, k]) for k in range(5)])
    assert metrics.mean_aupr(scores, truth, np.empty(0)) == pytest.approx(expected)
    draws = metrics.replicates("mean_aupr", scores, truth, np.empty(0, str), np.arange(80), 5, 0)
    rows = np.random.default_rng(0).integers(0, 80, 80)
    kept = [k for k in range(5) if truth[rows, k].any()]
    assert draws[0] == pytest.approx(np.mean([average_precision_score(truth[rows, k], scores[rows, k]) for k in kept]))


def test_fmax_by_hand() -> None:
    truth = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], float)
    scores = np.array([[0.9, 0.4, 0.1], [0.2, 0.8, 0.3], [0.0, 0.0, 0.05]])
    # At 0.4: precision over the two proteins with a prediction is 1, recall (1 + 1 + 0) / 3.
    assert metrics.fmax(scores, truth, np.empty(0)) == pytest.approx(0.8)
    assert metrics.fmax(truth, truth, np.empty(0)) == 1


def test_a_pair_is_drawn_as_often_as_both_of_its_proteins() -> None:
    units = np.array([["a", "b"], ["a", "c"], ["d", "e"]])
    seen = metrics.replicates("accuracy", np.array([1, 1, 0]), np.ones(3, int), np.empty(0, str), units, 200, 0)
    assert len(seen) == 200
    # Whenever the third pair is drawn at all it is wrong, so some samples are below 1, and samples differ.
    finite = seen[np.isfinite(seen)]
    assert finite.min() < finite.max() <= 1


# --- tasks


@pytest.fixture
def ontology(tmp_path: Path) -> Path:
    """Two kinds of proteins with a term each, one that all have, a root, and one that two have."""
    texts = [protein(60, seed, "ACDEFG" if seed % 2 else "STVWYP") for seed in range(160)]
    terms = [";".join(["GO:0008150", f"GO:{seed % 2}", "GO:7", *(["GO:9"] if seed < 2 else [])]) for seed in range(160)]
    write_table(tmp_path / "go_yeast_slim/go_yeast_slim.csv.gz", locus=texts, sequence=texts, go_slim=terms)
    return tmp_path


@pytest.mark.parametrize("method", ["probe", "mlp"])
def test_labels_are_found_and_rare_ones_and_roots_left_out(ontology: Path, method: str) -> None:
    scores = benchmarks.score(FakeEncoder(dimension=16), [task("ontology")], "full", "test", ontology, methods=("mlp",))
    scored = scores["ontology" if method == "probe" else "ontology_mlp"]
    assert scored["metrics"].keys() == {"fmax", "mean_aupr"}
    assert scored["value"] > 0.9
    assert scored["kind"] == "labels"
    assert scored["interval"][0] <= scored["value"] <= scored["interval"][1]
    assert ("sd_of_seeds" in scored["metrics"]["fmax"]) == (method == "mlp")
    read = task("ontology").read(ontology)
    assert not any("GO:0008150" in text for text in read.train.labels)


def interactions(folder: Path, pairs: list[tuple[int, int, int]], proteins: Sequence[str]) -> Path:
    write_table(
        folder / "ppi_yeast_pipr/sequences.csv.gz", id=[f"P{i}" for i in range(len(proteins))], sequence=proteins
    )
    columns = {"id1": [f"P{a}" for a, _, _ in pairs], "id2": [f"P{b}" for _, b, _ in pairs]}
    write_table(folder / "ppi_yeast_pipr/pairs.csv.gz", **columns, label=[label for _, _, label in pairs])
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Proteins of two kinds; those of one kind interact."""
    proteins = [protein(60, seed, "ACDEFG" if seed % 2 else "STVWYP") for seed in range(60)]
    rng = np.random.default_rng(0)
    drawn = {tuple(sorted(rng.choice(60, 2, replace=False).tolist())) for _ in range(900)}
    return interactions(tmp_path, [(a, b, int(a % 2 == b % 2)) for a, b in sorted(drawn)], proteins)


def test_pairs_of_the_test_have_no_protein_that_was_seen(pairs: Path) -> None:
    split = task("interaction").read(pairs)
    parts = [{*part.sequences, *part.partners} for part in (split.train, split.valid, split.test)]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    random = task("interaction_random").read(pairs)
    assert {*random.train.sequences, *random.train.partners} & {*random.test.sequences, *random.test.partners}
    assert task("interaction_random").caution.startswith("leaky")
    assert not task("interaction_random").primary


def test_interaction_is_learnt_whichever_protein_stands_first(pairs: Path) -> None:
    first = benchmarks.score(FakeEncoder(dimension=16), [task("interaction")], "full", "test", pairs)["interaction"]
    assert first["value"] > 0.9
    path = pairs / "ppi_yeast_pipr/pairs.csv.gz"
    table = [line.split(",") for line in gzip.decompress(path.read_bytes()).decode().splitlines()[1:]]
    write_table(path, id1=[b for _, b, _ in table], id2=[a for a, _, _ in table], label=[c for _, _, c in table])
    swapped = benchmarks.score(FakeEncoder(dimension=16), [task("interaction")], "full", "test", pairs)["interaction"]
    assert swapped["value"] == pytest.approx(first["value"], abs=1e-6)


def test_a_pair_and_its_mirror_are_one(tmp_path: Path) -> None:
    proteins = [protein(40, seed) for seed in range(4)]
    found = task("interaction_random").read(interactions(tmp_path, [(0, 1, 1), (1, 0, 1), (2, 3, 0)], proteins))
    assert sum(map(len, (found.train, found.valid, found.test))) == 2


def test_a_protein_without_sequence_is_named(tmp_path: Path) -> None:
    folder = interactions(tmp_path, [(0, 1, 1), (0, 7, 1)], [protein(40, seed) for seed in range(2)])
    with pytest.raises(limbeck.InputError, match=r"pairs.csv.gz: line 3: P7 is not in"):
        task("interaction").parts(folder, "full", "test")


# --- what goes wrong


class Broken(FakeEncoder):
    def encode(self, sequences: Sequence[str], on_batch: Any = None) -> NDArray[np.float32]:
        vectors = super().encode(sequences, on_batch)
        vectors[1:, 0] = np.nan
        return vectors


def test_an_encoder_that_gives_nan_is_named(ontology: Path) -> None:
    message = r"task ontology: .* gives NaN or infinite numbers for \d+ of \d+ proteins, the first is [A-Z]{20}"
    with pytest.raises(limbeck.InputError, match=message):
        benchmarks.score(Broken(dimension=4), [task("ontology")], "full", "test", ontology)


class BrokenResidues(FakeEncoder):
    def encode_residues(self, sequences: Sequence[str], on_batch: Any = None) -> list[NDArray[np.float32]]:
        return [np.full_like(f, np.inf) for f in super().encode_residues(sequences, on_batch)]


def test_an_encoder_whose_residues_are_no_numbers_is_named() -> None:
    with pytest.raises(limbeck.InputError, match=r"task secondary_structure: .* gives NaN or infinite numbers for res"):
        benchmarks.score(BrokenResidues(dimension=4), [task("secondary_structure")], "quick", "test")


def test_classes_unseen_in_training_are_counted_as_errors(tmp_path: Path) -> None:
    for part, labels in (("train", "aabb"), ("valid", "aabb"), ("test", "abcc")):
        texts = [protein(30, hash_of(part) + index) for index in range(4)]
        write_table(tmp_path / f"tape_remote_homology/{part}.csv.gz", sequence=texts, fold_label=list(labels))
    found = benchmarks.score(FakeEncoder(dimension=4), [task("remote_homology")], "full", "test", tmp_path)
    assert found["remote_homology"]["unseen_labels"] == 2
    assert found["remote_homology"]["value"] <= 0.5


def hash_of(text: str) -> int:
    return sum(map(ord, text)) * 10


def test_a_folder_with_a_part_of_the_files_says_which_is_missing(tmp_path: Path) -> None:
    (tmp_path / "go_yeast_slim").mkdir()
    with pytest.raises(limbeck.InputError, match=r"go_yeast_slim.csv.gz: no such file"):
        benchmarks.score(FakeEncoder(), [task("ontology")], "full", "test", tmp_path)


def test_too_few_proteins_of_any_label(tmp_path: Path) -> None:
    texts = [protein(60, seed) for seed in range(20)]
    terms = [f"GO:{seed}" for seed in range(20)]
    write_table(tmp_path / "go_yeast_slim/go_yeast_slim.csv.gz", locus=texts, sequence=texts, go_slim=terms)
    with pytest.raises(limbeck.InputError, match="no label stands at 10 proteins or more"):
        benchmarks.score(FakeEncoder(), [task("ontology")], "full", "test", tmp_path)


def folds(folder: Path, **changed: str) -> Path:
    """Files of remote homology whose text is ``changed`` for some parts."""
    (folder / "tape_remote_homology").mkdir()
    for part in ("train", "valid", "test"):
        text = "sequence,fold_label\n" + "".join(f"{protein(30, hash_of(part) + k)},{k % 2}\n" for k in range(6))
        path = folder / f"tape_remote_homology/{part}.csv.gz"
        path.write_bytes(gzip.compress(changed.get(part, text).encode(), mtime=0))
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sequence,fold_label\nMKV,1\nMKA\n", r"valid\.csv\.gz: line 3: not as many fields as the header"),
        ("sequence,fold_label\nMKV,1,2\n", r"valid\.csv\.gz: line 2: not as many fields as the header"),
        ("sequence,fold_label\nMKV,1\nMKA,\n", r"valid\.csv\.gz: line 3: a label is empty"),
        ("sequence,fold_label\nM1V,1\n", r"valid\.csv\.gz: line 2: character '1'"),
        ("sequence,fold\nMKV,1\n", r"valid\.csv\.gz: there is no column 'fold_label'"),
        ("", r"valid\.csv\.gz: there is no column 'sequence'"),
        ("sequence,fold_label\n", "task remote_homology: no item is left to choose on"),
    ],
)
def test_a_file_that_is_not_as_documented_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(limbeck.InputError, match=message) as raised:
        benchmarks.score(FakeEncoder(), [task("remote_homology")], "full", "test", folds(tmp_path, valid=text))
    assert "\n" not in str(raised.value)


@settings(max_examples=30, deadline=None)
@given(st.integers(10, 400), st.integers(1, 255))
def test_damage_in_a_compressed_file_is_one_clear_line(tmp_path_factory: Any, place: int, change: int) -> None:
    folder = folds(tmp_path_factory.mktemp("data"))
    path = folder / "tape_remote_homology/train.csv.gz"
    damaged = bytearray(path.read_bytes())
    damaged[min(place, len(damaged) - 5)] ^= change  # the last four bytes are the length, which is not damage to data
    path.write_bytes(damaged)
    with pytest.raises(limbeck.InputError, match=r"train\.csv\.gz: .*; "):
        task("remote_homology").parts(folder, "full", "test")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("solubility", "2", r"line 4: '2' is none of 0, 1"),
        ("solubility", "01", r"line 4: '01' is none of 0, 1"),
        ("solubility", "", r"line 4: '' is none of 0, 1"),
        ("split", "tset", r"line 4: 'tset' is none of valid, test"),
    ],
)
def test_a_label_that_is_not_known_is_named_with_its_line(
    tmp_path: Path, column: str, value: str, message: str
) -> None:
    columns = {
        "sequence": [protein(30, seed) for seed in range(8)],
        "solubility": list("01010101"),
        "split": ["valid"] * 5 + ["test"] * 3,
    }
    columns[column][2] = value
    write_table(tmp_path / "solubility_deepsol/deepsol_valid_test.csv.gz", **columns)
    with pytest.raises(limbeck.InputError, match=message):
        task("solubility").parts(tmp_path, "full", "test")


def test_a_structure_with_an_unknown_state_is_named_with_its_line(tmp_path: Path) -> None:
    write_table(
        tmp_path / "flip_secondary_structure/secondary_structure.csv.gz",
        sequence=["MKV", "MKA"], ss3=["HEC", "HGC"], resolved_mask=["111", "111"], split=["train", "valid"],
    )  # fmt: skip
    with pytest.raises(limbeck.InputError, match=r"line 3: a residue's label is not as documented"):
        task("secondary_structure").parts(tmp_path, "full", "test")


def test_metrics_of_two_classes_are_not_taken_of_one(tmp_path: Path) -> None:
    columns = {"sequence": [protein(30, seed) for seed in range(20)], "solubility": ["1"] * 20}
    write_table(
        tmp_path / "solubility_deepsol/deepsol_valid_test.csv.gz", **columns, split=["valid"] * 15 + ["test"] * 5
    )
    with pytest.raises(limbeck.InputError, match=r"task solubility: two classes are needed, and there are 1 \(1\)"):
        benchmarks.score(FakeEncoder(), [task("solubility")], "full", "test", tmp_path)


def test_a_class_of_one_protein_is_scored(tmp_path: Path) -> None:
    rows = [f"{protein(30, seed)},{label}\n" for seed, label in enumerate("aaabbbc")]
    folder = folds(tmp_path, train="sequence,fold_label\n" + "".join(rows))
    found = benchmarks.score(FakeEncoder(dimension=4), [task("remote_homology")], "full", "test", folder)
    assert 0 <= found["remote_homology"]["value"] <= 1


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(limbeck.InputError, match="there is no method 'forest'"):
        benchmarks.score(FakeEncoder(), [], "full", "test", methods=("forest",))


def test_every_shipped_task_is_read_at_its_smallest_scale() -> None:
    shipped = benchmarks.shipped_data()
    for one in benchmarks.tasks(None):
        if "quick" in one.sizes:
            parts = one.parts(shipped, "quick", "test")
            assert min(len(parts.fit), len(parts.choose), len(parts.score)) >= 15
            assert parts.fit.residues + parts.choose.residues + parts.score.residues < 80_000


# --- what comes with limbeck


def test_every_shipped_file_is_the_one_that_its_page_describes() -> None:
    shipped = benchmarks.shipped_data()
    for path in shipped.glob("*/*.csv.gz"):
        page = (path.parent / "README.md").read_text(encoding="utf-8")
        assert hashlib.sha256(path.read_bytes()).hexdigest() in page, path.name
        assert "Licence" in page
        assert "at commit" in page


def test_the_page_on_data_lists_every_task_its_files_and_what_is_left_out() -> None:
    page = (Path(__file__).parents[1] / "docs/benchmark-data.md").read_text(encoding="utf-8")
    shipped = benchmarks.shipped_data()
    for one in benchmarks.all_tasks():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{one.name}` |")]
        assert one.metrics[0] in row
        assert ("yes" in row) == one.whole(shipped)
        for file in one.files:
            assert f"`{file}`" in page
    for name in benchmarks.LEFT_OUT:
        assert name in page
