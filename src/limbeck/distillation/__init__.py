"""Distillation: from proteins and teachers to a compact student. Needs the extra ``train`` (PyTorch)."""
