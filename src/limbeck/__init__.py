"""limbeck distils large protein encoders into small, fast ones, and runs them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from limbeck.embedding import Summary, embed, read_embeddings
from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.version import __version__

if TYPE_CHECKING:
    from limbeck.distillation.adapt import adapt as adapt
    from limbeck.distillation.distill import distill as distill

# `distill` and `adapt` are not listed: a star import must work without PyTorch.
__all__ = ["Encoder", "InputError", "Summary", "__version__", "embed", "load", "read_embeddings"]


def __getattr__(name: str) -> Any:
    if name not in ("adapt", "distill"):
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    try:
        return getattr(import_module(f"limbeck.distillation.{name}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"limbeck.{name} needs PyTorch; install it with pip install 'limbeck[train]'") from error
