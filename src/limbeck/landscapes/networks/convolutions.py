"""The convolutional networks of arXiv 2011.03443."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from limbeck.landscapes.networks.pooling import row_maxima
from limbeck.landscapes.networks.residues import CATEGORIES, PADDING
from limbeck.landscapes.networks.training import Network
from limbeck.landscapes.networks.windows import Batch, offsets

__all__ = ["ConvolutionalNetwork"]

# What a standard normal distribution cut off at two standard deviations has as its own.
CUT_OFF_DEVIATION = 0.87962566103423978


class ConvolutionalNetwork(Network):
    """Convolutions with ReLU, a maximum over the residues, and a linear output.

    Weights start as in the paper's code: filters from a normal distribution cut off at two standard deviations, of
    variance 1 / inputs; dense layers uniformly with variance 2 / (inputs + outputs); biases of filters at zero, others
    from a normal distribution of standard deviation 1e-6.

    Args:
        channels: filters of each layer.
        kernels: residues that each layer's filters see.
        dilations: distances between these.
        dense: outputs of a dense layer with ReLU at every residue, before the maximum; ``None`` for none.
        random_state: seed of the weights.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernels: Sequence[int],
        dilations: Sequence[int],
        dense: int | None,
        random_state: int,
    ) -> None:
        super().__init__()
        self.layers = [offsets(kernel, dilation) for kernel, dilation in zip(kernels, dilations, strict=True)]
        self._dilations = tuple(dilations)
        draw = torch.Generator().manual_seed(random_state)
        inputs = (CATEGORIES, *channels)
        self.filters = nn.ParameterList(
            _filters(inputs[index], kernel, channels[index], draw) for index, kernel in enumerate(kernels)
        )
        self.filter_biases = nn.ParameterList(torch.zeros(outputs) for outputs in channels)
        self.dense: nn.Linear | None = _dense(channels[-1], dense, draw) if dense else None
        self.output = _dense(dense or channels[-1], 1, draw)

    def groups(self) -> list[list[nn.Parameter]]:
        """Parameters of the convolutions, of the dense layer if there is one, and of the output."""
        dense = [] if self.dense is None else [list(self.dense.parameters())]
        return [[*self.filters, *self.filter_biases], *dense, list(self.output.parameters())]

    def largest_table(self, batch: Batch) -> int:
        """Numbers in the largest table that computing a batch by its windows takes."""
        inner = zip(batch.parts[:-1], self.filters[1:], strict=True)
        return max((len(parts) * filters[0].numel() for parts, filters in inner), default=0)

    def forward(self, batch: Batch | NDArray[np.uint8]) -> Tensor:
        """Scores of n rows, (n,).

        Args:
            batch: their distinct windows, each of which is computed once; or their codes, (n, width), whose
                convolutions are computed at every position. The result is the same up to rounding.
        """
        pooled = self._from_windows(batch) if isinstance(batch, Batch) else self._from_codes(batch)
        # The maximum and ReLU may change places: one computes it for the maxima only.
        return self.output(functional.relu(pooled)).squeeze(1)

    def _from_windows(self, batch: Batch) -> Tensor:
        features = self._one_hot()
        for depth, parts in enumerate(batch.parts):
            if depth:
                features = functional.pad(functional.relu(features), (0, 0, 1, 0))
            features = self._filtered(features, parts, depth)
        if self.dense is not None:
            features = self.dense(functional.relu(features))
        return row_maxima(features, batch.pooling)

    def _filtered(self, features: Tensor, parts: NDArray[np.int64], depth: int) -> Tensor:
        """A convolution without its ReLU, of windows whose parts are rows of ``features``: (windows, channels).

        What each part contributes at each place of a filter is computed first and added up then, since there are
        fewer parts than windows.
        """
        filters = self.filters[depth]
        kernel = filters.shape[1]
        contributions = features @ filters.flatten(1)
        which = torch.from_numpy(parts * kernel + np.arange(kernel)).to(features.device)
        table = contributions.view(-1, filters.shape[2])
        return functional.embedding_bag(which, table, mode="sum").add_(self.filter_biases[depth])

    def _from_codes(self, codes: NDArray[np.uint8]) -> Tensor:
        seen = torch.from_numpy(codes.astype(np.int64)).to(self.output.weight.device)
        features = self._one_hot()[seen].transpose(1, 2)
        for layer, dilation, filters, bias in zip(
            self.layers, self._dilations, self.filters, self.filter_biases, strict=True
        ):
            padded = functional.pad(features, (-int(layer[0]), int(layer[-1])))
            weight = filters.permute(2, 0, 1).contiguous()
            features = functional.relu(functional.conv1d(padded, weight, bias, dilation=dilation))
        features = features.transpose(1, 2)
        if self.dense is not None:
            features = functional.relu(self.dense(features))
        shown = (seen != PADDING)[:, :, None]
        return features.masked_fill(~shown, -torch.inf).max(dim=1).values

    def _one_hot(self) -> Tensor:
        """The vector of each code, (codes, categories); zeros for an unknown residue and for what is outside."""
        return functional.pad(torch.eye(CATEGORIES, dtype=self.filters[0].dtype), (0, 0, 1, 0)).to(
            self.filters[0].device
        )


def _filters(inputs: int, kernel: int, outputs: int, draw: torch.Generator) -> nn.Parameter:
    """(inputs, kernel, outputs)"""
    scale = (inputs * kernel) ** -0.5 / CUT_OFF_DEVIATION
    weights = torch.empty(inputs, kernel, outputs)
    return nn.Parameter(nn.init.trunc_normal_(weights, std=scale, a=-2 * scale, b=2 * scale, generator=draw))


def _dense(inputs: int, outputs: int, draw: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, generator=draw)
    nn.init.normal_(layer.bias, std=1e-6, generator=draw)
    return layer
