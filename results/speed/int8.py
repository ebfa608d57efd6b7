"""The default model in int8: how fast, and how close to its usual precision (bf16 where it is fast, else f32)?

    python results/speed/int8.py --proteome examples/mycoplasma_genitalium.fasta.gz --output results/speed/amx

Every product with weights (convolutions, linear maps) gets weights rounded to int8 for each filter, and inputs rounded
to int8 within the range that they have on other proteins. Compared are seconds of processor time of one thread, and
vectors: the rank correlation of each protein's similarities to the others must be above 0.99. Writes ``int8.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op
from scipy.stats import spearmanr

from limbeck.encoders.registry import Options
from limbeck.encoders.student import StudentEncoder, load_student
from limbeck.encoders.student_graph import compile_graph, network_graph
from limbeck.files import whole
from limbeck.profiling import product_rate
from limbeck.records import read_records

HERE = Path(__file__).parent
CALIBRATION = 12


def graph_of(encoder: StudentEncoder) -> tuple[Any, list[Any]]:
    """The plain graph, and the operators in it that multiply by weights."""
    graph = network_graph(encoder._weights, encoder._dilations, "combined", minimal=False)
    operators = [node for node in graph.get_ordered_ops() if node.get_type_name() in ("MatMul", "Convolution")]
    return graph, [n for n in operators if n.input_value(1).get_node().get_type_name() == "Constant"]


def ranges(encoder: StudentEncoder, proteins: list[str]) -> list[float]:
    """The largest magnitude of each product's input."""
    graph, products = graph_of(encoder)
    axes = op.constant(np.arange(3))
    probes = [op.reduce_max(op.absolute(node.input_value(0)), axes, False) for node in products]
    encoder._models["combined"] = Watched(compile_graph(ov.Model(probes, graph.get_parameters(), "ranges"), "f32", 1))
    encoder.pooled_sums(proteins, [slice(None)] * len(proteins))
    return list(encoder._models.pop("combined").seen)


class Watched:
    """A compiled graph whose outputs are kept; to the encoder it gives zeros."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self.seen: list[float] = []

    def __call__(self, inputs: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
        self.seen = [float(value) for value in self._compiled(inputs).values()]
        return [np.zeros((len(inputs[0]), 1), np.float32)]


def rounded(value: Any, largest: float | NDArray[np.float32], levels: int) -> Any:
    bound = np.asarray(largest, dtype=np.float32)
    low, high = op.constant(-bound * (levels // 2) / ((levels - 1) // 2)), op.constant(bound)
    return op.fake_quantize(value, low, high, low, high, levels)


def int8_graph(encoder: StudentEncoder, largest: list[float]) -> Any:
    graph, products = graph_of(encoder)
    for node, bound in zip(products, largest, strict=True):
        weights = node.input_value(1).get_node()
        each = np.abs(weights.data).max(axis=tuple(range(1, weights.data.ndim)), keepdims=True)
        node.input(0).replace_source_output(rounded(node.input_value(0), bound, 256).output(0))
        node.input(1).replace_source_output(rounded(weights, each, 255).output(0))
    return graph


def timed(encoder: StudentEncoder, proteins: list[str]) -> tuple[NDArray[np.float32], float]:
    """Vectors, and seconds of processor time."""
    began = time.process_time()
    vectors = encoder.encode(proteins)
    return vectors, time.process_time() - began


def neighbour_ranks(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean over the proteins of the rank correlation of their similarities to the others."""
    both = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    others = ~np.eye(len(a), dtype=bool)
    similar = [(v @ v.T)[others].reshape(len(a), -1) for v in both]
    return float(np.mean([spearmanr(x, y).statistic for x, y in zip(*similar, strict=True)]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proteome", type=Path, required=True)
    parser.add_argument("--proteins", type=int, default=64, help="to compare on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    texts = [record.text for record in read_records(options.proteome) if 100 <= len(record.text) <= 400]
    calibration, proteins = texts[:CALIBRATION], texts[CALIBRATION : CALIBRATION + options.proteins]
    usual = load_student().precision
    encoders = {name: load_student(options=Options(precision=usual, threads=1)) for name in (usual, "int8")}
    graph = int8_graph(encoders["int8"], ranges(encoders["int8"], calibration))
    encoders["int8"]._models["combined"] = compile_graph(graph, usual, 1, measured=True)
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    vectors = {}
    for number in range(options.rounds + 1):
        for name, encoder in encoders.items():
            vectors[name], took = timed(encoder, proteins)
            if number:  # the first prepares
                seconds[name].append(took)
    residues = sum(map(len, proteins))
    result = {
        "proteins": len(proteins),
        "residues": residues,
        "microseconds_per_residue": {name: 1e6 * float(np.median(s)) / residues for name, s in seconds.items()},
        "all_seconds": seconds,
        "product_rate": {name: product_rate(name, 1, clock=time.process_time) for name in encoders},
        "neighbour_rank_correlation": neighbour_ranks(vectors[usual], vectors["int8"]),
        "largest_relative_difference": float(
            np.abs(vectors["int8"] - vectors[usual]).max() / np.abs(vectors[usual]).max()
        ),
    }
    print(json.dumps(result, indent=1))
    with whole(options.output / "int8.json") as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
