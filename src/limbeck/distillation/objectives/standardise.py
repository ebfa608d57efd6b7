"""Bringing teachers' features to one scale, so that no teacher and no dimension is louder than another."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Identity", "PerDimension", "PhiS", "Standardisation", "hadamard", "levelling_rotation"]

SMALLEST_SCALE = 1e-4
"""A feature that never varies has nothing to teach; it must not be blown up either."""

Matrix = NDArray[np.float64]


class Standardisation(nn.Module):
    """An invertible map of features, over the last axis."""

    def forward(self, raw: Tensor) -> Tensor:
        """Standardised features of raw ones, (..., dimension) both."""
        raise TypeError("a standardisation defines forward")

    def inverse(self, standardised: Tensor) -> Tensor:
        """Raw features of standardised ones, (..., dimension) both."""
        raise TypeError("a standardisation defines inverse")


class Identity(Standardisation):
    """Features as the teacher gives them."""

    def forward(self, raw: Tensor) -> Tensor:
        return raw

    def inverse(self, standardised: Tensor) -> Tensor:
        return standardised


class PerDimension(Standardisation):
    """Mean zero and variance one in each dimension; what UNIC does (arXiv 2408.05088).

    Dimensions that hardly vary count for as much as the others, noise included.

    Args:
        mean: (dimension,).
        scale: (dimension,) standard deviations, above zero.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float().clone())
        self.register_buffer("scale", scale.float().clone())

    def forward(self, raw: Tensor) -> Tensor:
        return (raw - self.mean) / self.scale

    def inverse(self, standardised: Tensor) -> Tensor:
        return standardised * self.scale + self.mean


class PhiS(Standardisation):
    """PHI-S (Ranzinger et al. 2024, arXiv 2410.01680): centre, rotate to the principal components, rotate by a Hadamard
    matrix, divide by one number.

    Every dimension has variance one on the sample, and yet the map is a rotation and one scale: all distances keep
    their proportions, and directions that hardly vary stay small instead of becoming loud.

    A Hadamard matrix shares the variance of each component equally among the dimensions. Where :func:`hadamard` knows
    none, :func:`levelling_rotation` stands in: variances are equal all the same, components are shared unequally.

    Args:
        sample: (n, dimension) raw features.
    """

    mean: Tensor
    rotation: Tensor
    scale: Tensor

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        values = sample.double()
        mean = values.mean(0)
        values = values - mean
        variances, components = torch.linalg.eigh(values.T @ values / len(values))
        variances = variances.clamp_min(0)
        sharing = torch.from_numpy(levelling_rotation(variances.numpy()))
        self.register_buffer("mean", mean.float())
        self.register_buffer("rotation", (sharing @ components.T).float().contiguous())
        self.register_buffer("scale", variances.mean().sqrt().clamp_min(SMALLEST_SCALE).float())

    def forward(self, raw: Tensor) -> Tensor:
        # In bfloat16 the small components would drown in the rounding of the large ones.
        with torch.autocast(raw.device.type, enabled=False):
            return (raw.float() - self.mean) @ self.rotation.T / self.scale

    def inverse(self, standardised: Tensor) -> Tensor:
        with torch.autocast(standardised.device.type, enabled=False):
            return standardised.float() @ self.rotation * self.scale + self.mean


def hadamard(order: int) -> Matrix | None:
    """A matrix of +1 and -1 with orthogonal rows, (order, order), or ``None`` if none of these constructions has one:
    Sylvester's doubling, and Paley's two from a prime. They cover 1, 2, every power of two and most multiples of 4
    that occur as dimensions (20, 320, 480, 640, 768, 960, 1024, 1152, 1280, 2560, 5120)."""
    if order in (1, 2):
        return np.array([[1.0, 1.0], [1.0, -1.0]])[:order, :order]
    if order < 4 or order % 4:
        return None
    if _is_prime(order - 1):
        return _paley_one(order - 1)
    if (order // 2 - 1) % 4 == 1 and _is_prime(order // 2 - 1):
        return _paley_two(order // 2 - 1)
    half = hadamard(order // 2)
    return None if half is None else np.block([[half, half], [half, -half]])


def levelling_rotation(variances: Matrix) -> Matrix:
    """An orthogonal matrix R, (d, d), for which the diagonal of ``R diag(variances) R^T`` is constant.

    It is a scaled Hadamard matrix, for which this holds whatever the variances. If there is none of that order: the
    matrix of the discrete Hartley transform, whose entries are flat within a factor of the square root of two, and
    then at most d - 1 plane rotations, each of which brings one diagonal element to the mean (Bendel and Mickey 1978,
    Population correlation matrices for sampling experiments). By the theorem of Schur and Horn such a matrix exists for
    any variances.

    Args:
        variances: (d,), none below zero.
    """
    order = len(variances)
    known = hadamard(order)
    if known is not None:
        return known / math.sqrt(order)
    angle = 2 * np.pi * (np.outer(np.arange(order), np.arange(order)) % order) / order
    return _levelled((np.cos(angle) + np.sin(angle)) / math.sqrt(order), variances)


def _levelled(rotation: Matrix, variances: Matrix) -> Matrix:
    covariance = (rotation * variances) @ rotation.T
    target = variances.mean()
    for _ in range(len(variances) - 1):
        diagonal = covariance.diagonal()
        high, low = int(diagonal.argmax()), int(diagonal.argmin())
        above, below, shared = diagonal[high] - target, diagonal[low] - target, covariance[high, low]
        if above <= 1e-12 * target or below >= -1e-12 * target:
            break
        tangent = (shared + math.copysign(math.sqrt(shared**2 - above * below), shared)) / -below
        cosine = 1 / math.hypot(1, tangent)
        plane = cosine * np.array([[1, tangent], [-tangent, 1]])
        pair = [high, low]
        rotation[pair] = plane @ rotation[pair]
        covariance[pair] = plane @ covariance[pair]
        covariance[:, pair] = covariance[:, pair] @ plane.T
    return rotation


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, math.isqrt(number) + 1))


def _jacobsthal(prime: int) -> Matrix:
    """(prime, prime): +1 where i - j is a square modulo the prime, -1 where it is not, 0 on the diagonal."""
    character = -np.ones(prime)
    character[np.arange(prime, dtype=np.int64) ** 2 % prime] = 1
    character[0] = 0
    return character[np.subtract.outer(np.arange(prime), np.arange(prime)) % prime]


def _paley_one(prime: int) -> Matrix:
    """Of order ``prime + 1``, for a prime that is 3 modulo 4."""
    skew = np.zeros((prime + 1, prime + 1))
    skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1, -1, _jacobsthal(prime)
    return skew + np.eye(prime + 1)


def _paley_two(prime: int) -> Matrix:
    """Of order ``2 (prime + 1)``, for a prime that is 1 modulo 4."""
    conference = np.zeros((prime + 1, prime + 1))
    conference[0, 1:], conference[1:, 0], conference[1:, 1:] = 1, 1, _jacobsthal(prime)
    signs = np.array([[1.0, 1.0], [1.0, -1.0]])
    return np.kron(conference, signs) + np.kron(np.eye(prime + 1), np.array([[1.0, -1.0], [-1.0, -1.0]]))
