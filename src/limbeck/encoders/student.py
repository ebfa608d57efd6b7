"""The distilled student, run by OpenVINO: no PyTorch at inference.

A student is a folder with ``config.json``, ``model.safetensors`` and a model card ``README.md``, and with files that
other libraries need (``docs/student-folder.md``). Its network is
:class:`limbeck.distillation.network.Student`; here the same computation runs as an OpenVINO graph
(:mod:`limbeck.encoders.student_graph`), compiled for the machine on first use; the compiled graph is cached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from limbeck.encoders.base import OnBatch, ResidueEncoder
from limbeck.encoders.batches import Piece
from limbeck.encoders.quantised import Ranges, exact
from limbeck.encoders.registry import EncoderInfo, Family, Options, folder_config
from limbeck.encoders.student_graph import (
    Operator,
    Weights,
    block_graph,
    cached_graph,
    input_ranges,
    network_graph,
    pooling_graph,
    products_per_residue,
    timed_operators,
)
from limbeck.encoders.student_pooling import ENDS, SHORTEST_SIGHT, counted, counted_rows, part_sizes, parts, shares_of
from limbeck.errors import InputError
from limbeck.residues import PAD_ID, to_ids
from limbeck.stages import stage

__all__ = [
    "DEFAULT_NAME",
    "RANDOM_NAME",
    "StudentEncoder",
    "Weights",
    "load_student",
    "random_student",
    "student_files",
    "student_folder",
]

DEFAULT_NAME = "limbeck-9m"
RANDOM_NAME = "random-student"
POOLINGS = ("combined", "mean")
PRECISIONS = ("f32", "bf16", "int8")
DEFAULTS = Options()
PROJECTED_AT_ONCE = 256
LENGTH_STEP = 16
"""Batches are padded to a multiple of this, so that few shapes occur and each is prepared once."""


class StudentEncoder(ResidueEncoder):
    """A student with its weights.

    Args:
        name: what users call it.
        config: the content of ``config.json``; see :class:`limbeck.distillation.network.StudentConfig` for its shape.
        weights: tensors by name, as in ``model.safetensors``.
        options: ``pooling`` is ``"combined"`` (the square root of the mean context assignment, the mean of the residue
            vectors and how it differs at either end, the square roots of how often residues and pairs of them occur,
            and the logarithm of the length, projected together) or ``"mean"`` (mean of the residue vectors), by default
            what ``config`` says;
            ``precision`` is ``"f32"``, ``"bf16"``, ``"int8"`` (:mod:`limbeck.encoders.quantised`), or ``"auto"``: bf16
            where the processor multiplies bf16 matrices, else f32; ``dimension`` is how many leading numbers of the
            protein vector to give, one of the configuration's ``nested_dimensions``. Residue vectors are not nested, so
            there are none then.

    Raises:
        InputError: if the weights don't fit the configuration, an option is unknown, or the runtime has no int8 here.
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
        self._lock = Lock()
        self.name = name
        self.version = str(config["version"])
        self.license = str(config["license"])
        self._width = int(shape["width"])
        self._states = int(shape["states"])
        self.dimension = _nested_dimension(name, config, self.pooling, options.dimension)
        self.parameters = sum(value.size for value in weights.values())
        self.precision = _resolve_precision(name, options.precision)
        self._threads = options.threads
        cut = self.dimension if self.dimension < self._width else None
        self.fingerprint = _fingerprint(shape, weights, self.pooling, cut)
        sight = sum(self._dilations) * (self._kernel // 2)
        self._counts_within_sight = sight >= SHORTEST_SIGHT
        self.radius = max(sight, SHORTEST_SIGHT)
        self.ends = 0 if self.pooling == "mean" else ENDS
        # With this overlap the windows' features are those of the whole protein, up to rounding.
        self.overlap = 2 * self.radius
        self.max_length = max(4096, 4 * self.overlap)
        self.token_budget = 16_384
        self.bytes_per_token = 4 * (6 * self._width + 2 * int(shape["states"]))

    def forward(self, windows: list[str]) -> list[NDArray[np.float32]]:
        features = self._infer("residues", _padded(windows))[0]
        return [f[: len(w)] for f, w in zip(features, windows, strict=True)]

    def pooled_sums(self, windows: list[str], pieces: list[Piece]) -> NDArray[np.float32]:
        sums = self._infer(self.pooling, *self._inputs(windows, pieces))[0]
        return self._with_counts(sums, windows, [piece.owned for piece in pieces])

    def pooled_sums_and_features(
        self, windows: list[str], pieces: list[Piece]
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        self.check_residues()
        sums, features = self._infer(f"{self.pooling} and residues", *self._inputs(windows, pieces))
        sums = self._with_counts(sums, windows, [piece.owned for piece in pieces])
        return sums, [f[: len(w)] for f, w in zip(features, windows, strict=True)]

    def pooled_rows(self, windows: list[str], pieces: list[Piece]) -> list[NDArray[np.float32]]:
        ids = _padded(windows)
        rows = self._infer("residues" if self.pooling == "mean" else "combined of residues", ids)[0]
        found = [r[: len(w)] for r, w in zip(rows, windows, strict=True)]
        if self.pooling == "mean":
            return found
        ends = shares_of(pieces, ids.shape[1])[:, 1:, :, None]
        results = []
        for row, window, (first, last) in zip(found, windows, ends, strict=True):
            features = row[:, self._states :]
            at_ends = [features * end[: len(window)] for end in (first, last)]
            results.append(np.concatenate([row, *at_ends, counted_rows(window)], axis=1))
        return results

    def states(self, sequence: str) -> Any:
        """The input of each block and the output of the last for one protein, each (length, width) float32."""
        too_long = self.max_length is not None and len(sequence) > self.max_length
        if too_long or not self._counts_within_sight:
            return None
        return [state[0, : len(sequence)] for state in self._infer("states", _padded([sequence]))]

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
        stacked = _stacked(values)
        pieces = [Piece(slice(0, b - a), a, length) for a, b in ranges]
        sums, features = self._infer(f"{self.pooling} of the last block", stacked, self._shares(pieces, stacked))
        sums = self._with_counts(sums, variants, [slice(a, b) for a, b in ranges])
        return sums, [f[: b - a] for f, (a, b) in zip(features, ranges, strict=True)]

    def changed_tokens(self, start: int, stop: int, length: int) -> float:
        reach = total = 0
        for dilation in self._dilations:
            reach += dilation * (self._kernel // 2)
            total += min(length, stop + reach) - max(0, start - reach)
        return total / len(self._dilations)

    def finish(self, sums: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.floating]:
        if self.pooling == "mean":
            return super().finish(sums, lengths)
        vectors = np.empty((len(sums), self.dimension))
        weight = self._weights["project.weight"][: self.dimension].T.astype(np.float64)
        # What is pooled is ten times as wide as the vector, so few proteins at a time.
        for start in range(0, len(sums), PROJECTED_AT_ONCE):
            rows = slice(start, start + PROJECTED_AT_ONCE)
            pooled = parts(sums[rows], lengths[rows], self._width, self._states)
            vectors[rows] = (pooled - self._weights["center"]) @ weight
        return vectors

    def _inputs(self, windows: list[str], pieces: list[Piece]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Ids, and the shares that :meth:`_shares` gives."""
        ids = _padded(windows)
        return ids, self._shares(pieces, ids)

    @stage("packing")
    def _shares(self, pieces: list[Piece], padded: NDArray[Any]) -> NDArray[np.float32]:
        """1 for each position of (n, length, ...) that counts: (n, 3, length) as in
        :func:`limbeck.encoders.student_pooling.shares_of`, or (n, 1, length) if the ends are not pooled apart."""
        return shares_of(pieces, padded.shape[1])[:, : 3 if self.ends else 1]

    @stage("pooling")
    def _with_counts(self, sums: NDArray[np.float32], texts: list[str], owned: list[slice]) -> NDArray[np.float32]:
        """With the counts of residues and their pairs appended, where they are pooled."""
        if self.pooling == "mean":
            return sums
        counts = [counted(text, kept) for text, kept in zip(texts, owned, strict=True)]
        return np.concatenate([sums, np.stack(counts)], axis=1)

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

    def operations(self) -> int:
        """Additions and multiplications of the matrix products for one residue of a pooled protein vector."""
        products = products_per_residue(self._weights, self._dilations, self.precision == "f32")
        return 2 * (products + (self._weights["contexts.weight"].size if self.pooling == "combined" else 0))

    def operators(self, windows: list[str]) -> list[Operator]:
        """What the runtime does for one batch, each step timed in the last of several runs."""
        inputs = self._inputs(windows, [Piece(slice(0, len(w)), 0, len(w)) for w in windows])
        return timed_operators(self._graph(self.pooling), list(inputs), self.precision, self._threads)

    def _infer(self, output: str, *inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        # A compiled graph takes one request at a time.
        with self._lock:
            results = self._compiled(output)(list(inputs))
            return [np.array(results[i], dtype=np.float32) for i in range(len(results))]

    @stage("compiling")
    def _compiled(self, output: str) -> Any:
        if output not in self._models:
            self._models[output] = cached_graph(
                lambda: self._graph(output), f"{output} {self.fingerprint}", self.precision, self._threads
            )
        return self._models[output]

    def _graph(self, output: str) -> Any:
        if output.startswith("block "):
            block = int(output.removeprefix("block "))
            return block_graph(self._weights, block, self._dilations[block], self._ranges)
        if output.endswith(" of the last block"):
            return pooling_graph(self._weights, output.split(" ")[0], self._ranges)
        # Sums of inputs would be rounded to bfloat16, or int8, once more.
        return network_graph(self._weights, self._dilations, output, self.precision == "f32", self._ranges)

    @cached_property
    def _ranges(self) -> Ranges | None:
        """What the products' inputs are rounded within, in int8; only a graph that isn't in the cache needs it."""
        if self.precision != "int8":
            return None
        return input_ranges(self._weights, self._dilations, self._threads)

    @cached_property
    def _models(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # A compiled graph belongs to its process; another process compiles its own.
        return {key: value for key, value in self.__dict__.items() if key not in ("_models", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()


def _rounded(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


@stage("packing")
def _padded(windows: list[str]) -> NDArray[np.int32]:
    """Ids (n, length) padded with PAD_ID."""
    ids = np.full((len(windows), _rounded(max(map(len, windows)))), PAD_ID, dtype=np.int32)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = to_ids(window)
    return ids


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


def _stacked(values: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(n, length, width) padded with zeros."""
    stacked = np.zeros((len(values), max(map(len, values)), values[0].shape[1]), np.float32)
    for row, value in enumerate(values):
        stacked[row, : len(value)] = value
    return stacked


def _resolve_precision(name: str, precision: str) -> str:
    if precision in ("f32", "bf16"):
        return precision
    import openvino as ov

    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "int8":
        if "INT8" not in capabilities or not exact():
            raise InputError(f"{name}: int8 needs a processor with VNNI or AMX; choose from: auto, f32, bf16")
        return precision
    return "bf16" if "BF16" in capabilities else "f32"


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
    allowed = sorted({int(d) for d in nested if 0 < d < width} | {width}) if pooling == "combined" else [width]
    if wanted not in allowed:
        listed = ", ".join(map(str, allowed))
        raise InputError(f"{name} with pooling {pooling} has no dimension {wanted}; choose from: {listed}")
    return wanted


def expected_shapes(shape: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a student's tensors by name, from the ``"limbeck"`` part of its configuration."""
    width, inner, states = shape["width"], shape["inner"], shape["states"]
    pooled = sum(part_sizes(width, states))
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
        "center": (pooled,),
        "project.weight": (width, pooled),
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
        elif key.endswith("bias") or key == "center":
            weights[key] = np.zeros(shape)
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
