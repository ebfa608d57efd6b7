"""Scores that others published, beside the tasks here: not measured by limbeck, and mostly not on the same proteins."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUOTED", "Quoted"]

MTDP = "MTDP, arXiv 2405.11735: medians read off its figure"
FINE = "Schmirler et al. 2024, doi:10.1038/s41467-024-51844-2: source data"
TAPE = "Rao et al. 2019, arXiv 1906.08230"
FOLDS = "random ten folds, best epoch on the test fold: leaky, and too high"


@dataclass(frozen=True)
class Quoted:
    """One published score of a task.

    Attributes:
        task: name of the task here that asks the same kind of question.
        model: whose score it is.
        metric: of the publication.
        value: as published; for some ``frozen / fine-tuned``.
        source: the publication, and where in it.
        caution: why it may not be set against what is measured here.
    """

    task: str
    model: str
    metric: str
    value: str
    source: str
    caution: str


def _mtdp(task: str, metric: str, caution: str, **scores: str) -> list[Quoted]:
    names = {"mtdp": "MTDP, 20 M", "esm35": "ESM-2 35M", "esm650": "ESM-2 650M", "prott5": "ProtT5-XL"}
    return [Quoted(task, names[key], metric, value, MTDP, caution) for key, value in scores.items()]


def _fine(task: str, metric: str, caution: str, **scores: str) -> list[Quoted]:
    names = {"esm8": "ESM-2 8M", "esm35": "ESM-2 35M", "esm650": "ESM-2 650M", "prott5": "ProtT5-XL"}
    metric = f"{metric}, frozen / fine-tuned"
    return [Quoted(task, names[key], metric, value, FINE, caution) for key, value in scores.items()]


QUOTED = [
    *_mtdp(
        "localisation", "macro F1", f"DeepLoc, {FOLDS}", mtdp="0.717", esm35="0.690", esm650="0.727", prott5="0.725"
    ),
    *_mtdp("membrane", "macro F1", f"DeepLoc, {FOLDS}", mtdp="0.842", esm35="0.843", esm650="0.847", prott5="0.847"),
    *_mtdp("ontology", "Fmax", f"5,585 terms; {FOLDS}", mtdp="0.503", esm35="0.486", esm650="0.506", prott5="0.505"),
    *_mtdp(
        "melting", "Pearson", f"other proteins; {FOLDS}", mtdp="0.680", esm35="0.614", esm650="0.699", prott5="0.685"
    ),
    *_mtdp("solubility_esol", "Pearson", FOLDS, mtdp="0.560", esm35="0.520", esm650="0.529", prott5="0.549"),
    *_fine(
        "localisation_hard", "accuracy", "the whole training part",
        esm8="0.520 / 0.559", esm35="0.549 / 0.581", esm650="0.629 / 0.638", prott5="0.613 / 0.651",
    ),
    *_fine(
        "melting", "Spearman", "FLIP's mixed split, three times as many proteins",
        esm8="0.564 / 0.584", esm35="0.586 / 0.598", esm650="0.656 / 0.664", prott5="0.694 / 0.726",
    ),
    *_fine(
        "secondary_structure", "accuracy", "NetSurfP-2.0's test proteins, the whole training part",
        esm8="0.753 / 0.761", esm35="0.782 / 0.791", esm650="0.847 / 0.855", prott5="0.843 / 0.849",
    ),
    *_fine(
        "stability", "Spearman", "the whole training part",
        esm8="0.750 / 0.765", esm35="0.691 / 0.769", esm650="0.664 / 0.743", prott5="0.778 / 0.824",
    ),
    *_fine(
        "fluorescence", "Spearman", "the whole training part",
        esm8="0.639 / 0.688", esm35="0.650 / 0.689", esm650="0.648 / 0.688", prott5="0.614 / 0.680",
    ),
    *_fine(
        "gb1", "Spearman", "the whole training part",
        esm8="0.818 / 0.883", esm35="0.827 / 0.879", esm650="0.857 / 0.879", prott5="0.852 / 0.879",
    ),
    Quoted("remote_homology", "TAPE's LSTM", "accuracy", "0.26", TAPE, "fine-tuned on the whole training part"),
    Quoted("remote_homology", "TAPE's transformer", "accuracy", "0.21", TAPE, "fine-tuned on the whole training part"),
    Quoted("secondary_structure", "TAPE's LSTM", "accuracy, CB513", "0.75", TAPE, "fine-tuned; the same test proteins"),
]  # fmt: skip
