"""limbeck distils large protein encoders into small, fast ones, runs them, and tells whether your data needed them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from limbeck.embedding import Summary, embed, merge, read_embeddings
from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.version import __version__

if TYPE_CHECKING:
    from limbeck.benchmarks.run import benchmark as benchmark
    from limbeck.distillation.adapt import adapt as adapt
    from limbeck.distillation.distill import distill as distill
    from limbeck.landscapes.run import landscape as landscape

# The verbs that need an extra are not listed: a star import must work without it.
__all__ = ["Encoder", "InputError", "Summary", "__version__", "embed", "load", "merge", "read_embeddings"]


# The verbs that need an extra, where each is, and which extra.
_VERBS = {
    "adapt": ("distillation.adapt", "train"),
    "benchmark": ("benchmarks.run", "landscape"),
    "distill": ("distillation.distill", "train"),
    "landscape": ("landscapes.run", "landscape"),
}


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    module, extra = _VERBS[name]
    try:
        return getattr(import_module(f"limbeck.{module}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"limbeck.{name} needs {error.name}; install it with pip install 'limbeck[{extra}]'"
        ) from error
