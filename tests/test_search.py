from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import limbeck
from fake_encoder import FakeEncoder, random_proteins, write_fasta
from limbeck.commands import index as index_verb
from limbeck.commands import search as search_verb
from limbeck.errors import InputError
from limbeck.search import build, build_index, exact, open_index
from limbeck.search.about import described
from limbeck.search.exact import nearest
from limbeck.search.index import directions
from limbeck.search.results import check_request, write_results
from search_fixture import families, table


def run(verb, *arguments: str) -> None:
    """A verb as the command line runs it."""
    import argparse

    parser = argparse.ArgumentParser()
    verb.add(parser.add_subparsers())
    options = parser.parse_args([verb.__name__.rsplit(".", 1)[1], *arguments])
    options.run(options)


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 600 proteins of 8 groups, with the group as label and some labels missing."""
    folder = tmp_path_factory.mktemp("labelled")
    vectors, group = families(600, spread=1.2)
    table(folder / "proteins.npz", vectors)
    rows = "".join(f"p{n},class {g},family {n % 40}\n" for n, g in enumerate(group.tolist()) if n % 10)
    (folder / "labels.csv").write_text("id,class,family\n" + rows + "stranger,class 1,family 1\n")
    build_index(
        folder / "proteins.npz",
        folder / "proteins.index",
        labels=folder / "labels.csv",
        label_column="class",
        progress=False,
    )
    return folder


# Exact search

numbers = st.integers(-2, 2).map(float)


@given(
    vectors=st.integers(1, 40).flatmap(lambda n: arrays(np.float32, (n, 3), elements=numbers)),
    queries=st.integers(1, 5).flatmap(lambda n: arrays(np.float32, (n, 3), elements=numbers)),
    k=st.integers(1, 45),
    block=st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_exact_search_is_brute_force_and_of_equals_the_first_wins(vectors, queries, k, block) -> None:
    vectors, queries = (directions(x, np.zeros(3, np.float32)) for x in (vectors, queries))
    rows, similarities = nearest(vectors, queries, k, rows_at_once=block)
    # Few different numbers, so there are many equals.
    for query, found, values in zip(queries, rows, similarities, strict=True):
        every = np.array([float((v.astype(np.float64) * query).sum()) for v in vectors])
        expected = sorted(range(len(vectors)), key=lambda row: (-every[row], row))[:k]
        assert found.tolist() == expected
        np.testing.assert_array_equal(values, every[expected])


@given(seed=st.integers(0, 1000), block=st.integers(1, 70), k=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_a_group_is_left_out_wherever_the_blocks_end(seed: int, block: int, k: int) -> None:
    random = np.random.default_rng(seed)
    vectors = directions(random.normal(size=(60, 4)).astype(np.float32), np.zeros(4, np.float32))
    groups = random.integers(0, 3, 60)
    rows, similarities = nearest(vectors, vectors, k, groups=(groups, groups), rows_at_once=block)
    for query in range(60):
        every = vectors.astype(np.float64) @ vectors[query].astype(np.float64)
        expected = [row for row in np.argsort(-every, kind="stable") if groups[row] != groups[query]][:k]
        assert rows[query].tolist() == expected
    assert np.isfinite(similarities).all()


def test_where_a_group_leaves_too_few_places_stay_free() -> None:
    vectors = np.eye(3, dtype=np.float32)
    rows, similarities = nearest(vectors, vectors[:1], 3, groups=(np.array([0]), np.array([0, 0, 1])))
    assert rows.tolist() == [[2, -1, -1]]
    assert np.isinf(similarities[0, 1:]).all()


def test_many_equal_vectors_are_pruned_and_the_first_of_them_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "ROWS_AT_ONCE", 64)
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (5000, 1))
    vectors[3000:] = [0.0, 1.0]
    rows, _ = nearest(vectors, np.array([[0.0, 1.0]], np.float32), 3, rows_at_once=64)
    assert rows.tolist() == [[3000, 3001, 3002]]


# Building


@pytest.mark.parametrize("format", ["h5", "parquet", "npz"])
def test_every_format_and_several_files_give_the_same_index(tmp_path: Path, format: str) -> None:
    vectors, _ = families(50)
    names = [f"p{n}/é" for n in range(50)]
    whole = table(tmp_path / "whole.npz", vectors, names)
    parts = [
        table(tmp_path / f"{part}.{format}", vectors[rows], names[rows])
        for part, rows in (("a", slice(0, 17)), ("b", slice(17, 50)))
    ]
    build_index(whole, tmp_path / "one", progress=False)
    build_index(parts, tmp_path / "two", progress=False)
    for file in ("vectors.npy", "centre.npy", "proteins.arrow"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@given(count=st.integers(2, 60), at_once=st.integers(1, 70))
@settings(max_examples=15, deadline=None)
def test_blocks_change_nothing(tmp_path_factory: pytest.TempPathFactory, count: int, at_once: int) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    vectors, _ = families(count)
    build_index(table(folder / "p.npz", vectors), folder / "one", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "AT_ONCE", at_once)
        build_index(folder / "p.npz", folder / "two", progress=False)
    one, two = (np.load(folder / name / "vectors.npy") for name in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_similarity_is_the_cosine_about_the_mean(tmp_path: Path) -> None:
    vectors, _ = families(40)
    build_index(table(tmp_path / "p.npz", vectors), tmp_path / "i", progress=False)
    (hits,) = open_index(tmp_path / "i").search(vectors[3:4], 40)
    moved = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    expected = moved @ moved[3]
    assert [hit.id for hit in hits] == [f"p{row}" for row in np.argsort(-expected)]
    np.testing.assert_allclose([hit.similarity for hit in hits], np.sort(expected)[::-1], atol=1e-6)
    build_index(tmp_path / "p.npz", tmp_path / "plain", centre=False, progress=False)
    (plain,) = open_index(tmp_path / "plain").search(vectors[3:4], 40)
    assert plain[-1].similarity > 0.8 > 0 > hits[-1].similarity


def test_half_precision_halves_the_vectors_and_finds_the_same(tmp_path: Path) -> None:
    vectors, _ = families(200)
    build_index(table(tmp_path / "p.npz", vectors), tmp_path / "full", progress=False)
    build_index(tmp_path / "p.npz", tmp_path / "half", dtype="float16", progress=False)
    full, half = (open_index(tmp_path / name) for name in ("full", "half"))
    assert half.manifest.files["vectors.npy"]["bytes"] < 0.6 * full.manifest.files["vectors.npy"]["bytes"]
    for a, b in zip(full.search(vectors, 1), half.search(vectors, 1), strict=True):
        assert a[0].id == b[0].id
        assert a[0].similarity == pytest.approx(b[0].similarity, abs=1e-3)


def test_approximate_search_reports_its_recall_and_gives_exact_similarities(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors, _ = families(4000, groups=60)
    table(tmp_path / "p.npz", vectors)
    manifest = build_index(tmp_path / "p.npz", tmp_path / "lists", engine="approximate", progress=False)
    build_index(tmp_path / "p.npz", tmp_path / "every", progress=False)
    assert manifest.engine["name"] == "faiss"
    assert 0.9 <= manifest.recall["recall"] <= 1
    assert f"recall@10 {manifest.recall['recall']:.4f}" in described("lists", manifest)
    queries, _ = families(60, groups=60, seed=5)
    found, truth = (open_index(tmp_path / name).search(queries, 10) for name in ("lists", "every"))
    shared = 0
    for a, b in zip(found, truth, strict=True):
        known = {hit.id: hit.similarity for hit in b}
        shared += sum(hit.id in known for hit in a)
        assert all(known[hit.id] == hit.similarity for hit in a if hit.id in known)
    assert shared / 600 > 0.9


def test_small_indexes_are_exact_and_large_ones_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    from limbeck.search.engine import EXACT_UP_TO, chosen_engine

    assert chosen_engine("auto", EXACT_UP_TO)["name"] == "exact"
    assert chosen_engine("auto", EXACT_UP_TO + 1)["name"] == "faiss"
    assert chosen_engine("exact", 10**7)["name"] == "exact"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "limbeck[search]" in chosen_engine("auto", EXACT_UP_TO + 1)["note"]
    with pytest.raises(InputError, match=r"limbeck\[search\]"):
        chosen_engine("approximate", 100)


def test_proteins_are_embedded_and_found_by_the_same_encoder(tmp_path: Path) -> None:
    proteins = random_proteins(30, longest=60)
    fasta = write_fasta(tmp_path / "proteins.fasta", proteins)
    manifest = build_index(fasta, tmp_path / "i", loading={"encoder": "dipeptides"}, progress=False)
    assert manifest.origin.encoder == "dipeptides"
    assert not list((tmp_path / "i").glob("embeddings*"))
    queries = write_fasta(tmp_path / "queries.fasta", proteins[4:7])
    run(search_verb, str(queries), "--index", str(tmp_path / "i"), "-k", "2", "-o", str(tmp_path / "h.csv"), "-q")
    rows = read(tmp_path / "h.csv")
    assert list(rows[0]) == ["query", "rank", "target", "similarity"]
    assert [row["target"] for row in rows[::2]] == ["P4", "P5", "P6"]
    assert all(float(row["similarity"]) == pytest.approx(1, abs=1e-6) for row in rows[::2])
    embedded = tmp_path / "queries.npz"
    limbeck.embed(queries, embedded, encoder="dipeptides", progress=False)
    run(search_verb, str(embedded), "--index", str(tmp_path / "i"), "-k", "2", "-o", str(tmp_path / "e.csv"), "-q")
    assert (tmp_path / "e.csv").read_text() == (tmp_path / "h.csv").read_text()


# Searching


def test_the_query_itself_is_left_out_and_only_that(tmp_path: Path) -> None:
    vectors, _ = families(30)
    vectors[7] = vectors[3]
    build_index(table(tmp_path / "p.npz", vectors), tmp_path / "i", progress=False)
    index = open_index(tmp_path / "i")
    with_self = index.search(vectors[3:5], 30)
    without = index.search(vectors[3:5], 30, without=["p3", "p4"])
    assert [hit.id for hit in with_self[0][:2]] == ["p3", "p7"]
    assert [hit.id for hit in without[0]] == [hit.id for hit in with_self[0] if hit.id != "p3"]
    # The id alone is not enough: another protein may have it elsewhere.
    elsewhere = index.search(vectors[3:4], 30, without=["p9"])
    assert elsewhere[0] == with_self[0]


def test_outputs_agree(labelled: Path, tmp_path: Path) -> None:
    index = open_index(labelled / "proteins.index")
    for name in ("h.csv", "h.tsv", "h.parquet"):
        written = write_results(index, labelled / "proteins.npz", str(tmp_path / name), k=3, progress=False)
        assert (written.queries, written.rows, written.without) == (600, 1800, 0)
    rows = read(tmp_path / "h.csv")
    assert rows == read(tmp_path / "h.tsv")
    parquet = pq.read_table(tmp_path / "h.parquet").to_pylist()
    assert [row["target"] for row in parquet] == [row["target"] for row in rows]
    assert [row["label"] or "" for row in parquet] == [row["label"] for row in rows]
    # p0 has no label, and so no reliability.
    assert next(row for row in rows if row["target"] == "p0")["reliability"] == ""


def test_less_similar_hits_are_left_out(labelled: Path, tmp_path: Path) -> None:
    index = open_index(labelled / "proteins.index")
    far = table(tmp_path / "far.npz", 2 * index.manifest.origin.dimension * np.eye(16, dtype=np.float32)[:1], ["x"])
    output = str(tmp_path / "h.csv")
    written = write_results(index, far, output, k=5, min_similarity=0.999, progress=False)
    assert (written.rows, written.without) == (0, 1)
    assert "1 queries without any" in str(written)


# Transfer


def test_reliability_is_how_often_labels_are_right(labelled: Path) -> None:
    index = open_index(labelled / "proteins.index")
    queries, group = families(3000, spread=1.2, seed=7)
    found = index.annotate(queries)
    trust = np.array([labels[0].reliability for labels in found])
    right = np.array([labels[0].label == f"class {g}" for labels, g in zip(found, group, strict=True)])
    assert 0.6 < right.mean() < 0.97
    assert abs(trust.mean() - right.mean()) < 0.05
    # Where the index is surer, it is right more often.
    assert right[trust > np.median(trust)].mean() > right[trust <= np.median(trust)].mean()


def test_labels_are_counted(labelled: Path) -> None:
    labels = open_index(labelled / "proteins.index").manifest.labels
    assert (labels["labelled"], labels["unlabelled"], labels["unused"], labels["different"]) == (540, 60, 1, 8)
    report = labels["calibration"]["report"]
    assert report["held_out"] == 270
    assert report["calibration_error"] < 0.1
    text = described("x", open_index(labelled / "proteins.index").manifest)
    assert "60 have none" in text
    assert "--group-column" in text


def test_relatives_make_leave_one_out_optimistic_and_groups_mend_it(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    # Each family is five near-copies, and its label has nothing to do with where it lies.
    families_of = np.repeat(np.arange(120), 5)
    vectors = random.normal(size=(120, 16))[families_of] + 0.01 * random.normal(size=(600, 16))
    label = random.integers(0, 2, 120)[families_of]
    table(tmp_path / "p.npz", vectors.astype(np.float32))
    rows = "".join(f"p{n},{label[n]},f{families_of[n]}\n" for n in range(600))
    (tmp_path / "l.csv").write_text("id,label,family\n" + rows)
    options = {"labels": tmp_path / "l.csv", "label_column": "label", "progress": False}
    alone = build_index(tmp_path / "p.npz", tmp_path / "a", **options)
    grouped = build_index(tmp_path / "p.npz", tmp_path / "g", group_column="family", **options)
    assert alone.labels["calibration"]["report"]["accuracy"] > 0.99
    assert grouped.labels["calibration"]["report"]["accuracy"] < 0.65


def test_several_labels_each_have_a_reliability(tmp_path: Path) -> None:
    vectors, group = families(500)
    table(tmp_path / "p.npz", vectors)
    terms = [";".join(filter(None, [f"g{g}", "even" if g % 2 == 0 else ""])) for g in group.tolist()]
    (tmp_path / "l.tsv").write_text("id\tterms\n" + "".join(f"p{n}\t{t}\n" for n, t in enumerate(terms)))
    build_index(tmp_path / "p.npz", tmp_path / "i", labels=tmp_path / "l.tsv", label_column="terms", progress=False)
    index = open_index(tmp_path / "i")
    queries, group = families(300, seed=3)
    found = index.annotate(queries, least=0.5)
    even = [labels for labels, g in zip(found, group, strict=True) if g % 2 == 0]
    assert np.mean([{a.label for a in labels} >= {"even"} for labels in even]) > 0.8
    assert all(a.reliability >= 0.5 for labels in found for a in labels)
    assert any(len(labels) == 2 for labels in found)


def test_few_labels_are_not_calibrated_and_still_transferred(tmp_path: Path) -> None:
    vectors, group = families(40, groups=2, spread=0.1)
    table(tmp_path / "p.npz", vectors)
    (tmp_path / "l.csv").write_text("id,label\n" + "".join(f"p{n},{g}\n" for n, g in enumerate(group.tolist())))
    build_index(tmp_path / "p.npz", tmp_path / "i", labels=tmp_path / "l.csv", label_column="label", progress=False)
    index = open_index(tmp_path / "i")
    assert not index.calibrated
    assert "too few" in described("i", index.manifest)
    assert [labels[0].label for labels in index.annotate(vectors, without=[f"p{n}" for n in range(40)])] == [
        str(g) for g in group
    ]
    with pytest.raises(InputError, match="calibrated"):
        check_request(index, 1, transfer=True, least=None, trust=0.5)
    write_results(index, tmp_path / "p.npz", str(tmp_path / "t.csv"), transfer=True, progress=False)
    assert list(read(tmp_path / "t.csv")[0]) == ["query", "label", "share", "nearest", "similarity"]


# What is refused


def refusals(folder: Path) -> dict[str, tuple[Path, str]]:
    vectors, _ = families(20)
    return {
        "precision": (table(folder / "a.npz", vectors, precision="bf16"), "bf16.*--precision f32"),
        "weights": (table(folder / "b.npz", vectors, encoder_fingerprint="0" * 64), "another layer or version"),
        "encoder": (table(folder / "c.npz", vectors, encoder="b", encoder_fingerprint="0" * 64), "'b'.*'fake'"),
        "pooling": (table(folder / "d.npz", vectors, pooling="max"), "same options"),
        "unknown": (table(folder / "e.npz", vectors, encoder_fingerprint=""), "another layer or version"),
        "residues": (table(folder / "f.npz", vectors, level="residues"), "--per-residue"),
    }


@pytest.mark.parametrize("kind", ["precision", "weights", "encoder", "pooling", "unknown", "residues"])
def test_vectors_that_do_not_go_together_are_refused(labelled: Path, tmp_path: Path, kind: str) -> None:
    path, message = refusals(tmp_path)[kind]
    index = open_index(labelled / "proteins.index")
    with pytest.raises(InputError, match=message):
        write_results(index, path, str(tmp_path / "h.csv"), progress=False)
    assert not list(tmp_path.glob("h.csv*"))
    with pytest.raises(InputError, match=message):
        build_index([labelled / "proteins.npz", path], tmp_path / "both", progress=False)
    assert not list(tmp_path.glob("both*"))


def test_an_encoder_in_another_precision_is_refused(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "p.fasta", random_proteins(20))
    encoder = FakeEncoder()
    limbeck.embed(fasta, tmp_path / "p.npz", encoder=encoder, progress=False)
    build_index(tmp_path / "p.npz", tmp_path / "i", progress=False)
    index = open_index(tmp_path / "i", encoder)
    written = write_results(index, fasta, str(tmp_path / "h.csv"), k=1, encoder=encoder, progress=False)
    assert written.rows == 20
    encoder.precision = "bf16"
    with pytest.raises(InputError, match=r"this encoder was computed in bf16.*in f32"):
        open_index(tmp_path / "i", encoder)
    with pytest.raises(InputError, match="bf16"):
        write_results(index, fasta, str(tmp_path / "h.csv"), encoder=encoder, progress=False)
    with pytest.raises(InputError, match="another layer or version"):
        open_index(tmp_path / "i", FakeEncoder(scale=2.0))


@pytest.mark.parametrize("file", ["manifest.json", "vectors.npy", "centre.npy", "proteins.arrow"])
@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_damaged_index_is_refused(tmp_path: Path, file: str, damage: str) -> None:
    vectors, _ = families(20)
    build_index(table(tmp_path / "p.npz", vectors), tmp_path / "i", progress=False)
    path = tmp_path / "i" / file
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[0] ^= 1
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with pytest.raises(InputError, match="index"):
        open_index(tmp_path / "i")


def test_large_files_are_checked_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = families(20)
    build_index(table(tmp_path / "p.npz", vectors), tmp_path / "i", progress=False)
    monkeypatch.setattr("limbeck.search.folder.ALWAYS_CHECKED", 1000)
    path = tmp_path / "i" / "vectors.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    open_index(tmp_path / "i")
    with pytest.raises(InputError, match=r"vectors\.npy is damaged"):
        open_index(tmp_path / "i", check=True)


def test_an_index_of_a_later_limbeck_is_refused(tmp_path: Path) -> None:
    build_index(table(tmp_path / "p.npz", families(20)[0]), tmp_path / "i", progress=False)
    manifest = tmp_path / "i" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 2}))
    with pytest.raises(InputError, match="format 2"):
        open_index(tmp_path / "i")


LABELS = {
    "id,x\np1,a\n": "no column is called 'label'",
    "name of it,label\np1,a\n": "--id-column",
    "id,label\np1,a\np1,b\n": "line 3.*second time",
    "id,label\nq1,a\n": "no label for any id",
    "id,label\np1\n": "line 2: 1 fields",
}


@pytest.mark.parametrize("text", LABELS)
def test_a_wrong_table_of_labels_is_refused(tmp_path: Path, text: str) -> None:
    table(tmp_path / "p.npz", families(20)[0])
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(InputError, match=LABELS[text]):
        build_index(tmp_path / "p.npz", tmp_path / "i", labels=tmp_path / "l.csv", label_column="label", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "p.npz"]


def test_other_mistakes_are_told_in_one_line(labelled: Path, tmp_path: Path) -> None:
    vectors, _ = families(20)
    one = table(tmp_path / "p.npz", vectors)
    same = table(tmp_path / "q.npz", vectors, [f"q{n}" for n in range(19)] + ["p7"])
    index = labelled / "proteins.index"
    fasta = write_fasta(tmp_path / "x.fasta", random_proteins(3))
    mistakes = {
        "p7.*more than once": lambda: build_index([one, same], tmp_path / "i", progress=False),
        "not both": lambda: build_index([one, fasta], tmp_path / "i", progress=False),
        "no such file": lambda: build_index(tmp_path / "none.npz", tmp_path / "i", progress=False),
        "there already": lambda: build_index(one, index, progress=False),
        "does not exist": lambda: build_index(one, tmp_path / "none" / "i", progress=False),
        "--label-column": lambda: build_index(one, tmp_path / "i", labels="l.csv", progress=False),
        "--no-centre": lambda: build_index(table(tmp_path / "1.npz", vectors[:1]), tmp_path / "i", progress=False),
        "embedded already": lambda: build_index(one, tmp_path / "i", loading={"layer": 3}, progress=False),
        "no index is there": lambda: run(search_verb, str(one), "--index", str(tmp_path / "none")),
        "-k 601 is more than the 600": lambda: run(search_verb, str(one), "--index", str(index), "-k", "601"),
        "-k must be": lambda: run(search_verb, str(one), "--index", str(index), "-k", "0"),
        "tells no format": lambda: run(search_verb, str(one), "--index", str(index), "-o", "h.xlsx"),
        "name a file of queries": lambda: run(search_verb, "--index", str(index)),
        "--min-reliability needs --transfer": lambda: run(
            search_verb, str(one), "--index", str(index), "--min-reliability", "0.5"
        ),
        "name the index with -o": lambda: run(index_verb, str(one), str(same)),
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for message, mistake in mistakes.items():
        with pytest.raises(InputError, match=message) as caught:
            mistake()
        assert "\n" not in str(caught.value)
    assert sorted({path.name for path in tmp_path.iterdir()} - {"1.npz"}) == before


def test_a_truncated_table_is_told(tmp_path: Path) -> None:
    for format in ("h5", "parquet", "npz"):
        path = table(tmp_path / f"p.{format}", families(200)[0])
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(InputError, match=r"cannot be read|damaged"):
            build_index(path, tmp_path / "i", progress=False)


def test_what_an_index_is(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(search_verb, "--index", str(labelled / "proteins.index"), "--about")
    text = capsys.readouterr().out
    assert "600" in text
    assert "exact" in text
    assert "calibration error" in text


def test_hits_go_to_standard_output(labelled: Path) -> None:
    code = (
        "import argparse; from limbeck.commands import search; p = argparse.ArgumentParser(); "
        "search.add(p.add_subparsers()); o = p.parse_args(); o.run(o)"
    )
    files = [str(labelled / "proteins.npz"), "--index", str(labelled / "proteins.index"), "-k", "1"]
    found = subprocess.run([sys.executable, "-c", code, "search", *files], capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines()
    assert len(lines) == 601
    assert lines[0].split("\t") == ["query", "rank", "target", "similarity", "label", "reliability"]
    assert "exact search" in found.stderr


def test_the_page_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    vectors, group = families(100)
    table(tmp_path / "proteins.h5", vectors)
    (tmp_path / "classes.csv").write_text("id,class\n" + "".join(f"p{n},{g}\n" for n, g in enumerate(group.tolist())))
    page = (Path(__file__).parents[1] / "docs/search.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    scope = {"vectors": vectors[:3]}
    exec(block, scope)
    assert capsys.readouterr().out.split()[0] == "p0"
    assert len(scope["labels"]) == 3
