"""Prediction in context: from a few labelled variants, or none, without fitting (after Metalic, arXiv:2410.08355).

:class:`InContextModel` is a model of the ladder, with the weights of a network that was meta-trained on many assays:
``limbeck-in-context``, or those that ``results/in_context`` makes of others. It differs from the paper so that it runs
on a CPU: see ``results/in_context/README.md``.
"""

from limbeck.landscapes.in_context.model import SHIPPED, InContextModel

__all__ = ["SHIPPED", "InContextModel"]
