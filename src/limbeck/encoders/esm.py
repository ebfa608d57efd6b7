"""ESM-1b, ESM-1v and ESM-2.

Rives et al. 2021 (doi:10.1073/pnas.2016239118), Meier et al. 2021 (doi:10.1101/2021.07.09.450648), Lin et al.
2023 (doi:10.1126/science.ade2574). All three are ``transformers``' ``EsmModel``: ESM-1b and ESM-1v with learned
absolute positions, ESM-1b with a norm before the first layer, ESM-2 with rotary positions. All scale the embeddings
for the tokens that training hid (``token_dropout``). They were trained on up to 1,022 residues; longer proteins go
through windows of that length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.encoders.registry import folder_config
from limbeck.encoders.tokens import Tokens
from limbeck.encoders.transformer import Config, Listed, TransformerEncoder, family, model_kind
from limbeck.errors import InputError

__all__ = ["FAMILY", "EsmEncoder"]


def _esm2(dimension: int, parameters: int) -> Listed:
    return Listed(dimension, parameters, "MIT", "ESM-2")


class EsmEncoder(TransformerEncoder):
    """ESM-1b, ESM-1v or ESM-2."""

    kind = "ESM"
    model_class = "EsmModel"
    config_class = "EsmConfig"
    model_options = {"add_pooling_layer": False}  # noqa: RUF012
    # Contacts are predicted from attention maps, which are never computed here.
    unneeded_weights = r"^contact_head\."
    tokenizer_class = "EsmTokenizer"
    listed = {  # noqa: RUF012
        "facebook/esm2_t6_8M_UR50D": _esm2(320, 7_409_081),
        "facebook/esm2_t12_35M_UR50D": _esm2(480, 33_269_521),
        "facebook/esm2_t30_150M_UR50D": _esm2(640, 147_728_601),
        "facebook/esm2_t33_650M_UR50D": _esm2(1280, 649_400_981),
        "facebook/esm2_t36_3B_UR50D": _esm2(2560, 2_832_444_321),
        "facebook/esm2_t48_15B_UR50D": _esm2(5120, 15_102_870_401),
        "facebook/esm1b_t33_650M_UR50S": Listed(1280, 650_716_821, "MIT", "ESM-1b"),
        **{f"facebook/esm1v_t33_650M_UR90S_{i}": Listed(1280, 650_714_261, "MIT", "ESM-1v") for i in range(1, 6)},
    }

    @classmethod
    def matches(cls, config: Config) -> bool:
        return model_kind(config) == "esm"

    @classmethod
    def check(cls, folder: Path) -> None:
        super().check(folder)
        if (folder_config(folder) or {}).get("is_folding_model"):
            raise InputError(f"{folder}: ESMFold predicts structures; give the ESM-2 model that it is built on")

    def _read_tokens(self, folder: Path) -> Tokens:
        if not (folder / "vocab.txt").is_file():
            raise InputError(f"{folder}: the model folder has no vocab.txt; copy the whole folder")
        return super()._read_tokens(folder)

    def window(self, config: Any, tokens: Tokens) -> int:
        # Positions are numbered from the padding id + 1, and start and stop take one each: 1,026 -> 1,022.
        return int(config.max_position_embeddings) - int(config.pad_token_id) - 1 - tokens.special

    def blocks(self, model: Any) -> Any:
        return model.encoder.layer


FAMILY = family(EsmEncoder)
