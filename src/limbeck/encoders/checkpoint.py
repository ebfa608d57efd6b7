"""Model folders in the Hugging Face hub's format: on disk, in the hub's local cache, or to be downloaded.

A folder holds ``config.json``, the tokenizer's files and the weights: safetensors, or tensors in a pickle that
is only ever read as tensors; in one file, or in shards with an index.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.errors import InputError

__all__ = ["cached", "card_license", "commit", "download", "first_line", "is_hub_name", "quiet", "weight_files"]

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where the weights may be, the preferred first."""
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model", "vocab.json")
"""A tokenizer has at least one of these."""
_SMALL_FILES = [
    "config.json",
    *_TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "README.md",
]
_SPDX = {
    license.lower(): license
    for license in ("MIT", "Apache-2.0", "AFL-3.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0",
                    "CC-BY-NC-SA-4.0", "CC0-1.0", "GPL-3.0")
}  # fmt: skip
_HUB_NAME = re.compile(r"[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*/[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")
_FRONT_MATTER = re.compile(r"---\r?\n(.*?)\n---", re.DOTALL)
_LICENSE = re.compile(r"^license:[ \t]*(?:['\"]?([\w.-]+)|((?:\r?\n[ \t]*- [^\n]+)+))", re.MULTILINE)


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of the hub's (``owner/model``) and is no path of a file."""
    is_file_name = Path(name).suffix in {".hmm", ".safetensors"}
    return not Path(name).exists() and not is_file_name and _HUB_NAME.fullmatch(name) is not None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights; of a sharded model the index as well.

    Raises:
        InputError: if there are none, one is missing, or the index is damaged.
    """
    for name in _WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix != ".json":
            return [path]
        try:
            shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise InputError(f"{path}: not a readable index of weights; copy it again") from None
        if missing := [shard for shard in shards if not (folder / shard).is_file()]:
            raise InputError(f"{folder}: the model folder lacks {missing[0]}; copy the whole folder")
        return [path, *(folder / shard for shard in shards)]
    raise InputError(f"{folder}: the model folder has no weights (model.safetensors); copy the whole folder")


def card_license(folder: Path) -> str | None:
    """The licence that the model card states, as SPDX where it is known; several are joined by ``AND``."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    front = _FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace"))
    stated = _LICENSE.search(front[1]) if front else None
    if stated is None:
        return None
    names = [stated[1]] if stated[1] else re.findall(r"- ['\"]?([\w.-]+)", stated[2])
    return " AND ".join(_SPDX.get(name.lower(), name) for name in names)


def commit(folder: Path) -> str | None:
    """The hub's commit, if the folder is a snapshot of the local cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def cached(name: str, *, whole: bool = True) -> Path | None:
    """The folder of a model in the hub's local cache; no network is used.

    Args:
        name: ``owner/model``.
        whole: whether it must have its weights and its tokenizer, or its config alone will do.
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    if not whole:
        return folder
    try:
        weight_files(folder)
    except InputError:
        return None
    return folder if any((folder / file).is_file() for file in _TOKENIZERS) else None


def download(name: str, check: Callable[[Path], object]) -> Path:
    """Fetch a model from the hub: its safetensors, or its pickled tensors if there is nothing else.

    Args:
        name: ``owner/model``.
        check: called with the folder when it holds the small files; it raises if the model cannot be used, so
            nothing big is fetched in vain.

    Raises:
        InputError: if there is no such model, or it cannot be had now.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_SMALL_FILES))
        check(folder)
        snapshot_download(name, allow_patterns=["model*.safetensors", "model.safetensors.index.json"])
        if not any((folder / weights).is_file() for weights in _WEIGHTS[:2]):
            snapshot_download(name, allow_patterns=["pytorch_model*.bin", "pytorch_model.bin.index.json"])
    except RepositoryNotFoundError:
        raise InputError(
            f"{name}: not a folder here and not a public model of the hub; check the name or the path"
        ) from None
    except (LocalEntryNotFoundError, ConnectionError):
        raise _advice(name, "not a folder here, not in the local cache, and the hub cannot be reached") from None
    except OSError as error:
        raise InputError(f"{name}: the download failed ({first_line(error)}); try again") from error
    if cached(name) is None:
        # With the network off the hub's library returns what part of a model it has.
        raise _advice(name, "not whole in the local cache, and the hub did not give the rest")
    return folder


def _advice(name: str, problem: str) -> InputError:
    return InputError(
        f"{name}: {problem}; on a connected machine run `hf download {name} --local-dir {name.split('/')[1]}`, "
        "copy the folder here and give its path"
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 200 characters."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loader's report and bar off the terminal: what matters of them becomes an error here."""
    import transformers

    log: Any = transformers.utils.logging
    verbosity = log.get_verbosity()
    bar = log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()
