"""Write a trained student as the folder that ``limbeck.load`` opens."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from limbeck.distillation.files import whole
from limbeck.distillation.network import Student

__all__ = ["export"]


def export(student: Student, folder: Path, *, name: str, version: str, license: str, pooling: str, card: str) -> None:
    """Write ``config.json``, ``model.safetensors`` (float16) and the model card ``README.md``.

    Each file appears only when it is whole, the configuration last.
    """
    half = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in student.state_dict().items()}
    config = {
        "model_type": "limbeck-student",
        "name": name,
        "version": version,
        "license": license,
        "pooling": pooling,
        "limbeck": student.config.as_dict(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "model.safetensors") as partial:
        save_file(half, partial, metadata={"format": "pt"})
    with whole(folder / "README.md") as partial:
        partial.write_text(card)
    with whole(folder / "config.json") as partial:
        partial.write_text(json.dumps(config, indent=1) + "\n")
