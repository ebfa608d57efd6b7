"""The student's network as OpenVINO graphs, compiled for the machine.

The computation is that of :class:`limbeck.distillation.network.Student`; the graphs are built from the weights, and
compiled graphs are cached.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders import graph_cache, minimal_filtering, quantised
from limbeck.residues import PAD_ID, to_ids

__all__ = [
    "Operator",
    "Weights",
    "block_graph",
    "cached_graph",
    "compile_graph",
    "input_ranges",
    "network_graph",
    "pooling_graph",
    "products_per_residue",
    "timed_operators",
]

Weights = dict[str, NDArray[np.floating]]

PREPARED = "200"
"""How many operators the runtime keeps prepared for shapes that it has seen. Left alone it keeps so many that a run of
263 shapes took 0.8 GB more."""

GELU_LOWEST = -0.171
"""A little less than any value of it."""


def _linear(x: Any, weights: Weights, name: str, ranges: quantised.Ranges | None, lowest: float | None = None) -> Any:
    from openvino import opset13 as op

    weight = weights[f"{name}.weight"]
    if ranges is None:
        product = op.matmul(x, op.constant(weight), False, True, name=name)
    else:
        product = quantised.linear(x, weight, ranges[name], lowest)
    return op.add(product, op.constant(weights[f"{name}.bias"]))


def _norm(x: Any, weights: Weights, name: str) -> Any:
    from openvino import opset13 as op

    scaled = op.mvn(x, op.constant(np.array([-1], np.int64)), True, 1e-5, "inside_sqrt")
    scaled = op.multiply(scaled, op.constant(weights[f"{name}.weight"]))
    return op.add(scaled, op.constant(weights[f"{name}.bias"]))


def _block(
    x: Any, mask: Any, weights: Weights, index: int, dilation: int, pad: int, ranges: quantised.Ranges | None
) -> Any:
    """What a block adds to its input (batch, length, width), shorter by what the filters see beyond ``pad``."""
    from openvino import opset13 as op

    name = f"blocks.{index}"
    weight = weights[f"{name}.conv.weight"]
    h = op.multiply(_norm(x, weights, f"{name}.norm"), mask)
    if ranges is None:
        to_channels, to_length = (op.constant(np.array(o, np.int64)) for o in ([0, 2, 1], [0, 2, 1]))
        h = op.transpose(h, to_channels)
        h = op.convolution(h, op.constant(weight), [1], [pad], [pad], [dilation], name=f"{name}.conv")
        h = op.transpose(h, to_length)
    else:
        h = quantised.convolution(h, weight, ranges[f"{name}.conv"], dilation, pad)
    h = op.gelu(op.add(h, op.constant(weights[f"{name}.conv.bias"])), "tanh")
    return _linear(h, weights, f"{name}.out", ranges, GELU_LOWEST)


def _minimal_block(x: Any, mask: Any, weights: Weights, index: int, dilation: int) -> Any:
    """What a block adds to its input (batch, length, width), by the fewest multiplications."""
    from openvino import opset13 as op

    name = f"blocks.{index}"
    weight, bias = weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"]
    h = op.multiply(_norm(x, weights, f"{name}.norm"), mask)
    outputs = [op.gelu(h, "tanh") for h in minimal_filtering.convolution(h, weight, bias, dilation)]
    h = minimal_filtering.interleaved(outputs, minimal_filtering.length_of(x), len(bias))
    return _linear(h, weights, f"{name}.out", None)


def block_graph(weights: Weights, index: int, dilation: int, ranges: quantised.Ranges | None = None) -> Any:
    """One block on pieces of proteins: inputs (batch, length, width) and where there are residues, (batch, length, 1);
    output shorter by what the filters see on either side. ``ranges``: as for :func:`network_graph`."""
    import openvino as ov
    from openvino import opset13 as op

    reach = dilation * (weights[f"blocks.{index}.conv.weight"].shape[2] // 2)
    # The runtime tries the graph with some length of its own, which must leave something to compute.
    length = ov.Dimension(2 * reach + 1, -1)
    x = op.parameter(ov.PartialShape([-1, length, weights["embed.weight"].shape[1]]), np.float32, name="x")
    mask = op.parameter(ov.PartialShape([-1, length, 1]), np.float32, name="mask")
    start, stop, step, axis = (op.constant(np.array([v], np.int64)) for v in (reach, -reach, 1, 1))
    middle = op.slice(x, start, stop, step, axis)
    change = _block(x, mask, weights, index, dilation, 0, ranges)
    return ov.Model([op.add(middle, change)], [x, mask], f"student-block-{index}")


def pooling_graph(weights: Weights, pooling: str, ranges: quantised.Ranges | None = None) -> Any:
    """From the last block's output (batch, length, width) and which positions count, as for :func:`network_graph`, to
    sums and to features. ``ranges``: as for :func:`network_graph`."""
    import openvino as ov
    from openvino import opset13 as op

    x = op.parameter([-1, -1, weights["embed.weight"].shape[1]], np.float32, name="x")
    shares = _shares(pooling)
    features = _norm(x, weights, "norm")
    sums = _sums(features, shares, weights, pooling, ranges)
    return ov.Model([sums, features], [x, shares], f"student-pool-{pooling}")


def _shares(pooling: str) -> Any:
    from openvino import opset13 as op

    return op.parameter([-1, 1 if pooling == "mean" else 3, -1], np.float32, name="shares")


def _sums(features: Any, shares: Any, weights: Weights, pooling: str, ranges: quantised.Ranges | None) -> Any:
    """Sums over the positions of each share: of the features, (batch, width), or of context assignments over the first
    share and features over all three, (batch, states + 3 width)."""
    from openvino import opset13 as op

    side_by_side = op.constant(np.array([0, -1], np.int64))
    sums = op.reshape(op.matmul(shares, features, False, False), side_by_side, True)
    if pooling == "mean":
        return sums
    contexts = op.softmax(_linear(features, weights, "contexts", ranges), -1)
    start, stop, step, axis = (op.constant(np.array([v], np.int64)) for v in (0, 1, 1, 1))
    whole = op.matmul(op.slice(shares, start, stop, step, axis), contexts, False, False)
    return op.concat([op.squeeze(whole, axis), sums], 1)


def network_graph(
    weights: Weights,
    dilations: list[int],
    output: str,
    minimal: bool = False,
    ranges: quantised.Ranges | None = None,
) -> Any:
    """The student as an OpenVINO model.

    Inputs: ids (batch, length) int32 and, for sums, shares float32: which positions count, (batch, 1, length) for
    ``"mean"``, and for ``"combined"`` (batch, 3, length), of the whole protein, of its first and of its last residues.
    Output: residue features (batch, length, width) (``"residues"``), the input of each block and the output of the last
    (``"states"``), context assignments and features side by side (batch, length, states + width) (``"combined of
    residues"``), or sums over shares: of the features (``"mean"``), or of the assignments over the first and of the
    features over each (``"combined"``), followed by the features for ``"... and residues"``.
    ``minimal``: convolutions by :mod:`limbeck.encoders.minimal_filtering`.
    ``ranges``: what :func:`input_ranges` gives, to have all products with weights in int8.
    """
    import openvino as ov
    from openvino import opset13 as op

    ids = op.parameter([-1, -1], np.int32, name="ids")
    is_residue = op.not_equal(ids, op.constant(np.array(PAD_ID, np.int32)))
    mask = op.unsqueeze(op.convert(is_residue, "f32"), op.constant(np.array(2, np.int64)))
    states = [op.gather(op.constant(weights["embed.weight"]), ids, op.constant(np.array(0, np.int64)))]
    for index, dilation in enumerate(dilations):
        taps = weights[f"blocks.{index}.conv.weight"].shape[2]
        if minimal and minimal_filtering.fits(taps):
            change = _minimal_block(states[-1], mask, weights, index, dilation)
        else:
            change = _block(states[-1], mask, weights, index, dilation, dilation * (taps // 2), ranges)
        states.append(op.add(states[-1], change))
    if output == "states":
        return ov.Model(states, [ids], "student-states")
    features = _norm(states[-1], weights, "norm")
    if output == "residues":
        return ov.Model([features], [ids], "student-residues")
    if output.endswith("of residues"):
        assigned = op.softmax(_linear(features, weights, "contexts", ranges), -1)
        return ov.Model([op.concat([assigned, features], 2)], [ids], "student-combined-of-residues")

    pooling = output.split(" ")[0]
    shares = _shares(pooling)
    sums = _sums(features, shares, weights, pooling, ranges)
    outputs = [sums, features] if output.endswith("and residues") else [sums]
    return ov.Model(outputs, [ids, shares], f"student-{output}")


def input_ranges(weights: Weights, dilations: list[int], threads: int | None) -> quantised.Ranges:
    """How large the inputs of the products with weights get on :data:`limbeck.encoders.quantised.PROTEINS`, in f32.

    Each protein is read alone: what lies beyond its end in a batch would count, too.
    """
    import openvino as ov
    from openvino import opset13 as op

    graph = network_graph(weights, dilations, "combined of residues")
    products = [node for node in graph.get_ordered_ops() if f"{node.get_friendly_name()}.weight" in weights]
    all_axes = op.constant(np.arange(3))
    largest = [op.reduce_max(op.absolute(node.input_value(0)), all_axes, False) for node in products]
    compiled = compile_graph(ov.Model(largest, graph.get_parameters(), "student-ranges"), "f32", threads)
    found = [list(compiled([to_ids(text)[None].astype(np.int32)]).values()) for text in quantised.PROTEINS]
    names = [node.get_friendly_name() for node in products]
    return dict(zip(names, np.max(found, axis=0).tolist(), strict=True))


def products_per_residue(weights: Weights, dilations: list[int], minimal: bool) -> int:
    """Multiplications in the matrix products of the blocks, for one residue."""
    total = 0.0
    for index in range(len(dilations)):
        filters, channels, taps = weights[f"blocks.{index}.conv.weight"].shape
        each = minimal_filtering.products_per_output(taps) if minimal and minimal_filtering.fits(taps) else taps
        total += filters * channels * each + weights[f"blocks.{index}.out.weight"].size
    return round(total)


def compile_graph(model: Any, precision: str, threads: int | None, measured: bool = False) -> Any:
    """Compile for this machine's processor; ``measured`` has each operator timed."""
    import openvino as ov

    properties = _properties(precision, threads) | ({"PERF_COUNT": True} if measured else {})
    return ov.Core().compile_model(model, "CPU", properties)


def cached_graph(build: Callable[[], Any], name: str, precision: str, threads: int | None) -> Any:
    """What ``build`` gives, compiled; read from the cache if the same was compiled on such a processor before.

    The runtime has a cache of its own, but wants the whole graph to look into it, which takes as long to build as the
    compiled one to read; and it misses when the process built another graph before.

    Args:
        build: makes the graph.
        name: all that determines the graph, besides this code.
        precision: as for :func:`compile_graph`.
        threads: as for :func:`compile_graph`.
    """
    import openvino as ov

    core = ov.Core()
    processor = [core.get_property("CPU", key) for key in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    key = repr((name, precision, threads, ov.get_version(), processor)).encode()
    digest = hashlib.sha256(key)
    for module in (__file__, minimal_filtering.__file__, quantised.__file__):
        digest.update(Path(module).read_bytes())
    entry = digest.hexdigest()
    # No home, or a read-only one, only costs the compilation at each start; so does a file that cannot be used.
    with suppress(OSError, RuntimeError):
        compiled = np.fromfile(graph_cache.kept(entry), dtype=np.uint8)
        found = core.import_model(ov.Tensor(compiled), "CPU", _properties(precision, threads))
        graph_cache.used(entry)
        return found
    graph = compile_graph(build(), precision, threads)
    with suppress(OSError, RuntimeError):
        graph_cache.keep(entry, graph.export_model().getvalue())
    return graph


def _properties(precision: str, threads: int | None) -> dict[str, Any]:
    properties: dict[str, Any] = {
        # In a graph with int8 products the rest is f32.
        "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
        "PERFORMANCE_HINT": "LATENCY",
        "CPU_RUNTIME_CACHE_CAPACITY": PREPARED,
    }
    return properties | ({"INFERENCE_NUM_THREADS": threads} if threads else {})


@dataclass(frozen=True)
class Operator:
    """One step of a compiled graph."""

    kind: str
    """The runtime's name for what it does."""
    seconds: float
    moved: int
    """Bytes of all that it reads and writes."""


def timed_operators(
    model: Any, inputs: list[NDArray[Any]], precision: str, threads: int | None, repeats: int = 3
) -> list[Operator]:
    """Run a graph on ``inputs``; what each step took in the last of ``repeats`` runs."""
    # Only fixed shapes are told.
    model.reshape({node: list(array.shape) for node, array in zip(model.inputs, inputs, strict=True)})
    compiled = compile_graph(model, precision, threads, measured=True)
    request = compiled.create_infer_request()
    for _ in range(repeats):
        request.infer(inputs)
    moved = {
        node.get_friendly_name(): sum(
            port.get_element_type().size * math.prod(port.get_shape()) for port in (*node.inputs(), *node.outputs())
        )
        for node in compiled.get_runtime_model().get_ops()
    }
    steps = ((step, step.real_time.total_seconds()) for step in request.get_profiling_info())
    return [Operator(step.node_type, seconds, moved.get(step.node_name, 0)) for step, seconds in steps if seconds]
