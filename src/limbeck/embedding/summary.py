"""What the summaries of runs have in common."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["as_table", "changes", "numbers"]


def as_table(rows: Mapping[str, str]) -> str:
    """Names and values, a line each."""
    return "\n".join(f"{name:<16} {value}" for name, value in rows.items())


def changes(letters: Mapping[str, int]) -> str:
    """How often each letter was changed."""
    return ", ".join(f"{letter} {count:,}" for letter, count in sorted(letters.items())) or "none"


def numbers(encoder: str, dimension: int, per_residue: bool) -> str:
    """An encoder, and what it gives."""
    return f"{encoder}, {dimension:,} numbers for each {'residue' if per_residue else 'protein'}"
