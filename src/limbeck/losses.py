"""What networks are trained to make small: the squared error, or a loss of the order alone.

The ranking losses are those of ``limbeck.landscapes.models.LinearRanker``, over the rows of a batch and divided by
their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from limbeck.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LOSSES", "check_loss", "listwise", "pairwise", "squared"]


def squared(predicted: Tensor, scores: Tensor) -> Tensor:
    """Mean squared error of n predictions."""
    return (predicted - scores).square().mean()


def pairwise(predicted: Tensor, scores: Tensor) -> Tensor:
    """Mean logistic loss over the pairs that score differently (Burges et al. 2005, RankNet); 0 without any."""
    # Here, so that names can be checked before PyTorch is imported, which takes seconds.
    from torch.nn import functional as F

    higher = scores[:, None] > scores
    margins = (predicted[:, None] - predicted)[higher]
    return F.softplus(-margins).sum() / max(1, len(margins))


def listwise(predicted: Tensor, scores: Tensor) -> Tensor:
    """Cross entropy of the scores' softmax and the predictions' (Cao et al. 2007, ListNet), less its least value.

    Scores are taken as they are: networks are trained on standardised ones.
    """
    wanted = scores.softmax(dim=0)
    return (wanted.xlogy(wanted) - wanted * predicted.log_softmax(dim=0)).sum()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": squared,
    "pairwise": pairwise,
    "listwise": listwise,
}


def check_loss(name: str) -> None:
    """Raise ``InputError`` if there is no such loss."""
    if name not in LOSSES:
        raise InputError(f"there is no loss {name!r}; choose from: {', '.join(LOSSES)}")
