"""Distillation: from proteins and teachers to a compact student. Needs the extra ``train`` (PyTorch)."""

from limbeck.errors import InputError

try:
    import torch as _torch  # noqa: F401
except ImportError:
    raise InputError("training needs PyTorch; install it with pip install 'limbeck[train]'") from None
