"""A model that ``limbeck landscape`` saved, for many requests."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.landscapes.assay import GAP, STOP, Assay
from limbeck.landscapes.naming import variant_name
from limbeck.landscapes.predicting import ALIKE, Seen
from limbeck.landscapes.reading import UNNAMED, read_variants
from limbeck.landscapes.trained import model_folder, open_trained
from limbeck.landscapes.vectors import forget
from limbeck.residues import RESIDUES
from limbeck.serving.refusals import Refusal
from limbeck.serving.scan import Scan

__all__ = ["Landscape", "Placed"]

REMEMBERED = 50_000
"""Variants after which the vectors that the model keeps of them are dropped."""
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Placed:
    """Variants in the frame of the model: rows, and the wild type of each (``""`` for none)."""

    rows: list[str]
    parents: list[str]


class Landscape:
    """A fitted model with what it was fitted to.

    Args:
        folder: the folder ``model`` of a report, or the report's.

    Raises:
        InputError: if it holds no model.
    """

    def __init__(self, folder: str | Path) -> None:
        self._trained = open_trained(model_folder(folder))
        self._training = self._trained.assay
        self._seen = Seen(self._training)
        self._with_sd = True
        self._remembered = 0
        self.name = self._trained.name
        self.assay = self._training.name
        self.score(self._training.rows[:1])

    def place(self, field: str, texts: Sequence[str]) -> Placed:
        """Put variants into the model's frame.

        Args:
            field: ``"sequences"`` or ``"mutations"``, what the texts are.
            texts: of the variants.

        Raises:
            Refusal: 400, with the place of the first that cannot be read or has no room in the frame.
        """
        for number, text in enumerate(texts):
            if found := _BREAKS.search(text):
                raise Refusal(400, f"{field}[{number}]: has the character {found[0]!r}; remove it")
        training = self._training
        column = "sequence" if field == "sequences" else "mutations"
        if column == "mutations" and not training.wild_types:
            raise Refusal(400, "the model has no wild type to put mutations into; send sequences")
        with tempfile.TemporaryDirectory() as folder:
            # The reader of files knows all notations and checks them; lines are places of this list, from 2.
            path = Path(folder) / "variants.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("id", column), *enumerate(texts)])
            options: dict[str, Any] = {f"{column.removesuffix('s')}_column": column, "id_column": "id"}
            try:
                found_variants = read_variants(
                    path,
                    training.wild_types,
                    width=training.width,
                    first_position=training.first_position,
                    **options,
                )
            except InputError as error:
                raise Refusal(400, _in_request(str(error), str(path), field)) from None
        return Placed(found_variants.rows, [str(parent) for parent in found_variants.parents])

    def wild_type(self) -> Placed:
        """The protein whose variants the model was fitted to.

        Raises:
            Refusal: 400 if there is none, or more than one.
        """
        known = self._training.wild_types
        if len(known) != 1:
            raise Refusal(400, f"the model has {len(known) or 'no'} wild types; send the sequence of the protein")
        name, row = next(iter(known.items()))
        return Placed([row], [name])

    def check_related(self, placed: Placed) -> None:
        """Refuse a protein to scan that is no relative of the wild type that it was put on.

        Raises:
            Refusal: 400.
        """
        row, parent = placed.rows[0], self._training.wild_types.get(placed.parents[0])
        if parent is None:
            return
        residues = sum(letter not in (GAP, STOP) for letter in parent)
        alike = sum(a == b and a not in (GAP, STOP) for a, b in zip(row, parent, strict=True))
        if alike < ALIKE * residues:
            raise Refusal(
                400,
                f"sequence: is no variant of the protein that the model knows: it has {alike} of its {residues} "
                "residues; send a relative of it",
                parameter="sequence",
            )

    def score(self, rows: Sequence[str]) -> list[tuple[float, float | None]]:
        """Prediction and standard deviation (``None`` where the model has none) of each row."""
        self._remembered += len(rows)
        if self._remembered > REMEMBERED:
            forget()
            self._remembered = len(rows)
        if self._with_sd:
            try:
                predicted, sd = self._trained.model.predict(rows, return_std=True)
                return list(zip(predicted.tolist(), _finite(sd), strict=True))
            except InputError:
                # Either the model has no standard deviation, or the rows are at fault, which comes up again.
                predicted = self._trained.model.predict(rows)
                self._with_sd = False
        else:
            predicted = self._trained.model.predict(rows)
        return [(value, None) for value in predicted.tolist()]

    def described(self, placed: Placed, scores: Sequence[tuple[float, float | None]]) -> list[dict[str, Any]]:
        """Each variant with its score, name, number of mutations and what training never showed."""
        training = self._training
        frame = Assay(
            training.name,
            placed.rows,
            np.zeros(len(placed.rows)),
            np.array(placed.parents, dtype=object),
            training.wild_types,
            first_position=training.first_position,
        )
        notes = self._seen.notes(frame)
        return [
            {
                "variant": self._name(frame, i),
                "prediction": value,
                "sd": sd,
                "mutations": count if count >= 0 else None,
                "note": note,
            }
            for i, ((value, sd), count, note) in enumerate(zip(scores, frame.mutations.tolist(), notes, strict=True))
        ]

    def singles(self, base: Placed) -> list[str]:
        """The row of a protein, then its single mutants, position by position in the order of ``RESIDUES``."""
        row = base.rows[0]
        rows = [row]
        for column in _columns(row):
            rows += [row[:column] + residue + row[column + 1 :] for residue in RESIDUES if residue != row[column]]
        return rows

    def scan(self, base: Placed, scores: Sequence[float]) -> Scan:
        """The scores of :meth:`singles` by residue and position."""
        row, parent = base.rows[0], base.parents[0]
        columns = _columns(row)
        first = self._training.first_position.get(parent, 1)
        numbers = np.cumsum(np.frombuffer(row.encode("ascii"), np.uint8) != ord(GAP)) + first - 1
        values = np.full((len(RESIDUES), len(columns)), np.nan)
        rest = iter(scores[1:])
        for j, column in enumerate(columns):
            for i, residue in enumerate(RESIDUES):
                if residue != row[column]:
                    values[i, j] = next(rest)
        return Scan(
            by="model",
            name=self.name,
            meaning=f"Prediction of {self.name}, which was fitted to {self._called(parent)}.",
            centre=scores[0],
            positions=numbers[columns].astype(np.int64),
            wild_type="".join(row[column] for column in columns),
            values=values,
        )

    def _called(self, parent: str) -> str:
        return self.assay if parent in ("", UNNAMED, self.assay) else f"{self.assay}, variants of {parent}"

    def _name(self, frame: Assay, row: int) -> str:
        parent = str(frame.parents[row])
        if parent not in frame.wild_types:
            return frame.sequences[row]
        return variant_name(frame.rows[row], frame.wild_types[parent], frame.first_position.get(parent, 1))


def _columns(row: str) -> NDArray[np.intp]:
    """Columns of a row that hold a residue."""
    return np.array([i for i, letter in enumerate(row) if letter not in (GAP, STOP)], np.intp)


def _finite(values: NDArray[np.float64]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _in_request(message: str, path: str, field: str) -> str:
    """A message about a file, as one about a list: ``variants.csv, line 4`` is the third item."""
    message = re.sub(
        re.escape(path) + r", line (\d+)(, record '[^']*')?", lambda match: f"{field}[{int(match[1]) - 2}]", message
    )
    message = re.sub(r"\bline (\d+)", lambda match: f"{field}[{int(match[1]) - 2}]", message.replace(path, field))
    message = re.sub(r"; [^;]*--[a-z-]+[^;]*$", "", message)
    return re.sub(r"^\w+: \d+ of \d+ rows cannot be used \((.*)\)$", r"\1", message, flags=re.DOTALL)
