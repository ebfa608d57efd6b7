"""What the verbs have in common."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from typing import Any

from limbeck.errors import InputError

__all__ = ["LANDSCAPE", "given", "in_millions", "integers", "layer", "need", "need_pytorch", "say", "size", "width"]


LANDSCAPE = ("pandas", "sklearn", "scipy", "jinja2", "matplotlib", "Bio")


def need(extra: str, *modules: str) -> None:
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise InputError(f"this needs {', '.join(missing)}; pip install 'limbeck[{extra}]'")


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def need_pytorch() -> None:
    try:
        import lightning_fabric  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise InputError("training needs PyTorch and Lightning Fabric; pip install 'limbeck[train]'") from None


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def width() -> int:
    return min(140, shutil.get_terminal_size((100, 24)).columns)


def in_millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 100_000 else f"{count:,}"


def integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def size(text: str) -> int:
    """A number of variants, or ``all`` of them."""
    if text == "all":
        return sys.maxsize
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'all'") from None


def layer(text: str) -> int | str | tuple[int, ...]:
    if text == "all":
        return text
    layers = integers(text)
    return layers[0] if len(layers) == 1 else layers
