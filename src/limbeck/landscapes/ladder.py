"""The ladder: which models compete, from the simplest up."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.encoders import Encoder
from limbeck.encoders.baselines import KmerEncoder, OneHotEncoder
from limbeck.encoders.student import DEFAULT_NAME, RANDOM_NAME
from limbeck.errors import InputError
from limbeck.landscapes.assay import Assay
from limbeck.landscapes.few_labels import is_few
from limbeck.landscapes.models import Model
from limbeck.landscapes.models.gaussian_process import GaussianProcessModel
from limbeck.landscapes.models.mean import MeanModel
from limbeck.landscapes.models.ridge import RidgeModel
from limbeck.landscapes.models.zero_labels import ZeroLabelModel
from limbeck.landscapes.splits import LeftOut
from limbeck.landscapes.vectors import Source
from limbeck.landscapes.zero_labels import check_likelihoods, has_likelihoods

__all__ = ["LADDERS", "Rung", "check_ladder", "rungs"]

LADDERS = ("quick", "paper")
HELD_OUT = 0.1
"""Share of the variants by which a network with published settings tells its error where there are no validation
variants; it is no part of these settings, which hold out nothing and know no error."""


@dataclass(frozen=True)
class Rung:
    """One model of the ladder, not fitted.

    Attributes:
        name: what people read.
        kind: one of :data:`limbeck.landscapes.comparison.KINDS`: what it knows is nothing of the order of residues; the
            residues by position; these, by a network trained on the scores alone; what an untrained encoder makes of
            them; what a pretrained one does.
        model: what is cloned and fitted on each split.
        encoder: whose vectors it uses; ``None`` for none.
        curve: whether it is cheap enough to be fitted many times, for the learning curves.
    """

    name: str
    kind: str
    model: Model
    encoder: Encoder | None = None
    curve: bool = False

    @property
    def pretrained(self) -> bool:
        return self.kind == "pretrained"


def check_ladder(ladder: str) -> None:
    """Raise ``InputError`` if there is no such ladder."""
    if ladder not in LADDERS:
        raise InputError(f"there is no ladder {ladder!r}; choose from: {', '.join(LADDERS)}")


def rungs(
    assay: Assay,
    ladder: str = "quick",
    encoders: Sequence[str] = (),
    *,
    default_encoder: bool = True,
    in_context: str | bool | None = None,
    seed: int = 0,
    cache: str | None = None,
) -> tuple[list[Rung], list[LeftOut]]:
    """The models of a ladder for an assay, and which were left out.

    Args:
        ladder: one of :data:`LADDERS`.
        encoders: further encoders, as :func:`limbeck.load` takes them.
        default_encoder: whether the default student competes.
        in_context: weights of an in-context predictor (:mod:`limbeck.landscapes.in_context`) that competes, too;
            ``True`` is limbeck's own, ``False`` none, ``None`` limbeck's own where the default student competes and
            the assay has few variants.
        cache: folder where vectors are kept.

    Raises:
        InputError: if there is no such ladder, or an encoder or the weights cannot be loaded.
    """
    check_ladder(ladder)
    found = [
        Rung("training mean", "floor", MeanModel()),
        Rung("ridge on composition", "floor", RidgeModel("composition", random_state=seed), curve=True),
        Rung("ridge on one-hot", "one-hot", RidgeModel("one-hot", random_state=seed), curve=True),
        Rung("ridge on one-hot (alpha 1)", "one-hot", RidgeModel("one-hot", alpha=1.0, random_state=seed)),
        Rung("Gaussian process on one-hot", "one-hot", GaussianProcessModel("one-hot", random_state=seed), curve=True),
    ]
    left_out = []
    if importlib.util.find_spec("torch"):
        found += _networks(assay, ladder, seed)
    else:
        reason = "they need PyTorch, which is not installed: pip install 'limbeck[landscape]'"
        left_out.append(LeftOut("networks trained on the scores alone", reason))
    if in_context is None:
        # It reads at most as many labels as few are, and what has more can compare models itself.
        in_context = default_encoder and is_few(len(assay)) and importlib.util.find_spec("torch") is not None
    if in_context is not False:
        # Before the models on vectors, the last of which embeds for all.
        try:
            found.append(_in_context(assay, None if in_context is True else in_context, seed))
        except _NotForIt as reason:
            left_out.append(LeftOut("in-context predictor", str(reason)))
    if default_encoder:
        encoders = [RANDOM_NAME, DEFAULT_NAME, *encoders]
    for name in dict.fromkeys(encoders):
        found += _with_encoder(assay, name, seed, cache)
    for name in dict.fromkeys(encoders):
        try:
            found += _without_labels(assay, name, seed, cache)
        except InputError as error:
            left_out.append(LeftOut(f"zero-label scores of {name}", str(error)))
    return found, left_out


def _networks(assay: Assay, ladder: str, seed: int) -> list[Rung]:
    from limbeck.landscapes.networks import PUBLISHED, BiLSTM, CNNEnsemble, DilatedCNN, LinearMaxPoolCNN, MaxPoolCNN

    found: list[tuple[str, Model]] = [("small CNN", MaxPoolCNN(random_state=seed))]
    if ladder == "paper":
        task = _nearest_task(assay)
        for name, network in (("max pool", MaxPoolCNN), ("dilated", DilatedCNN), ("linear max pool", LinearMaxPoolCNN)):
            if network.__name__ in PUBLISHED[task]:
                found.append((f"{name} CNN", network.published(task, random_state=seed, held_out=HELD_OUT)))
        found.append(("CNN ensemble", CNNEnsemble.published(task, random_state=seed, held_out=HELD_OUT)))
        found.append(("LSTM", BiLSTM(random_state=seed)))
    return [Rung(name, "network", model) for name, model in found]


def _nearest_task(assay: Assay) -> str:
    """Which of the paper's settings fit: it has them for unrelated proteins, single mutants, and multiple mutants."""
    if not assay.wild_types or assay.layout == "padded":
        return "stability"
    return "beta-lactamase" if assay.mutations.max() <= 1 else "fluorescence"


def _all_have_wild_types(assay: Assay) -> bool:
    return bool((assay.parents != "").all())


class _NotForIt(Exception):
    """Why an assay is none for the in-context predictor."""


def _in_context(assay: Assay, weights: str | None, seed: int) -> Rung:
    if importlib.util.find_spec("torch") is None:
        raise InputError("the in-context predictor needs PyTorch; pip install 'limbeck[landscape]'")
    from limbeck.landscapes.in_context import InContextModel

    if not _all_have_wild_types(assay):
        raise _NotForIt("it needs the wild type of every variant")
    wild_types = tuple(assay.wild_types.values())
    model = InContextModel.of_file(weights, wild_types=wild_types, random_state=seed)
    if name := model.learned_as():
        raise _NotForIt(f"it learned from measurements of this protein or one much like it ({name})")
    return Rung("in-context predictor", "pretrained", model, model.embedder(), curve=True)


def _kind(name: str, encoder: Encoder) -> str:
    """What an encoder's vectors are: counts were not trained, and are no pretraining."""
    if isinstance(encoder, KmerEncoder | OneHotEncoder):
        return "floor"
    return "random network" if name == RANDOM_NAME else "pretrained"


def _with_encoder(assay: Assay, name: str, seed: int, cache: str | None) -> list[Rung]:
    """The models on an encoder's vectors."""
    # The models load it by the same way, which gives them this one.
    encoder = Source(name).load()
    kind = _kind(name, encoder)
    wild_types = tuple(assay.wild_types.values()) if _all_have_wild_types(assay) else ()
    if isinstance(encoder, KmerEncoder):
        # It has no vectors of single residues.
        wild_types = ()
    # Every model knows the wild types: with them one pass over the variants serves all, and may be a shorter one.
    known: dict[str, Any] = {"encoder": name, "wild_types": wild_types, "cache": cache, "random_state": seed}
    # The ladder has models on one-hot and on composition already, which are not quite the same.
    name = f"{name} vectors" if kind == "floor" else name
    models: list[tuple[str, Model, bool]] = [(f"ridge on {name}", RidgeModel("embedding:mean", **known), True)]
    if wild_types:
        models.append((f"ridge on {name} at mutations", RidgeModel("embedding:mutated", **known), True))
    models.append((f"Gaussian process on {name}", GaussianProcessModel("embedding:mean", **known), True))
    if wild_types:
        models.append(
            (f"Gaussian process on {name} at mutations", GaussianProcessModel("embedding:mutated", **known), False)
        )
    models.append((f"ridge on one-hot + {name}", RidgeModel(("one-hot", "embedding:mean"), **known), True))
    return [Rung(label, kind, model, encoder, curve) for label, model, curve in models]


def _without_labels(assay: Assay, name: str, seed: int, cache: str | None) -> list[Rung]:
    """The models on a pretrained encoder's log-likelihood ratios against the wild type, if it has any.

    Raises:
        InputError: if it should, but its files hold no head for that.
    """
    encoder = Source(name).load()
    wild_types = tuple(assay.wild_types.values())
    if _kind(name, encoder) != "pretrained" or not has_likelihoods(encoder) or (assay.parents == "").any():
        return []
    check_likelihoods(encoder)
    augmented = RidgeModel(
        ("one-hot", "zero-label"), encoder=name, wild_types=wild_types, cache=cache, random_state=seed
    )
    return [
        Rung(f"zero-label {name}", "pretrained", ZeroLabelModel(name, wild_types=wild_types, cache=cache), encoder),
        Rung(f"ridge on one-hot + zero-label {name}", "pretrained", augmented, encoder, curve=True),
    ]
