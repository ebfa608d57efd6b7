"""Which training variants drove a prediction, and whether they did: they are removed, and the model is fitted again.

================ ==================================================================================================
``neighbours``   the nearest training variants, Euclidean, in the model's own feature space
``exemplar-svm`` those on the variant's side in a linear support vector machine that tells it from all of training
``weights``      ridge regression, exact: its prediction is a weighted mean of the training scores
``removal``      ridge regression, exact: how far the prediction falls back when a training variant is removed
================ ==================================================================================================

The first two are the baseline of Singla et al. 2023 (arXiv 2311.03386), who rank training images of the same class in
the features of a self-supervised network; scores have no classes, so every training variant is ranked. The exact ones
are of the features as they stand: a fit that also scales them anew moves a little more or less.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import clone

from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.models.base import Model
from limbeck.landscapes.models.features import Features
from limbeck.landscapes.naming import names_of
from limbeck.landscapes.reading import read_variants
from limbeck.landscapes.trained import open_trained
from limbeck.landscapes.vectors import Source
from limbeck.progress import Progress

__all__ = [
    "METHODS",
    "Attribution",
    "Smoother",
    "check",
    "exemplar_svm",
    "explain",
    "nearest_neighbours",
]

METHODS = ("neighbours", "exemplar-svm", "weights", "removal")
LISTED = 10
KEPT = 4000
"""Training variants up to which all weights among them are kept: 128 MB."""
REPEATS = 5

Array = NDArray[np.float64]


def nearest_neighbours(training: Any, variant: Any) -> Array:
    """Closeness of n training variants to one variant: minus their Euclidean distances, (n,).

    Args:
        training: (n, d) features, dense or sparse.
        variant: (1, d) features.
    """
    cross = np.asarray(_dense(training @ variant.T)).ravel()
    lengths, length = _squared_lengths(training), _squared_lengths(variant)
    return -np.sqrt(np.maximum(0.0, lengths - 2 * cross + length))


def exemplar_svm(training: Any, variant: Any, penalty: float = 0.1) -> Array:
    """Side of n training variants in a linear SVM with one positive example, the variant: decision values, (n,).

    As in the authors' code: squared hinge loss, classes weighted to balance, ``C=0.1``, up to 10,000 iterations.
    """
    from sklearn.svm import LinearSVC

    stack, training = _narrow(_stacked(variant, training)), _narrow(training)
    labels = np.zeros(stack.shape[0], np.int64)
    labels[0] = 1
    machine = LinearSVC(class_weight="balanced", C=penalty, max_iter=10_000, tol=1e-6, random_state=0, dual="auto")
    return np.asarray(machine.fit(stack, labels).decision_function(training), dtype=np.float64)


def _stacked(first: Any, second: Any) -> Any:
    return sp.vstack([first, second], format="csr") if sp.issparse(second) else np.vstack([first, second])


def _narrow(matrix: Any) -> Any:
    """A sparse matrix with the 32-bit indices that scikit-learn asks for."""
    if not sp.issparse(matrix):
        return matrix
    parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
    return sp.csr_matrix(parts, shape=matrix.shape)


class Smoother:
    """Ridge regression as a rule that mixes training scores: what each of them counts for in a prediction.

    A prediction is ``sum_i w_i(x) y_i`` with ``w_i(x) = 1 / n + (x - m)' (X'X + alpha)^-1 (x_i - m)``, X centred by the
    mean row m. Without the training rows S it would be lower by ``w_S(x)' (1 - W_SS)^-1 r_S``, r being residuals:
    exact for any S (Cook and Weisberg 1982, Residuals and Influence in Regression).

    Args:
        features: (n, d) of the training variants, dense or sparse.
        scores: (n,) of the training variants.
        alpha: penalty.
    """

    def __init__(self, features: Any, scores: Array, alpha: float) -> None:
        self._rows = features.shape[0]
        dense = _dense(features).astype(np.float64)
        self._mean = dense.mean(axis=0)
        self._centred = dense - self._mean
        self._scores, self._alpha = scores, alpha
        small = self._centred.T if self._wide else self._centred
        self._factor = cho_factor(small.T @ small + alpha * np.eye(small.shape[1]), lower=True, check_finite=False)

    @property
    def _wide(self) -> bool:
        return self._centred.shape[1] > self._centred.shape[0]

    def weights(self, features: Any) -> Array:
        """(m, n) what each training score counts for in the predictions of m variants, (m, d) features."""
        centred = _dense(features) - self._mean
        if self._wide:
            # (X'X + a)^-1 X' = X' (XX' + a)^-1
            mixed = cho_solve(self._factor, self._centred @ centred.T, check_finite=False).T
        else:
            mixed = cho_solve(self._factor, centred.T, check_finite=False).T @ self._centred.T
        return 1 / self._rows + mixed

    @cached_property
    def residuals(self) -> Array:
        """(n,) training scores less their own predictions."""
        product = self._centred.T @ (self._scores - self._scores.mean())
        if self._wide:
            inner = cho_solve(self._factor, self._centred @ product, check_finite=False)
            coefficients = (product - self._centred.T @ inner) / self._alpha
        else:
            coefficients = cho_solve(self._factor, product, check_finite=False)
        return self._scores - self._scores.mean() - self._centred @ coefficients

    @cached_property
    def leverages(self) -> Array:
        """(n,) what each training score counts for in its own prediction."""
        found = np.empty(self._rows)
        for start in range(0, self._rows, 1024):
            part = np.arange(start, min(start + 1024, self._rows))
            found[part] = self._own(part)[np.arange(len(part)), part]
        return found

    @cached_property
    def _all(self) -> Array:
        return self.weights(self._centred + self._mean)

    def _own(self, rows: NDArray[np.intp]) -> Array:
        """(rows, n) what each training score counts for in the predictions of some training rows."""
        return self._all[rows] if self._rows <= KEPT else self.weights(self._centred[rows] + self._mean)

    def removals(self, weights: Array) -> Array:
        """(n,) by how much a prediction falls when one training variant is removed; ``weights`` (n,) are its own."""
        return weights * self.residuals / (1 - self.leverages)

    def without(self, weights: Array, rows: NDArray[np.intp]) -> float:
        """By how much a prediction falls when training rows are removed together."""
        among = np.eye(len(rows)) - self._own(rows)[:, rows]
        return float(weights[rows] @ np.linalg.solve(among, self.residuals[rows]))


def _dense(matrix: Any) -> Array:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def _squared_lengths(matrix: Any) -> Array:
    squares = matrix.multiply(matrix) if sp.issparse(matrix) else matrix * matrix
    return np.asarray(squares.sum(axis=1)).ravel()


@dataclass
class Attribution:
    """The training variants of a fitted model, in the space in which it compares variants.

    Args:
        model: fitted. Its features are what it was fitted to; of a model that has none (a network), one-hot columns.
        training: the variants that it was fitted to.
    """

    model: Model
    training: Assay

    @cached_property
    def _space(self) -> Features:
        found = getattr(self.model, "features_", None)
        if isinstance(found, Features):
            return found
        space = Features("one-hot", Source())
        space.fit(self.training.rows)
        return space

    @property
    def space(self) -> str:
        """Name of the feature space."""
        if not isinstance(getattr(self.model, "features_", None), Features):
            return "one-hot"
        features = self.model.get_params()["features"]
        return features if isinstance(features, str) else " + ".join(features)

    def features(self, rows: Sequence[str]) -> Any:
        """(n, d) features of rows, sparse if all of them are."""
        blocks = self._space.transform(rows).blocks
        if all(sp.issparse(block) for block in blocks):
            return sp.csr_array(sp.hstack(blocks))
        return np.hstack([_dense(block) for block in blocks])

    @cached_property
    def training_features(self) -> Any:
        return self.features(self.training.rows)

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that this model allows, of :data:`METHODS`."""
        return METHODS if self._linear else METHODS[:2]

    @property
    def _linear(self) -> bool:
        return hasattr(self.model, "alpha_") and hasattr(self.model, "coef_")

    @cached_property
    def smoother(self) -> Smoother:
        return Smoother(self.training_features, self.training.scores, float(self.model.alpha_))

    def values(self, method: str, row: str) -> Array:
        """(n,) how much each training variant has to do with the prediction of a row; the largest drove it most.

        ``weights`` are as they are; ``removal`` counts what removing a variant takes the prediction back towards the
        training mean.

        Raises:
            InputError: if there is no such method, or the model isn't linear in its features.
        """
        if method not in METHODS:
            raise InputError(f"there is no attribution {method!r}; choose from: {', '.join(METHODS)}")
        if method not in self.methods:
            raise InputError(f"attribution by {method} is for ridge models; choose from: {', '.join(self.methods)}")
        variant = self.features([row])
        if method == "neighbours":
            return nearest_neighbours(self.training_features, variant)
        if method == "exemplar-svm":
            return exemplar_svm(self.training_features, variant)
        weights = self.smoother.weights(variant)[0]
        if method == "weights":
            return weights
        mean = self.training.scores.mean()
        side = 1.0 if weights @ self.training.scores >= mean else -1.0
        return side * self.smoother.removals(weights)

    def ranking(self, method: str, row: str) -> NDArray[np.intp]:
        """(n,) training variants by :meth:`values`, the one that drove the prediction most first.

        A training variant that is the row itself stays in: it is a reason for the prediction like any other.
        """
        return np.argsort(-self.values(method, row), kind="stable")


def check(
    attribution: Attribution,
    rows: Sequence[str],
    *,
    methods: Sequence[str] | None = None,
    removed: Sequence[int] = (LISTED,),
    repeats: int = REPEATS,
    random_state: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """How far predictions move when the training variants that are named are removed and the model is fitted again.

    Arguments of the model stay as they are, and so does a penalty that was chosen: what moves is due to the variants.

    Args:
        attribution: of the model.
        rows: whose predictions.
        methods: of :data:`METHODS`; by default all that the model allows.
        removed: how many training variants are removed at once.
        repeats: how often as many random ones are removed instead.
        random_state: of the random ones.
        progress: show progress on standard error.

    Returns:
        For each row, method and number removed: ``row``, ``method``, ``removed``, ``prediction``, ``moved`` (the new
        prediction less the old one), ``random`` (mean absolute movement with random variants removed), ``random_most``
        (the largest of them), ``repeats``.

    Raises:
        InputError: if there is no such method, or not enough training variants.
    """
    model, training = attribution.model, attribution.training
    if max(removed) >= len(training):
        raise InputError(f"{max(removed)} of {len(training)} training variants cannot be removed; remove fewer")
    chosen = tuple(methods or attribution.methods)
    before = np.asarray(model.predict(rows), dtype=np.float64)
    rng = np.random.default_rng(random_state)
    fits = len(removed) * (repeats + len(rows) * len(chosen))
    found = []
    with Progress("fitting again", "models", fits, progress) as bar:
        for count in removed:
            moves = np.empty((repeats, len(rows)))
            for repeat in range(repeats):
                moves[repeat] = _refitted(attribution, rng.choice(len(training), count, replace=False), rows) - before
                bar.update(1)
            random = np.abs(moves)
            for index, row in enumerate(rows):
                for method in chosen:
                    gone = attribution.ranking(method, row)[:count]
                    moved = float(_refitted(attribution, gone, [row])[0] - before[index])
                    bar.update(1)
                    about = {"row": row, "method": method, "removed": count, "prediction": before[index]}
                    beside = {"random": random[:, index].mean(), "random_most": random[:, index].max()}
                    found.append({**about, "moved": moved, **beside, "repeats": repeats})
    return pd.DataFrame(found)


def _refitted(attribution: Attribution, gone: NDArray[np.intp], rows: Sequence[str]) -> Array:
    """Predictions of rows by the model fitted without some training variants."""
    kept = np.delete(np.arange(len(attribution.training)), gone)
    fresh = clone(attribution.model)
    if hasattr(attribution.model, "alpha_") and "alpha" in fresh.get_params():
        fresh.set_params(alpha=attribution.model.alpha_)
    left = attribution.training.take(kept)
    return np.asarray(fresh.fit(left.rows, left.scores).predict(rows), dtype=np.float64)


def explain(
    model_folder: str | os.PathLike[str],
    variants: str | os.PathLike[str],
    *,
    methods: Sequence[str] | None = None,
    listed: int = LISTED,
    checked: bool = False,
    repeats: int = REPEATS,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
    **reading: Any,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Name the training variants that drove the predictions of a file's variants.

    Args:
        model_folder: what :func:`limbeck.landscape` saved.
        variants: the file, as :func:`limbeck.landscapes.reading.read_variants` takes it.
        methods: of :data:`METHODS`; by default all that the model allows.
        listed: how many training variants are named for each variant and method.
        checked: also remove them, fit again, and compare with random ones (:func:`check`).
        repeats: of the random ones.
        progress: show progress on standard error.
        say: is given what was taken from the file, and each row that was passed over.
        **reading: options of :func:`limbeck.landscapes.reading.read_variants`.

    Returns:
        A table with ``id``, ``prediction``, ``method``, ``rank``, ``training_variant``, ``measured``, ``differences``
        (columns in which the two rows differ) and ``value`` (minus the distance, the decision value, the weight, or by
        how much the prediction comes back without it); and that of :func:`check`, with ``id`` for ``row``.

    Raises:
        InputError: if there is no such model or method, or the file cannot be used.
    """
    saved = open_trained(model_folder)
    model, training = saved.model, saved.assay
    if not 1 <= listed < len(training):
        raise InputError(f"1 to {len(training) - 1} training variants can be named, not {listed}")
    found = read_variants(
        variants, training.wild_types, width=training.width, first_position=training.first_position, **reading
    )
    if say is not None:
        for note in [*found.notes, *(f"line {line}: {reason}; passed over" for line, reason in found.skipped)]:
            say(note)
    attribution = Attribution(model, training)
    chosen = tuple(methods or attribution.methods)
    predicted = model.predict(found.rows)
    lines = []
    for label, row, prediction in zip(found.labels, found.rows, predicted, strict=True):
        for method in chosen:
            values = attribution.values(method, row)
            lines += _lines(training, row, values, listed, {"id": label, "prediction": prediction, "method": method})
    table = pd.DataFrame(lines)
    if not checked:
        return table, None
    moved = check(attribution, found.rows, methods=chosen, removed=[listed], repeats=repeats, progress=progress)
    moved["row"] = np.repeat(found.labels, len(chosen))
    return table, moved.rename(columns={"row": "id"})


def _lines(training: Assay, row: str, values: Array, listed: int, about: dict[str, Any]) -> list[dict[str, Any]]:
    order = np.argsort(-values, kind="stable")[:listed]
    codes = np.frombuffer(row.encode("ascii"), np.uint8)
    return [
        {
            **about,
            "rank": rank,
            "training_variant": name,
            "measured": training.scores[i],
            "differences": int((training.letters[i] != codes).sum()),
            "value": values[i],
        }
        for rank, (i, name) in enumerate(zip(order, names_of(training, order), strict=True), 1)
    ]
