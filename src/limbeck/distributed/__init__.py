"""Embedding on many machines: the same vectors as on one, as a Parquet dataset of many files."""

from limbeck.distributed.run import Summary, embed

__all__ = ["Summary", "embed"]
