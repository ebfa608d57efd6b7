"""ESM-1b, ESM-1v and ESM-2.

Rives et al. 2021 (doi:10.1073/pnas.2016239118), Meier et al. 2021 (doi:10.1101/2021.07.09.450648), Lin et al.
2023 (doi:10.1126/science.ade2574). All three are ``transformers``' ``EsmModel``: ESM-1b and ESM-1v with learned
absolute positions, ESM-1b with a norm before the first layer, ESM-2 with rotary positions. All scale the embeddings
for the tokens that training hid (``token_dropout``). They were trained on up to 1,022 residues; longer proteins go
through windows of that length.

They were trained to name masked residues, and :meth:`EsmEncoder.log_probabilities` asks for that: one pass for each
position of a protein.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import OnBatch, cleaned
from limbeck.encoders.registry import folder_config
from limbeck.encoders.tokens import Tokens
from limbeck.encoders.transformer import Config, Listed, TransformerEncoder, family, in_precision, model_kind
from limbeck.errors import InputError
from limbeck.residues import RESIDUES

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
    unneeded_weights = r"(^|\.)contact_head\.|^lm_head\."
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

    def log_probabilities(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        """Natural log-probability of each residue where it is masked, given all others: for each protein (length, 20).

        Columns are in the order of ``limbeck.residues.RESIDUES``, normalised over these 20. In a protein that is longer
        than a window each residue is masked in the middle of its own.

        Args:
            on_batch: as in :meth:`limbeck.Encoder.encode`; a residue is finished when it was masked.

        Raises:
            InputError: if the files hold no head that names masked residues.
        """
        return [self._masked(protein, on_batch) for protein in cleaned(sequences)]

    def check_likelihoods(self) -> None:
        """Raise ``InputError`` if the files hold no head that names masked residues."""
        _ = self._masked_model

    def _masked(self, protein: str, on_batch: OnBatch | None) -> NDArray[np.float32]:
        import torch

        model, mask_token = self._masked_model
        size = min(len(protein), self.max_length or len(protein))
        starts = np.clip(np.arange(len(protein)) - size // 2, 0, len(protein) - size)
        letters = torch.from_numpy(self._tokens.residues[: len(RESIDUES)])
        at_once = max(1, self.token_budget // self.tokens(size))
        result = np.empty((len(protein), len(RESIDUES)), np.float32)
        for first in range(0, len(protein), at_once):
            places = np.arange(first, min(first + at_once, len(protein)))
            ids, mask = self._tokens.batch([protein[start : start + size] for start in starts[places]])
            columns = len(self._tokens.before) + places - starts[places]
            ids[np.arange(len(places)), columns] = mask_token
            with torch.inference_mode():
                given = (torch.from_numpy(array).to(self._device) for array in (ids, mask))
                logits = model(*given).logits.float().cpu()
            chosen = logits[torch.arange(len(places)), torch.from_numpy(columns)][:, letters]
            result[places] = chosen.log_softmax(dim=-1).numpy()
            if on_batch:
                on_batch(len(places), ids.size)
        return result

    @cached_property
    def _masked_model(self) -> tuple[Any, int]:
        """The whole network with its head, and the token that masks: loaded when it is first needed."""
        model, missing = self._load_as(self._folder, "EsmForMaskedLM", {})
        if lacking := sorted(name for name in missing if name.startswith("lm_head.")):
            raise InputError(
                f"{self._folder}: the weights lack {lacking[0]!r}, and name no masked residues; copy the whole model"
            )
        return in_precision(model, self.precision).to(self._device), int(model.config.mask_token_id)


FAMILY = family(EsmEncoder)
