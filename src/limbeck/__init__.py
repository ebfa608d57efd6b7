"""limbeck distils large protein encoders into small, fast ones, and runs them."""

from limbeck.embedding import Summary, embed, read_embeddings
from limbeck.encoders import Encoder, load
from limbeck.errors import InputError
from limbeck.version import __version__

__all__ = ["Encoder", "InputError", "Summary", "__version__", "embed", "load", "read_embeddings"]
