"""Which numeric mode a machine trains fast in."""

from __future__ import annotations

import torch

__all__ = ["resolve_precision"]


def resolve_precision(precision: str, device: str) -> str:
    """``bf16`` or ``f32`` for ``auto``: bfloat16 where the device multiplies matrices of it, for elsewhere it is
    emulated and a hundred times slower.

    Args:
        precision: ``auto``, ``bf16`` or ``f32``.
        device: as PyTorch names it, or ``auto``.
    """
    if precision != "auto":
        return precision
    kind = device.split(":")[0]
    if kind == "cuda" or (kind == "auto" and torch.cuda.is_available()):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "f32"
    return "bf16" if kind in ("cpu", "auto") and _cpu_has_bf16() else "f32"


def _cpu_has_bf16() -> bool:
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
