"""A network with a linear head on its vectors; and a student's low-rank changes of its matrices (LoRA; Hu et al. 2021,
arXiv:2106.09685), or one such change that all blocks share and a prompt (after eP-ALM; Shukor et al. 2023,
arXiv:2303.11403). Those of other encoders are in :mod:`limbeck.benchmarks.finetuning.teachers`.

The adapters are written here and not taken from ``peft``: a student's block multiplies by ``out.weight`` itself,
without a call of the module, so a wrapped ``out`` would give its old weights, and the adapter would silently do
nothing. Here a block computes its adapters beside its own maps, which leaves out the gradients of frozen weights (a
third of the work), and once trained they are added to the weights: a fine-tuned student is a student.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.benchmarks.finetuning.examples import Batch
from limbeck.distillation.network import Block, Student

__all__ = ["Body", "LowRank", "StudentBody", "Tuned", "adapt", "merged", "prompt"]

SCALE = 2.0
"""What a low-rank change is multiplied by: alpha / rank of the paper."""


class LowRank(nn.Module):
    """A linear map of low rank, zero at first: (..., inputs) to (..., outputs).

    Its numbers are float32; it computes in the precision of what it is given, as the map beside it does.
    """

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return SCALE * F.linear(F.linear(x, self.down.weight.to(x.dtype)), self.up.weight.to(x.dtype))

    def matrix(self) -> Tensor:
        """(outputs, inputs)"""
        return SCALE * self.up.weight @ self.down.weight


class LowRankLinear(nn.Module):
    """A frozen linear map and a change of low rank."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base, self.change = base, LowRank(base.in_features, base.out_features, rank)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.change(x)

    def merged(self) -> nn.Linear:
        result = copy.deepcopy(self.base)
        with torch.no_grad():
            result.weight += self.change.matrix()
        return result


class LowRankConv(nn.Module):
    """The same for a convolution: one to ``rank`` channels with its kernel and dilation, then one of a single tap."""

    def __init__(self, base: nn.Conv1d, rank: int) -> None:
        super().__init__()
        self.base = base
        kernel, dilation = base.kernel_size[0], base.dilation[0]
        self.down = nn.Conv1d(
            base.in_channels, rank, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
        )
        self.up = nn.Conv1d(rank, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + SCALE * self.up(self.down(x))

    def merged(self) -> nn.Conv1d:
        result = copy.deepcopy(self.base)
        with torch.no_grad():
            result.weight += SCALE * torch.einsum("or,rik->oik", self.up.weight[..., 0], self.down.weight)
        return result


class LowRankBlock(nn.Module):
    """A student's block whose two maps have adapters; see :class:`limbeck.distillation.network.Block`."""

    def __init__(self, block: Block, rank: int) -> None:
        super().__init__()
        self.block = block
        self.conv, self.out = LowRankConv(block.conv, rank), LowRankLinear(block.out, rank)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.conv((self.block.norm(x) * mask).transpose(1, 2))
        return x + self.out(F.gelu(h.transpose(1, 2), approximate="tanh"))

    def merged(self) -> Block:
        result: Block = copy.deepcopy(self.block)
        result.conv, result.out = self.conv.merged(), self.out.merged()
        return result


class PromptedBlock(nn.Module):
    """A frozen block of which what it adds is added once more through a map that all blocks share, with a vector of
    its own.

    eP-ALM gives the features of several layers, through one linear map, to a frozen transformer as further tokens,
    beside some that are learned. A convolution has no tokens that all positions see: what would be a token is added to
    every residue. So the result is a plain block again (:meth:`merged`).
    """

    def __init__(self, block: Block, shared: LowRank) -> None:
        super().__init__()
        self.block, self.shared = block, shared
        self.prompt = nn.Parameter(torch.zeros(block.out.out_features))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.block.conv((self.block.norm(x) * mask).transpose(1, 2))
        added = self.block.out(F.gelu(h.transpose(1, 2), approximate="tanh"))
        return x + added + self.shared(added) + self.prompt

    def merged(self) -> Block:
        result: Block = copy.deepcopy(self.block)
        with torch.no_grad():
            out, change = self.block.out, self.shared.matrix()
            result.out.weight.add_(change @ out.weight)
            result.out.bias.add_(change @ out.bias + self.prompt)
        return result


def prompt(student: Student, rank: int) -> Student:
    """Freeze a student and give it a prompt and a shared map, in place."""
    student.requires_grad_(False)
    shared = LowRank(student.config.width, student.config.width, rank)
    student.blocks = nn.ModuleList([PromptedBlock(block, shared) for block in _blocks(student)])
    return student


def adapt(student: Student, rank: int) -> Student:
    """Freeze a student and give it adapters, in place."""
    student.requires_grad_(False)
    student.blocks = nn.ModuleList([LowRankBlock(block, rank) for block in _blocks(student)])
    student.contexts = _linear(student.contexts, rank)
    student.project = _linear(student.project, rank)
    return student


def _blocks(student: Student) -> list[Any]:
    return list(student.blocks)


def _linear(base: nn.Linear, rank: int) -> Any:
    return LowRankLinear(base, rank)


def merged(student: Student) -> Student:
    """A plain student with the same function, with adapters or a prompt or without; a copy."""
    result = copy.deepcopy(student)
    if not all(isinstance(block, Block) for block in _blocks(result)):
        result.blocks = nn.ModuleList([block.merged() for block in _blocks(result)])
    if isinstance(result.contexts, LowRankLinear):
        project: Any = result.project
        result.contexts, result.project = result.contexts.merged(), project.merged()
    return result.requires_grad_(True)


class Body(nn.Module):
    """A network that gives vectors of residues and of proteins; what needs no gradient stays as it is."""

    width: int
    """Numbers of a vector."""

    def residues(self, batch: Batch) -> Tensor:
        """Vectors of all positions: (windows, tokens, width) float32."""
        raise NotImplementedError

    def proteins(self, batch: Batch) -> Tensor:
        """(proteins, width) float32: the mean over each protein's residues."""
        sums, counts = (self.residues(batch) * batch.owned).sum(1), batch.owned.sum(1)
        if len(sums) > len(batch.places):
            sums, counts = (
                t.new_zeros(len(batch.places), t.shape[1]).index_add(0, batch.proteins, t) for t in (sums, counts)
            )
        return sums / counts


class StudentBody(Body):
    """A student, with adapters or a prompt or without.

    Args:
        student: whose parameters that need no gradient stay as they are.
        combined: whether its protein vectors come from its centre and projection; else they are the mean.
    """

    def __init__(self, student: Student, combined: bool) -> None:
        super().__init__()
        self.student, self.combined, self.width = student, combined, student.config.width
        for module in (student.profile, *(() if combined else (student.contexts, student.project))):
            module.requires_grad_(False)

    def residues(self, batch: Batch) -> Tensor:
        return self.student.residues(batch.ids, batch.owned).float()

    def proteins(self, batch: Batch) -> Tensor:
        if not self.combined:
            return super().proteins(batch)
        vectors: Tensor = self.student(batch.ids, batch.owned).vectors
        return vectors.float()


class Tuned(nn.Module):
    """A network's protein or residue vectors, standardised by fixed numbers, under a linear head.

    Args:
        body: the network.
        outputs: of the head.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, body: Body, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.width, outputs)
        self.register_buffer("mean", torch.zeros(body.width))
        self.register_buffer("spread", torch.ones(body.width))

    def vectors(self, batch: Batch) -> Tensor:
        """(proteins, width), or of the residues that a batch of a residue task looks at: (residues, width)."""
        if batch.rows is None:
            return self.body.proteins(batch)
        return self.body.residues(batch).flatten(0, 1)[batch.rows]

    def forward(self, batch: Batch) -> Tensor:
        """Scores (proteins or residues, outputs)."""
        return self.scores(self.vectors(batch))

    def scores(self, vectors: Tensor) -> Tensor:
        """Of vectors (n, width): (n, outputs)."""
        return self.head((vectors - self.mean) / self.spread)

    @property
    def trainable(self) -> int:
        """Numbers of the network that learn, the head's aside."""
        return sum(p.numel() for p in self.body.parameters() if p.requires_grad)
