"""Any other encoder that ``transformers`` loads by itself (``AutoModel``), if its tokens are residues.

Nothing is known of such a model beforehand, so when it is loaded one short protein is run to check what limbeck
promises of every encoder: one token a residue, features that padding does not change, and layers that are
``transformers``' ``hidden_states``. Code that comes with the weights is not run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.encoders import ankh, esm, esmc, protbert, prott5
from limbeck.encoders.base import Encoder
from limbeck.encoders.checkpoint import first_line, is_hub_name
from limbeck.encoders.registry import EncoderInfo, Options, folder_config
from limbeck.encoders.tokens import Tokens
from limbeck.encoders.transformer import Config, TransformerEncoder, family, load_with
from limbeck.errors import InputError
from limbeck.residues import RESIDUES

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILY", "AutoModelEncoder", "runs_by_transformers"]

_FAMILIES = (esm.FAMILY, esmc.FAMILY, prott5.FAMILY, protbert.FAMILY, ankh.FAMILY)
_ENCODERS: tuple[type[TransformerEncoder], ...] = (
    esm.EsmEncoder,
    esmc.EsmcEncoder,
    prott5.ProtT5Encoder,
    protbert.ProtBertEncoder,
    ankh.AnkhEncoder,
)
_DEFAULT_WINDOW = 1022
"""Residues of a window where the config says nothing of positions."""
_LONGEST_WINDOW = 2046
_SHORT, _LONG = RESIDUES[:7], RESIDUES + "X" + RESIDUES[::-1]


class AutoModelEncoder(TransformerEncoder):
    """An encoder of a kind that limbeck has no family for."""

    kind = "AutoModel"
    model_class = "AutoModel"
    config_class = "AutoConfig"
    required = ()
    # Encoders add it for sentences; the features are those before it.
    unneeded_weights = r"(^|\.)pooler\."
    spellings = ("glued", "spaced", "words")

    @classmethod
    def matches(cls, config: Config) -> bool:
        return not any(encoder.matches(config) for encoder in _ENCODERS)

    def window(self, config: Any, tokens: Tokens) -> int:
        positions = getattr(config, "max_position_embeddings", None)
        if not isinstance(positions, int) or positions <= 0:
            return _DEFAULT_WINDOW
        # Models that follow RoBERTa number positions from the padding id + 1.
        pad = getattr(config, "pad_token_id", None)
        return max(1, min(positions - tokens.special - 1 - (pad if isinstance(pad, int) else 0), _LONGEST_WINDOW))

    def blocks(self, model: Any) -> Any:
        import torch

        stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == self.layers]
        if not stacks:
            raise InputError(f"{model.config.name_or_path}: limbeck cannot tell which its {self.layers} layers are")
        return stacks[0]

    def _load(self, folder: Path) -> tuple[Any, set[str]]:
        model, missing = super()._load(folder)
        if not getattr(model.config, "is_encoder_decoder", False):
            return model, missing
        return model.get_encoder(), {name.removeprefix("encoder.") for name in missing}

    def _watch(self, blocks: Any) -> None:
        """Check the promises while the model is whole, in float32 on the CPU."""
        import torch

        where = self._model.config.name_or_path
        try:
            # Not the inference mode: what a model keeps of its first run may take part in training later.
            with torch.no_grad():
                whole = self._whole(_SHORT)
                super()._watch(blocks)
                states = self._run(*_probe(self._tokens, _SHORT))
                padded = self._run(*_probe(self._tokens, _SHORT, _LONG))
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError) as error:
            raise InputError(
                f"{where}: the model does not run as an encoder of residues ({first_line(error)})"
            ) from error
        for layer in self._chosen:
            if not _near(states[layer][0], whole[layer][0]):
                raise InputError(f"{where}: limbeck cannot tell its layers apart; leave the layer out")
            if not _near(padded[layer][0, : len(states[layer][0])], states[layer][0]):
                raise InputError(f"{where}: its features depend on padding; limbeck does not run such a model")

    def _whole(self, sequence: str) -> Any:
        """Every layer's states of one protein, as transformers gives them: each (1, tokens, width)."""
        ids, mask = _probe(self._tokens, sequence)
        output = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        if output.last_hidden_state.shape != (*ids.shape, self._width):
            raise ValueError(f"its output has shape {tuple(output.last_hidden_state.shape)}")
        return [*output.hidden_states[: self.layers], output.last_hidden_state]


def _probe(tokens: Tokens, *sequences: str) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    ids, mask = tokens.batch(sequences)
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = max(1e-6, float(other.abs().max()))
    return one.shape == other.shape and float((one - other).abs().max()) < 1e-3 * scale


def runs_by_transformers(name: str) -> bool:
    """Whether a name or path is of an encoder that runs through the ``transformers`` library; nothing is loaded."""
    return any(other.recognises(name) for other in (*_FAMILIES, FAMILY))


def _encoder_of(folder: Path) -> type[TransformerEncoder]:
    config = folder_config(folder) or {}
    return next((encoder for encoder in _ENCODERS if encoder.matches(config)), AutoModelEncoder)


def _unclaimed(name: str) -> bool:
    return is_hub_name(name) and not any(other.recognises(name) for other in _FAMILIES)


def _load(name: str, options: Options) -> Encoder:
    # Of a model that is still to be downloaded the name alone is known: it may be one of a family after all.
    return load_with(_encoder_of, name, options)


def _available() -> list[EncoderInfo]:
    return [EncoderInfo("OWNER/MODEL", "transformers, one token a residue", None, None, "of the card", False)]


FAMILY = replace(family(AutoModelEncoder, also=_unclaimed, load=_load), available=_available)
