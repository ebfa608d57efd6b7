"""ProtBert: a BERT trained on proteins.

Elnaggar et al. 2022 (doi:10.1109/TPAMI.2021.3095381). A protein is written with spaces. The table of positions has
40,000 rows, but training ended with 2,048 tokens, and rows beyond were never trained: longer proteins go through
windows of 2,046 residues.
"""

from __future__ import annotations

from typing import Any

from limbeck.encoders.tokens import Tokens
from limbeck.encoders.transformer import Config, Listed, TransformerEncoder, family, model_kind

__all__ = ["FAMILY", "ProtBertEncoder"]

_TRAINED_TOKENS = 2048


class ProtBertEncoder(TransformerEncoder):
    """A BERT whose tokens are residues."""

    kind = "ProtBert"
    model_class = "BertModel"
    config_class = "BertConfig"
    model_options = {"add_pooling_layer": False}  # noqa: RUF012
    tokenizer_class = "BertTokenizer"
    # Some of its folders do not say so themselves.
    tokenizer_options = {"do_lower_case": False}  # noqa: RUF012
    spellings = ("spaced", "glued")
    listed = {  # noqa: RUF012
        "Rostlab/prot_bert": Listed(1024, 418_881_536, "AFL-3.0"),
        "Rostlab/prot_bert_bfd": Listed(1024, 418_881_536, "AFL-3.0"),
    }

    @classmethod
    def matches(cls, config: Config) -> bool:
        return model_kind(config) == "bert"

    def window(self, config: Any, tokens: Tokens) -> int:
        return min(int(config.max_position_embeddings), _TRAINED_TOKENS) - tokens.special

    def blocks(self, model: Any) -> Any:
        return model.encoder.layer


FAMILY = family(ProtBertEncoder)
