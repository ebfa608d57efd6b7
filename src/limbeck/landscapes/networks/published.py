"""Settings of arXiv 2011.03443, from the code that its authors published.

Everywhere: 21 categories (20 residues and ``-``), squared error, Adam with decoupled weight decay, no normalisation,
no dropout, no validation, no early stopping; predictions are clipped to the range of the training scores. Learning
rates and weight decays are those of the convolutions, of the dense layer where there is one, and of the output.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PUBLISHED", "settings"]

_NEITHER = {"patience": None, "held_out": 0.0, "standardise": False}
_FLUORESCENCE = {"channels": (1024,), "kernels": (5,), "batch_size": 256, "epochs": 50, **_NEITHER}
_STABILITY = {
    "channels": (1024, 1024, 1024),
    "kernels": (5, 5, 5),
    "batch_size": 16,
    "epochs": 5,
    "learning_rates": (5e-4, 5e-5),
    "weight_decays": (0.025, 0.025),
    **_NEITHER,
}
_LACTAMASE = {
    "channels": (1024, 512),
    "kernels": (9, 7),
    "batch_size": 32,
    "epochs": 500,
    "learning_rates": (1e-3, 1e-3),
    "weight_decays": (0.1, 0.05),
    **_NEITHER,
}

PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "fluorescence": {
        "MaxPoolCNN": {**_FLUORESCENCE, "learning_rates": (1e-3, 5e-6), "weight_decays": (0.0, 0.05)},
        "LinearMaxPoolCNN": {
            **_FLUORESCENCE,
            "dense": 2048,
            "learning_rates": (1e-3, 5e-5, 5e-6),
            "weight_decays": (0.0, 0.05, 0.05),
        },
    },
    "stability": {
        "MaxPoolCNN": _STABILITY,
        "DilatedCNN": {**_STABILITY, "dilations": (1, 2, 1)},
        "LinearMaxPoolCNN": {
            **_STABILITY,
            "dense": 2048,
            "batch_size": 256,
            "epochs": 10,
            "learning_rates": (1e-5, 5e-5, 5e-6),
            "weight_decays": (0.0, 0.0, 0.0),
        },
    },
    "beta-lactamase": {
        "MaxPoolCNN": _LACTAMASE,
        "DilatedCNN": {**_LACTAMASE, "dilations": (2, 1)},
    },
}
"""Constructor arguments by task and class. The ensembles are the means of all networks of stability, and of both of
beta-lactamase."""


def settings(task: str, name: str) -> dict[str, Any]:
    """Arguments of the class called ``name`` for a task.

    Raises:
        ValueError: if the paper has no such network for the task.
    """
    if name not in PUBLISHED.get(task, {}):
        known = ", ".join(f"{task} ({', '.join(names)})" for task, names in PUBLISHED.items())
        raise ValueError(f"the paper has no {name} for {task!r}; it has: {known}")
    return dict(PUBLISHED[task][name])
