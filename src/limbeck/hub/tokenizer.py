"""limbeck's rule for letters (:mod:`limbeck.residues`) as a fast tokenizer of the transformers library.

``tokenizer.json`` is data: no code of ours runs. One residue is one token, and there is no start or stop token.
"""

from __future__ import annotations

from typing import Any

from limbeck.residues import PAD_ID, RESIDUES, UNKNOWN_ID

__all__ = ["PAD_TOKEN", "tokenizer", "tokenizer_config"]

PAD_TOKEN = "<pad>"
_SUBSTITUTES = {"C": "uU", "K": "oO", "X": "bBzZjJ"}


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def tokenizer() -> dict[str, Any]:
    """The content of ``tokenizer.json``.

    A character that is no residue has no token. The vocabulary holds no token for the unknown, on purpose: the
    library then refuses the sequence, as limbeck does.
    """
    rules = [
        _replace(r"[ \t\r\n\x0b\x0c.\-]", ""),
        # A stop at the end goes; one inside is a residue that nobody knows.
        _replace(r"\*+\z", ""),
        _replace(r"\*", "X"),
        *(_replace(f"[{letters}]", residue) for residue, letters in _SUBSTITUTES.items()),
        *(_replace(residue.lower(), residue) for residue in RESIDUES + "X"),
    ]
    vocabulary = {residue: index for index, residue in enumerate(RESIDUES)} | {"X": UNKNOWN_ID, PAD_TOKEN: PAD_ID}
    padding_token = {
        "id": PAD_ID,
        "content": PAD_TOKEN,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [padding_token],
        "normalizer": {"type": "Sequence", "normalizers": rules},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<none>"},
    }


def tokenizer_config() -> dict[str, Any]:
    """The content of ``tokenizer_config.json``."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD_TOKEN,
        "padding_side": "right",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
