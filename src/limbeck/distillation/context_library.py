"""Fit a library of sequence contexts to homology profiles.

A context library (Biegert & Soeding 2009, CS-BLAST) is a mixture over windows of profile columns: state k has
a weight and, at each of its positions, a residue distribution. It is fitted by expectation-maximisation.
Positions near the centre of the window count more, as in the paper: w_j = 1.6 x 0.85^|j|.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.distillation.corpus import Corpus
from limbeck.encoders.contexts import Library, position_weights, save_library
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.homology.profiles import background

__all__ = ["PROFILE_SHARPNESS", "SHARPNESS", "fit", "fit_library", "windows"]

SHARPNESS = 3.0
"""How peaked the posterior of a single sequence is made, relative to one observation a column."""
PROFILE_SHARPNESS = 4.0
"""The same for profiles; low enough that the posterior stays a soft target."""


def windows(profile: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """All windows of a profile: (L, 20) -> (L, width, 20); columns beyond the ends are zero."""
    half = width // 2
    padded = np.pad(profile, ((half, half), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).transpose(0, 2, 1)


def fit(
    profiles: Sequence[NDArray[np.floating]],
    *,
    states: int,
    width: int = 13,
    n_windows: int = 400_000,
    iterations: int = 16,
    evidence: float = 8.0,
    prior: float = 10.0,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit a context library by expectation-maximisation.

    Args:
        profiles: homology profiles, each (L, 20).
        states: how many contexts.
        width: residues a context spans; odd.
        n_windows: how many windows are drawn, without replacement, from all the profiles.
        iterations: passes of expectation-maximisation.
        evidence: how many observations a profile column counts for. A column sums to one, but it speaks for
            many relatives; with 1 the states all fall into the background distribution.
        prior: weight, in windows, of the background distribution mixed into each state's columns.
        seed: seed of the drawing and of the initial states.
        report: called after each pass with its number and the mean log-likelihood per window, in nats.

    Returns:
        ``log_prior`` (states,) and ``log_columns`` (states, width, 20), natural logarithms.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array([len(p) for p in profiles])
    total = int(lengths.sum())
    if min(n_windows, total) < states:
        raise InputError(f"{states} contexts cannot be fitted to {min(n_windows, total)} windows; use fewer --states")
    chosen = np.sort(rng.choice(total, size=min(n_windows, total), replace=False))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.searchsorted(starts, chosen, side="right") - 1
    data = np.empty((len(chosen), width, 20), dtype=np.float32)
    for index in np.unique(owner):
        rows = np.flatnonzero(owner == index)
        data[rows] = windows(np.asarray(profiles[index], dtype=np.float32), width)[chosen[rows] - starts[index]]

    samples = torch.from_numpy(data)
    weight = torch.from_numpy(position_weights(width))[None, :, None]
    noise = torch.from_numpy(background())
    first = torch.from_numpy(rng.choice(len(samples), size=states, replace=False))
    columns = samples[first] + 0.2 * noise
    columns = columns / columns.sum(-1, keepdim=True)
    prior_weight = torch.full((states,), 1.0 / states)
    for iteration in range(iterations):
        projection = (evidence * weight * columns.log()).reshape(states, -1).T.contiguous()
        mass, sums, likelihood = torch.zeros(states), torch.zeros(states, width * 20), 0.0
        for batch in samples.split(16_384):
            flat = batch.reshape(len(batch), -1)
            logits = flat @ projection + prior_weight.log()
            likelihood += float(logits.logsumexp(1).sum())
            responsibility = logits.softmax(1)
            mass += responsibility.sum(0)
            sums += responsibility.T @ flat
        columns = sums.view(states, width, 20) + prior * noise
        columns = columns / columns.sum(-1, keepdim=True)
        prior_weight = (mass + 1.0) / (mass + 1.0).sum()
        if report:
            report(iteration, likelihood / len(samples))
    return prior_weight.log().numpy(), columns.log().numpy()


def fit_library(
    corpus: Corpus,
    output: Path,
    *,
    license: str = "unknown",
    report: Callable[[int, float], None] | None = None,
    **options: Any,
) -> None:
    """Fit a context library to a corpus's profiles and write it, with the sharpness that its readers use.

    Args:
        corpus: with profiles.
        output: a ``.safetensors`` file.
        license: SPDX identifier of the library's licence.
        report: see :func:`fit`.
        **options: of :func:`fit`.

    Raises:
        InputError: if the corpus has no profiles.
    """
    if corpus.profiles is None:
        raise InputError("a context library is fitted to profiles; make a corpus with 'limbeck profiles' first")
    if not output.parent.is_dir():
        raise InputError(f"the output's folder {str(output.parent)!r} does not exist; create it first")
    profiles = np.split(corpus.profiles, corpus.offsets[1:-1])
    log_prior, log_columns = fit(profiles, report=report, **options)
    library = Library(log_prior, log_columns, SHARPNESS, license, "1", PROFILE_SHARPNESS)
    with whole(output) as partial:
        save_library(partial, library)
