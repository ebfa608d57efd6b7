"""Ankh: the encoder of a T5 with gated feed-forward layers.

Elnaggar et al. 2023 (arXiv 2301.06568); Ankh3: Alsamkary et al. 2025 (arXiv 2505.20052), whose proteins begin with
the token ``[NLU]`` when features are wanted.
"""

from __future__ import annotations

from limbeck.encoders.prott5 import T5Encoder, is_gated
from limbeck.encoders.transformer import Config, Listed, family, model_kind

__all__ = ["FAMILY", "AnkhEncoder"]

_LICENSE = "CC-BY-NC-SA-4.0"


class AnkhEncoder(T5Encoder):
    """Ankh, Ankh2 or Ankh3."""

    kind = "Ankh"
    spellings = ("words", "glued")
    prefixes = ("[NLU]",)
    listed = {  # noqa: RUF012
        "ElnaggarLab/ankh-base": Listed(768, 453_170_688, _LICENSE),
        "ElnaggarLab/ankh-large": Listed(1536, 1_151_707_648, _LICENSE),
        "ElnaggarLab/ankh3-large": Listed(1536, 1_151_879_680, _LICENSE),
        "ElnaggarLab/ankh3-xl": Listed(2560, None, _LICENSE),
    }

    @classmethod
    def matches(cls, config: Config) -> bool:
        return model_kind(config) == "t5" and is_gated(config)


FAMILY = family(AnkhEncoder)
