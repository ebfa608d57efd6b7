"""limbeck distils large protein encoders into small, fast ones, and runs them."""

from typing import TYPE_CHECKING, Any

from limbeck.embedding import Summary, embed, read_embeddings
from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.version import __version__

if TYPE_CHECKING:
    from limbeck.distillation.distill import distill as distill

# `distill` is not listed: a star import must work without PyTorch.
__all__ = ["Encoder", "InputError", "Summary", "__version__", "embed", "load", "read_embeddings"]


def __getattr__(name: str) -> Any:
    if name != "distill":
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    try:
        from limbeck.distillation.distill import distill
    except ModuleNotFoundError as error:
        raise ImportError("limbeck.distill needs PyTorch; install it with pip install 'limbeck[train]'") from error
    return distill
