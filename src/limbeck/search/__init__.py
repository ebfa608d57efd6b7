"""Nearest proteins: an index of embeddings, searched exactly or through lists, and labels transferred from it."""

from limbeck.search.build import build_index
from limbeck.search.index import Hit, Index, open_index
from limbeck.search.transfer import Annotation

__all__ = ["Annotation", "Hit", "Index", "build_index", "open_index"]
