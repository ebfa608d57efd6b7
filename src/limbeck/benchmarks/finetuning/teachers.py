"""Adapters of encoders that run through ``transformers``: low-rank changes of every linear map of their layers (LoRA;
Hu et al. 2021, arXiv:2106.09685), or one such change that all layers share and a prompt (after eP-ALM; Shukor et al.
2023, arXiv:2303.11403).

They are hooks, so the network keeps its modules, its weights their names and their precision, and the encoder its
windows, batches and pooling. ``peft`` would bring ``accelerate`` with it and has no prompt of this kind, for what is a
hook of one line beside the student's own :class:`limbeck.benchmarks.finetuning.network.LowRank`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.benchmarks.finetuning.examples import Batch
from limbeck.benchmarks.finetuning.network import Body, LowRank
from limbeck.encoders import load
from limbeck.encoders.automodel import runs_by_transformers
from limbeck.encoders.registry import fingerprint
from limbeck.encoders.transformer import TransformerEncoder
from limbeck.errors import InputError
from limbeck.residues import RESIDUES

__all__ = ["TeacherBody", "adapt", "learned", "restored"]


class TeacherBody(Body):
    """An encoder of transformers, of which some numbers learn.

    There is no dropout in training either: a student has none, and so a seed draws the same for both.

    Args:
        encoder: which is changed in place; see :func:`adapt`.
        method: one of :data:`limbeck.benchmarks.finetuning.settings.METHODS`.
        rank: of the changes.

    Raises:
        InputError: as :func:`adapt` does.
    """

    def __init__(self, encoder: TransformerEncoder, method: str, rank: int) -> None:
        super().__init__()
        adapt(encoder, method, rank)
        self.encoder, self.network, self.width = encoder, encoder.network, encoder.dimension

    def residues(self, batch: Batch) -> Tensor:
        return self.encoder.features(batch.ids, batch.given)

    def train(self, mode: bool = True) -> TeacherBody:
        super().train(False)
        return self


def adapt(encoder: TransformerEncoder, method: str, rank: int) -> None:
    """Give an encoder what learns, in place: it goes on as it was until something has been learned.

    ``lora``: each linear map of each layer, (inputs, outputs), gets a change of ``rank * (inputs + outputs)`` numbers.

    ``prompt``: what each layer adds to the features of a residue is added once more through a map that all layers
    share (``2 * rank * width`` numbers), with a vector of the layer's own (``layers * width``). eP-ALM gives such
    features, and some tokens that are learned, to a frozen transformer as tokens before the others. Here what would be
    a token is added to every residue, as in a student: further tokens would change attention, and so the vectors,
    before anything is learned, and a full window has no positions for them in networks with learned positions.

    ``full``: all numbers that the features depend on, in the encoder's own precision. ``head``: none.

    Raises:
        InputError: if nothing of the network would learn.
    """
    encoder.network.requires_grad_(method == "full")
    if method == "lora":
        _add_changes(encoder.stack, rank)
    elif method == "prompt":
        _add_prompt(encoder.stack, encoder.dimension // len(encoder.chosen_layers), rank)
    encoder.network.to(encoder.device)
    if method != "head":
        _keep_reached(encoder)


def _add_changes(blocks: Any, rank: int) -> None:
    from transformers.pytorch_utils import Conv1D

    for module in [m for m in blocks.modules() if isinstance(m, nn.Linear | Conv1D)]:
        # Conv1D is a linear map, in spite of its name, that keeps its weights the other way round.
        inputs, outputs = module.weight.shape[:: 1 if isinstance(module, Conv1D) else -1]
        module.change = LowRank(inputs, outputs, rank)
        module.register_forward_hook(_add_change, with_kwargs=True)


def _add_change(linear: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    return output + linear.change(_input(args, kwargs)).to(output.dtype)


def _add_prompt(blocks: Any, width: int, rank: int) -> None:
    shared = LowRank(width, width, rank)
    for block in blocks:
        block.shared, block.prompt = shared, nn.Parameter(torch.zeros(width))
        # Before the hook that keeps the layer's features, and may end the computation.
        block.register_forward_hook(_add_shared, with_kwargs=True, prepend=True)


def _add_shared(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    before, after = _input(args, kwargs), output[0] if isinstance(output, tuple) else output
    changed = after + (block.shared(after - before) + block.prompt).to(after.dtype)
    return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else next(iter(kwargs.values()))


def _keep_reached(encoder: TransformerEncoder) -> None:
    """Let learn only what the features depend on: not a layer above the last one that was chosen, for example."""
    ids, mask = (torch.from_numpy(t).to(encoder.device) for t in encoder.vocabulary.batch([RESIDUES]))
    with torch.enable_grad():
        total = encoder.features(ids, mask).sum()
        learning = [p for p in encoder.network.parameters() if p.requires_grad]
        found = (
            torch.autograd.grad(total, learning, allow_unused=True) if total.requires_grad else [None] * len(learning)
        )
    for parameter, gradient in zip(learning, found, strict=True):
        parameter.requires_grad_(gradient is not None)
    if all(gradient is None for gradient in found):
        layers = ", ".join(map(str, encoder.chosen_layers))
        raise InputError(f"{encoder.name}: its features of layer {layers} have nothing to learn; choose another layer")


def learned(encoder: TransformerEncoder) -> dict[str, NDArray[np.float32]]:
    """Copies of the numbers that learn, by name."""
    return {name: p.detach().float().cpu().numpy().copy() for name, p in _learning(encoder).items()}


def restored(
    config: Mapping[str, Any], weights: Mapping[str, NDArray[np.float32]], device: str, threads: int | None
) -> TransformerEncoder:
    """The encoder that something was learned for, with it, in float32.

    Args:
        config: as :class:`limbeck.benchmarks.finetuning.saved.FineTuned` has it.
        weights: what :func:`learned` gave.
        device: as :func:`limbeck.load` takes it.
        threads: likewise.

    Raises:
        InputError: if the encoder is not here, is another, or is built otherwise by now.
    """
    name = str(config["encoder"])
    if not runs_by_transformers(name):
        raise InputError(f"{name}, the encoder that was tuned, is not here; say where it is by encoder=")
    encoder: Any = load(name, layer=config["layers"], precision="f32", device=device, threads=threads)
    if encoder.fingerprint != config["fingerprint"]:
        raise InputError(
            f"{name} is not the encoder that was tuned: its fingerprint is {encoder.fingerprint[:12]}, not "
            f"{str(config['fingerprint'])[:12]}; say where that is by encoder="
        )
    adapt(encoder, str(config["method"]), int(config["rank"]))
    own = _learning(encoder)
    if {key: tuple(p.shape) for key, p in own.items()} != {key: w.shape for key, w in weights.items()}:
        raise InputError(
            f"{name}: what was learned does not fit the network as this version of transformers builds it; take the "
            "version it was tuned with, or fine-tune again"
        )
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(torch.from_numpy(np.array(weights[key])))
    encoder.network.requires_grad_(False)
    encoder.name = str(config["name"])
    digests = (hashlib.sha256(weights[key].tobytes()).hexdigest() for key in sorted(weights))
    encoder.fingerprint = fingerprint(encoder.fingerprint, *digests)
    return encoder


def _learning(encoder: TransformerEncoder) -> dict[str, nn.Parameter]:
    return {name: p for name, p in encoder.network.named_parameters() if p.requires_grad}
