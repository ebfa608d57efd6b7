"""What a comparison of models on one assay found: tidy data frames, and the file that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.landscapes.assay import GAP, STOP, Assay
from limbeck.landscapes.verdict import Verdict, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLUMNS", "KINDS", "METRIC_NAMES", "SCHEMA", "Comparison"]

SCHEMA = 1
"""Raise it when the file changes so that older readers would misunderstand it."""
KINDS = ("floor", "one-hot", "network", "random network", "pretrained")
METRIC_NAMES = {
    "spearman": "Spearman",
    "pearson": "Pearson",
    "mse": "MSE",
    "ndcg": "NDCG",
    "recall": "recall of the top 10 %",
}
"""How people call each metric."""

COLUMNS: dict[str, dict[str, str]] = {
    "splits": {
        "split": "text",
        "question": "text",
        "train": "count",
        "valid": "count",
        "test": "count",
        "unit": "text",
        "units": "count",
    },
    "left_out": {"what": "text", "reason": "text"},
    "scores": {
        "split": "text",
        "model": "text",
        "kind": "text",
        "pretrained": "flag",
        "encoder": "text",
        "rows": "text",
        "metric": "text",
        "value": "number",
        "low": "number",
        "high": "number",
        "valid": "number",
        "n_train": "count",
        "n_test": "count",
        "seconds": "number",
        "note": "text",
    },
    "differences": {
        "split": "text",
        "model": "text",
        "baseline": "text",
        "metric": "text",
        "value": "number",
        "low": "number",
        "high": "number",
        "n": "count",
    },
    "verdicts": {
        "split": "text",
        "verdict": "text",
        "sentence": "text",
        "advice": "text",
        "model": "text",
        "baseline": "text",
        "difference": "number",
        "low": "number",
        "high": "number",
        "n": "count",
        "units": "count",
    },
    "predictions": {
        "split": "text",
        "row": "count",
        "model": "text",
        "measured": "number",
        "predicted": "number",
        "std": "number",
    },
    "curves": {
        "model": "text",
        "pretrained": "flag",
        "n_train": "count",
        "repeats": "count",
        "metric": "text",
        "value": "number",
        "low": "number",
        "high": "number",
    },
    "leaks": {
        "kind": "text",
        "split": "text",
        "encoder": "text",
        "count": "count",
        "of": "count",
        "share": "number",
        "sentence": "text",
        "examples": "any",
    },
}
"""Columns of each frame and what they hold: ``text`` (``None`` where there is none), ``count``, ``number`` (NaN where
it is not known), ``flag`` or ``any`` (what JSON can hold)."""


@dataclass(eq=False)
class Comparison:
    """Every model on every split of one assay.

    Attributes:
        assay: what was measured.
        settings: how the comparison was made: ladder, seed, versions, encoders with fingerprint and licence, times.
            Whatever JSON can hold; tuples become lists, and numbers that are not finite become ``None``.
        splits: sizes of the parts, the question that each split asks, and how many units its intervals resample.
        left_out: what was not done, and why.
        scores: one line for each split, model and metric, with a 95 % interval. ``rows`` is ``"sample"`` where the
            model was fitted and scored on a part of the variants; ``valid`` is Spearman's correlation on validation
            data. ``kind`` is one of :data:`KINDS`; without this column it is told from the name, the encoder and
            whether that is pretrained.
        differences: of models from the best one without pretraining, on the same test variants.
        verdicts: one for each split.
        predictions: of test variants; ``row`` is that of the assay.
        curves: scores by number of training variants.
        leaks: test variants with a double or a near double in training, assay rows in an encoder's own training data.

    Raises:
        ValueError: if a frame lacks a column or has one too many. A frame without columns stands for an empty one.
    """

    assay: Assay
    settings: dict[str, Any]
    splits: pd.DataFrame
    left_out: pd.DataFrame
    scores: pd.DataFrame
    differences: pd.DataFrame
    verdicts: pd.DataFrame
    predictions: pd.DataFrame
    curves: pd.DataFrame
    leaks: pd.DataFrame

    def __post_init__(self) -> None:
        if len(self.scores.columns) and "kind" not in self.scores:
            self.scores = self.scores.assign(kind=[_kind(row) for row in self.scores.itertuples()])
        for name in COLUMNS:
            setattr(self, name, _typed(name, getattr(self, name)))
        self.settings = _plain(self.settings)

    # --- asking

    @property
    def split_names(self) -> list[str]:
        """Names of the splits, in their order."""
        return list(self.splits["split"])

    def __repr__(self) -> str:
        # All its tables at once would bury a notebook.
        models, splits = self.scores["model"].nunique(), len(self.splits)
        return f"<Comparison of {self.assay.name}: {len(self.assay):,} variants, {models} models, {splits} splits>"

    @property
    def summary(self) -> str:
        """The verdicts in one sentence."""
        tried = self.scores.loc[self.scores["pretrained"], "encoder"].dropna().unique()
        named = [(row.split, row.verdict, row.sentence, row.advice) for row in self.verdicts.itertuples()]
        return summarise(Verdict(*each, encoders=", ".join(tried)) for each in named)

    def ranking(self, split: str, metric: str = "spearman", rows: str | None = None) -> pd.DataFrame:
        """Scores of one split by one metric, best first; a model that cannot rank anything (a constant) comes last.

        Args:
            split: name of the split.
            metric: one of :data:`METRIC_NAMES`; the smallest is best for ``"mse"``.
            rows: only those on ``"all"`` rows or on a ``"sample"``.
        """
        found = self.scores[(self.scores["split"] == split) & (self.scores["metric"] == metric)]
        if rows is not None:
            found = found[found["rows"] == rows]
        order = found["value"] if metric == "mse" else -found["value"]
        constant = found["value"].isna() | ((found["kind"] == "floor") & (found["value"] == 0) & (metric != "mse"))
        return found.iloc[np.lexsort((order, constant))]

    def verdict(self, split: str) -> Any:
        """The line of ``verdicts`` about a split; ``None`` if there is none."""
        found = self.verdicts[self.verdicts["split"] == split]
        return None if found.empty else next(found.itertuples(index=False))

    def kind(self, model: str) -> str:
        """One of :data:`KINDS`."""
        found = self.scores.loc[self.scores["model"] == model, "kind"]
        return str(found.iloc[0]) if len(found) else KINDS[-1]

    def best(self, split: str) -> str | None:
        """The model of a split with the highest Spearman correlation among those whose predictions are known."""
        known = set(self.predictions.loc[self.predictions["split"] == split, "model"])
        return next((model for model in self.ranking(split)["model"] if model in known), None)

    def predicted(self, model: str) -> tuple[str, NDArray[np.intp], NDArray[np.float64]]:
        """What a model predicted in the split that tested most variants: its name, rows of the assay (n,) and
        predictions (n,).

        Raises:
            InputError: if the comparison has no prediction of it.
        """
        found = self.predictions[self.predictions["model"] == model]
        if found.empty:
            known = ", ".join(self.predictions["model"].unique()) or "none"
            raise InputError(f"there are no predictions of a model {model!r}; models with predictions: {known}")
        split = str(found["split"].value_counts(sort=False).idxmax())
        found = found[found["split"] == split]
        return split, found["row"].to_numpy(np.intp), found["predicted"].to_numpy(np.float64)

    # --- showing

    def table(self, width: int | None = None) -> str:
        """The comparison as plain text.

        Args:
            width: characters in a line, 72 to 160; by default that of the terminal, up to 120.
        """
        from limbeck.landscapes.terminal import as_text

        return as_text(self, width)

    def plot_scores(self, split: str | None = None, ax: Axes | None = None) -> Axes:
        """:func:`limbeck.landscapes.plots.plot_scores`."""
        from limbeck.landscapes import plots

        return plots.plot_scores(self, split, ax)

    def plot_parity(self, split: str, model: str | None = None, ax: Axes | None = None) -> Axes:
        """:func:`limbeck.landscapes.plots.plot_parity`."""
        from limbeck.landscapes import plots

        return plots.plot_parity(self, split, model, ax)

    def plot_learning_curves(self, ax: Axes | None = None, metric: str = "spearman") -> Axes:
        """:func:`limbeck.landscapes.plots.plot_learning_curves`."""
        from limbeck.landscapes import plots

        return plots.plot_learning_curves(self, ax, metric)

    def plot_heatmap(self, values: str = "measured", ax: Axes | None = None, parent: str | None = None) -> Axes:
        """:func:`limbeck.landscapes.plots.plot_heatmap`."""
        from limbeck.landscapes import plots

        return plots.plot_heatmap(self, values, ax, parent)

    # --- keeping

    def write(self, folder: str | Path) -> Path:
        """Write ``report.json`` and ``report.html`` into a folder, which is made if need be.

        Returns:
            The page.

        Raises:
            InputError: if the folder or a file cannot be written.
        """
        from limbeck.landscapes.report import write_report

        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made: {error.strerror}") from None
        self.to_json(folder / "report.json")
        return write_report(self, folder / "report.html")

    def to_json(self, path: str | Path) -> None:
        """Write all of it as one JSON file, whole or not at all.

        Frames are objects of columns. Numbers that are not known are ``null``, infinite ones ``"inf"`` and ``"-inf"``.
        Predictions are split by model. A variant is written by its substitutions (``A24V:K30*``, in columns of the
        frame from 1, up to a stop; ``=`` for the wild type), or by its row where that is shorter.

        Raises:
            InputError: if the file cannot be written.
        """
        path = Path(path)
        content = {
            "format": "limbeck landscape",
            "schema": SCHEMA,
            "settings": self.settings,
            "assay": _assay_content(self.assay),
            **{name: _columns(name, getattr(self, name)) for name in COLUMNS if name != "predictions"},
            "predictions": [_columns("predictions", part) for part in _runs(self.predictions)],
        }
        # One entry a line, so that the file opens in an editor and compares well.
        entries = (f"{json.dumps(name)}: {_dumps(value)}" for name, value in content.items())
        try:
            with whole(path) as partial:
                partial.write_text("{\n" + ",\n".join(entries) + "\n}\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from None

    @classmethod
    def read(cls, folder: str | Path) -> Comparison:
        """Read what :meth:`write` wrote: a folder with ``report.json``, or that file.

        Raises:
            InputError: if there is none, a newer limbeck wrote it, or it is damaged.
        """
        path = Path(folder)
        path = path / "report.json" if path.is_dir() else path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; name the folder of a report") from None
        except ValueError:
            raise InputError(f"{path} is damaged: not JSON; run limbeck landscape again") from None
        if not isinstance(content, dict) or content.get("format") != "limbeck landscape":
            raise InputError(f"{path} is no report of limbeck landscape; name the folder of one")
        if content.get("schema") != SCHEMA:
            raise InputError(
                f"{path} has schema {content.get('schema')}, and this limbeck reads {SCHEMA}; update limbeck, "
                "or run limbeck landscape again"
            )
        try:
            return cls(
                _assay(content["assay"]),
                dict(content["settings"]),
                **{name: _read_frame(name, content[name]) for name in COLUMNS},
            )
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
            detail = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
            raise InputError(f"{path} is damaged ({detail}); run limbeck landscape again") from None


def _kind(row: Any) -> str:
    if row.pretrained:
        return "pretrained"
    if isinstance(row.encoder, str) and row.encoder:
        return "random network"
    name = row.model.lower()
    if "one-hot" in name:
        return "one-hot"
    return "floor" if "mean" in name or "composition" in name else "network"


# --- frames


def _typed(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its columns in order and of known types."""
    columns = COLUMNS[name]
    if not len(frame.columns):
        frame = pd.DataFrame({column: [] for column in columns})
    if differing := set(columns).symmetric_difference(frame.columns):
        raise ValueError(
            f"{name} must have the columns {', '.join(columns)}; these differ: {', '.join(sorted(differing))}"
        )
    typed = {column: _TYPES[kind](frame[column]) for column, kind in columns.items()}
    # A type is given, for pandas 3 would make strings of its own of objects, with NaN for None.
    return pd.DataFrame({column: pd.Series(values, dtype=values.dtype) for column, values in typed.items()})


def _text(values: pd.Series) -> NDArray[Any]:
    result = np.empty(len(values), dtype=object)
    result[:] = [None if value is None or value is pd.NA or value != value else str(value) for value in values]
    return result


def _counts(values: pd.Series) -> NDArray[np.int64]:
    numbers = values.to_numpy(np.float64)
    if not np.array_equal(numbers, np.floor(numbers)):
        raise ValueError(f"the column {values.name} must hold whole numbers")
    return values.to_numpy(np.int64)


def _any(values: pd.Series) -> NDArray[Any]:
    result = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        result[i] = _plain(value)
    return result


_TYPES: dict[str, Callable[[pd.Series], NDArray[Any]]] = {
    "text": _text,
    "count": _counts,
    "number": lambda values: values.to_numpy(np.float64, na_value=np.nan),
    "flag": lambda values: values.to_numpy(np.bool_),
    "any": _any,
}


def _plain(value: Any) -> Any:
    """What JSON can hold, of numpy's, pandas' and Python's values."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


# --- the file


def _dumps(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _columns(name: str, frame: pd.DataFrame) -> dict[str, list[Any]]:
    kinds = COLUMNS[name]
    return {
        column: [_number(v) for v in frame[column].tolist()] if kind == "number" else frame[column].tolist()
        for column, kind in kinds.items()
        if not (name == "predictions" and kind == "text")
    } | ({c: frame[c].iloc[0] for c in ("split", "model")} if name == "predictions" else {})


def _number(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _runs(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Parts of one split and model each, which put together give the frame again."""
    keys = list(zip(frame["split"], frame["model"], strict=True))
    starts = [0, *(i + 1 for i, (one, two) in enumerate(pairwise(keys)) if one != two), len(keys)]
    return (frame.iloc[a:b] for a, b in pairwise(starts) if b > a)


def _read_frame(name: str, content: Any) -> pd.DataFrame:
    if name != "predictions":
        return _frame(name, content)
    parts = [
        _frame(name, {**part, **{c: [part[c]] * len(part["row"]) for c in ("split", "model")}}) for part in content
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _frame(name: str, content: Mapping[str, list[Any]]) -> pd.DataFrame:
    sizes = {len(content[column]) for column in COLUMNS[name]}
    if len(sizes) > 1:
        raise ValueError(f"columns of {name} differ in length")
    columns = {}
    for column, kind in COLUMNS[name].items():
        values = np.empty(len(content[column]), dtype=object)
        for i, value in enumerate(content[column]):
            values[i] = _from_json(value, kind)
        columns[column] = values
    return pd.DataFrame(columns)


def _from_json(value: Any, kind: str) -> Any:
    if kind == "number":
        return math.nan if value is None else float(value)
    wanted: dict[str, Any] = {"text": str | None, "count": int, "flag": bool, "any": object}
    if not isinstance(value, wanted[kind]):
        raise ValueError(f"{value!r} is no {kind}")
    return value


def _assay_content(assay: Assay) -> dict[str, Any]:
    return {
        "name": assay.name,
        "layout": assay.layout,
        "wild_types": dict(assay.wild_types),
        "first_position": {name: int(first) for name, first in assay.first_position.items()},
        "notes": list(assay.notes),
        "variants": _variants(assay),
        "scores": assay.scores.tolist(),
        "parents": assay.parents.tolist(),
        "splits": {name: part.tolist() for name, part in assay.splits.items()},
        "lines": assay.lines.tolist(),
        "replicates": assay.replicates.tolist(),
        "spread": [_number(value) for value in assay.spread.tolist()],
    }


def _variants(assay: Assay) -> list[str]:
    wild_types = {name: np.frombuffer(row.encode("ascii"), np.uint8) for name, row in assay.wild_types.items()}
    result = []
    for row, letters, parent in zip(assay.rows, assay.letters, assay.parents.tolist(), strict=True):
        short = row if parent not in wild_types else _substitutions(row, letters, wild_types[parent])
        result.append(min(short, row, key=len))
    return result


def _substitutions(row: str, letters: NDArray[np.uint8], wild_type: NDArray[np.uint8]) -> str:
    length = row.find(STOP) + 1
    if not length or row[length:].strip(GAP):
        length = len(row)
    places = np.flatnonzero(letters[:length] != wild_type[:length])
    return ":".join(f"{chr(wild_type[i])}{i + 1}{chr(letters[i])}" for i in places) or "="


def _row(variant: str, wild_type: str) -> str:
    if not any(character.isdigit() or character == "=" for character in variant):
        return variant
    letters = list(wild_type)
    for part in variant.split(":") if variant != "=" else []:
        place = int(part[1:-1]) - 1
        if place < 0 or letters[place] != part[0]:
            raise ValueError(f"variant {variant} does not fit its wild type")
        letters[place] = part[-1]
    row = "".join(letters)
    # Nothing stands behind a stop but padding.
    return row if not variant.endswith(STOP) else row[: place + 1].ljust(len(row), GAP)


def _assay(content: Mapping[str, Any]) -> Assay:
    wild_types = dict(content["wild_types"])
    parents = np.array(content["parents"], dtype=object)
    return Assay(
        name=str(content["name"]),
        rows=[_row(v, wild_types.get(p, "")) for v, p in zip(content["variants"], parents.tolist(), strict=True)],
        scores=np.array(content["scores"], np.float64),
        parents=parents,
        wild_types=wild_types,
        layout=content["layout"],
        splits={name: np.array(part, dtype=object) for name, part in content["splits"].items()},
        lines=np.array(content["lines"], np.int64),
        replicates=np.array(content["replicates"], np.int64),
        spread=np.array([_from_json(v, "number") for v in content["spread"]], np.float64),
        first_position=dict(content["first_position"]),
        notes=list(content["notes"]),
    )
