"""Fine-tuning of a whole student, or of an encoder of transformers, on a task, beside probes that leave it as it is.

:func:`finetune` trains and scores on one published task, :func:`load_finetuned` opens a model that was saved; using a
saved student needs no PyTorch. ``docs/fine-tuning.md`` says how, and what it brought.
"""

from __future__ import annotations

from limbeck.benchmarks.finetuning.run import FineTuning, finetune, finetune_tasks
from limbeck.benchmarks.finetuning.saved import FineTuned, load_finetuned
from limbeck.benchmarks.finetuning.settings import METHODS, Settings

__all__ = ["METHODS", "FineTuned", "FineTuning", "Settings", "finetune", "finetune_tasks", "load_finetuned"]
