"""From files of embeddings to a page with a map of them."""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from limbeck.embedding.source import stem
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.maps.colours import KINDS, Colouring, colouring
from limbeck.maps.projection import PROJECTIONS, project
from limbeck.pages import write_page
from limbeck.progress import Progress
from limbeck.search.labels import read_columns
from limbeck.search.vectors import Origin, blocks, origin_of
from limbeck.version import __version__

__all__ = ["MOST", "Map", "map_embeddings"]

MOST = 100_000
"""Points that a page draws without a sample, unless told otherwise."""
SEED = 0
_METHODS = {"tsne": "t-SNE on 50 principal components", "pca": "first two principal components"}


@dataclass(frozen=True)
class Map:
    """What was drawn; its text is for people."""

    output: str
    shown: int
    proteins: int
    missing: int
    """Shown proteins for which the table has no value."""
    method: str

    def __str__(self) -> str:
        of_all = "" if self.shown == self.proteins else f" (drawn at random from {self.proteins:,})"
        missing = f"; {self.missing:,} have no value in the table" if self.missing else ""
        return f"{self.shown:,} proteins{of_all}, {_METHODS[self.method]}{missing}; {self.output}"


def map_embeddings(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    colour_by: str | None = None,
    colour_as: str = "auto",
    id_column: str | None = None,
    projection: str = "tsne",
    most: int = MOST,
    points: str | os.PathLike[str] | None = None,
    threads: int = 1,
    title: str | None = None,
    progress: bool = True,
) -> Map:
    """Draw a map of embeddings.

    Args:
        inputs: files that ``limbeck embed`` wrote, of one encoder and precision.
        output: the page (HTML).
        table: CSV, TSV or Parquet with a row for each protein.
        colour_by: its column that gives the colours.
        colour_as: ``"category"``, ``"number"``, or ``"auto"`` by the values.
        id_column: of the table; found by its usual names if not given.
        projection: ``"tsne"`` or ``"pca"``.
        most: points drawn; of more proteins a random sample is taken, always the same.
        points: a CSV file for ``id``, ``x`` and ``y``.
        threads: of t-SNE.
        title: of the page; by default the inputs' name.
        progress: show progress on standard error.

    Raises:
        InputError: if something cannot be used.
    """
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    _check(table, colour_by, colour_as, projection, most)
    values = None if table is None or colour_by is None else read_columns(table, [colour_by], id_column)
    origin = origin_of(paths[0])
    for path in paths[1:]:
        origin.refuse_other(origin_of(path), os.fspath(paths[0]), os.fspath(path))
    ids, vectors, proteins = _sampled(paths, origin.dimension, most, progress)
    found = None if values is None else [values[id][0] if id in values else "" for id in ids]
    if found is not None and not any(found):
        raise InputError(
            f"{os.fspath(table or '')} has no {colour_by!r} for any protein; is --id-column the right one?"
        )
    colours = colouring(found, colour_by or "", colour_as)
    with Progress(f"projecting ({projection})", "proteins", len(ids), progress) as bar:
        places = project(vectors, projection, threads=threads)
        bar.update(len(ids))
    if points is not None:
        _write_points(Path(points), ids, places)
    heading = title or " + ".join(stem(path) for path in paths)
    drawn = Map(os.fspath(output), len(ids), proteins, 0 if found is None else found.count(""), projection)
    _write(Path(output), drawn, ids, places, colours, origin, heading, colour_by)
    return drawn


def _check(
    table: str | os.PathLike[str] | None, colour_by: str | None, colour_as: str, projection: str, most: int
) -> None:
    if (table is None) != (colour_by is None):
        raise InputError("colours need a table and its column; give --table and --colour-by together")
    if colour_as not in KINDS:
        raise InputError(f"unknown kind of colours {colour_as!r}; choose from {', '.join(KINDS)}")
    if projection not in PROJECTIONS:
        raise InputError(f"unknown projection {projection!r}; choose from {', '.join(PROJECTIONS)}")
    if most < 2:
        raise InputError(f"--most must be at least 2, not {most}")


def _sampled(
    paths: Sequence[str | os.PathLike[str]], dimension: int, most: int, progress: bool
) -> tuple[list[str], NDArray[np.float32], int]:
    """Ids and vectors of at most ``most`` proteins in their order, and how many there are.

    A reservoir (Vitter 1985, algorithm R), so that memory is bounded by the sample.
    """
    random = np.random.default_rng(SEED)
    kept_ids: list[str] = []
    kept: list[NDArray[np.float32]] = []
    order: list[int] = []
    seen = 0
    with Progress("reading", "proteins", None, progress) as bar:
        for ids, vectors in blocks(paths, dimension):
            for id, vector in zip(ids, vectors, strict=True):
                if seen < most:
                    kept_ids.append(id)
                    kept.append(vector)
                    order.append(seen)
                elif (place := int(random.integers(0, seen + 1))) < most:
                    kept_ids[place], kept[place], order[place] = id, vector.copy(), seen
                seen += 1
            bar.update(len(ids))
    if seen < 2:
        raise InputError(f"{os.fspath(paths[0])} has {seen} proteins; a map needs two or more")
    sequence = np.argsort(order)
    return [kept_ids[i] for i in sequence], np.stack([kept[i] for i in sequence]), seen


def _write_points(path: Path, ids: list[str], places: NDArray[np.float64]) -> None:
    try:
        with whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "x", "y"])
            writer.writerows((id, f"{x:.6g}", f"{y:.6g}") for id, (x, y) in zip(ids, places.tolist(), strict=True))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def _write(
    output: Path,
    drawn: Map,
    ids: list[str],
    places: NDArray[np.float64],
    colours: Colouring,
    origin: Origin,
    title: str,
    column: str | None,
) -> None:
    data = {
        "ids": ids,
        "points": _packed(_quantised(places)),
        "places": _packed(colours.places),
        "column": column,
        **colours.description,
    }
    facts = f"{drawn.shown:,} proteins"
    if drawn.shown != drawn.proteins:
        facts += f", a random sample of {drawn.proteins:,}"
    vectors = f"{origin.encoder} ({origin.dimension} numbers, {origin.precision})"
    content = {
        "title": title,
        "facts": f"{facts}, by {vectors}; {_METHODS[drawn.method]}",
        "far": drawn.method == "tsne",
        "data": _as_json(data),
        "column": column,
        "version": __version__,
    }
    write_page(output, "limbeck.maps", "map.html", content)


def _quantised(places: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Points as whole numbers, (n, 2), both axes on one scale; a page of 65,536 pixels is finer than any screen."""
    low = places.min(axis=0)
    size = float((places.max(axis=0) - low).max()) or 1.0
    centred = (places - low + (size - (places.max(axis=0) - low)) / 2) / size
    return np.round(centred * 65_535).astype(np.uint16)


def _packed(numbers: NDArray[np.uint16]) -> str:
    return base64.b64encode(numbers.astype("<u2").tobytes()).decode("ascii")


def _as_json(data: Any) -> Markup:
    """JSON within a script element: no text of it can end the element."""
    return Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
