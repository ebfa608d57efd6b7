"""A student of limbeck as a model of the transformers library; this file needs PyTorch and transformers only.

A copy of it lies in the model's folder, so ``AutoModel.from_pretrained(folder, trust_remote_code=True)`` finds it.
``last_hidden_state`` holds the residue vectors and ``pooler_output`` the protein vectors, the same numbers as
``limbeck.load(folder, precision="f32")`` gives, up to rounding. Proteins are not cut into windows here: memory grows
with the longest protein of the batch.

Copyright the limbeck contributors; Apache-2.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

RESIDUES = 20
PAD_ID = RESIDUES + 1
ENDS = 20
GAPS = (1, 2)
SHAPE: dict[str, Any] = {
    "width": 384,
    "inner": 384,
    "kernel": 5,
    "dilations": [1, 2, 4, 8, 16, 1, 2, 4],
    "states": 2048,
}


class LimbeckConfig(PretrainedConfig):
    """Shape of a student, and how it pools.

    Args:
        limbeck: ``width``, ``inner``, ``kernel``, ``dilations`` and ``states`` of the network.
        pooling: ``"combined"`` (square root of the mean context assignment, mean of the residue vectors and how it
            differs over the first and the last 20 residues, square roots of the shares of residues and of pairs of
            them, logarithm of the length, centred and projected) or ``"mean"``.
        pad_token_id: the id that stands where there is no residue.
    """

    model_type = "limbeck-student"

    def __init__(
        self,
        limbeck: dict[str, Any] | None = None,
        pooling: str = "combined",
        pad_token_id: int = PAD_ID,
        **kwargs: Any,
    ) -> None:
        if pooling not in ("combined", "mean"):
            raise ValueError(f"pooling must be combined or mean, not {pooling!r}")
        self.limbeck = SHAPE | (limbeck or {})
        self.pooling = pooling
        super().__init__(**kwargs)
        self.pad_token_id = pad_token_id

    @property
    def hidden_size(self) -> int:
        return int(self.limbeck["width"])

    @property
    def num_hidden_layers(self) -> int:
        return len(self.limbeck["dilations"])

    @property
    def vocab_size(self) -> int:
        return PAD_ID + 1


@dataclass
class LimbeckOutput(ModelOutput):
    """What a student says of a batch of proteins; positions of padding hold no residue and mean nothing."""

    last_hidden_state: Tensor | None = None
    """(batch, length, width) residue vectors."""
    pooler_output: Tensor | None = None
    """(batch, width) protein vectors."""
    log_probabilities: Tensor | None = None
    """(batch, length, 20) natural logarithms: what to expect among the relatives, in the order ACDEFGHIKLMNPQRSTVWY."""


class LimbeckBlock(nn.Module):
    """``x + W gelu(conv(norm(x)))`` with one dilated convolution over the residues."""

    def __init__(self, width: int, inner: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, inner, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (batch, length, width), mask (batch, length, 1); what the convolution sees of padding is zero."""
        h = self.conv((self.norm(x) * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.out(F.gelu(h, approximate="tanh"))


class LimbeckModel(PreTrainedModel):
    """Residue vectors, protein vectors and log-probabilities of proteins.

    The tensors have the names that ``model.safetensors`` gives them.
    """

    config_class = LimbeckConfig
    base_model_prefix = "limbeck"
    main_input_name = "input_ids"
    center: Tensor

    def __init__(self, config: LimbeckConfig) -> None:
        super().__init__(config)
        shape = config.limbeck
        width, states = int(shape["width"]), int(shape["states"])
        self.embed = nn.Embedding(config.vocab_size, width)
        self.blocks = nn.ModuleList(
            LimbeckBlock(width, int(shape["inner"]), int(shape["kernel"]), int(d)) for d in shape["dilations"]
        )
        self.norm = nn.LayerNorm(width)
        self.contexts = nn.Linear(width, states)
        pooled = states + 3 * width + RESIDUES + len(GAPS) * RESIDUES**2 + 1
        self.project = nn.Linear(pooled, width, bias=False)
        self.register_buffer("center", torch.zeros(pooled))
        self.profile = nn.Linear(width, RESIDUES)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> LimbeckOutput | tuple[Tensor, ...]:
        """Encode residue ids (batch, length); 0 in ``attention_mask``, or the padding id, says there is no residue.

        A row without any residue gives a vector of NaN.
        """
        is_residue = input_ids != self.config.pad_token_id
        if attention_mask is not None:
            is_residue = is_residue & attention_mask.bool()
        mask = is_residue[..., None].to(self.norm.weight.dtype)
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x, mask)
        features = self.norm(x)
        output = LimbeckOutput(
            last_hidden_state=features,
            pooler_output=self._pooled(input_ids, features, mask),
            log_probabilities=F.log_softmax(self.profile(features).float(), dim=-1),
        )
        return output.to_tuple() if return_dict is False else output

    def _pooled(self, input_ids: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """Protein vectors (batch, width). Sums over a whole protein are taken in single precision."""
        mean = _mean(features, mask)
        if self.config.pooling == "mean":
            return mean.to(features.dtype)
        mask = mask.float()
        lengths = mask.sum(1)
        letters = F.one_hot(input_ids, PAD_ID + 1)[..., :RESIDUES].float() * mask
        pairs = [(letters[:, :-gap].transpose(1, 2) @ letters[:, gap:]).flatten(1) / lengths for gap in GAPS]
        shares = (_mean(F.softmax(self.contexts(features).float(), dim=-1), mask), _mean(letters, mask), *pairs)
        contexts, composition, *paired = (share.clamp_min(1e-12).sqrt() for share in shares)
        ranks = mask.cumsum(1), mask.flip(1).cumsum(1).flip(1)
        ends = [_mean(features, mask * (rank <= ENDS)) - mean for rank in ranks]
        pooled = torch.cat([contexts, mean, composition, *ends, *paired, lengths.log()], dim=1)
        vectors: Tensor = self.project((pooled - self.center.float()).to(features.dtype))
        return vectors


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the residues of each protein: (batch, ...) of (batch, length, ...)."""
    return (values.float() * mask.float()).sum(1) / mask.float().sum(1)


LimbeckConfig.register_for_auto_class()
LimbeckModel.register_for_auto_class("AutoModel")
