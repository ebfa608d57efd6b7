"""What a student is trained to do; each objective is one short class.

An objective is a module with two methods. ``targets(batch)`` gives the tensors that the teacher contributes; it runs
outside the compiled graph and may read files. ``forward(outputs, targets)`` gives named losses, each already averaged.
``margin`` is how many profile columns beside a crop the targets need.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from limbeck.distillation.config import StudentConfig
from limbeck.distillation.corpus import CROP_LENGTHS, Batch, Corpus
from limbeck.distillation.features import TeacherFeatures
from limbeck.distillation.network import Outputs, Student
from limbeck.distillation.profiles import background
from limbeck.distillation.projection import principal_components
from limbeck.encoders.contexts import position_weights
from limbeck.encoders.registry import file_hash
from limbeck.errors import InputError
from limbeck.residues import UNKNOWN_ID

__all__ = ["Contexts", "EncoderFeatures", "FamilyContrast", "HiddenResidues", "Objective"]

SAMPLE_PROTEINS = 3000


class Objective(nn.Module):
    """Base of the objectives that compare a student with a teacher on one batch."""

    margin = 0
    fingerprint = ""
    """SHA-256 (hex) over what the teacher brings along; an unfinished run goes on only with the same."""

    def prepare(self, student: Student, corpus: Corpus) -> None:
        """Called once, before the first step of a new run."""

    def targets(self, batch: Batch) -> list[Tensor]:
        """Tensors that :meth:`forward` needs, on the CPU."""
        raise TypeError("an objective defines targets")

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        """Losses by name."""
        raise TypeError("an objective defines forward")


def _divergence(target: Tensor, logp: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each row, in nats; a target of all zeros (padding) counts nothing."""
    return (torch.xlogy(target, target) - target * logp).sum(-1)


def _residue_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask[..., 0]).sum() / mask.sum()


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
        # Log-odds differ from log-probabilities by the same amount for all states, and are small enough for bfloat16.
        odds = log_columns - torch.from_numpy(background()).log()
        projection = (sharpness * weight * odds).reshape(states, -1).T.contiguous()
        self.register_buffer("projection", projection.to(torch.bfloat16), persistent=False)
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
            roots.append(((self.targets(batch)[0] * mask).sum(1) / mask.sum(1)).sqrt())
        center, components, deviations = principal_components(torch.cat(roots).cpu(), len(self.components))
        self.center.copy_(center)
        self.components.copy_(components)
        # Vectors of about unit variance a dimension, whatever the number of contexts.
        spread = deviations.square().mean().sqrt().clamp_min(1e-6)
        student.project.weight.copy_(self.components / spread)
        student.center.copy_(self.center)

    def posterior(self, profiles: Tensor) -> Tensor:
        """(rows, length, states) posteriors of profiles (rows, margin + length + margin, 20)."""
        rows, padded, residues = profiles.shape
        window = (rows, padded - 2 * self.margin, self.width * residues)
        windows = profiles.contiguous().as_strided(window, (padded * residues, residues, 1))
        logits = windows.to(torch.bfloat16) @ self.projection
        return (logits.float() + self.log_prior).softmax(-1)

    def targets(self, batch: Batch) -> list[Tensor]:
        if batch.profiles is None:
            raise InputError("a context library needs a corpus with profiles; make one with 'limbeck profiles'")
        padded = torch.from_numpy(batch.profiles).to(self.projection.device).float()
        return [self.posterior(padded), padded[:, self.margin : padded.shape[1] - self.margin]]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        posterior, profiles = targets
        mean = (posterior * outputs.mask).sum(1) / outputs.mask.sum(1)
        teacher = (mean.clamp_min(1e-12).sqrt() - self.center) @ self.components.T
        cosine = F.cosine_similarity(outputs.vectors.float(), teacher, dim=-1)
        return {
            "contexts": _residue_mean(_divergence(posterior, outputs.contexts), outputs.mask),
            "profile": _residue_mean(_divergence(profiles, outputs.profile), outputs.mask),
            "protein": (1 - cosine).mean(),
        }


class HiddenResidues(Objective):
    """Name the residues that were hidden (masked language modelling, Devlin et al. 2019, arXiv 1810.04805)."""

    def targets(self, batch: Batch) -> list[Tensor]:
        known = batch.hidden & (batch.residues < UNKNOWN_ID)
        residues = np.where(known, batch.residues, 0).astype(np.int64)
        return [torch.from_numpy(residues), torch.from_numpy(known).float()]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        residues, hidden = targets
        surprise = -outputs.profile.gather(-1, residues[..., None])[..., 0]
        return {"hidden": (surprise * hidden).sum() / hidden.sum().clamp_min(1)}


class EncoderFeatures(Objective):
    """Any encoder as a teacher: half cosine, half smooth L1 on standardised features, of residues and of proteins,
    through a linear head of its own (UNIC, Sariyildiz et al. 2024, arXiv 2408.05088).

    Args:
        features: the teacher's features over the corpus.
        student: shape of the student.
    """

    def __init__(self, features: TeacherFeatures, student: StudentConfig) -> None:
        super().__init__()
        self.features = features
        self.fingerprint = features.fingerprint
        self.residue_head = nn.Linear(student.width, features.dimension)
        self.protein_head = nn.Linear(student.width, features.dimension)

    def targets(self, batch: Batch) -> list[Tensor]:
        return [torch.from_numpy(self.features.crops(batch.proteins, batch.starts, batch.ids.shape[1]))]

    def forward(self, outputs: Outputs, targets: list[Tensor]) -> dict[str, Tensor]:
        (features,) = targets
        residue = self._distance(self.residue_head(outputs.features).float(), features)
        mean = (features * outputs.mask).sum(1) / outputs.mask.sum(1)
        protein = self._distance(self.protein_head(outputs.vectors).float(), mean)
        name = self.features.name
        return {f"{name} residues": _residue_mean(residue, outputs.mask), f"{name} proteins": protein.mean()}

    @staticmethod
    def _distance(student: Tensor, teacher: Tensor) -> Tensor:
        cosine = 1 - F.cosine_similarity(student, teacher, dim=-1)
        return 0.5 * cosine + 0.5 * F.smooth_l1_loss(student, teacher, reduction="none").mean(-1)


class FamilyContrast(nn.Module):
    """Supervised contrast (Khosla et al. 2020, arXiv 2004.11362) between protein families, with a memory of
    recent vectors as further negatives (cross-batch memory, Wang et al. 2020, arXiv 1912.06798).

    Args:
        dimension: of the protein vectors.
        memory: how many recent vectors are remembered.
        temperature: of the softmax over cosines.
    """

    vectors: Tensor
    families: Tensor
    position: Tensor

    def __init__(self, dimension: int, memory: int = 2048, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("vectors", torch.zeros(memory, dimension))
        self.register_buffer("families", torch.full((memory,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def forward(self, vectors: Tensor, families: Tensor) -> Tensor:
        """Mean loss over the rows that have a relative in the batch.

        Args:
            vectors: (n, dimension) protein vectors, not normalised.
            families: (n,) family of each.
        """
        z = F.normalize(vectors.float(), dim=-1)
        keys = torch.cat([z, self.vectors])
        key_families = torch.cat([families, self.families])
        logits = z @ keys.T / self.temperature
        itself = torch.eye(len(z), len(keys), dtype=torch.bool, device=z.device)
        empty = (key_families < 0)[None, :]
        same = (families[:, None] == key_families[None, :]) & ~itself
        # Remembered vectors come from older weights, so they only repel; a remembered relative does neither.
        attract = same[:, : len(z)]
        old_relative = same.clone()
        old_relative[:, : len(z)] = False
        logp = F.log_softmax(logits.masked_fill(itself | empty | old_relative, float("-inf")), dim=-1)
        has_relative = attract.any(dim=1)
        chosen = logp[:, : len(z)].masked_fill(~attract, 0.0).sum(1) / attract.sum(1).clamp_min(1)
        self._remember(z.detach(), families)
        return -(chosen * has_relative).sum() / has_relative.sum().clamp_min(1)

    @torch.no_grad()
    def _remember(self, z: Tensor, families: Tensor) -> None:
        index = (int(self.position) + torch.arange(len(z), device=z.device)) % len(self.vectors)
        self.vectors[index] = z
        self.families[index] = families
        self.position.copy_((self.position + len(z)) % len(self.vectors))
