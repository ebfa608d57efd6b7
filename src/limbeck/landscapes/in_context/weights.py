"""A trained network in one safetensors file, with its shape and what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.landscapes.in_context.network import InContextNetwork, Shape

__all__ = ["load_network", "save_network"]

FORMAT = "limbeck-in-context-1"


def save_network(network: InContextNetwork, path: str | Path, about: dict[str, Any]) -> None:
    """Write a network.

    Args:
        about: what predictions and readers need to know, as JSON can hold it; ``fingerprint`` is the encoder's.
    """
    description = {"format": FORMAT, "shape": network.description(), "about": about}
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with whole(Path(path)) as partial:
        save_file(tensors, partial, {"limbeck": json.dumps(description)})


def load_network(path: str | Path) -> tuple[InContextNetwork, dict[str, Any]]:
    """A network, ready to predict, and what was said about it.

    Raises:
        InputError: if the file is missing, damaged, or of another kind.
    """
    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {})["limbeck"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if description["format"] != FORMAT:
            raise KeyError(FORMAT)
        network = InContextNetwork(Shape(**description["shape"]))
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: no weights of an in-context predictor ({reason}); make them with results/in_context/train.py"
        ) from None
    return network.eval(), description["about"]
