"""Write a trained student as the folder that limbeck, transformers and sentence-transformers open.

``docs/student-folder.md`` describes the folder. The OpenVINO graph that limbeck runs is built from the weights at load,
so the folder holds the weights once.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from limbeck.distillation.card import UNKNOWN, Teacher
from limbeck.distillation.nested import DIMENSIONS
from limbeck.distillation.network import Student
from limbeck.encoders.registry import folder_config
from limbeck.encoders.student import StudentEncoder, student_files, student_folder
from limbeck.errors import InputError
from limbeck.files import whole
from limbeck.hub.tokenizer import PAD_TOKEN, tokenizer, tokenizer_config
from limbeck.residues import PAD_ID
from limbeck.version import __version__

__all__ = ["add_hub_files", "as_encoder", "copy_student", "export", "nested_dimensions", "run_record"]

MODEL_TYPE = "limbeck-student"
MODELING = "modeling_limbeck"


def export(
    student: Student,
    folder: Path,
    *,
    name: str,
    version: str,
    license: str,
    pooling: str,
    card: str,
    run: dict[str, Any] | None = None,
    nested: Sequence[int] | None = None,
) -> None:
    """Write weights (float16), configuration, model card, what the run was, and what other libraries need.

    Each file appears only when it is whole, ``config.json`` last: a folder that has it is complete.

    Args:
        student: trained, its projection fitted.
        folder: where to write; made if it does not exist.
        name: of the student.
        version: of its weights.
        license: SPDX identifier, or ``"unknown"``.
        pooling: ``"combined"`` or ``"mean"``.
        card: the text of ``README.md``; see :func:`limbeck.distillation.card.model_card`.
        run: the content of ``training.json``; see :func:`run_record`.
        nested: how many leading numbers of a protein vector serve alone. By default those of ``DIMENSIONS`` below
            the student's width if its pooling is combined, whose projection orders its numbers by variance; none if
            it pools by the mean. Give ``()`` for a student whose projection was not fitted.
    """
    width = student.config.width
    half = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in student.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "model.safetensors") as partial:
        save_file(half, partial, metadata={"format": "pt"})
    with whole(folder / "README.md") as partial:
        partial.write_text(card, encoding="utf-8")
    if run is not None:
        _write_json(folder / "training.json", run)
    config = {
        "model_type": MODEL_TYPE,
        "name": name,
        "version": version,
        "license": license,
        "pooling": pooling,
        "nested_dimensions": nested_dimensions(width, pooling, nested),
        "limbeck": student.config.as_dict(),
    }
    _write_hub_files(folder, config)


def as_encoder(student: Student, pooling: str, name: str = "student") -> StudentEncoder:
    """A network as the encoder that its folder would be, for scoring it during training."""
    weights = {key: value.detach().float().cpu().numpy() for key, value in student.state_dict().items()}
    config = {"version": "0", "license": UNKNOWN, "pooling": pooling, "limbeck": student.config.as_dict()}
    return StudentEncoder(name, config, weights)


def nested_dimensions(width: int, pooling: str, nested: Sequence[int] | None = None) -> list[int]:
    """What ``config.json`` states: ascending, the whole width last; a single number where none is nested."""
    if nested is None:
        nested = DIMENSIONS if pooling == "combined" else ()
    return [*sorted(d for d in set(nested) if 0 < d < width), width]


def add_hub_files(folder: Path) -> None:
    """Add to a student's folder, of any version of limbeck, what transformers and sentence-transformers need.

    Weights, model card and fingerprint stay as they are. Nested dimensions are not added: only the run that fitted the
    projection knows of them.

    Raises:
        InputError: if the folder holds no student.
    """
    config = folder_config(folder)
    if config is None or "limbeck" not in config:
        raise InputError(f"{folder}: config.json does not describe a limbeck student; give a student's folder")
    _write_hub_files(folder, config)


def copy_student(name: str, folder: Path) -> Path:
    """Copy a student of the package, or one of an older limbeck, to a folder that other libraries open too.

    Args:
        name: a student's folder, or the name of one in the package.
        folder: the copy; must not hold a model yet.

    Raises:
        InputError: if it is no student, or the folder is taken.
    """
    config, _ = student_files(name)
    if (folder / "config.json").exists():
        raise InputError(f"{folder} already holds a model; choose another folder")
    source = student_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("model.safetensors", "README.md"):
        if (source / file).exists():
            with whole(folder / file) as partial:
                partial.write_bytes((source / file).read_bytes())
    _write_hub_files(folder, config)
    return folder


def _write_hub_files(folder: Path, config: dict[str, Any]) -> None:
    source = resources.files("limbeck.hub") / f"{MODELING}.py"
    with whole(folder / f"{MODELING}.py") as partial:
        partial.write_bytes(source.read_bytes())
    _write_json(folder / "tokenizer.json", tokenizer())
    _write_json(folder / "tokenizer_config.json", tokenizer_config())
    _write_json(folder / "special_tokens_map.json", {"pad_token": PAD_TOKEN})
    transformer = "sentence_transformers.base.modules.transformer.Transformer"
    _write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": transformer}])
    # The model pools by itself, so there is no pooling module: its output is the sentence's vector.
    output = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
    task = {"transformer_task": "feature-extraction", "modality_config": output}
    _write_json(folder / "sentence_bert_config.json", task | {"module_output_name": "sentence_embedding"})
    sentence: dict[str, Any] = {"model_type": "SentenceTransformer", "prompts": {}, "default_prompt_name": None}
    _write_json(folder / "config_sentence_transformers.json", sentence | {"similarity_fn_name": "cosine"})
    hub = {
        "architectures": ["LimbeckModel"],
        "auto_map": {"AutoConfig": f"{MODELING}.LimbeckConfig", "AutoModel": f"{MODELING}.LimbeckModel"},
        # The weights are stored in float16 to be small; float16 arithmetic is slow on CPUs, and less exact anywhere.
        "dtype": "float32",
        "pad_token_id": PAD_ID,
    }
    _write_json(folder / "config.json", config | hub)


def _write_json(path: Path, content: Any) -> None:
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def run_record(
    *,
    options: Any,
    corpus: str,
    corpus_fingerprint: str,
    proteins: int,
    residues: int,
    held_out: int,
    teachers: Sequence[Teacher],
    command: Sequence[str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """All that one needs to repeat a run: the content of ``training.json``.

    Args:
        options: dataclass or mapping of the training's options, seeds among them.
        corpus: name of the corpus's file.
        corpus_fingerprint: SHA-256 (hex) over its sequences in their order.
        proteins: in the corpus.
        residues: in the corpus.
        held_out: proteins kept for validation.
        teachers: in the order given.
        command: the command line, program first, if there was one.
        more: further facts, each under its own key.
    """
    as_mapping = asdict(options) if is_dataclass(options) and not isinstance(options, type) else dict(options)
    return {
        "command": list(command) if command is not None else None,
        "options": as_mapping,
        "corpus": {
            "name": corpus,
            "fingerprint": corpus_fingerprint,
            "proteins": proteins,
            "residues": residues,
            "held_out_proteins": held_out,
        },
        "teachers": [teacher._asdict() for teacher in teachers],
        "versions": _versions(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "threads": torch.get_num_threads()},
        **more,
    }


def _versions() -> dict[str, str]:
    found = {"limbeck": __version__, "python": ".".join(map(str, sys.version_info[:3])), "torch": torch.__version__}
    for package in ("numpy", "openvino", "safetensors", "transformers"):
        try:
            found[package] = installed_version(package)
        except PackageNotFoundError:
            continue
    return found
