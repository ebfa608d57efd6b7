"""Embedding many proteins: a stream from files of sequences to one table of vectors."""

from limbeck.embedding.merge import Merged, merge
from limbeck.embedding.pipeline import Summary, embed
from limbeck.embedding.stores import read_embeddings, read_metadata

__all__ = ["Merged", "Summary", "embed", "merge", "read_embeddings", "read_metadata"]
