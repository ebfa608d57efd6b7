"""ESM C (ESM Cambrian), in the form that ``transformers`` knows (``EsmcModel``).

ESM Team 2024, "ESM Cambrian" (evolutionaryscale.ai/blog/esm-cambrian). The publisher's older names
(``esmc-300m-2024-12``) hold a pickle for its own package, which is not read.
"""

from __future__ import annotations

import re
from typing import Any

from limbeck.encoders.base import Encoder
from limbeck.encoders.registry import Options
from limbeck.encoders.tokens import Tokens
from limbeck.encoders.transformer import Config, Listed, TransformerEncoder, family, load_with, model_kind
from limbeck.errors import InputError

__all__ = ["FAMILY", "EsmcEncoder"]

_OLD_NAME = re.compile(r"(?:evolutionaryscale|biohub)/esmc-(300m|600m|6b)-.*", re.IGNORECASE)
_TRAINED_TOKENS = 2048


class EsmcEncoder(TransformerEncoder):
    """ESM C: rotary positions, windows of 2,046 residues, the length it was trained with."""

    kind = "ESM C"
    model_class = "EsmcModel"
    config_class = "EsmcConfig"
    tokenizer_class = "EsmcTokenizer"
    listed = {  # noqa: RUF012
        "biohub/ESMC-300M": Listed(960, 332_011_200, "MIT"),
        "biohub/ESMC-600M": Listed(1152, 573_632_640, "MIT"),
        "biohub/ESMC-6B": Listed(2560, 6_345_280_000, "MIT AND other"),
    }

    @classmethod
    def matches(cls, config: Config) -> bool:
        return model_kind(config) == "esmc"

    def window(self, config: Any, tokens: Tokens) -> int:
        return min(int(config.max_position_embeddings), _TRAINED_TOKENS) - tokens.special

    def blocks(self, model: Any) -> Any:
        return model.layers


def _load(name: str, options: Options) -> Encoder:
    if old := _OLD_NAME.fullmatch(name):
        raise InputError(
            f"{name}: a pickle for the esm package, which limbeck does not read; "
            f"take biohub/ESMC-{old[1].upper()}, which transformers reads"
        )
    return load_with(lambda folder: EsmcEncoder, name, options)


FAMILY = family(EsmcEncoder, also=lambda name: _OLD_NAME.fullmatch(name) is not None, load=_load)
