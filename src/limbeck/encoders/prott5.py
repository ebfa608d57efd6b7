"""ProtT5: the encoder of a T5 trained on proteins.

Elnaggar et al. 2022 (doi:10.1109/TPAMI.2021.3095381). Residues are words of their own, so a protein is written
with spaces. Positions are relative and saturate at a distance of 128, so there is no limit to a protein's length but
memory, which attention takes with the square of it.
"""

from __future__ import annotations

from typing import Any

from limbeck.encoders.tokens import Tokens
from limbeck.encoders.transformer import Config, Listed, TransformerEncoder, family, model_kind

__all__ = ["FAMILY", "ProtT5Encoder", "T5Encoder"]

_WINDOW = 2046


class T5Encoder(TransformerEncoder):
    """The encoder half of a T5 (Raffel et al. 2020, arXiv 1910.10683).

    Its residual stream outgrows f16 (``transformers`` cuts it off silently), so it computes in f32 or bf16 only;
    weights that were saved in f16 are read as they are.
    """

    model_class = "T5EncoderModel"
    config_class = "T5Config"
    # The file of a fast tokenizer as it is: T5's own class would keep its words and cut text up anew.
    tokenizer_class = "PreTrainedTokenizerFast"
    required = ("num_layers", "d_model", "d_ff", "d_kv", "num_heads")
    precisions = ("f32", "bf16")

    def window(self, config: Any, tokens: Tokens) -> int:
        return _WINDOW

    def blocks(self, model: Any) -> Any:
        return model.encoder.block

    def attention_bytes(self, config: Any, size: int) -> int:
        # The position bias is added to a whole matrix of scores, for each protein and each head.
        return size * int(config.num_heads) * (_WINDOW + self._tokens.special)


class ProtT5Encoder(T5Encoder):
    """ProtT5, and ProstT5 where it reads residues."""

    kind = "ProtT5"
    spellings = ("spaced", "glued")
    # ProstT5 tells residues from structure by this token.
    prefixes = ("<AA2fold>",)
    listed = {  # noqa: RUF012
        "Rostlab/prot_t5_xl_half_uniref50-enc": Listed(1024, 1_208_141_824, "AFL-3.0"),
        "Rostlab/prot_t5_xl_uniref50": Listed(1024, 1_208_141_824, "AFL-3.0"),
    }

    @classmethod
    def matches(cls, config: Config) -> bool:
        return model_kind(config) == "t5" and not is_gated(config)


def is_gated(config: Config) -> bool:
    """Whether a T5 has gated feed-forward layers (Shazeer 2020): Ankh has, ProtT5 has not."""
    return str(config.get("feed_forward_proj", "relu")).startswith("gated")


FAMILY = family(ProtT5Encoder)
