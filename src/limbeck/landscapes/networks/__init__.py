"""Networks that learn a landscape from its scores alone: those of arXiv 2011.03443, and an LSTM. They need PyTorch."""

from __future__ import annotations

from limbeck.landscapes.networks.cost import Estimate, matrix_rate
from limbeck.landscapes.networks.models import (
    BiLSTM,
    CNNEnsemble,
    DilatedCNN,
    LinearMaxPoolCNN,
    MaxPoolCNN,
    NetworkModel,
)
from limbeck.landscapes.networks.published import PUBLISHED

__all__ = [
    "PUBLISHED",
    "BiLSTM",
    "CNNEnsemble",
    "DilatedCNN",
    "Estimate",
    "LinearMaxPoolCNN",
    "MaxPoolCNN",
    "NetworkModel",
    "matrix_rate",
]
