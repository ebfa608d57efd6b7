"""Convolutions with fewer multiplications: Winograd's minimal filtering, as OpenVINO graphs.

``m`` neighbouring outputs of a filter of ``k`` taps take ``m + k - 1`` products of sums of inputs with sums of taps,
where the plain way takes ``m k`` (S. Winograd, Arithmetic complexity of computations, 1980; networks: Lavin and Gray,
arXiv 1509.09308). For 5 taps that is 2 products an output, not 5, and each is a matrix product over the channels. The
price is a few additions, and rounding: about 6e-6 of the largest output in float32. In bfloat16, whose rounding
the sums enlarge, it is no use.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["convolution", "fits", "interleaved", "length_of", "products_per_output", "transforms"]

POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2")))
"""Where the polynomials are evaluated, besides infinity. More points would round worse."""

Matrix = NDArray[np.float64]
LAST = np.iinfo(np.int64).max


def fits(taps: int) -> bool:
    """Whether filters of so many taps gain: several taps, and several outputs at once."""
    return 1 < taps < len(POINTS)


def products_per_output(taps: int) -> float:
    """As ``taps`` would be without this."""
    return (len(POINTS) + 1) / (len(POINTS) + 2 - taps)


@cache
def transforms(taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """Matrices A (n, m), G (n, taps) and B (n, n), such that for n inputs x, filter w, and their m = n - taps + 1
    outputs y (y[i] is the sum of w[j] x[i + j]): y = A.T @ ((G @ w) * (B @ x)).

    Two polynomials are multiplied by their values at n points (Toom and Cook), and the map from one of them to the
    product is transposed.
    """
    n = len(POINTS) + 1
    outputs = n - taps + 1
    return (
        np.array(_values(outputs), dtype=float),
        np.array(_values(taps), dtype=float),
        np.array(_inverse(_values(n)), dtype=float).T,
    )


def _values(degree: int) -> list[list[Fraction]]:
    """What turns coefficients of a polynomial into its values at the points and at infinity."""
    at_infinity = [Fraction(0)] * (degree - 1) + [Fraction(1)]
    return [[point**power for power in range(degree)] for point in POINTS] + [at_infinity]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """By Gauss and Jordan, exactly."""
    n = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = next(k for k in range(i, n) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(n):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[n:] for row in rows]


def convolution(x: Any, weight: NDArray[np.floating], bias: NDArray[np.floating], dilation: int) -> list[Any]:
    """A dilated convolution that keeps the length, zeros beyond either end.

    Args:
        x: (batch, length, channels), a node of an OpenVINO graph.
        weight: (filters, channels, taps), an odd number of taps.
        bias: (filters,).
        dilation: distance of two taps.

    Returns:
        ``m`` nodes (batch, tiles, dilation, filters): node ``i`` has at [:, tile, phase] the output of residue
        ``(tile * m + i) * dilation + phase``. :func:`interleaved` puts them in order, after whatever else is done
        with each.
    """
    from openvino import opset13 as op

    a, g, b = transforms(weight.shape[2])
    channels = weight.shape[1]
    samples = _samples(x, weight.shape[2], dilation, channels)
    products = []
    for row, taps in zip(b, g, strict=True):
        value, scale = _weighted_sum(row, samples)
        value = op.reshape(value, _integers(0, -1, dilation, channels), True)
        transformed = np.einsum("k,oik->oi", scale * taps, weight).astype(np.float32)
        products.append(op.matmul(value, op.constant(transformed), False, True))
    # The product at point 1 goes into each output once, and so does what is added to it.
    point = POINTS.index(Fraction(1))
    products[point] = op.add(products[point], op.constant(np.asarray(bias, dtype=np.float32)))
    outputs = []
    for column in a.T:
        value, scale = _weighted_sum(column, products)
        outputs.append(value if scale == 1 else op.multiply(value, op.constant(np.float32(scale))))
    return outputs


def interleaved(outputs: Sequence[Any], length: Any, filters: int) -> Any:
    """What :func:`convolution` gave, in the order of the residues: (batch, length, filters)."""
    from openvino import opset13 as op

    axis = _integers(2)
    rows = op.concat([op.unsqueeze(output, axis) for output in outputs], 2)
    rows = op.reshape(rows, _integers(0, -1, filters), True)
    return op.slice(rows, _integers(0), length, _integers(1), _integers(1))


def length_of(x: Any) -> Any:
    """The length of (batch, length, channels), (1,)."""
    from openvino import opset13 as op

    return op.gather(op.shape_of(x, "i64"), _integers(1), op.constant(np.array(0, np.int64)))


def _samples(x: Any, taps: int, dilation: int, channels: int) -> list[Any]:
    """The n inputs that each tile of m outputs reads: n nodes (batch, tiles, dilation * channels)."""
    from openvino import opset13 as op

    n = len(POINTS) + 1
    outputs = n - taps + 1
    step, before, further = outputs * dilation, taps // 2 * dilation, (n - 1) // outputs
    length = length_of(x)
    # Groups of m inputs; a tile reads its own group and what follows.
    groups = op.add(op.divide(op.add(length, _integers(step - 1)), _integers(step)), _integers(further))
    after = op.subtract(op.subtract(op.multiply(groups, _integers(step)), length), _integers(before))
    end = op.concat([_integers(0), after, _integers(0)], 0)
    padded = op.pad(x, _integers(0, before, 0), end, "constant", op.constant(np.float32(0)))
    grouped = op.reshape(padded, _integers(0, -1, outputs, dilation * channels), True)
    places = op.split(grouped, op.constant(np.array(2, np.int64)), outputs).outputs()

    def sample(index: int) -> Any:
        first, place = divmod(index, outputs)
        stop = first - further or LAST
        return op.slice(places[place], _integers(first), _integers(stop), _integers(1), _integers(1))

    return [sample(index) for index in range(n)]


def _weighted_sum(weights: Matrix, terms: Sequence[Any]) -> tuple[Any, float]:
    """A node, and the number to multiply it with, that make the sum of ``terms`` by ``weights``.

    Nested like Horner's rule, which the runtime fuses into one pass over the terms.
    """
    from openvino import opset13 as op

    chosen = sorted((i for i in range(len(terms)) if weights[i]), key=lambda i: (weights[i] == 1, abs(weights[i])))
    total = terms[chosen[0]]
    for before, index in pairwise(chosen):
        ratio = weights[before] / weights[index]
        scaled = total if ratio == 1 else op.multiply(total, op.constant(np.float32(ratio)))
        total = op.add(scaled, terms[index])
    return total, float(weights[chosen[-1]])


def _integers(*values: int) -> Any:
    from openvino import opset13 as op

    return op.constant(np.array(values, np.int64))
