"""Token ids of residues, from a model's own tokenizer.

A tokenizer is asked once, how it writes each of the 20 residues and ``X`` and what it puts before and after a
protein; then batches are filled from that table. A tokenizer that merges residues, or knows too few, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.checkpoint import first_line, quiet
from limbeck.errors import InputError
from limbeck.residues import RESIDUES, to_ids

__all__ = ["SPELLINGS", "Tokens", "load_tokenizer", "read_tokens", "sentencepiece_pieces"]

_LETTERS = RESIDUES + "X"
_PROBES = (_LETTERS[::-1], *_LETTERS, "WWW", "MKTAYIAKQR", "XX")

SPELLINGS: dict[str, Callable[[str, str], str | list[str]]] = {
    "glued": lambda prefix, sequence: prefix + sequence,
    "spaced": lambda prefix, sequence: " ".join([prefix, *sequence] if prefix else sequence),
    "words": lambda prefix, sequence: [prefix, *sequence] if prefix else list(sequence),
}
"""How a protein is given to a tokenizer: ``MKV``, ``M K V``, or a list of words."""


@dataclass(frozen=True)
class Tokens:
    """How a model writes a protein: fixed tokens, one token a residue, fixed tokens."""

    residues: NDArray[np.int64]
    """(21,), the token of each residue id of :func:`limbeck.residues.to_ids`."""
    before: tuple[int, ...]
    after: tuple[int, ...]
    pad: int

    @property
    def special(self) -> int:
        """Fixed tokens of a protein."""
        return len(self.before) + len(self.after)

    def batch(self, windows: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and attention mask of cleaned sequences, padded on the right: both (n, special + longest)."""
        shape = len(windows), self.special + max(map(len, windows))
        ids, mask = np.full(shape, self.pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        start = len(self.before)
        for row, window in enumerate(windows):
            stop = start + len(window)
            ids[row, :start] = self.before
            ids[row, start:stop] = self.residues[to_ids(window)]
            ids[row, stop : stop + len(self.after)] = self.after
            mask[row, : stop + len(self.after)] = 1
        return ids, mask

    def write(self, sequence: str) -> list[int]:
        """Token ids of one cleaned sequence."""
        return [*self.before, *self.residues[to_ids(sequence)].tolist(), *self.after]


def load_tokenizer(folder: Path, kind: str = "AutoTokenizer", **options: Any) -> Any:
    """The tokenizer of a model folder; no code of the folder's own is run.

    Args:
        folder: with the tokenizer's files.
        kind: name of transformers' class.
        options: for that class.

    Raises:
        InputError: if it cannot be loaded.
    """
    import transformers

    loader: Any = getattr(transformers, kind)
    t5: Any = transformers.T5Tokenizer
    pieces = folder / "spiece.model"
    try:
        with quiet():
            if pieces.is_file() and not (folder / "tokenizer.json").is_file():
                # transformers would read the same list, but only with two more libraries installed.
                return t5(vocab=sentencepiece_pieces(pieces.read_bytes()))
            return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:
        # Each tokenizer fails in its own way when its files are missing or damaged.
        raise InputError(
            f"{folder}: the tokenizer cannot be loaded ({first_line(error)}); copy the whole folder"
        ) from error


def read_tokens(folder: Path, tokenizer: Any, spellings: Sequence[str], prefixes: Sequence[str] = ()) -> Tokens:
    """Ask a tokenizer for its tokens.

    Args:
        folder: of the model, for messages.
        tokenizer: one of transformers' tokenizers.
        spellings: keys of :data:`SPELLINGS`; the first that gives one token a residue is taken.
        prefixes: tokens that some models of a family want in front of a protein; the first that the tokenizer
            knows is put there.

    Raises:
        InputError: if no spelling gives each residue one token of its own between fixed tokens.
    """
    known = set(tokenizer.get_vocab())
    prefix = next((p for p in prefixes if p in known), "")
    if not _merges(known - set(tokenizer.all_special_tokens)):
        for spelling in spellings:
            if tokens := _read(tokenizer, spelling, prefix):
                return tokens
    raise InputError(
        f"{folder}: the tokenizer does not give each of the 20 residues one token of its own between fixed ones at "
        "the ends; limbeck reads models whose tokenizer does"
    )


def _merges(vocabulary: set[str]) -> bool:
    """Whether a token stands for several residues. Spaces would keep them apart, but the model learnt them merged."""
    cores = (token.strip("▁Ġ#") for token in vocabulary)
    return any(len(core) > 1 and set(core.upper()) <= set(_LETTERS) for core in cores)


def _read(tokenizer: Any, spelling: str, prefix: str) -> Tokens | None:
    def write(sequence: str) -> list[int]:
        text = SPELLINGS[spelling](prefix, sequence)
        return list(tokenizer(text, is_split_into_words=isinstance(text, list))["input_ids"])

    pad = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    try:
        whole = write(_LETTERS)
        for first in range(len(whole) - len(_LETTERS) + 1):
            stop = first + len(_LETTERS)
            residues = np.array(whole[first:stop], dtype=np.int64)
            tokens = Tokens(residues, tuple(whole[:first]), tuple(whole[stop:]), pad)
            own = len(set(residues[:-1].tolist())) == len(RESIDUES) and tokenizer.unk_token_id not in residues[:-1]
            if own and all(write(probe) == tokens.write(probe) for probe in _PROBES):
                return tokens
    except (TypeError, ValueError, AssertionError, KeyError):
        # Not every tokenizer takes a list of words.
        pass
    return None


def sentencepiece_pieces(model: bytes) -> list[tuple[str, float]]:
    """Pieces of a SentencePiece model with their scores, in the order of their ids.

    The file is a protocol buffer; its field 1, repeated, is a piece: field 1 the text, field 2 the score (float).

    Raises:
        ValueError: if it is no such file.
    """
    pieces = []
    for number, value in _fields(model):
        if number != 1 or not isinstance(value, bytes):
            continue
        piece = dict(_fields(value))
        score = np.frombuffer(piece.get(2, b"\0\0\0\0"), dtype="<f4")
        pieces.append((piece[1].decode("utf-8"), float(score[0])))
    if not pieces:
        raise ValueError("not a SentencePiece model")
    return pieces


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of one protocol buffer message (varints as int, the others as bytes)."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(message, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("not a SentencePiece model")
        if place + size > len(message):
            raise ValueError("a SentencePiece model that is cut off")
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("a SentencePiece model that is cut off")
