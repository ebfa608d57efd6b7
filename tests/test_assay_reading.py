"""Reading assays: whatever the notation, the same rows come back, and what cannot be used is named with its line."""

import bz2
import csv
import gzip
import io
import lzma
import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from limbeck.errors import InputError
from limbeck.landscapes.alignment import Frame, Placed, cut, distance, place, project, residues
from limbeck.landscapes.assay import Assay, expressed
from limbeck.landscapes.mutations import Misfit, Mutator, parse_mutations
from limbeck.landscapes.reading import read_assay, read_variants
from limbeck.residues import RESIDUES
from malformed.cases import zstd

WILD_TYPE = "MKTAYIAKQRQISFVKSHFSRQLEERLG"
COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress}
NAMES = "AlaCysAspGluPheGlyHisIleLysLeuMetAsnProGlnArgSerThrValTrpTyr"
THREE = {letter: NAMES[3 * i : 3 * i + 3] for i, letter in enumerate(RESIDUES)}
CHEAP = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
Variant = dict[int, str]


def write(path: Path, names: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """A table in the format that the ending tells, compressed as it tells."""
    _, _, ending = path.name.partition(".")
    kind, _, compression = ending.partition(".")
    if kind == "parquet":
        columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
        pq.write_table(pa.table(columns), path)
        return path
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n")
    writer.writerows([names, *rows])
    path.write_bytes(COMPRESS["." + compression if compression else ""](text.getvalue().encode()))
    return path


def substituted(variant: Variant, wild_type: str = WILD_TYPE) -> str:
    return "".join(variant.get(i, letter) for i, letter in enumerate(wild_type))


def written(variant: Variant, wild_type: str = WILD_TYPE, first: int = 1, joint: str = ":") -> str:
    return joint.join(f"{wild_type[i]}{i + first}{new}" for i, new in variant.items()) or "WT"


def scan(wild_type: str = WILD_TYPE, seed: int = 0) -> list[Variant]:
    """One single mutant of each position."""
    draw = random.Random(seed)
    return [{i: draw.choice(RESIDUES.replace(letter, ""))} for i, letter in enumerate(wild_type)]


def singles(tmp_path: Path, extra: Sequence[Sequence[object]] = (), **options: Any) -> Assay:
    """An assay of mutations and scores with rows of one's own behind; they start at line 30."""
    rows = [(written(variant), i / 7) for i, variant in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["mutant", "score"], [*rows, *extra])
    return read_assay(path, **{"wild_type": WILD_TYPE, **options})


def refusal(call: Any) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@st.composite
def libraries(draw: st.DrawFn) -> tuple[str, list[Variant]]:
    """A wild type, and variants of it that between them mutate every position."""
    wild_type = draw(st.text(RESIDUES, min_size=12, max_size=30))
    positions = st.integers(0, len(wild_type) - 1)
    more = draw(st.lists(st.dictionaries(positions, st.sampled_from(RESIDUES), max_size=5), max_size=6))
    library = scan(wild_type, draw(st.integers(0, 99)))
    for variant in more:
        library.append({i: new for i, new in variant.items() if new != wild_type[i]})
    unique = {substituted(variant, wild_type): variant for variant in library}
    return wild_type, draw(st.permutations(list(unique.values())))


# Round trips


@CHEAP
@given(data=st.data())
def test_substitutions_come_back_from_every_notation(tmp_path: Path, data: st.DataObject) -> None:
    wild_type, library = data.draw(libraries())
    first = data.draw(st.sampled_from([1, 0, -3, 24, 127]))
    joint = data.draw(st.sampled_from([":", ",", ";", "/", " ", ", ", "+", "|"]))
    notation = data.draw(st.sampled_from(["short", "long", "hgvs", "lower"]))
    empty = data.draw(st.sampled_from(["WT", "wt", "_wt", "", "p.="]))
    labels = []
    for variant in library:
        parts = [written({i: new}, wild_type, first) for i, new in variant.items()]
        if notation in ("long", "hgvs"):
            parts = [THREE[part[0]] + part[1:-1] + THREE[part[-1]] for part in parts]
        if notation == "lower":
            parts = [part.lower() for part in parts]
        label = joint.join(parts) or empty
        labels.append(f"p.[{label}]" if notation == "hgvs" and parts else label)
    ending = data.draw(st.sampled_from(["csv", "tsv", "csv.gz", "tsv.bz2", "csv.xz", "tsv.zst", "parquet"]))
    scores = [i * 0.1 for i in range(len(library))]
    path = write(tmp_path / f"a.{ending}", ["Mutant", "DMS_score"], list(zip(labels, scores, strict=True)))
    assay = read_assay(path, wild_type=wild_type)
    assert assay.rows == [substituted(variant, wild_type) for variant in library]
    assert assay.scores.tolist() == scores
    assert assay.lines.tolist() == list(
        range(1, len(library) + 1) if ending == "parquet" else range(2, len(library) + 2)
    )
    assert assay.first_position == {"wild type": first}
    assert assay.layout == "substitutions"
    assert assay.wild_types == {"wild type": wild_type}
    assert assay.name == "a"
    assert assay.mutations.tolist() == [len(variant) for variant in library]


@CHEAP
@given(library=libraries(), first=st.integers(-5, 200))
def test_the_wild_type_is_rebuilt_from_sequences_and_mutations(
    tmp_path: Path, library: tuple[str, list[Variant]], first: int
) -> None:
    wild_type, variants = library
    variants = [variant for variant in variants if variant]
    rows = [(substituted(v, wild_type), written(v, wild_type, first), i) for i, v in enumerate(variants)]
    assay = read_assay(write(tmp_path / "a.csv", ["sequence", "mutations", "fitness"], rows), position_offset=first)
    assert assay.wild_types == {"wild type": wild_type}
    assert assay.rows == [row[0] for row in rows]
    assert any("undoing" in note for note in assay.notes)


def test_the_numbering_is_found_with_the_rebuilt_wild_type(tmp_path: Path) -> None:
    rows = [(substituted(v), written(v, first=40), i) for i, v in enumerate(scan())]
    assay = read_assay(write(tmp_path / "a.csv", ["sequence", "mutations", "fitness"], rows))
    assert assay.first_position == {"wild type": 40}
    assert assay.wild_types == {"wild type": WILD_TYPE}


@st.composite
def relatives(draw: st.DrawFn) -> str:
    """A sequence made from the wild type by a few substitutions, insertions, deletions, and a stop perhaps."""
    text = draw(st.just(WILD_TYPE))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text) - 1))
        kind = draw(st.sampled_from(["substitute", "insert", "delete"]))
        new = draw(st.text(RESIDUES, min_size=1, max_size=3))
        text = text[:at] + (new if kind != "delete" else "") + text[at + (len(new) if kind != "insert" else 0) :]
    return text


@CHEAP
@given(text=relatives(), stop=st.none() | st.integers(1, 20))
@example(text=WILD_TYPE[9:], stop=19)
@example(text=WILD_TYPE[:19], stop=19)
def test_an_aligned_sequence_keeps_its_residues(text: str, stop: int | None) -> None:
    if stop is not None:
        text = text[:stop] + "*" + text[stop:]
    placed = place(text, WILD_TYPE)
    if text.endswith("*") and placed.letters[-1] not in "-*":
        stop = None  # behind the wild type's last residue a stop codon ends nothing
    frame = Frame.around(len(WILD_TYPE), [placed])
    row = frame.row(placed)
    assert len(placed.letters) == len(WILD_TYPE)
    assert expressed(row) == text.split("*")[0]
    assert ("*" in row) == (stop is not None)
    assert row == row.split("*")[0] + ("*" if stop is not None else "") + "-" * row.partition("*")[2].count("-")
    assert Frame.of(frame.row(Placed(WILD_TYPE))).row(placed) == row


@given(at=st.integers(0, 24), size=st.integers(1, 3), text=st.text(RESIDUES, min_size=1, max_size=5))
def test_one_deletion_or_insertion_is_found_as_one(at: int, size: int, text: str) -> None:
    deleted = WILD_TYPE[:at] + WILD_TYPE[at + size :]
    placed = project(deleted, WILD_TYPE)
    assert residues(placed) == deleted
    assert distance(placed, WILD_TYPE) == 1
    inserted = WILD_TYPE[:at] + text + WILD_TYPE[at:]
    placed = project(inserted, WILD_TYPE)
    assert residues(placed) == inserted
    assert placed.letters == WILD_TYPE
    assert len(placed.insertions) == 1


@CHEAP
@given(texts=st.lists(relatives(), min_size=12, max_size=20, unique=True), order=st.randoms(use_true_random=False))
def test_insertions_share_columns(tmp_path: Path, texts: list[str], order: random.Random) -> None:
    rows = [(text, i) for i, text in enumerate(texts)]
    order.shuffle(rows)
    path = write(tmp_path / "a.csv", ["seq", "value"], rows)
    assay = read_assay(path, wild_type=WILD_TYPE, skip_invalid=True)
    assert assay.sequences == [text for text, _ in rows]
    assert assay.scores.tolist() == [score for _, score in rows]
    (row,) = assay.wild_types.values()
    assert row.replace("-", "") == WILD_TYPE
    if any(len(text) != len(WILD_TYPE) for text in texts):
        assert assay.layout == "aligned"


def test_insertions_and_deletions_as_mutations_and_as_sequences_make_the_same_rows(tmp_path: Path) -> None:
    written_as = {
        "K2del": "MTAYIAKQRQISFVKSHFSRQLEERLG",
        "T3_Y5del": "MKIAKQRQISFVKSHFSRQLEERLG",
        "T3_A4insGS": "MKTGSAYIAKQRQISFVKSHFSRQLEERLG",
        "p.Thr3_Ala4insGlySerGly": "MKTGSGAYIAKQRQISFVKSHFSRQLEERLG",
        "F14-": "MKTAYIAKQRQISVKSHFSRQLEERLG",
        "K2_A4delinsW": "MWYIAKQRQISFVKSHFSRQLEERLG",
        "Q9dup": "MKTAYIAKQQRQISFVKSHFSRQLEERLG",
        "R10_Q11dup": "MKTAYIAKQRQRQISFVKSHFSRQLEERLG",
        "A4W:Q22del": "MKTWYIAKQRQISFVKSHFSRLEERLG",
        "WT": WILD_TYPE,
    }
    table = [(label, text, i) for i, (label, text) in enumerate(written_as.items())]
    path = write(tmp_path / "a.csv", ["mutant", "sequence", "score"], table)
    assay = read_assay(path)
    assert assay.sequences == list(written_as.values())
    assert assay.layout == "aligned"
    assert assay.mutations[:7].tolist() == [1] * 5 + [2, 1]
    only = read_assay(path, mutation_column="", wild_type=WILD_TYPE)
    assert only.sequences == assay.sequences
    assert only.rows[0] == assay.rows[0]
    assert any("aligned" in note for note in assay.notes)


@pytest.mark.parametrize("sequence", ["MKTAYIAKQR*", "MKTAYIAKQR*ISFVKSHFSRQLEERLG", "mktayiakqr*"])
def test_a_stop_codon_ends_its_row(tmp_path: Path, sequence: str) -> None:
    rows = [(substituted(variant) + "*", i) for i, variant in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["sequence", "score"], [*rows, (sequence, 9)])
    assay = read_assay(path, wild_type=WILD_TYPE)
    assert assay.rows[-1] == "MKTAYIAKQR*" + "-" * 17
    assert assay.rows[0] == rows[0][0][:-1]
    assert assay.layout == "substitutions"
    assert assay.sequences[-1] == "MKTAYIAKQR"
    dropped = read_assay(path, wild_type=WILD_TYPE, stops="drop")
    assert dropped.rows == assay.rows[:-1]
    assert any("--stops drop" in note and "1 rows" in note for note in dropped.notes)


def test_a_deletion_before_the_natural_stop_is_no_early_stop(tmp_path: Path) -> None:
    assert place("MKTYIAKQRQISFVKSHFSRQLEERLG*", WILD_TYPE) == Placed("MKT-YIAKQRQISFVKSHFSRQLEERLG")
    assert place("MKTAWIAKQR*", WILD_TYPE) == Placed("MKTAWIAKQR*" + "-" * 17)


@pytest.mark.parametrize("code", ["Q11*", "Q11Ter", "p.Gln11Ter", "p.Gln11*", "GLN11TER"])
@pytest.mark.parametrize(
    "sequence", ["MKTAYIAKQR", "MKTAYIAKQR*", "MKTAYIAKQR*ISFVKSHFSRQLEERLG", "MKTAYIAKQRISFVKSHFSRQLEERLG"]
)
def test_a_stop_in_the_mutations_agrees_with_the_sequence_however_it_is_written(
    tmp_path: Path, code: str, sequence: str
) -> None:
    rows = [(substituted(variant), written(variant), i) for i, variant in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["sequence", "mutant", "score"], [*rows, (sequence, code, 3)])
    assert read_assay(path).rows[-1] == "MKTAYIAKQR*" + "-" * 17


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        (Placed("AC*EF"), Placed("AC*--")),
        (Placed("ACDE*"), Placed("ACDE*")),
        (Placed("ACDE*", ((5, "G"),)), Placed("ACDE*")),
        (Placed("AC*EF", ((2, "G"), (3, "W"))), Placed("AC*--", ((2, "G"),))),
        (Placed("ACDEF", ((2, "G*W"), (4, "W"))), Placed("AC---", ((2, "G*"),))),
        (Placed("ACDEF", ((5, "G"),)), Placed("ACDEF", ((5, "G"),))),
    ],
)
def test_nothing_follows_a_stop(placed: Placed, expected: Placed) -> None:
    assert cut(placed) == expected


# Replicates, splits, several proteins


def test_replicates_are_merged_to_their_mean(tmp_path: Path) -> None:
    assay = singles(tmp_path, [("A4W", 1.0), ("A4W", 2.0), ("A4W", 6.0), ("M1M", 5.0), ("WT", 7.0)])
    row = assay.rows.index(substituted({3: "W"}))
    assert assay.replicates[row] == 3
    assert assay.scores[row] == pytest.approx(3.0)
    assert assay.spread[row] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert assay.lines[row] == 30
    wild = assay.rows.index(WILD_TYPE)
    assert (assay.replicates[wild], assay.scores[wild]) == (2, 6.0)
    assert np.isnan(assay.spread[assay.replicates == 1]).all()
    assert any("33 measurements of 30 variants" in note for note in assay.notes)


def test_splits_are_found_by_what_they_hold(tmp_path: Path) -> None:
    names = ["sequence", "target", "one", "Two", "three", "always", "set", "validation", "remark"]
    rows = [
        (substituted(v), i, ["train", "test"][i % 2], ["Training", "val", "test", ""][i % 4], "train", "x", s, flag, "")
        for i, v in enumerate(scan())
        for s, flag in [[("train", ""), ("train", "True"), ("test", "")][i % 3]]
    ]
    assay = read_assay(write(tmp_path / "a.csv", names, rows))
    assert list(assay.splits) == ["one", "Two", "set"]
    assert assay.splits["Two"][:5].tolist() == ["train", "valid", "test", "", "train"]
    assert assay.splits["set"][:4].tolist() == ["train", "valid", "test", "train"]
    assert list(read_assay(tmp_path / "a.csv", split_columns=["Two"]).splits) == ["Two"]
    assert read_assay(tmp_path / "a.csv", split_columns=["set"]).splits["set"][1] == "valid"
    assert "--split-column" in refusal(lambda: read_assay(tmp_path / "a.csv", split_columns=["always"]))


def test_replicates_in_two_parts_of_a_split_are_refused(tmp_path: Path) -> None:
    rows = [(written(v), i, ["train", "test"][i % 2]) for i, v in enumerate(scan())]
    more = [("M1M", 1, "train"), ("WT", 2, ""), ("wt", 3, "test")]
    path = write(tmp_path / "a.csv", ["mutant", "score", "split"], [*rows, *more])
    message = refusal(lambda: read_assay(path, wild_type=WILD_TYPE))
    assert "1 of 31 rows" in message
    assert "line 32: the same variant as on line 30, but 'test' and not 'train' in 'split'" in message
    assay = read_assay(path, wild_type=WILD_TYPE, skip_invalid=True)
    assert assay.scores[assay.rows.index(WILD_TYPE)] == 1.5
    assert assay.skipped[0][0] == 32


def test_one_protein_of_several_genes_may_stand_in_several_parts(tmp_path: Path) -> None:
    rows = [(written(v), i, ["train", "test"][i % 2]) for i, v in enumerate(scan())]
    more = [("K2*:A4W", 1, "train"), ("K2*", 2, "test"), ("K2*:A4C", 3, "train")]
    path = write(tmp_path / "a.csv", ["mutant", "score", "split"], [*rows, *more])
    assay = read_assay(path, wild_type=WILD_TYPE)
    assert assay.rows[-2:] == ["M*" + "-" * 26] * 2
    assert assay.scores[-2:].tolist() == [2.0, 2.0]
    assert assay.splits["split"][-2:].tolist() == ["train", "test"]


@pytest.mark.parametrize("way", ["fasta", "table", "column", "both"])
def test_each_protein_has_its_own_wild_type(tmp_path: Path, way: str) -> None:
    proteins = {"long": WILD_TYPE, "Short": "MSDNGPQNQRNAPRITF"}
    rows = [
        (name, wild_type, written(v, wild_type), substituted(v, wild_type), i + len(name))
        for name, wild_type in proteins.items()
        for i, v in enumerate(scan(wild_type))
    ]
    random.Random(1).shuffle(rows)
    path = write(tmp_path / "a.csv", ["protein", "target_seq", "mutant", "mutated_sequence", "score"], rows)
    options: dict[str, Any] = {"sequence_column": ""}
    if way == "fasta":
        (tmp_path / "w.fasta").write_text("".join(f">{name.lower()}\n{text}\n" for name, text in proteins.items()))
        proteins = {name.lower(): text for name, text in proteins.items()}
        options["wild_type"] = tmp_path / "w.fasta"
    elif way == "table":
        options["wild_type"] = write(tmp_path / "w.tsv", ["name", "wt_sequence"], list(proteins.items()))
    elif way == "both":
        options = {"wild_type": "target_seq"}
    assay = read_assay(path, **options)
    width = len(WILD_TYPE)
    assert assay.wild_types == {name: text.ljust(width, "-") for name, text in proteins.items()}
    assert assay.rows == [row[3].ljust(width, "-") for row in rows]
    assert [parent.lower() for parent in assay.parents] == [row[0].lower() for row in rows]
    assert assay.layout == "padded"
    assert set(assay.mutations) == {1}


def test_sequences_go_to_the_nearest_of_several_wild_types(tmp_path: Path) -> None:
    other = WILD_TYPE[::-1]
    rows = [(substituted(v, w), i) for w in (WILD_TYPE, other) for i, v in enumerate(scan(w))]
    path = write(tmp_path / "a.csv", ["sequence", "score"], rows)
    (tmp_path / "w.fasta").write_text(f">one\n{WILD_TYPE}\n>two\n{other}\n")
    assay = read_assay(path, wild_type=tmp_path / "w.fasta")
    assert assay.parents.tolist() == ["one"] * 28 + ["two"] * 28


def test_a_constant_sequence_beside_mutations_is_the_wild_type(tmp_path: Path) -> None:
    rows = [(WILD_TYPE, written(v), i) for i, v in enumerate(scan())]
    assay = read_assay(write(tmp_path / "a.csv", ["sequence", "mutation", "ddg"], rows))
    assert assay.rows == [substituted(v) for v in scan()]
    assert any("sequences are the wild types" in note for note in assay.notes)


# Wild types found out


def test_sequences_near_their_consensus_have_it_as_wild_type(tmp_path: Path) -> None:
    rows = [(substituted(v), i) for i, v in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["sequence", "score"], rows)
    assay = read_assay(path)
    assert assay.wild_types == {"wild type": WILD_TYPE}
    assert any("the consensus of all variants" in note for note in assay.notes)
    write(path, ["sequence", "score"], [*rows, (WILD_TYPE, 5)])
    assert any("equals the consensus" in note for note in read_assay(path).notes)
    write(path, ["sequence", "score"], [*rows, (WILD_TYPE[:9] + WILD_TYPE[10:], 5)])
    assert read_assay(path).layout == "aligned"


@pytest.mark.parametrize("lengths", [(28, 28), (28, 60)])
def test_unrelated_proteins_are_padded_and_have_no_wild_type(tmp_path: Path, lengths: tuple[int, int]) -> None:
    draw = random.Random(3)
    texts = ["".join(draw.choices(RESIDUES, k=draw.randint(*lengths))) for _ in range(40)]
    path = write(tmp_path / "a.csv", ["sequence", "tm"], [(text, i) for i, text in enumerate(texts)])
    assay = read_assay(path)
    assert assay.layout == "padded"
    assert assay.rows == [text.ljust(max(map(len, texts)), "-") for text in texts]
    assert assay.wild_types == {}
    assert set(assay.parents) == {""}
    assert set(assay.mutations) == {-1}


@pytest.mark.parametrize(("column", "mark"), [("num_mutations", 0), ("HD", 0), ("is_wt", True)])
def test_the_variant_said_to_have_no_mutations_is_the_wild_type(tmp_path: Path, column: str, mark: object) -> None:
    draw = random.Random(4)
    texts = ["".join(draw.choices(RESIDUES, k=4)) for _ in range(40)]
    rows = [(text, i, mark if text == texts[7] else 1 - int(mark is True) * 1) for i, text in enumerate(texts)]
    assay = read_assay(write(tmp_path / "a.csv", ["Combo", "fitness", column], rows))
    assert assay.wild_types == {"wild type": texts[7]}
    assert assay.layout == "substitutions"


# What cannot be used


BAD_ROWS = [
    (("A4W", ""), "its score is missing"),
    (("A4W", "NA"), "its score is missing"),
    (("A4W", "inf"), "its score 'inf' is no finite number"),
    (("A4W", "1,5"), "its score '1,5' is no finite number"),
    (("C4W", 1), "mutation 'C4W': the wild type has A at position 4, not C"),
    (("A4W:C7A", 1), "mutation 'C7A': the wild type has A at position 7, not C"),
    (("A400W", 1), "mutation 'A400W': the wild type has positions 1 to 28, not 400"),
    (("A4W:A4C", 1), "another mutation of the variant changes the same residues"),
    (("A4_Y5insG:A4_Y5insS", 1), "another mutation of the variant changes the same residues"),
    (("A4_Y5del:A4W", 1), "another mutation of the variant changes the same residues"),
    (("A4J", 1), "mutation 'A4J' has the letter 'J', which is no residue"),
    (("4W", 1), "mutation '4W' is not understood"),
    (("A4fs", 1), "mutation 'A4fs' is a frameshift"),
    (("A4insGS", 1), "must name the two neighbours"),
    (("A4_I6insGS", 1), "must name the two neighbours"),
    (("A4_Y5ins", 1), "does not say which residues are inserted"),
    (("Y5_A4del", 1), "ends before it starts"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: tuple[object, ...], reason: str) -> None:
    message = refusal(lambda: singles(tmp_path, [row]))
    assert "a.csv: 1 of 29 rows cannot be used (line 30: " in message
    assert reason in message
    assert "--skip-invalid" in message
    assay = singles(tmp_path, [row], skip_invalid=True)
    assert len(assay) == 28
    ((line, why),) = assay.skipped
    assert line == 30
    assert reason in why
    assert "1 of 29 rows cannot be used and were left out." in assay.notes


def test_only_the_first_five_bad_rows_are_shown(tmp_path: Path) -> None:
    message = refusal(lambda: singles(tmp_path, [(f"C{i}W", i) for i in range(2, 9)]))
    assert "7 of 35 rows" in message
    assert "line 34" in message
    assert "line 35" not in message
    assert "and 2 more" in message


def test_a_row_with_too_many_fields_is_named(tmp_path: Path) -> None:
    message = refusal(lambda: singles(tmp_path, [("A4W", 1, 2)]))
    assert "line 30: has 3 fields where the column names are 2" in message
    assert singles(tmp_path, [("A4W", 1, 2)], skip_invalid=True).skipped[0][0] == 30


def test_lines_count_quoted_line_breaks_and_parquet_counts_rows(tmp_path: Path) -> None:
    rows = [(written(v), float(i)) for i, v in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["mutant", "score"], [("A4W\n:A7W", 0.5), *rows, ("C4W", 1.0)])
    assert "line 32: mutation" in refusal(lambda: read_assay(path, wild_type=WILD_TYPE))
    path = write(tmp_path / "a.parquet", ["mutant", "score"], [*rows, ("C4W", 1.0)])
    assert "row 29: mutation" in refusal(lambda: read_assay(path, wild_type=WILD_TYPE))
    path = write(tmp_path / "b.parquet", ["mutant", "score"], [*rows, ("A4W", None)])
    assert "row 29: its score is missing" in refusal(lambda: read_assay(path, wild_type=WILD_TYPE))


def test_sequences_and_mutations_must_agree(tmp_path: Path) -> None:
    rows = [(substituted(v), written(v), i) for i, v in enumerate(scan())]
    more = [(WILD_TYPE, "A4W", 1), (WILD_TYPE[:-1], "A4W", 1), ("MK1", "A4W", 1), ("", "A4W", 1)]
    path = write(tmp_path / "a.csv", ["sequence", "mutant", "score"], [*rows, *more])
    message = refusal(lambda: read_assay(path))
    assert "line 30: its sequence has A as residue 4, its mutations say W" in message
    assert "line 31: its sequence has 27 residues, its mutations make 28" in message
    assert "line 32: sequence: character '1' at position 3 is not a residue" in message
    assert "line 33: has no sequence" in message


def test_a_stranger_is_no_variant(tmp_path: Path) -> None:
    rows = [(substituted(v), i) for i, v in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["sequence", "score"], [*rows, ("W" * 40, 1)])
    assert "line 30: is no variant of the wild type" in refusal(lambda: read_assay(path, wild_type=WILD_TYPE))


def test_positions_that_fit_nowhere_or_in_several_places_are_refused(tmp_path: Path) -> None:
    rows = [(written(v, first=5), i) for i, v in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["mutant", "score"], rows)
    message = refusal(lambda: read_assay(path, wild_type="W" * 40))
    assert "do not fit the wild type" in message
    assert "--offset" in message
    repeat = "ACDEFGHIKL" * 2
    rows = [(written({i: "W"}, repeat, 51), i) for i in range(10)]
    path = write(tmp_path / "a.csv", ["mutant", "score"], rows)
    assert "number 41 or 51; say which with --offset" in refusal(lambda: read_assay(path, wild_type=repeat))
    assert read_assay(path, wild_type=repeat, position_offset=41).first_position == {"wild type": 41}
    rows = [(written({i: "W"}, repeat, 1), i) for i in range(10)]
    path = write(tmp_path / "a.csv", ["mutant", "score"], rows)
    assert read_assay(path, wild_type=repeat).first_position == {"wild type": 1}


@pytest.mark.parametrize(
    ("names", "row", "options", "expected"),
    [
        (["mutant", "score"], ("A4W", 1), {}, "give --wild-type"),
        (["mutant", "count", "mean"], ("A4W", 1, 2), {}, "several columns may hold the score: 'count', 'mean'"),
        (["mutant", "score", "fitness"], ("A4W", 1, 2), {}, "--score-column"),
        (["mutant", "score"], ("A4W", "high"), {}, "no column holds scores"),
        (["mutant", "mutation", "score"], ("A4W", "A4W", 1), {}, "--mutation-column"),
        (["sequence", "seq", "score"], ("ACD", "ACD", 1), {}, "--sequence-column"),
        (["wt_seq", "target_seq", "sequence", "score"], ("ACDE", "ACDE", "ACD", 1), {}, "--wild-type"),
        (["what", "score"], ("A4W", 1), {}, "--sequence-column or --mutation-column"),
        (["sequence", "score"], ("ACGT" * 10, 1), {}, "holds DNA or RNA"),
        (["sequence", "score"], ("ACD", 1), {"score_column": "x"}, "no column called 'x'; --score-column must name"),
        (["sequence", "score"], ("ACD", 1), {"sequence_column": "x"}, "--sequence-column must name"),
        (["sequence", "score"], ("ACD", 1), {"mutation_column": "x"}, "--mutation-column must name"),
        (["sequence", "score"], ("ACD", 1), {"protein_column": "x"}, "--protein-column must name"),
        (["sequence", "score"], ("ACD", 1), {"split_columns": ["x"]}, "--split-column must name"),
        (["sequence", "score"], ("ACD", 1), {"stops": "x"}, "--stops 'x' is unknown"),
        (["sequence", "score"], ("ACD", 1), {"wild_type": "no/such.fasta"}, "is no file, no column and no sequence"),
        (["sequence", "score"], ("ACD", 1), {"input_format": "fasta"}, "is FASTA, not a table"),
        (["sequence", "score"], ("ACD", 1), {}, "1 usable variants; a landscape needs at least 10"),
        (["sequence", "score", "score"], ("ACD", 1, 1), {}, "several columns are called 'score'"),
    ],
)
def test_what_is_missing_or_ambiguous_names_the_option(
    tmp_path: Path, names: list[str], row: tuple[object, ...], options: dict[str, Any], expected: str
) -> None:
    path = write(tmp_path / "a.csv", names, [row] * 12)
    message = refusal(lambda: read_assay(path, **options))
    assert expected in message
    assert message.startswith((f"{path}", "--"))


@pytest.mark.parametrize("score", ["-0,27", "\N{MINUS SIGN}0.27", "1,234.5", "1 234", "27 %"])
def test_scores_as_spreadsheets_write_them_are_refused_and_no_other_column_is_taken(tmp_path: Path, score: str) -> None:
    path = write(tmp_path / "a.tsv", ["mutant", "score", "reads"], [("A4W", score, i) for i in range(12)])
    message = refusal(lambda: read_assay(path, wild_type=WILD_TYPE))
    assert f"12 of 12 rows cannot be used (line 2: its score {score!r} is no finite number like -1234.5;" in message


def test_empty_columns_and_rows_of_a_spreadsheet_are_none(tmp_path: Path) -> None:
    rows = [(written(v), i, "", "") for i, v in enumerate(scan())]
    plain = read_assay(write(tmp_path / "a.csv", ["mutant", "score"], [row[:2] for row in rows]), wild_type=WILD_TYPE)
    empty = [("", "", "", "")] * 3
    path = write(tmp_path / "b.csv", ["mutant", "score", "", ""], [*rows[:5], *empty, *rows[5:], *empty])
    padded = read_assay(path, wild_type=WILD_TYPE)
    assert (padded.rows, padded.scores.tolist()) == (plain.rows, plain.scores.tolist())
    assert padded.lines.tolist() == [line + 3 * (line > 6) for line in plain.lines]
    # An empty mutation is the wild type, an empty row is nothing.
    variants = write(tmp_path / "c.csv", ["id", "mutant", ""], [("a", "A4W", ""), *[("", "", "")] * 2, ("b", "", "")])
    assert read_variants(variants, padded.wild_types).labels == ["a", "b"]
    path = write(tmp_path / "d.csv", ["mutant", "score", "", ""], [(*row[:2], 1, 2) for row in rows])
    assert "several columns have no name" in refusal(lambda: read_assay(path, wild_type=WILD_TYPE))


def test_ambiguous_proteins_are_refused_unless_they_say_the_same(tmp_path: Path) -> None:
    rows = [(substituted(v), "xy"[i % 2], "vw"[i % 2], "mn"[i % 3 > 0], i) for i, v in enumerate(scan())]
    names = ["sequence", "protein_name", "gene", "other", "score"]
    assert set(read_assay(write(tmp_path / "a.csv", names, rows)).parents) == {"x", "y"}
    names[3] = "dms_id"
    path = write(tmp_path / "a.csv", names, rows)
    assert "--protein-column" in refusal(lambda: read_assay(path))
    assert set(read_assay(path, protein_column="gene").parents) == {"v", "w"}
    assert set(read_assay(path, protein_column="").parents) == {"wild type"}
    assert "names 2 proteins" in refusal(lambda: read_assay(path, protein_column="gene", wild_type=WILD_TYPE))


def test_what_is_called_a_wild_type_names_proteins_only_if_it_can(tmp_path: Path) -> None:
    rows = [(written(v), WILD_TYPE[i], WILD_TYPE, "xy"[i % 2] * 2, i % 2, i) for i, v in enumerate(scan())]
    names = ["mutant", "wt", "target_seq", "parent", "is_wt", "score"]
    path = write(tmp_path / "a.csv", names, rows)
    assert set(read_assay(path).wild_types) == {"xx", "yy"}
    names[3] = "other"
    assert set(read_assay(write(path, names, rows), wild_type=WILD_TYPE).wild_types) == {"wild type"}
    names[2:4] = ["wild_type", "more"]
    assert set(read_assay(write(path, names, rows), wild_type=WILD_TYPE).wild_types) == {"wild type"}


def test_a_protein_without_wild_type_is_a_bad_row(tmp_path: Path) -> None:
    rows = [(written(v), "known", i) for i, v in enumerate(scan())]
    path = write(tmp_path / "a.csv", ["mutant", "protein", "score"], [*rows, ("A4W", "other", 1)])
    (tmp_path / "w.fasta").write_text(f">known\n{WILD_TYPE}\n>third\nMKK\n")
    message = refusal(lambda: read_assay(path, wild_type=tmp_path / "w.fasta"))
    assert "line 30: protein 'other' has no wild type; known are 'known', 'third'" in message
    rows = [(written(v), i) for i, v in enumerate(scan())]
    path = write(tmp_path / "b.csv", ["mutant", "score"], rows)
    assert "--protein-column" in refusal(lambda: read_assay(path, wild_type=tmp_path / "w.fasta"))
    write(tmp_path / "known.csv", ["mutant", "score"], rows)
    assert len(read_assay(tmp_path / "known.csv", wild_type=tmp_path / "w.fasta")) == 28


def test_bad_wild_types_are_named(tmp_path: Path) -> None:
    rows = [(written(v), WILD_TYPE, "p", i) for i, v in enumerate(scan())]
    more = [("A4W", "MK1", "p", 1), ("A4W", "", "p", 1), ("A4W", "MKK", "p", 1)]
    path = write(tmp_path / "a.csv", ["mutant", "wt", "protein", "score"], [*rows, *more])
    message = refusal(lambda: read_assay(path))
    assert "line 30: wild type: character '1'" in message
    assert "line 31: has no wild type" in message
    assert "line 32: its wild type is not the one that protein 'p' has above" in message
    (tmp_path / "w.fasta").write_text(">p\nMKK\n>p\nMKT\n")
    assert "several wild types called 'p'" in refusal(lambda: singles(tmp_path, wild_type=tmp_path / "w.fasta"))
    table = write(tmp_path / "w.csv", ["what", "sequence"], [("p", "MKTA")])
    assert "must have the columns" in refusal(lambda: singles(tmp_path, wild_type=table))
    table = write(tmp_path / "w.csv", ["name", "sequence"], [("p", "MKTA"), ("q", "MKTA"), ("r", "1")])
    assert "a wild type cannot be used" in refusal(lambda: singles(tmp_path, wild_type=table))


def test_too_little_to_learn_from_is_refused(tmp_path: Path) -> None:
    rows = [(substituted(v), 1.5) for v in scan()]
    assert "every score is 1.5" in refusal(lambda: read_assay(write(tmp_path / "a.csv", ["sequence", "score"], rows)))
    path = write(tmp_path / "a.csv", ["sequence", "score"], [])
    assert "holds no rows" in refusal(lambda: read_assay(path))
    path.write_text("")
    assert "holds no rows" in refusal(lambda: read_assay(path))
    message = refusal(lambda: singles(tmp_path, [], mutation_column="mutant", score_column="mutant", skip_invalid=True))
    assert "0 usable variants" in message


def test_mutations_that_undo_to_nothing_common_are_refused(tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(RESIDUES, k=20)) for _ in range(12)]
    rows = [(text, f"A{i + 1}{text[i]}", i) for i, text in enumerate(texts)]
    path = write(tmp_path / "a.csv", ["sequence", "mutant", "score"], rows)
    assert "no common wild type" in refusal(lambda: read_assay(path))


@pytest.mark.parametrize("text", ["A4W_C5D", "A4W-C5D", "(A4W;C5D)", "p.[Ala4Trp;Cys5Asp]", "p.(Ala4Trp), p.(Cys5Asp)"])
def test_mutations_stand_side_by_side_in_many_ways(text: str) -> None:
    edits = parse_mutations(text)
    assert [(edit.anchors[0], edit.text) for edit in edits] == [(("A", 4), "W"), (("C", 5), "D")]
    assert Mutator("AC", 4)(edits) == Placed("WD")


@given(st.text("ACDEWX12*-_:delinsfdup p.", max_size=14))
def test_any_text_is_mutations_or_a_misfit(text: str) -> None:
    with suppress(Misfit):
        assert all(edit.start <= edit.stop for edit in parse_mutations(text))


# Variants to predict


def test_variants_come_into_the_frame_of_the_assay(tmp_path: Path) -> None:
    assay = singles(tmp_path, [("A4_Y5insGS", 1), ("K2del", 2), ("Q11*", 3)])
    labels = ["A4W:K8C", "A4_Y5insG", "T3_Y5del", "Q9*", "WT"]
    path = write(tmp_path / "v.tsv", ["variant"], [(label,) for label in labels])
    found = read_variants(path, assay.wild_types, first_position=assay.first_position)
    assert found.labels == labels
    assert found.lines.tolist() == [2, 3, 4, 5, 6]
    assert found.rows == [
        "MKTW--YIACQRQISFVKSHFSRQLEERLG",
        "MKTAG-YIAKQRQISFVKSHFSRQLEERLG",
        "MK----IAKQRQISFVKSHFSRQLEERLG".replace("MK----", "MK-----"),
        "MKTA--YIAK*" + "-" * 19,
        assay.wild_types["wild type"],
    ]
    assert set(found.parents) == {"wild type"}


def test_the_same_variants_have_the_same_rows_as_in_the_assay(tmp_path: Path) -> None:
    assay = singles(tmp_path, [("A4_Y5insGS", 1), ("K2del", 2), ("Q11*", 3)])
    (tmp_path / "v.fasta").write_text("".join(f">v{i} x\n{text}\n" for i, text in enumerate(assay.sequences)))
    found = read_variants(tmp_path / "v.fasta", assay.wild_types)
    # A protein that ends early cannot be told from one whose end is deleted.
    assert [row.replace("*", "-") for row in assay.rows] == found.rows
    assert found.labels == [f"v{i}" for i in range(len(assay))]
    assert found.lines.tolist() == [2 * i + 1 for i in range(len(assay))]


def test_variants_that_do_not_fit_the_frame_are_named(tmp_path: Path) -> None:
    assay = singles(tmp_path, [("A4_Y5insGS", 1)])
    rows = [("v1", "A4_Y5insGSG"), ("v2", "K2_T3insW"), ("v3", "C4W"), ("v4", "A4W"), ("v5", "A5W")]
    path = write(tmp_path / "v.csv", ["id", "mutation"], rows)

    def read(**options: Any) -> Any:
        return read_variants(path, assay.wild_types, first_position=assay.first_position, **options)

    message = refusal(read)
    assert "4 of 5 rows" in message
    assert "line 2: inserts 3 residues behind residue 4 of the wild type, where the frame has room for 2" in message
    assert "line 3: inserts 1 residues behind residue 2 of the wild type, where the frame has room for 0" in message
    assert "line 4: mutation 'C4W': the wild type has A at position 4, not C" in message
    found = read(skip_invalid=True)
    assert found.labels == ["v4"]
    assert [line for line, _ in found.skipped] == [2, 3, 4, 6]
    assert read(skip_invalid=True, position_offset=2).labels == ["v5"]
    assert "--id-column" in refusal(lambda: read(skip_invalid=True, id_column="x"))


def test_variants_of_unrelated_proteins_are_padded(tmp_path: Path) -> None:
    path = write(tmp_path / "v.csv", ["sequence"], [("MKT",), ("MKTAYIAK",), ("MKTAYIAKQ",)])
    message = refusal(lambda: read_variants(path, {}, width=8))
    assert "line 4: has 9 residues, where the frame has room for 8" in message
    found = read_variants(path, {}, width=8, skip_invalid=True)
    assert found.rows == ["MKT-----", "MKTAYIAK"]
    assert found.labels == ["row-1", "row-2"]
    assert set(found.parents) == {""}


def test_variants_of_several_wild_types_say_of_which(tmp_path: Path) -> None:
    wild_types = {"one": "MKTAYIAK", "two": "MSDNGP--"}
    path = write(tmp_path / "v.csv", ["protein", "mutant"], [("Two", "D3W"), ("one", "T3W")])
    found = read_variants(path, wild_types)
    assert found.rows == ["MSWNGP--", "MKWAYIAK"]
    assert found.parents.tolist() == ["two", "one"]
    path = write(tmp_path / "v.csv", ["mutant"], [("D3W",)])
    assert "--protein-column" in refusal(lambda: read_variants(path, wild_types))
    path = write(tmp_path / "v.csv", ["sequence"], [("MSDNWP",), ("MKTWYIAK",)])
    assert read_variants(path, wild_types).parents.tolist() == ["two", "one"]
    path = write(tmp_path / "v.csv", ["sequence"], [("1",)])
    assert "no variant is left" in refusal(
        lambda: read_variants(path, wild_types, skip_invalid=True, sequence_column="sequence")
    )
