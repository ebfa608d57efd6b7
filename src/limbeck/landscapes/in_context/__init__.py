"""Prediction in context: from a few labelled variants, or none, without fitting (after Metalic, arXiv:2410.08355).

:class:`InContextModel` is a model of the ladder; it needs the weights of a network that was meta-trained on many
assays, which ``results/in_context`` makes and measures. It differs from the paper so that it runs on a CPU: see
``results/in_context/README.md``.
"""

from limbeck.landscapes.in_context.model import InContextModel

__all__ = ["InContextModel"]
