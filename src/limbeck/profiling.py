"""Where the time of an embedding run goes, and how far from this machine's limit it is."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from limbeck.embedding.pipeline import Inputs, embed
from limbeck.encoders.base import Encoder
from limbeck.encoders.quantised import rounded
from limbeck.encoders.student_graph import Operator, compile_graph
from limbeck.residues import RESIDUES

__all__ = ["Measured", "Part", "SpeedProfile", "copy_rate", "product_rate", "profile", "start_up"]

PARTS = {
    "FullyConnected": "matrix products",
    "FullyConnectedQuantizedLegacy": "matrix products",
    "Convolution": "convolutions",
    "MatMul": "sums over tiles and residues",
    "Subgraph": "additions and activations",
    "Softmax": "softmax",
    "MVN": "normalisation",
}
"""What the runtime's operators are called here; the others copy."""

_FIRST_BATCH = """
import sys, time
import limbeck
imported = time.time()
encoder = limbeck.load(sys.argv[1], precision=sys.argv[2])
loaded = time.time()
encoder.encode(["MKTAYIAKQRQISFVK" * 20] * 4)
print(imported, loaded, time.time())
"""


@runtime_checkable
class Measured(Protocol):
    """What an encoder may offer besides, so that its share of the machine's limit can be told."""

    token_budget: int

    def operations(self) -> int:
        """Additions and multiplications of the matrix products for one residue."""
        ...

    def operators(self, windows: list[str]) -> list[Operator]:
        """What the network does for one batch, step by step."""
        ...


@dataclass(frozen=True)
class Part:
    """All operators of one kind."""

    share: float
    """Of the network's time."""
    bytes_per_residue: float
    """What they read and write, wherever it lies; more than what comes from memory, as caches hold much of it."""


@dataclass(frozen=True)
class SpeedProfile:
    """What :func:`profile` measured; times in seconds. Its text is a table for people."""

    encoder: str
    precision: str
    threads: int
    residues: int
    """Computed by the run."""
    padding: float
    """Share of the computed tokens that were padding."""
    stages: Mapping[str, float]
    """Of :class:`limbeck.embedding.Summary`."""
    operators: Mapping[str, Part]
    """The network's time by kind of operator; empty if the encoder does not tell."""
    operations_per_residue: int | None
    product_rates: Mapping[str, float]
    """By precision, operations a second of a large matrix product on as many threads."""
    copy_rate: float
    """Bytes a second that one thread copies, read and write counted once."""
    load: float
    """Processes that wanted to run meanwhile, average over a minute; above ``threads``, times are those of a busy
    machine."""

    @property
    def limit(self) -> float | None:
        """Residues a second if nothing but the matrix products took time."""
        if not self.operations_per_residue:
            return None
        return self.product_rates[self.precision] / self.operations_per_residue

    @property
    def share_of_limit(self) -> float | None:
        """That the whole run reaches."""
        return self.residues / sum(self.stages.values()) / self.limit if self.limit else None

    @property
    def network_share_of_limit(self) -> float | None:
        """That the network reaches while it computes, padding counted as work."""
        network = self.stages.get("network")
        return self.residues / (1 - self.padding) / network / self.limit if self.limit and network else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        derived = ("limit", "share_of_limit", "network_share_of_limit")
        return asdict(self) | {name: getattr(self, name) for name in derived}

    def __str__(self) -> str:
        total = sum(self.stages.values())
        lines = [
            f"{self.encoder} in {self.precision}, {self.threads} threads: {self.residues:,} residues in {total:.2f} s",
            *(
                f"  {name:<28} {1e6 * value / self.residues:8.2f} us/residue {100 * value / total:6.1f} %"
                for name, value in self.stages.items()
            ),
        ]
        if self.operators:
            lines.append("in the network")
        lines += [
            f"  {name:<28} {part.bytes_per_residue / 1000:8.0f} kB/residue {100 * part.share:6.1f} %"
            for name, part in self.operators.items()
        ]
        rates = ", ".join(f"{rate / 1e12:.3f} in {precision}" for precision, rate in self.product_rates.items())
        lines.append(f"matrix products   {rates} TFLOP/s; one thread copies {self.copy_rate / 1e9:.1f} GB/s")
        if self.limit and self.operations_per_residue:
            lines.append(
                f"limit             {self.limit:,.0f} residues/s at {self.operations_per_residue / 1e6:.2f} MFLOP "
                f"each; the run reaches {100 * (self.share_of_limit or 0):.0f} %, "
                f"the network {100 * (self.network_share_of_limit or 0):.0f} %"
            )
        if self.load > self.threads + 1:
            lines.append(f"the machine was busy: load {self.load:.1f} on {self.threads} threads")
        return "\n".join(lines)


def profile(
    inputs: Inputs,
    encoder: Encoder,
    *,
    threads: int | None = None,
    batch_tokens: int | None = None,
    memory: str | int | None = None,
) -> SpeedProfile:
    """Embed proteins into a file that is thrown away, and time the parts.

    Args:
        inputs: as :func:`limbeck.embed` takes them.
        encoder: what computes; it must know its operations, as the default model does.
        threads: as many as it was loaded with; all by default.
        batch_tokens: as for :func:`limbeck.embed`.
        memory: as for :func:`limbeck.embed`.

    Raises:
        InputError: if the input cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="limbeck-") as folder:
        summary = embed(
            inputs,
            Path(folder, "vectors.h5"),
            encoder=encoder,
            duplicate_ids="suffix",
            batch_tokens=batch_tokens,
            memory=memory,
            progress=False,
        )
    threads = threads or os.cpu_count() or 1
    measured = encoder if isinstance(encoder, Measured) else None
    batch = _typical_batch(summary.computed, summary.proteins - summary.duplicates, encoder.token_budget)
    return SpeedProfile(
        encoder=encoder.name,
        precision=encoder.precision,
        threads=threads,
        residues=summary.computed,
        padding=summary.padding,
        stages=summary.stages,
        operators=_parts(measured.operators(batch), sum(map(len, batch))) if measured else {},
        operations_per_residue=measured.operations() if measured else None,
        product_rates={precision: product_rate(precision, threads) for precision in _precisions()},
        copy_rate=copy_rate(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
    )


def _typical_batch(residues: int, proteins: int, tokens: int) -> list[str]:
    """As many proteins of the mean length as the run put into a batch."""
    length = max(1, residues // proteins)
    protein = (RESIDUES * (1 + length // len(RESIDUES)))[:length]
    return [protein] * max(1, min(tokens, residues) // length)


def _parts(operators: list[Operator], residues: int) -> dict[str, Part]:
    """By kind, in the words of people, the longest first."""
    seconds, moved = Counter[str](), Counter[str]()
    for operator in operators:
        part = PARTS.get(operator.kind, "copies")
        seconds[part] += operator.seconds  # type: ignore[assignment]
        moved[part] += operator.moved
    total = sum(seconds.values())
    return {part: Part(value / total, moved[part] / residues) for part, value in seconds.most_common()}


def _precisions() -> list[str]:
    """Those that :func:`product_rate` can measure here: bf16 only if the processor multiplies it."""
    import openvino as ov

    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["f32", *(["bf16"] if "BF16" in capabilities else []), "int8"]


def product_rate(
    precision: str,
    threads: int | None = None,
    size: int = 1024,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Operations a second of a product of two square matrices, by the default model's runtime: the most of several.

    Args:
        precision: ``"f32"``, ``"bf16"`` or ``"int8"`` (with the rounding to int8 and back).
        threads: at most so many.
        size: of either side.
        repeats: after one that warms up.
        clock: on a machine that does other work, ``time.process_time`` says more, with one thread.
    """
    import openvino as ov
    from openvino import opset13 as op

    matrix = np.random.default_rng(0).uniform(-1, 1, size=(size, size)).astype(np.float32)
    left = op.parameter([size, size], np.float32)
    factors = [left, op.constant(matrix)]
    if precision == "int8":
        factors = [rounded(factor, 1.0) for factor in factors]
    # What is read back is small; the product itself cannot be left out.
    model = ov.Model([op.reduce_max(op.matmul(*factors, False, False), 1)], [left], "product")
    compiled = compile_graph(model, precision, threads, measured=True)
    return 2 * size**3 / _least_seconds(lambda: compiled([matrix]), repeats, clock)


def copy_rate(size: int = 2**26, repeats: int = 5) -> float:
    """Bytes a second that one thread copies between two places in memory: the most of several."""
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    return size / _least_seconds(lambda: np.copyto(target, source), repeats)


def _least_seconds(run: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        began = clock()
        run()
        seconds.append(clock() - began)
    return min(seconds)


def start_up(encoder: str, precision: str = "auto", *, cached: bool, repeats: int = 3) -> dict[str, float]:
    """Seconds from the start of Python to the first batch, in processes of their own; median of each part.

    Args:
        encoder: a name for :func:`limbeck.load`.
        precision: for :func:`limbeck.load`.
        cached: with the compiled network in the cache, or without.
        repeats: so many processes.
    """
    runs: list[list[float]] = []
    with tempfile.TemporaryDirectory(prefix="limbeck-") as folder:
        for number in range(repeats + cached):
            cache = Path(folder, "cache" if cached else f"cache-{number}")
            command = [sys.executable, "-c", _FIRST_BATCH, encoder, precision]
            environment = os.environ | {"LIMBECK_CACHE": str(cache)}
            times = [time.time()]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            times += map(float, done.stdout.split())
            runs.append([after - before for before, after in pairwise(times)])
    parts = [statistics.median(part) for part in zip(*runs[cached:], strict=True)]
    return dict(zip(("import", "load", "first batch"), parts, strict=True)) | {"all": sum(parts)}
