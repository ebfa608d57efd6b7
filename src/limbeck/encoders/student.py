"""The distilled student, run by OpenVINO: no PyTorch at inference.

A student is a folder with ``config.json``, ``model.safetensors`` and a model card ``README.md``, and with files that
other libraries need (``docs/student-folder.md``). Its network is
:class:`limbeck.distillation.network.Student`; here the same computation is built as an OpenVINO graph from the
weights, compiled for the machine on first use, and the compiled graph is cached.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from limbeck.encoders.base import OnBatch, ResidueEncoder
from limbeck.encoders.registry import EncoderInfo, Family, Options, folder_config
from limbeck.errors import InputError
from limbeck.residues import PAD_ID, to_ids

__all__ = [
    "DEFAULT_NAME",
    "RANDOM_NAME",
    "StudentEncoder",
    "load_student",
    "random_student",
    "student_files",
    "student_folder",
]

DEFAULT_NAME = "limbeck-9m"
RANDOM_NAME = "random-student"
POOLINGS = ("contexts", "mean")
PRECISIONS = ("f32", "bf16")
DEFAULTS = Options()
LENGTH_STEP = 16
"""Batches are padded to a multiple of this, so that few shapes occur and each is prepared once."""

Weights = dict[str, NDArray[np.floating]]


class StudentEncoder(ResidueEncoder):
    """A student with its weights.

    Args:
        name: what users call it.
        config: the content of ``config.json``; see :class:`limbeck.distillation.network.StudentConfig` for its shape.
        weights: tensors by name, as in ``model.safetensors``.
        options: ``pooling`` is ``"contexts"`` (default: the square root of the mean context assignment, projected)
            or ``"mean"`` (mean of the residue vectors), by default what ``config`` says;
            ``precision`` is ``"f32"``, ``"bf16"``, or ``"auto"``: bf16 where the processor multiplies bf16 matrices,
            else f32; ``dimension`` is how many leading numbers of the protein vector to give, one of the
            configuration's ``nested_dimensions``. Residue vectors are not nested, so there are none then.

    Raises:
        InputError: if the weights don't fit the configuration, or an option is unknown.
    """

    def __init__(self, name: str, config: dict[str, Any], weights: Weights, options: Options = DEFAULTS) -> None:
        _check_config(name, config)
        shape = config["limbeck"]
        options.check(name, precisions=PRECISIONS, poolings=POOLINGS, nested=True)
        self.pooling = options.pooling or str(config["pooling"])
        self._dilations: list[int] = shape["dilations"]
        self._kernel: int = shape["kernel"]
        self._weights = {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in weights.items()}
        _check_shapes(name, shape, self._weights)
        self.name = name
        self.version = str(config["version"])
        self.license = str(config["license"])
        self._width = int(shape["width"])
        self.dimension = _nested_dimension(name, config, self.pooling, options.dimension)
        self.parameters = sum(value.size for value in weights.values())
        self.precision = _resolve_precision(options.precision)
        self._threads = options.threads
        cut = self.dimension if self.dimension < self._width else None
        self.fingerprint = _fingerprint(shape, weights, self.pooling, cut)
        self.radius = sum(self._dilations) * (self._kernel // 2)
        # With this overlap the windows' features are those of the whole protein, up to rounding.
        self.overlap = 2 * self.radius
        self.max_length = max(4096, 4 * self.overlap)
        self.token_budget = 16_384
        self.bytes_per_token = 4 * (6 * self._width + 2 * int(shape["states"]))

    def forward(self, windows: list[str]) -> list[NDArray[np.float32]]:
        ids, _ = _padded(windows, [slice(None)] * len(windows))
        features = self._infer("residues", ids)[0]
        return [f[: len(w)] for f, w in zip(features, windows, strict=True)]

    def pooled_sums(self, windows: list[str], owned: list[slice]) -> NDArray[np.float32]:
        return self._infer(self.pooling, *_padded(windows, owned))[0]

    def pooled_sums_and_features(
        self, windows: list[str], owned: list[slice]
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        self.check_residues()
        sums, features = self._infer(f"{self.pooling} and residues", *_padded(windows, owned))
        return sums, [f[: len(w)] for f, w in zip(features, windows, strict=True)]

    def pooled_rows(self, windows: list[str]) -> list[NDArray[np.float32]]:
        ids, _ = _padded(windows, [slice(None)] * len(windows))
        rows = self._infer("residues" if self.pooling == "mean" else "contexts of residues", ids)[0]
        return [r[: len(w)] for r, w in zip(rows, windows, strict=True)]

    def states(self, sequence: str) -> Any:
        """The input of each block and the output of the last for one protein, each (length, width) float32."""
        if self.max_length is not None and len(sequence) > self.max_length:
            return None
        ids, _ = _padded([sequence], [slice(None)])
        return [state[0, : len(sequence)] for state in self._infer("states", ids)]

    def changed_sums_and_features(
        self, states: Any, variants: list[str], spans: list[tuple[int, int]]
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        length = len(states[0])
        ranges = spans
        values = [self._weights["embed.weight"][to_ids(v[a:b])] for v, (a, b) in zip(variants, spans, strict=True)]
        for block, dilation in enumerate(self._dilations):
            reach = dilation * (self._kernel // 2)
            wider = [(max(0, a - reach), min(length, b + reach)) for a, b in ranges]
            inputs = _around(states[block], values, ranges, wider, reach)
            outputs = self._infer(f"block {block}", *inputs)[0]
            values = [o[: b - a] for o, (a, b) in zip(outputs, wider, strict=True)]
            ranges = wider
        stacked, owned = _stacked(values)
        sums, features = self._infer(f"{self.pooling} of the last block", stacked, owned)
        return sums, [f[: b - a] for f, (a, b) in zip(features, ranges, strict=True)]

    def changed_tokens(self, start: int, stop: int, length: int) -> float:
        reach = total = 0
        for dilation in self._dilations:
            reach += dilation * (self._kernel // 2)
            total += min(length, stop + reach) - max(0, start - reach)
        return total / len(self._dilations)

    def finish(self, means: NDArray[np.float64]) -> NDArray[np.floating]:
        if self.pooling == "mean":
            return means
        # Rounding can leave a mean of probabilities a hair below zero.
        roots = np.sqrt(np.maximum(means, 1e-12))
        return (roots - self._weights["center"]) @ self._weights["project.weight"][: self.dimension].T

    def encode_residues(self, sequences: Sequence[str], on_batch: OnBatch | None = None) -> list[NDArray[np.float32]]:
        self.check_residues()
        return super().encode_residues(sequences, on_batch)

    def check_residues(self) -> None:
        if self.dimension < self._width:
            raise InputError(f"{self.name}: only protein vectors can be cut; leave the dimension out to get residues")

    def log_probabilities(self, sequences: list[str]) -> list[NDArray[np.float32]]:
        """What residues the student expects at each position among the protein's relatives.

        Returns:
            For each protein (length, 20) float32, natural logarithms in the order of ``limbeck.residues.RESIDUES``.
        """
        weight, bias = self._weights["profile.weight"], self._weights["profile.bias"]
        results = []
        for features in self.encode_residues(sequences):
            logits = features @ weight.T + bias
            logits -= logits.max(axis=1, keepdims=True)
            results.append(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
        return results

    def tokens(self, residues: int) -> int:
        return _rounded(residues)

    def _infer(self, output: str, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        results = self._compiled(output)(list(inputs))
        return [np.array(results[i], dtype=np.float32) for i in range(len(results))]

    def _compiled(self, output: str) -> Any:
        if output not in self._models:
            if output.startswith("block "):
                block = int(output.removeprefix("block "))
                graph = _block_graph(self._weights, block, self._dilations[block])
            elif output.endswith(" of the last block"):
                graph = _pooling_graph(self._weights, output.split(" ")[0])
            else:
                graph = _graph(self._weights, self._dilations, output)
            self._models[output] = _compile(graph, self.precision, self._threads)
        return self._models[output]

    @cached_property
    def _models(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # A compiled graph belongs to its process; another process compiles its own.
        return {key: value for key, value in self.__dict__.items() if key != "_models"}


def _rounded(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def _padded(windows: list[str], owned: list[slice]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids (n, length) padded with PAD_ID, and 1 where a residue is owned (n, length)."""
    length = _rounded(max(map(len, windows)))
    ids = np.full((len(windows), length), PAD_ID, dtype=np.int32)
    weights = np.zeros((len(windows), length), dtype=np.float32)
    for row, (window, kept) in enumerate(zip(windows, owned, strict=True)):
        ids[row, : len(window)] = to_ids(window)
        weights[row, : len(window)][kept] = 1.0
    return ids, weights


def _around(
    state: NDArray[np.float32],
    values: list[NDArray[np.float32]],
    ranges: list[tuple[int, int]],
    wider: list[tuple[int, int]],
    reach: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a block needs to compute ``wider`` ranges of n variants: (n, length, width), and where there are residues,
    (n, length, 1).

    Args:
        state: (protein's length, width) the block's input for the protein that they are variants of.
        values: the block's input for each variant where it differs from that, in ``ranges``.
        reach: how far the block sees.
    """
    length = max(b - a for a, b in wider) + 2 * reach
    inputs = np.zeros((len(values), length, state.shape[1]), np.float32)
    mask = np.zeros((len(values), length, 1), np.float32)
    for row, (value, (a, b), (start, stop)) in enumerate(zip(values, ranges, wider, strict=True)):
        first = start - reach
        known = slice(max(0, first), min(len(state), stop + reach))
        inputs[row, known.start - first : known.stop - first] = state[known]
        inputs[row, a - first : b - first] = value
        mask[row, known.start - first : known.stop - first] = 1.0
    return inputs, mask


def _stacked(values: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, length, width) padded with zeros, and 1 where there is a value, (n, length)."""
    length = max(map(len, values))
    stacked = np.zeros((len(values), length, values[0].shape[1]), np.float32)
    owned = np.zeros((len(values), length), np.float32)
    for row, value in enumerate(values):
        stacked[row, : len(value)] = value
        owned[row, : len(value)] = 1.0
    return stacked, owned


def _linear(x: Any, weights: Weights, name: str) -> Any:
    from openvino import opset13 as op

    product = op.matmul(x, op.constant(weights[f"{name}.weight"]), False, True)
    return op.add(product, op.constant(weights[f"{name}.bias"]))


def _norm(x: Any, weights: Weights, name: str) -> Any:
    from openvino import opset13 as op

    scaled = op.mvn(x, op.constant(np.array([-1], np.int64)), True, 1e-5, "inside_sqrt")
    scaled = op.multiply(scaled, op.constant(weights[f"{name}.weight"]))
    return op.add(scaled, op.constant(weights[f"{name}.bias"]))


def _block(x: Any, mask: Any, weights: Weights, index: int, dilation: int, pad: int) -> Any:
    """What a block adds to its input (batch, length, width), shorter by what the filters see beyond ``pad``."""
    from openvino import opset13 as op

    name = f"blocks.{index}"
    to_channels, to_length = (op.constant(np.array(o, np.int64)) for o in ([0, 2, 1], [0, 2, 1]))
    h = op.transpose(op.multiply(_norm(x, weights, f"{name}.norm"), mask), to_channels)
    h = op.convolution(h, op.constant(weights[f"{name}.conv.weight"]), [1], [pad], [pad], [dilation])
    h = op.transpose(h, to_length)
    h = op.gelu(op.add(h, op.constant(weights[f"{name}.conv.bias"])), "tanh")
    return _linear(h, weights, f"{name}.out")


def _block_graph(weights: Weights, index: int, dilation: int) -> Any:
    """One block on pieces of proteins: inputs (batch, length, width) and where there are residues, (batch, length, 1);
    output shorter by what the filters see on either side."""
    import openvino as ov
    from openvino import opset13 as op

    reach = dilation * (weights[f"blocks.{index}.conv.weight"].shape[2] // 2)
    # The runtime tries the graph with some length of its own, which must leave something to compute.
    length = ov.Dimension(2 * reach + 1, -1)
    x = op.parameter(ov.PartialShape([-1, length, weights["embed.weight"].shape[1]]), np.float32, name="x")
    mask = op.parameter(ov.PartialShape([-1, length, 1]), np.float32, name="mask")
    start, stop, step, axis = (op.constant(np.array([v], np.int64)) for v in (reach, -reach, 1, 1))
    middle = op.slice(x, start, stop, step, axis)
    return ov.Model([op.add(middle, _block(x, mask, weights, index, dilation, 0))], [x, mask], f"student-block-{index}")


def _pooling_graph(weights: Weights, pooling: str) -> Any:
    """From the last block's output (batch, length, width) and what is owned of it, (batch, length), to sums and to
    features."""
    import openvino as ov
    from openvino import opset13 as op

    x = op.parameter([-1, -1, weights["embed.weight"].shape[1]], np.float32, name="x")
    owned = op.parameter([-1, -1], np.float32, name="owned")
    features = _norm(x, weights, "norm")
    return ov.Model([_sums(features, owned, weights, pooling), features], [x, owned], f"student-pool-{pooling}")


def _sums(features: Any, owned: Any, weights: Weights, pooling: str) -> Any:
    """Sums over the owned residues, (batch, width or states), of the features or of the context assignments."""
    from openvino import opset13 as op

    pooled = op.softmax(_linear(features, weights, "contexts"), -1) if pooling == "contexts" else features
    row = op.unsqueeze(owned, op.constant(np.array(1, np.int64)))
    return op.squeeze(op.matmul(row, pooled, False, False), op.constant(np.array(1, np.int64)))


def _graph(weights: Weights, dilations: list[int], output: str) -> Any:
    """The student as an OpenVINO model.

    Inputs: ids (batch, length) int32 and, for sums, owned (batch, length) float32.
    Output: residue features (batch, length, width) (``"residues"``), the input of each block and the output of the last
    (``"states"``), context assignments (batch, length, states) (``"contexts of residues"``), or sums over the owned
    residues: of the features (``"mean"``) or of the context assignments (``"contexts"``), followed by the features for
    ``"... and residues"``.
    """
    import openvino as ov
    from openvino import opset13 as op

    ids = op.parameter([-1, -1], np.int32, name="ids")
    is_residue = op.not_equal(ids, op.constant(np.array(PAD_ID, np.int32)))
    mask = op.unsqueeze(op.convert(is_residue, "f32"), op.constant(np.array(2, np.int64)))
    states = [op.gather(op.constant(weights["embed.weight"]), ids, op.constant(np.array(0, np.int64)))]
    for index, dilation in enumerate(dilations):
        pad = dilation * (weights[f"blocks.{index}.conv.weight"].shape[2] // 2)
        states.append(op.add(states[-1], _block(states[-1], mask, weights, index, dilation, pad)))
    if output == "states":
        return ov.Model(states, [ids], "student-states")
    features = _norm(states[-1], weights, "norm")
    if output == "residues":
        return ov.Model([features], [ids], "student-residues")
    if output.endswith("of residues"):
        assigned = op.softmax(_linear(features, weights, "contexts"), -1)
        return ov.Model([assigned], [ids], "student-contexts-of-residues")

    owned = op.parameter([-1, -1], np.float32, name="owned")
    sums = _sums(features, owned, weights, output.split(" ")[0])
    outputs = [sums, features] if output.endswith("and residues") else [sums]
    return ov.Model(outputs, [ids, owned], f"student-{output}")


def _compile(model: Any, precision: str, threads: int | None) -> Any:
    import openvino as ov

    core = ov.Core()
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        properties["INFERENCE_NUM_THREADS"] = threads
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
        properties["CACHE_DIR"] = str(cache_directory())
    except (OSError, RuntimeError):
        pass  # no home, or a read-only one, only costs the compilation at each start
    return core.compile_model(model, "CPU", properties)


def cache_directory() -> Path:
    """Where compiled graphs are kept: ``$LIMBECK_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("LIMBECK_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "limbeck"


def _resolve_precision(precision: str) -> str:
    if precision != "auto":
        return precision
    import openvino as ov

    return "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _fingerprint(shape: dict[str, Any], weights: Weights, pooling: str, cut: int | None) -> str:
    definition = [shape, pooling] if cut is None else [shape, pooling, cut]
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode())
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(weights[key], dtype=np.float32).data)
    return digest.hexdigest()


def _nested_dimension(name: str, config: dict[str, Any], pooling: str, wanted: int | None) -> int:
    """How many numbers a protein vector has, given how many the user wants."""
    width = int(config["limbeck"]["width"])
    if wanted is None or wanted == width:
        return width
    nested = config.get("nested_dimensions", [])
    allowed = sorted({int(d) for d in nested if 0 < d < width} | {width}) if pooling == "contexts" else [width]
    if wanted not in allowed:
        listed = ", ".join(map(str, allowed))
        raise InputError(f"{name} with pooling {pooling} has no dimension {wanted}; choose from: {listed}")
    return wanted


def expected_shapes(shape: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a student's tensors by name, from the ``"limbeck"`` part of its configuration."""
    width, inner, states = shape["width"], shape["inner"], shape["states"]
    result: dict[str, tuple[int, ...]] = {"embed.weight": (PAD_ID + 1, width)}
    for index in range(len(shape["dilations"])):
        result |= {
            f"blocks.{index}.norm.weight": (width,),
            f"blocks.{index}.norm.bias": (width,),
            f"blocks.{index}.conv.weight": (inner, width, shape["kernel"]),
            f"blocks.{index}.conv.bias": (inner,),
            f"blocks.{index}.out.weight": (width, inner),
            f"blocks.{index}.out.bias": (width,),
        }
    return result | {
        "norm.weight": (width,),
        "norm.bias": (width,),
        "contexts.weight": (states, width),
        "contexts.bias": (states,),
        "center": (states,),
        "project.weight": (width, states),
        "profile.weight": (20, width),
        "profile.bias": (20,),
    }


def _check_config(name: str, config: dict[str, Any]) -> None:
    whole = {"version": str, "license": str, "pooling": str, "limbeck": dict}
    shape = {"width": int, "inner": int, "kernel": int, "states": int, "dilations": list}
    nested = config.get("nested_dimensions", [])
    if not isinstance(nested, list) or not all(isinstance(d, int) for d in nested):
        raise InputError(f"{name}: nested_dimensions in config.json is no list of numbers; get the model again")
    for place, fields in ((config, whole), (config.get("limbeck", {}), shape)):
        for key, kind in fields.items():
            if not isinstance(place, dict) or not isinstance(place.get(key), kind):
                raise InputError(f"{name}: config.json states no {key}; get the model again")


def _check_shapes(name: str, shape: dict[str, Any], weights: Weights) -> None:
    for key, expected in expected_shapes(shape).items():
        found = weights[key].shape if key in weights else None
        if found != expected:
            raise InputError(f"{name}: tensor {key} should have shape {expected}, found {found}; get the model again")


def student_folder(path: str | Path) -> Path:
    """The folder of a student in the package by its name, or the path itself."""
    return _shipped() if str(path) == DEFAULT_NAME else Path(path)


def student_files(path: str | Path) -> tuple[dict[str, Any], Weights]:
    """The configuration and the weights (by name, as stored) of a student's folder, or of one in the package.

    Raises:
        InputError: if it is no student, or is damaged.
    """
    folder = student_folder(path)
    try:
        config = folder_config(folder)
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder} is not a complete student: {error}; get the model again") from None
    if config is None or "limbeck" not in config:
        raise InputError(f"{folder}: config.json does not describe a limbeck student; get the model again")
    return config, weights


def load_student(path: str | Path = DEFAULT_NAME, options: Options = DEFAULTS) -> StudentEncoder:
    """Load a student from its folder, or the one in the package by its name.

    Raises:
        InputError: if the folder is no student, or is damaged.
    """
    config, weights = student_files(path)
    return StudentEncoder(str(path), config, weights, options)


def random_student(options: Options = DEFAULTS, seed: int = 0) -> StudentEncoder:
    """The default student's network with untrained weights: what the architecture alone is worth."""
    config = (folder_config(_shipped()) or {}) | {"license": "CC0-1.0", "version": "1"}
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for key, shape in expected_shapes(config["limbeck"]).items():
        if key.endswith("norm.weight"):
            weights[key] = np.ones(shape)
        elif key.endswith("bias"):
            weights[key] = np.zeros(shape)
        elif key == "center":
            weights[key] = np.full(shape, shape[0] ** -0.5)
        elif key.startswith("embed"):
            weights[key] = rng.normal(size=shape)
        else:
            weights[key] = rng.normal(size=shape) * np.prod(shape[1:]) ** -0.5
    return StudentEncoder(RANDOM_NAME, config, weights, options)


def _shipped() -> Path:
    return Path(str(resources.files("limbeck") / "models" / DEFAULT_NAME))


def _recognises(name: str) -> bool:
    if name in (DEFAULT_NAME, RANDOM_NAME):
        return True
    return Path(name).is_dir() and "limbeck" in (folder_config(Path(name)) or {})


def _load(name: str, options: Options) -> StudentEncoder:
    return random_student(options) if name == RANDOM_NAME else load_student(name, options)


def _available() -> list[EncoderInfo]:
    config = folder_config(_shipped()) or {}
    shape = config["limbeck"]
    parameters = sum(int(np.prod(s)) for s in expected_shapes(shape).values())
    return [
        EncoderInfo(DEFAULT_NAME, "student (default)", shape["width"], parameters, config["license"], True),
        EncoderInfo(RANDOM_NAME, "untrained student", shape["width"], parameters, "CC0-1.0", True),
    ]


FAMILY = Family(_recognises, _load, _available)
