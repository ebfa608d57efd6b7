"""Encoders: everything that turns a protein into numbers, behind one protocol and one :func:`load`.

A module of this package that defines ``FAMILY`` (see :mod:`limbeck.encoders.registry`) is found by itself,
so a new encoder is one new file.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from limbeck.encoders.base import Encoder, OnBatch, ResidueEncoder
from limbeck.encoders.registry import EncoderInfo, Family, Options
from limbeck.errors import InputError

__all__ = ["Encoder", "EncoderInfo", "OnBatch", "ResidueEncoder", "available", "load"]


def load(
    name: str | os.PathLike[str] | None = None,
    *,
    layer: int | str | Sequence[int] | None = None,
    precision: str = "auto",
    device: str = "auto",
    pooling: str | None = None,
    threads: int | None = None,
    dimension: int | None = None,
) -> Encoder:
    """Load an encoder by name or path.

    Args:
        name: ``None`` for the default student; a name that ``limbeck encoders`` lists; a hub name
            (``facebook/esm2_t6_8M_UR50D``); or the path of a folder or file of weights.
        layer: which layers to take. Layers count from 1; 0 is the input embedding where there is
            one, -1 the last; several, or ``"all"``, side by side. ``None`` is the encoder's default.
        precision: ``"auto"``, or one the encoder computes in: ``"f32"``, ``"bf16"``, ``"int8"``, ...
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        pooling: how residues become one vector; ``None`` is the encoder's default.
        threads: most processor threads for a network on the CPU; ``None`` is the runtime's choice. PyTorch knows one
            number for the whole process.
        dimension: how many leading numbers of a protein vector to give, where they serve alone (a student's nested
            dimensions); ``None`` is all.

    Raises:
        InputError: if there is no such encoder, it cannot be loaded, or it lacks an option asked for.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    if name is None:
        from limbeck.encoders.student import DEFAULT_NAME

        name = DEFAULT_NAME
    name = os.fspath(name)
    for family in _families():
        if family.recognises(name):
            return family.load(name, Options(layer, precision, device, pooling, threads, dimension))
    raise _unrecognised(name)


def available() -> list[EncoderInfo]:
    """What can be loaded by name, and which kinds of files can be loaded by path; no weights are read."""
    return [info for family in _families() for info in family.available()]


@cache
def _families() -> tuple[Family, ...]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))


def _unrecognised(name: str) -> InputError:
    path = Path(name)
    if path.is_dir():
        return InputError(f"{name}: the folder has no config.json, so it holds no encoder; give a model's folder")
    if path.exists():
        return InputError(
            f"{name}: not the weights of an encoder that limbeck knows; "
            "it reads UniRep and context libraries (.safetensors) and CS-BLAST's context HMMs (.hmm)"
        )
    if "/" in name or os.sep in name or path.suffix in {".hmm", ".safetensors"}:
        return InputError(f"{name}: no such file or folder; check the path")
    near = difflib.get_close_matches(name, [info.name for info in available()], n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return InputError(f"no encoder is called {name!r}{hint} `limbeck encoders` lists what there is")
