"""One call from an assay's file to the verdicts, the report and a fitted model."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.compare import MOST_SAMPLED, SAMPLED_RESIDUES, compare, embed, estimates, prepare, winner
from limbeck.landscapes.comparison import Comparison
from limbeck.landscapes.few_labels import RELATIVES, advice, recommend
from limbeck.landscapes.ladder import Rung, check_ladder, rungs
from limbeck.landscapes.models.saved import check_free
from limbeck.landscapes.reading import read_assay
from limbeck.landscapes.splits import drawn, make_splits
from limbeck.landscapes.trained import save_trained
from limbeck.landscapes.verdict import MARGIN
from limbeck.lock import exclusive
from limbeck.version import __version__

__all__ = ["landscape"]

MODEL = "model"
"""Folder of the model to use, in the report's."""
WORK = "work"
"""Folder of fits and vectors, which a later run takes up, in the report's."""
FEWEST_REPLICATES = 100
FEWEST_SAMPLED = 100
"""A smaller sample has too few variants to test."""
LARGEST_SEED = 2**32 - 1


def landscape(
    assay: Assay | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    ladder: str = "quick",
    encoders: Sequence[str] = (),
    default_encoder: bool = True,
    in_context: str | os.PathLike[str] | bool | None = None,
    splits: Sequence[str] | None = None,
    sample: int | None = None,
    replicates: int = 1000,
    margin: float = MARGIN,
    curves: bool = True,
    seed: int = 0,
    progress: bool = False,
    say: Callable[[str], None] | None = None,
    **reading: Any,
) -> Comparison:
    """Compare models on an assay's variants, from the simplest up, and judge whether pretraining is needed.

    An assay with too few variants for any split gets no scores and no verdict, but the model that was best with so few
    labels on other proteins' assays (:mod:`limbeck.landscapes.few_labels`), fitted to all of them.

    Args:
        assay: the file, or an assay that was read.
        output: folder for ``report.html``, ``report.json``, the best model (``model/``), and what a later run takes up
            (``work/``). ``None`` writes nothing.
        ladder: ``"quick"``; or ``"paper"``: every network as published, too (arXiv 2011.03443).
        encoders: further encoders, as :func:`limbeck.load` takes them.
        default_encoder: whether the default student, and the random network of its shape, compete.
        in_context: weights of an in-context predictor, which ``results/in_context/train.py`` makes, that competes;
            ``True`` is limbeck's own, ``False`` none, ``None`` limbeck's own where the default student competes and
            the assay has few variants.
        splits: names of the splits to make; ``None`` is all that the data allow.
        sample: most variants of a split that an encoder reads; by default what makes 1.2 million residues.
        replicates: of the bootstrap.
        margin: gain in Spearman's correlation from which an encoder is worth its trouble.
        curves: whether to compute learning curves.
        seed: of all that is drawn.
        progress: show progress on standard error.
        say: is given what people should know before it starts: what was taken from the file, and for the ladder
            ``"paper"`` how long it will take.
        **reading: as :func:`limbeck.landscapes.read_assay` takes it.

    Raises:
        InputError: if the file cannot be read as an assay, an encoder or weights cannot be loaded, no split can be
            made, or the folder cannot be written.
    """
    _check(ladder, sample, replicates, margin, seed)
    if not isinstance(assay, Assay):
        assay = read_assay(assay, **reading)
    elif reading:
        raise TypeError(f"an assay that was read takes no {', '.join(reading)}")
    made, no_splits = make_splits(assay, names=splits, seed=seed)
    # Too few to compare models with are still fitted to: by the model that did best with so few of other proteins.
    if not made and not advice(assay):
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in no_splits)
        raise InputError(f"{assay.name}: no split can be made ({reasons}); measure more variants")
    folder = None if output is None else Path(output)
    most = sample or min(MOST_SAMPLED, max(1, SAMPLED_RESIDUES // max(1, assay.width)))
    work = None if folder is None else folder / WORK
    # Before anything is written: an encoder that cannot be loaded leaves no folder behind.
    models, no_models = rungs(
        assay,
        ladder,
        encoders,
        default_encoder=default_encoder,
        in_context=in_context if in_context is None or isinstance(in_context, bool) else os.fspath(in_context),
        seed=seed,
        cache=None if work is None else str(work / "vectors"),
    )
    recommended = advice(assay, [_method(rung) for rung in models])
    chosen = None
    if not made:
        chosen = _recommended(assay, models)
        models = [chosen]
    with _held(folder):
        if say is not None:
            for line in [*assay.notes, *(estimates(assay, made, models, most) if ladder == "paper" else [])]:
                say(line)
        comparison = compare(
            assay,
            made,
            models,
            [*no_splits, *no_models],
            most=most,
            seed=seed,
            replicates=replicates,
            margin=margin,
            curves=curves,
            folder=None if work is None else work / "fits",
            settings=_settings(ladder, models, margin, replicates, most),
            shown=progress,
        )
        if recommended:
            comparison.settings["few labels"] = recommended
        if folder is not None:
            _save(chosen or winner(comparison, models), comparison, most, folder, progress)
            _write_skipped(assay, folder)
            comparison.write(folder)
    return comparison


def _check(ladder: str, sample: int | None, replicates: int, margin: float, seed: int) -> None:
    """Refuse arguments that mean nothing, before a long file is read."""
    check_ladder(ladder)
    if sample is not None and sample < FEWEST_SAMPLED:
        raise InputError(f"--sample {sample} is too few to tell models apart; give at least {FEWEST_SAMPLED}")
    if replicates < FEWEST_REPLICATES:
        raise InputError(f"--replicates {replicates} are too few for an interval; give at least {FEWEST_REPLICATES}")
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"--margin {margin} is no gain in a correlation; give 0 or more, for instance {MARGIN}")
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"--seed {seed} cannot be used; give a number from 0 to {LARGEST_SEED}")


@contextmanager
def _held(folder: Path | None) -> Iterator[None]:
    """Have the folder for this run alone; what it cannot write is an error in one line."""
    if folder is None:
        yield
        return
    check_free(folder / MODEL)
    try:
        (folder / WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = error.filename or folder
        raise InputError(f"{where}: cannot be made a folder ({error.strerror}); choose another output") from None
    try:
        with exclusive(folder / "lock") as free:
            if not free:
                raise InputError(f"{folder}: another run is writing it; wait for it, or choose another folder")
            yield
    except OSError as error:
        # A disk that fills up, mostly.
        where, why = error.filename or folder, error.strerror or error
        raise InputError(f"{where}: cannot be written ({why}); the same command goes on from here") from None


def _settings(ladder: str, models: Sequence[Rung], margin: float, replicates: int, most: int) -> dict[str, Any]:
    encoders = {rung.encoder.name: rung.encoder for rung in models if rung.encoder is not None}
    return {
        "limbeck": __version__,
        "ladder": ladder,
        "margin": margin,
        "replicates": replicates,
        "most variants read by an encoder": most,
        "encoders": [
            {
                "name": encoder.name,
                "fingerprint": encoder.fingerprint,
                "license": encoder.license,
                "precision": encoder.precision,
            }
            for encoder in encoders.values()
        ],
    }


def _write_skipped(assay: Assay, folder: Path) -> None:
    """List the rows of the file that were left out; no list if there are none."""
    path = folder / "skipped.tsv"
    path.unlink(missing_ok=True)
    if assay.skipped:
        lines = [f"{line}\t{reason}\n" for line, reason in assay.skipped]
        with whole(path) as partial:
            partial.write_text("line\treason\n" + "".join(lines), encoding="utf-8")


def _recommended(assay: Assay, models: Sequence[Rung]) -> Rung:
    """The model that the learning curves say is best with so few variants, of those at hand."""
    methods = {_method(rung): rung for rung in models}
    found = recommend(len(assay), among=methods)
    assert found is not None, "advice was given"
    return methods[found.method]


def _method(rung: Rung) -> str:
    """A model as the learning curves call it: whichever file is searched for relatives."""
    return re.sub(f"{RELATIVES}:.*", RELATIVES, rung.name)


def _save(best: Rung, comparison: Comparison, most: int, folder: Path, shown: bool) -> None:
    """Fit a model to all variants (as many as an encoder is given, if it has one) and keep it."""
    assay = comparison.assay
    rows = np.arange(len(assay))
    if best.encoder is not None and len(assay) > most:
        rows = np.sort(drawn(assay, rows, "sample")[:most])
    used = assay.take(rows)
    embed(best.model, used.rows, shown)
    prepare(best.model, shown)
    # A network may take hours, so the same command takes this one up, too.
    own = {"checkpoint": folder / WORK / "fits" / "training", "progress": shown} if best.kind == "network" else {}
    model = clone(best.model).fit(used.rows, used.scores, **own)
    comparison.settings["model"] = best.name
    comparison.settings["model fitted to"] = len(used)
    save_trained(model, folder / MODEL, used, best.name)
