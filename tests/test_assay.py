"""An assay: what its rows stand for, where they differ from their wild type, and by how many mutations."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.landscapes.assay import Assay, expressed

LETTERS = "ACD"


def assay(rows: list[str], wild_types: dict[str, str], parents: list[str] | None = None, **more: object) -> Assay:
    names = parents or [next(iter(wild_types), "")] * len(rows)
    return Assay("a", rows, np.arange(len(rows), dtype=float), np.array(names, dtype=object), wild_types, **more)


def count(row: str, wild_type: str) -> int:
    """Mutations by hand: columns where both have gaps do not exist, then runs of gaps count as one."""
    body, stop, _ = row.partition("*")
    row = body + stop
    pairs = [(a, b) for a, b in zip(row, wild_type, strict=False) if (a, b) != ("-", "-")]
    kinds = ["same" if a == b else "del" if a == "-" else "ins" if b == "-" else "sub" for a, b in pairs]
    return sum(len(list(run)) if kind == "sub" else kind != "same" for kind, run in groupby(kinds))


@pytest.mark.parametrize(
    ("row", "protein"),
    [("MKT", "MKT"), ("M-T-", "MT"), ("MK*--", "MK"), ("*--", "X"), ("---", "X"), ("M-*", "M")],
)
def test_a_row_expresses_its_residues_up_to_the_stop(row: str, protein: str) -> None:
    assert expressed(row) == protein
    assert assay([row], {}).sequences == [protein]


@given(st.data())
def test_differences_and_mutations_are_those_counted_by_hand(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 12))
    wild_type = data.draw(st.text(LETTERS + "-", min_size=width, max_size=width))
    rows = []
    for _ in range(data.draw(st.integers(1, 5))):
        row = data.draw(st.text(LETTERS + "-", min_size=width, max_size=width))
        end = data.draw(st.integers(0, 2 * width))
        rows.append(row if end >= width else row[:end] + "*" + "-" * (width - end - 1))
    result = assay(rows, {"wt": wild_type})
    for i, row in enumerate(rows):
        stop = row.find("*") if "*" in row else width
        expected = [j <= stop and row[j] != wild_type[j] for j in range(width)]
        assert result.differs[i].tolist() == expected
        assert result.mutations[i] == count(row, wild_type)


def test_a_deletion_across_columns_of_insertions_is_one_mutation() -> None:
    assert assay(["A---D", "A-C-D", "AACAD"], {"wt": "AA-AD"}).mutations.tolist() == [1, 3, 1]


def test_each_variant_is_compared_with_its_own_wild_type() -> None:
    result = assay(["AC", "AC", "AC"], {"x": "AC", "y": "CC"}, ["x", "y", ""])
    assert result.differs.tolist() == [[False, False], [True, False], [False, False]]
    assert result.mutations.tolist() == [0, 1, -1]


def test_taking_rows_takes_every_column_along() -> None:
    splits = {"s": np.array(["train", "test", ""], dtype=object)}
    result = assay(["AC", "CC", "DC"], {"wt": "AC"}, splits=splits, lines=np.array([2, 3, 4]), notes=["n"])
    part = result.take([2, 0])
    assert part.rows == ["DC", "AC"]
    assert part.scores.tolist() == [2, 0]
    assert part.lines.tolist() == [4, 2]
    assert part.splits["s"].tolist() == ["", "train"]
    assert part.mutations.tolist() == [1, 0]
    assert part.notes == ["n"]
    assert result.take([]).width == 2


def test_what_was_not_given_is_filled_in() -> None:
    result = assay(["AC", "CC"], {})
    assert result.lines.tolist() == [0, 0]
    assert result.replicates.tolist() == [1, 1]
    assert np.isnan(result.spread).all()


def test_the_digest_tells_assays_apart() -> None:
    one = assay(["AC", "CC"], {"wt": "AC"})
    others = [
        replace(one, rows=["AC", "DC"]),
        replace(one, scores=np.array([0.0, 1.5])),
        replace(one, parents=np.array(["wt", ""], dtype=object)),
        replace(one, wild_types={"wt": "CC"}),
        replace(one, splits={"s": np.array(["train", "test"])}),
    ]
    assert one.digest == replace(one, name="b", notes=["n"]).digest
    assert len({one.digest, *(other.digest for other in others)}) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ["AC", "C"]}, "one length"),
        ({"wild_types": {"wt": "A"}}, "one length"),
        ({"scores": np.zeros(3)}, "one entry"),
        ({"splits": {"s": np.array(["train"])}}, "one entry"),
        ({"layout": "other"}, "layout"),
    ],
)
def test_columns_that_do_not_match_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(assay(["AC", "CC"], {"wt": "AC"}), **changes)


def test_a_frame_without_rows_is_as_wide_as_its_wild_types() -> None:
    empty = assay([], {"wt": "AC-D"})
    assert empty.width == 4
    assert empty.differs.shape == (0, 4)
    assert assay([], {}).width == 0
