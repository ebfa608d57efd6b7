"""What every model of a landscape is: a scikit-learn regressor over aligned rows.

``X`` is everywhere a list, array or series of n strings of one width, as :class:`limbeck.landscapes.assay.Assay` holds
them; :func:`limbeck.landscapes.assay.expressed` gives the protein of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from limbeck.encoders import Encoder
from limbeck.errors import InputError
from limbeck.landscapes.assay import GAP, STOP
from limbeck.landscapes.models.posterior import Posterior
from limbeck.residues import RESIDUES
from limbeck.sklearn import one_column

__all__ = [
    "Data",
    "Model",
    "State",
    "checked_data",
    "checked_rows",
    "from_text",
    "hold_out",
    "letters",
    "part",
    "spread",
    "to_text",
]

State = dict[str, NDArray[Any]]
"""Fitted tensors by name."""
Data = tuple[Any, ArrayLike]
"""Rows and their scores, (n,)."""

_ALLOWED = f"{RESIDUES}X{GAP}{STOP}".encode()


class Model(RegressorMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A regressor from aligned rows to scores, by scikit-learn's contract.

    Constructors only store their arguments, all of which can be written as JSON; fitted attributes end in ``_``; two
    fits with one ``random_state`` give the same model. A subclass writes :meth:`fit`, :meth:`predict`, :meth:`state`
    and :meth:`restore`, and sets ``width_`` (columns of a row) in both ``fit`` and ``restore``.

    Attributes:
        width_: columns of the rows that the model was fitted to.
    """

    width_: int

    @abstractmethod
    def fit(self, X: Any, y: ArrayLike, validation: Data | None = None) -> Self:
        """Fit to n rows and their scores.

        Args:
            X: n rows.
            y: (n,) finite scores; larger is better.
            validation: rows and scores that choose hyperparameters or stop training, and are not fitted to. Without
                them the model holds out a part of ``X`` itself where it needs one.

        Raises:
            InputError: if the rows are not of one width, or rows and scores don't belong together.
        """

    @abstractmethod
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Scores of n rows, (n,) float64.

        With ``return_std`` also the standard deviation of a new measurement of each, (n,).

        Raises:
            sklearn.exceptions.NotFittedError: before ``fit``.
            InputError: if the rows have another width than those fitted to, or the model has no standard deviation.
        """

    @abstractmethod
    def state(self) -> State:
        """All that ``predict`` needs beside the constructor's arguments, as arrays by name."""

    @abstractmethod
    def restore(self, state: State) -> Self:
        """Become the fitted model that ``state`` was taken from; the constructor's arguments must be the same."""

    def posterior(self, X: Any) -> Posterior:
        """What the model believes of n rows jointly; memory grows with the square of n.

        Raises:
            sklearn.exceptions.NotFittedError: before ``fit``.
            InputError: if the rows have another width than those fitted to, or the model has no such belief.
        """
        raise InputError(f"{type(self).__name__} has no joint uncertainty; fit a Gaussian process or ridge regression")

    def embedder(self) -> Encoder | None:
        """The encoder that predictions need, loaded; ``None`` for a model that sees the letters alone."""
        return None

    def fitted_rows(self, X: Any) -> list[str]:
        """The rows of ``X``, for a fitted model.

        Raises:
            sklearn.exceptions.NotFittedError: before ``fit``.
            InputError: if the width is not that of the training rows.
        """
        check_is_fitted(self)
        return checked_rows(X, self.width_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


def checked_rows(X: Any, width: int | None = None) -> list[str]:
    """``X`` as a list of strings of one width.

    Args:
        X: a list, array or series of n strings, or an array or data frame with one column.
        width: what it must be; ``None`` if the first row decides.

    Raises:
        InputError: if a row has another width, or there are no rows.
        TypeError: if ``X`` is one string, or an entry is none.
    """
    column = one_column(X, "row")
    rows = [str(row) if isinstance(row, str) else _no_text(index, row) for index, row in enumerate(column)]
    if not rows and width is None:
        raise InputError("there are no variants to fit to; give at least one")
    wanted = len(rows[0]) if width is None else width
    for index, row in enumerate(rows):
        if len(row) != wanted:
            raise InputError(f"row {index} has {len(row)} columns, not {wanted}; align the variants first")
    return rows


def _no_text(index: int, row: object) -> str:
    raise TypeError(f"row {index}: expected a sequence (str), got {type(row).__name__}")


def checked_data(X: Any, y: ArrayLike, width: int | None = None) -> tuple[list[str], NDArray[np.float64]]:
    """Rows of one width and their scores, (n,) float64.

    Raises:
        InputError: if there are no rows, or not one finite score for each, or a row has another width.
    """
    rows = checked_rows(X, width)
    scores = np.asarray(y, dtype=np.float64)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores.ravel()
    if scores.shape != (len(rows),):
        raise InputError(f"{len(rows)} variants but scores of shape {scores.shape}; give one score for each variant")
    if not np.isfinite(scores).all():
        raise InputError(f"the score of row {int(np.argmin(np.isfinite(scores)))} is not a number; leave the row out")
    return rows, scores


def letters(rows: Sequence[str]) -> NDArray[np.uint8]:
    """(n, width) rows of one width as ASCII codes.

    Raises:
        InputError: if a letter is none of the 20 standard ones, ``X``, ``-`` and ``*``.
    """
    text = "".join(rows)
    if strange := text.encode("ascii", "replace").translate(None, _ALLOWED):
        number = next(i for i, row in enumerate(rows) if row.encode("ascii", "replace").translate(None, _ALLOWED))
        raise InputError(f"row {number}: {strange[:1].decode()!r} is no residue; rows hold the 20 letters, X, - and *")
    return np.frombuffer(text.encode("ascii"), np.uint8).reshape(len(rows), len(rows[0]) if rows else 0)


def hold_out(count: int, share: float, random_state: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices to keep and indices to hold out, drawn by ``random_state``: disjoint, sorted, together all ``count``.

    At least one is kept, and at least one is held out if there are two or more.
    """
    order = np.random.default_rng(random_state).permutation(count)
    held = min(max(1, round(share * count)), count - 1)
    return np.sort(order[held:]), np.sort(order[:held])


def spread(count: int, most: int) -> NDArray[np.intp]:
    """At most ``most`` of ``count`` indices, evenly spaced, so that every part of a file has its say."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))


def from_text(text: str) -> NDArray[np.uint8]:
    """A text as an array, for :meth:`Model.state`."""
    return np.frombuffer(text.encode(), np.uint8).copy()


def to_text(array: NDArray[np.uint8]) -> str:
    """The text of :func:`from_text`'s array."""
    return array.tobytes().decode()


def part(state: State, prefix: str) -> State:
    """The arrays whose names begin with a prefix, under their names without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
