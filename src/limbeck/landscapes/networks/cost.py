"""What a fit takes, before it is started."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

__all__ = ["Estimate", "matrix_rate"]

WARM_UP_SECONDS = 0.1
MEASURED_SECONDS = 0.4
SIZE = 1024
SLOWER = 50.0
"""How much longer an operation takes outside of matrix products: measured, as the next one."""
SECONDS_FOR_A_STEP = 2e-3


@dataclass(frozen=True)
class Estimate:
    """What a fit takes.

    Attributes:
        products: floating-point operations in matrix products, a multiplication and an addition counted as two.
        others: additions and comparisons outside of matrix products, where memory sets the pace.
        steps: of the optimiser.
    """

    products: float
    others: float
    steps: int

    @property
    def operations(self) -> float:
        """All floating-point operations."""
        return self.products + self.others

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.products + other.products, self.others + other.others, self.steps + other.steps)

    def seconds(self, rate: float) -> float:
        """Roughly how long it takes: within a factor of two, on an idle machine.

        Args:
            rate: operations a second in matrix products, as :func:`matrix_rate` measures it.
        """
        return (self.products + SLOWER * self.others) / rate + SECONDS_FOR_A_STEP * self.steps


def matrix_rate(device: str = "cpu") -> float:
    """Operations a second that this machine does in products of float32 matrices, measured in half a second."""
    left = torch.rand(SIZE, SIZE, device=device)
    _products(left, WARM_UP_SECONDS)
    return _products(left, MEASURED_SECONDS)


def _products(left: torch.Tensor, seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        (left @ left)[0, 0].item()
        count += 1
    return count * 2 * SIZE**3 / spent
