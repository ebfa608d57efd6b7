"""How much memory there is, and how large a batch may be in it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil

from limbeck.encoders.base import Encoder
from limbeck.errors import InputError

if sys.platform != "win32":
    import resource

__all__ = ["available_memory", "parse_size", "peak_memory", "token_budget"]

SMALLEST_BUDGET = 256
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """Bytes from ``"4G"``, ``"1.5 GB"``, ``"800MiB"`` or a plain number; units are powers of 1,024.

    Raises:
        InputError: if it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, flags=re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise InputError(f"memory size {text!r} is not understood; write it like 4G or 800M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def available_memory() -> int:
    """Bytes this process may still take: what the machine has free, or what its control group leaves."""
    return min([int(psutil.virtual_memory().available), *_control_group_room()])


def _control_group_room() -> list[int]:
    """Room under each memory limit of the process's control groups (version 2, then version 1)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    rooms = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root = Path("/sys/fs/cgroup")
            limit, usage, cache = "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            limit, usage, cache = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        # A limit anywhere above binds too; inside a container the path may not exist, but the root does.
        group = root / path.lstrip("/")
        for folder in [group, *group.parents]:
            if folder.is_relative_to(root):
                rooms.extend(_room(folder, limit, usage, cache))
    return rooms


def _room(folder: Path, limit: str, usage: str, cache: str) -> list[int]:
    try:
        most = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        # No such file, or "max": no limit here.
        return []
    return [max(0, most - used + int(statistics.get(cache, 0)))]


def peak_memory() -> int:
    """The most bytes this process has held in memory at once."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def token_budget(encoder: Encoder, batch_tokens: int | None = None, memory: str | int | None = None) -> int:
    """Most tokens of one batch.

    The encoder's own budget, unless memory is too small for it: half of what is available now, or what is
    left of ``memory`` once the program itself is loaded. Then it is the largest power of two that fits, so
    that small changes in the machine's state don't change it.

    Args:
        encoder: what will compute; its ``token_budget`` and ``bytes_per_token`` count.
        batch_tokens: the user's own choice, taken as it is.
        memory: the most that the whole program should take, in bytes or as in :func:`parse_size`.

    Raises:
        InputError: if ``batch_tokens`` is below 1, or ``memory`` cannot be understood or is too small.
    """
    if batch_tokens is not None:
        if batch_tokens < 1:
            raise InputError(f"a batch must hold at least 1 token, not {batch_tokens}")
        return batch_tokens
    if memory is None:
        room = available_memory() // 2
    else:
        size = parse_size(memory) if isinstance(memory, str) else memory
        held = psutil.Process().memory_info().rss
        room = size - held
        if room < SMALLEST_BUDGET * encoder.bytes_per_token:
            needed = (held + SMALLEST_BUDGET * encoder.bytes_per_token) / 2**20
            raise InputError(
                f"{size / 2**20:,.0f} MB of memory are too few: the program and encoder {encoder.name!r} "
                f"need at least {needed:,.0f} MB"
            )
    tokens = max(SMALLEST_BUDGET, room // encoder.bytes_per_token)
    return encoder.token_budget if tokens >= encoder.token_budget else 1 << (tokens.bit_length() - 1)
