"""What determines a table of embeddings, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping

from limbeck.encoders import Encoder
from limbeck.version import __version__

__all__ = ["differences", "settings_of"]

_LABELS = {
    "limbeck_version": "version of limbeck",
    "input_sha256": "input",
    "input_proteins": "number of proteins",
    "ids_sha256": "list of ids",
    "encoder": "encoder",
    "encoder_version": "version of the encoder",
    "encoder_fingerprint": "weights or layer of the encoder",
    "pooling": "pooling",
    "precision": "precision",
    "dimension": "dimension",
    "dtype": "dtype",
    "level": "choice between proteins and residues",
    "shard": "part",
}
# What another encoder brings with it need not be listed.
_OF_ENCODER = ("encoder_version", "encoder_fingerprint", "pooling", "precision", "dimension")


def settings_of(encoder: Encoder, *, per_residue: bool, dtype: str) -> dict[str, str]:
    """All that determines a table but its input; stored with it."""
    return {
        "encoder": encoder.name,
        "encoder_version": encoder.version,
        "encoder_fingerprint": encoder.fingerprint,
        "pooling": encoder.pooling,
        "precision": encoder.precision,
        "dimension": str(encoder.dimension),
        "level": "residues" if per_residue else "proteins",
        "dtype": dtype,
        "limbeck_version": __version__,
        "created_by": "limbeck",
    }


def differences(there: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs, for people; empty if nothing does."""
    parts = []
    same_encoder = there.get("encoder") == now.get("encoder")
    for name, label in _LABELS.items():
        if there.get(name) != now.get(name) and (same_encoder or name not in _OF_ENCODER):
            is_hash = name.endswith(("_sha256", "_fingerprint"))
            parts.append(label if is_hash else f"{label} ({there.get(name)} there, {now.get(name)} now)")
    return ", ".join(parts)
