"""Embedding many proteins: a stream from files of sequences to one table of vectors."""

from limbeck.embedding.pipeline import Summary, embed
from limbeck.embedding.stores import read_embeddings, read_metadata

__all__ = ["Summary", "embed", "read_embeddings", "read_metadata"]
