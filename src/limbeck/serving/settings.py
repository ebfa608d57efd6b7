"""What a server takes, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from limbeck.errors import InputError

__all__ = ["PROTEIN_TOKENS", "Settings", "read_keys"]

PROTEIN_TOKENS = 16
"""Tokens that a protein counts beside its residues, so that a thousand short ones are not free."""


@dataclass(frozen=True)
class Settings:
    """Limits of a server. A token is a residue; each protein counts :data:`PROTEIN_TOKENS` more.

    Attributes:
        max_length: residues of the longest protein.
        max_body: bytes of the largest body of a request.
        max_numbers: numbers of the largest answer.
        max_requests: requests that are in work at once, waiting ones included.
        queue_tokens: tokens that wait or are encoded at once.
        queue_variants: variants that wait for the landscape model, or are in it, at once.
        batch_tokens: tokens that are encoded together.
        wait: seconds that an idle server waits for company before it encodes a batch that is not full.
        body_seconds: in which a body must have arrived.
        timeout: seconds from there to the answer.
        grace: seconds that a stopping server gives the requests that it has.
        keys: of which a request must bring one; none are needed if there are none.

    Raises:
        InputError: if a limit is below what one protein needs.
    """

    max_length: int = 10_000
    max_body: int = 10 * 2**20
    max_numbers: int = 2**21
    max_requests: int = 1024
    queue_tokens: int = 2**18
    queue_variants: int = 50_000
    batch_tokens: int = 4096
    wait: float = 0.002
    body_seconds: float = 30.0
    timeout: float = 120.0
    grace: float = 30.0
    keys: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("max_length", "max_body", "max_requests", "queue_variants", "batch_tokens", "timeout"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name.replace('_', '-')} must be above 0, not {getattr(self, name)}")
        if self.queue_tokens < self.max_length + PROTEIN_TOKENS:
            raise InputError(
                f"--queue-tokens {self.queue_tokens} is less than a protein of --max-length {self.max_length} needs; "
                f"give at least {self.max_length + PROTEIN_TOKENS}"
            )


def read_keys(path: str | Path) -> tuple[str, ...]:
    """The keys of a file: one a line; empty lines and those that start with ``#`` are passed over.

    Raises:
        InputError: if the file cannot be read, or has no key, or one that no header can carry.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{path}: keys cannot be read ({reason}); check --api-key-file") from None
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        raise InputError(f"{path}: has no key; write one a line")
    for number, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(f"{path}: key {number} has a character other than printable ASCII; choose another key")
    return keys
