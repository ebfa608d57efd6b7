"""A context library as a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.corpus import CROP_LENGTHS, Batch, Corpus
from limbeck.distillation.network import Outputs, Student
from limbeck.distillation.objectives.base import Objective, divergence, per_row, residue_loss
from limbeck.distillation.precision import resolve_precision
from limbeck.distillation.projection import principal_components
from limbeck.encoders.contexts import position_weights
from limbeck.encoders.registry import file_hash
from limbeck.errors import InputError
from limbeck.homology.profiles import background

__all__ = ["Contexts"]

SAMPLE_PROTEINS = 3000


class Contexts(Objective):
    """A context library reads the homology profile; the student has the single sequence.

    Because the target comes from the profile, the student learns from one sequence what the relatives would have
    said. Three losses: Kullback-Leibler divergence from the library's posterior per residue (``contexts``), from the
    profile itself (``profile``; both Hinton et al. 2015, arXiv 1503.02531), and one minus the cosine between the
    protein vector and the teacher's (``protein``): the square root of its mean posterior, less the average over
    proteins, in the space of the largest principal components. The student's projection starts from the same
    components.

    Args:
        path: a context library, as ``limbeck contexts`` writes it.
        student: shape of the student; its ``states`` must be the library's.

    Raises:
        InputError: if the file is no context library, or its states are not the student's.
    """

    teacher = "contexts"
    projection: Tensor
    log_prior: Tensor
    center: Tensor
    components: Tensor

    def __init__(self, path: Path, student: StudentConfig) -> None:
        super().__init__()
        try:
            with safe_open(path, framework="pt") as file:
                log_prior, log_columns = file.get_tensor("log_prior"), file.get_tensor("log_columns")
                sharpness = float((file.metadata() or {})["profile_sharpness"])
            states, self.width, _ = log_columns.shape
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a context library ({error}); make one with 'limbeck contexts'") from None
        self.fingerprint = file_hash(path)
        if states != student.states:
            raise InputError(f"{path} has {states} contexts, the student {student.states}; use --states {states}")
        weight = torch.from_numpy(position_weights(self.width))[None, :, None]
        # Log-odds differ from log-probabilities by the same amount for all states, and are small enough for bfloat16,
        # where the processor has it.
        odds = log_columns - torch.from_numpy(background()).log()
        projection = (sharpness * weight * odds).reshape(states, -1).T.contiguous()
        self.register_buffer("projection", projection.to(self._dtype()), persistent=False)
        self.register_buffer("log_prior", log_prior, persistent=False)
        self.register_buffer("center", torch.zeros(states))
        self.register_buffer("components", torch.zeros(student.width, states))
        self.margin = self.width // 2

    @torch.no_grad()
    def prepare(self, student: Student, corpus: Corpus) -> None:
        """Find the principal components of the teacher's protein vectors over a sample of the corpus."""
        rng = np.random.default_rng(0)
        training = np.flatnonzero(~corpus.is_validation)
        sample = rng.choice(training, size=min(SAMPLE_PROTEINS, len(training)), replace=False)
        roots = []
        for proteins in np.array_split(sample, -(-len(sample) // 32)):
            batch = corpus.crop(proteins, CROP_LENGTHS[-1], rng, margin=self.margin)
            mask = torch.from_numpy(batch.mask).to(self.center.device)[..., None].float()
            posterior = self.posterior(self._padded_profiles(batch))
            roots.append(((posterior * mask).sum(1) / mask.sum(1)).sqrt())
        center, components, deviations = principal_components(torch.cat(roots).cpu(), len(self.components))
        self.center.copy_(center)
        self.components.copy_(components)
        # Vectors of about unit variance a dimension, whatever the number of contexts.
        spread = deviations.square().mean().sqrt().clamp_min(1e-6)
        states = len(self.center)
        student.project.weight.zero_()
        student.project.weight[:, :states] = self.components / spread
        student.center.zero_()
        student.center[:states] = self.center

    @staticmethod
    def _dtype() -> torch.dtype:
        return torch.bfloat16 if resolve_precision("auto", "auto") == "bf16" else torch.float32

    def posterior(self, profiles: Tensor) -> Tensor:
        """(rows, length, states) posteriors of profiles (rows, margin + length + margin, 20)."""
        rows, padded, residues = profiles.shape
        window = (rows, padded - 2 * self.margin, self.width * residues)
        windows = profiles.contiguous().as_strided(window, (padded * residues, residues, 1))
        logits = windows.to(self.projection.dtype) @ self.projection
        return (logits.float() + self.log_prior).softmax(-1)

    def _padded_profiles(self, batch: Batch) -> Tensor:
        if batch.profiles is None:
            raise InputError("a context library needs a corpus with profiles; make one with 'limbeck profiles'")
        return torch.from_numpy(batch.profiles).to(self.projection.device).float()

    def targets(self, batch: Batch) -> list[Tensor]:
        """Posteriors (rows, length, states) and profiles (rows, length, 20), where this module is; residues a row."""
        padded = self._padded_profiles(batch)
        profiles = padded[:, self.margin : padded.shape[1] - self.margin]
        return [self.posterior(padded), profiles, per_row(batch.residues_per_row)]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        posterior, profiles, residues_per_row = targets
        mask = outputs.mask[..., 0]
        mean = (posterior * outputs.mask).sum(1) / outputs.mask.sum(1)
        teacher = (mean.clamp_min(1e-12).sqrt() - self.center) @ self.components.T
        return {
            "contexts": residue_loss(divergence(posterior, outputs.contexts), mask, residues_per_row),
            "profile": residue_loss(divergence(profiles, outputs.profile), mask, residues_per_row),
            "protein": 1 - F.cosine_similarity(outputs.vectors.float(), teacher, dim=-1),
        }
