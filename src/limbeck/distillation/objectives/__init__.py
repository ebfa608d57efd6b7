"""What a student is trained to do; each objective is one short class.

An :class:`Objective` is a module with two methods. ``targets(batch)`` gives the tensors that the teacher contributes;
it runs outside the compiled graph and may read files. ``forward(outputs, targets)`` gives named losses, one value a
row. A :class:`Choice` says how much each teacher counts for each row, a :class:`LossBalance` how much each counts
overall. ``total = sum of mean(weight[teacher] * balance[teacher] * loss)``, and what the choice adds of its own.
"""

from limbeck.distillation.objectives.balance import LossBalance
from limbeck.distillation.objectives.base import Objective
from limbeck.distillation.objectives.choice import Choice, Everyone, Selector, TeacherDropping, build_choice
from limbeck.distillation.objectives.composition import build
from limbeck.distillation.objectives.contexts import Contexts
from limbeck.distillation.objectives.contrast import FamilyContrast
from limbeck.distillation.objectives.features import FeatureMatching
from limbeck.distillation.objectives.hidden import HiddenResidues
from limbeck.distillation.objectives.mtdp import PooledKL
from limbeck.distillation.objectives.relational import Relational
from limbeck.distillation.objectives.standardise import Identity, PerDimension, PhiS, Standardisation

__all__ = [
    "Choice",
    "Contexts",
    "Everyone",
    "FamilyContrast",
    "FeatureMatching",
    "HiddenResidues",
    "Identity",
    "LossBalance",
    "Objective",
    "PerDimension",
    "PhiS",
    "PooledKL",
    "Relational",
    "Selector",
    "Standardisation",
    "TeacherDropping",
    "build",
    "build_choice",
]
