"""What a table says of the proteins of an index: a label, and a group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.records import ID_COLUMNS, read_rows

__all__ = ["SEPARATOR", "Labels", "codes", "column_of", "read_columns", "read_labels", "split_label"]

SEPARATOR = ";"
"""Between the labels of a protein that has several."""


@dataclass(frozen=True)
class Labels:
    """One label and group for each protein of an index, in its order; ``""`` where there is none."""

    labels: list[str]
    groups: list[str] | None
    unlabelled: int
    """Proteins of the index for which the table has no label."""
    unused: int
    """Ids of the table that the index does not have."""


def read_labels(
    path: str | os.PathLike[str],
    ids: Sequence[str],
    label_column: str,
    *,
    id_column: str | None = None,
    group_column: str | None = None,
) -> Labels:
    """Labels of proteins from a CSV, TSV or Parquet table.

    Args:
        path: the table; one row for each protein.
        ids: of the index.
        label_column: of the table.
        id_column: of the table; the first of its usual names if not given.
        group_column: of what should not vouch for each other: families, clusters.

    Raises:
        InputError: if a column is missing, an id comes twice, or no id is one of the index.
    """
    columns = [label_column] if group_column is None else [label_column, group_column]
    table = read_columns(path, columns, id_column)
    found = [table.get(id) for id in ids]
    labels = ["" if row is None else row[0] for row in found]
    unused = len(table) - sum(row is not None for row in found)
    if not any(labels):
        raise InputError(f"{os.fspath(path)} has no label for any id of the index; is --id-column the right one?")
    groups = None if group_column is None else ["" if row is None else row[1] for row in found]
    return Labels(labels, groups, sum(not label for label in labels), unused)


def read_columns(
    path: str | os.PathLike[str], columns: Sequence[str], id_column: str | None = None
) -> dict[str, list[str]]:
    """Some columns of a table by id, white space around values removed.

    Raises:
        InputError: if a column is missing, or an id comes twice.
    """
    name = os.fspath(path)
    rows = read_rows(path)
    _, header = next(rows, (0, []))
    id_place = column_of(header, id_column, name) if id_column else _id_place(header, name)
    places = [column_of(header, column, name) for column in columns]
    table: dict[str, list[str]] = {}
    for line, fields in rows:
        if len(fields) <= max(id_place, *places):
            raise InputError(f"{name}, line {line}: {len(fields)} fields where the header has {len(header)} names")
        id = fields[id_place].strip()
        if id in table:
            raise InputError(f"{name}, line {line}: the id {id!r} occurs a second time; keep one row of each")
        table[id] = [fields[place].strip() for place in places]
    return table


def column_of(header: Sequence[str], column: str, name: str) -> int:
    """Place of a column; an error names those that there are."""
    if column not in header:
        known = ", ".join(map(repr, header[:12])) + (", ..." if len(header) > 12 else "")
        raise InputError(f"{name}: no column is called {column!r}; it has {known}")
    return header.index(column)


def _id_place(header: Sequence[str], name: str) -> int:
    lower = [column.lower() for column in header]
    for known in ID_COLUMNS:
        if known in lower:
            return lower.index(known)
    raise InputError(f"{name}: no column is called 'id' or the like; name the column of ids with --id-column")


def split_label(label: str) -> list[str]:
    """The labels of one protein, each once, in the order given."""
    return list(dict.fromkeys(part for part in map(str.strip, label.split(SEPARATOR)) if part))


def codes(groups: Sequence[str]) -> NDArray[np.int64]:
    """A number for each group, (n,); a protein without a group is one of its own."""
    numbers: dict[str, int] = {}
    return np.array(
        [-1 - row if not group else numbers.setdefault(group, len(numbers)) for row, group in enumerate(groups)],
        np.int64,
    )
