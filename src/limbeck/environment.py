"""What a report of a fault needs to say of the machine and of what is installed."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from limbeck.version import __version__

__all__ = ["describe"]

_PACKAGES = (
    "numpy",
    "openvino",
    "pyarrow",
    "h5py",
    "dnaio",
    "safetensors",
    "torch",
    "transformers",
    "scikit-learn",
    "ray",
)
# Those that decide how fast matrices multiply, and in which precision.
_FEATURES = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "sve",
    "i8mm",
)


def describe() -> str:
    """One line for each thing: versions, processor and what it can, memory, and OpenVINO's devices."""
    rows = {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        "processor": _processor(),
        "features": ", ".join(_features()) or "unknown",
        "memory": f"{psutil.virtual_memory().total / 2**30:,.1f} GB",
        "openvino on": _devices(),
        "packages": ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name))),
    }
    return "\n".join([f"limbeck {__version__}", *(f"  {name:<12} {value}" for name, value in rows.items())])


def _cpuinfo(*names: str) -> str:
    """The first value of one of these names in ``/proc/cpuinfo``; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() in names), "")


def _processor() -> str:
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name}, {usable} of {os.cpu_count()} processors usable"


def _features() -> list[str]:
    there = set(_cpuinfo("flags", "Features").split())
    return [name for name in _FEATURES if name in there]


def _devices() -> str:
    try:
        import openvino as ov

        core = ov.Core()
        return "; ".join(f"{name}: {core.get_property(name, 'FULL_DEVICE_NAME')}" for name in core.available_devices)
    except Exception as error:
        # The report is wanted most where something is broken.
        return f"not working ({' '.join(str(error).split())[:200]})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
