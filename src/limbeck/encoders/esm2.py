"""ESM-2 through the ``transformers`` library, by hub name or from a local folder.

Lin et al. 2023 (doi:10.1126/science.ade2574). The features are those of ``transformers``' own ``EsmModel``;
the start, stop and padding tokens are kept out of the residue features and the pool. Proteins longer than the
position limit of the model (1,022 residues, the length ESM-2 was trained with) are encoded in overlapping
windows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder, ResidueEncoder
from limbeck.encoders.registry import EncoderInfo, Family, Options, file_hash, fingerprint, folder_config
from limbeck.errors import InputError
from limbeck.residues import RESIDUES, to_ids

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILY", "Esm2Encoder"]

_PARAMETERS = {
    "facebook/esm2_t6_8M_UR50D": (320, 7_409_081),
    "facebook/esm2_t12_35M_UR50D": (480, 33_269_521),
    "facebook/esm2_t30_150M_UR50D": (640, 147_728_601),
    "facebook/esm2_t33_650M_UR50D": (1280, 649_400_981),
    "facebook/esm2_t36_3B_UR50D": (2560, 2_832_444_321),
    "facebook/esm2_t48_15B_UR50D": (5120, 15_102_870_401),
}
"""Hub name -> dimension and parameters without the language-model head."""
_SPDX = {
    license.lower(): license
    for license in ("MIT", "Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0",
                    "CC-BY-NC-SA-4.0", "CC0-1.0", "GPL-3.0")
}  # fmt: skip
_HUB_NAME = re.compile(r"[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*/[A-Za-z0-9]+(?:[-_.]+[A-Za-z0-9]+)*")
_SMALL_FILES = ["config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "README.md"]
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where the weights may be, the preferred first."""


class Esm2Encoder(ResidueEncoder):
    """Features of residues from one layer of an ESM-2 model, mean-pooled.

    Args:
        name: what the user called it.
        folder: config, vocabulary and weights in the hub's format.
        layer: 0 (input embedding) to the number of layers, or negative from the end; by default the last,
            after the final layer norm. Others are ``transformers``' ``hidden_states``, without that norm.
        device: ``"auto"`` takes CUDA, then Apple's MPS, then the CPU.
        precision: ``"f32"`` or ``"bf16"``; ``"auto"`` is f32 on the CPU and MPS, bf16 on CUDA.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        layer: int | str | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        config = _checked_config(folder)
        self.layers = int(config["num_hidden_layers"])
        self._layer = _choose(name, layer, self.layers)
        self._device = _device(device)
        self.precision = _precision(precision, self._device)
        self._table, self._special = _tokens(folder)
        model = _load_model(folder)
        self._model = _prepared(model, self._layer, self.layers, self._device, self.precision)
        weights = _weight_files(folder)
        digests = [file_hash(path) for path in weights]
        definition = [file_hash(folder / small) for small in ("config.json", "vocab.txt")]
        self.name = name
        self.version = _commit(folder) or fingerprint(*digests)[:12]
        self.license = _license(name, folder)
        self.dimension = int(config["hidden_size"])
        self.parameters = sum(p.numel() for p in self._model.parameters())
        self.max_length = limit = _position_limit(model.config)
        self.overlap = min(256, limit // 4)
        self.fingerprint = fingerprint("esm2", 1, *definition, *digests, self._layer, self.pooling)
        # The feed-forward part, four times as wide, lives in several copies while GELU is computed.
        self.bytes_per_token = 20 * self.dimension * (2 if self.precision == "bf16" else 4)

    def tokens(self, residues: int) -> int:
        return residues + 2

    def forward(self, windows: list[str]) -> list[NDArray[np.float32]]:
        features = self._features(windows).cpu().numpy()
        return [f[1 : 1 + len(w)] for f, w in zip(features, windows, strict=True)]

    def pooled_sums(self, windows: list[str], owned: list[slice]) -> NDArray[np.floating]:
        features = self._features(windows)
        sums = [f[1 + s.start : 1 + s.stop].sum(dim=0) for f, s in zip(features, owned, strict=True)]
        return np.stack([s.cpu().numpy() for s in sums])

    def _features(self, windows: list[str]) -> torch.Tensor:
        """Features of all tokens, (n, 2 + longest, dimension) float32, on the device."""
        import torch

        ids, mask = self._batch(windows)
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.from_numpy(ids).to(self._device),
                # ESM-2 scales its embeddings by the share of masked tokens, so it must know what is padding.
                attention_mask=torch.from_numpy(mask).to(self._device),
            )
        result: torch.Tensor = output.last_hidden_state.float()
        return result

    def _batch(self, windows: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and attention mask, both (n, 2 + longest): the tokenizer's own, without its overhead."""
        start, stop, pad = self._special
        shape = len(windows), 2 + max(map(len, windows))
        ids, mask = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, window in enumerate(windows):
            ids[row, : 2 + len(window)] = [start, *self._table[to_ids(window)], stop]
            mask[row, : 2 + len(window)] = 1
        return ids, mask


def _checked_config(folder: Path) -> dict[str, Any]:
    config = folder_config(folder)
    if config is None:
        raise InputError(f"{folder}: the model folder has no config.json; copy the whole folder")
    kind = config.get("model_type")
    if kind != "esm" or config.get("is_folding_model"):
        raise InputError(f"{folder}: a model of type {kind!r}; of transformers' models limbeck reads ESM-2 ('esm')")
    if missing := [key for key in ("num_hidden_layers", "hidden_size") if key not in config]:
        raise InputError(f"{folder}: config.json lacks {missing[0]!r}; copy the whole folder")
    return config


def _choose(name: str, layer: int | str | None, depth: int) -> int:
    if layer is None:
        return depth
    if isinstance(layer, int) and -depth - 1 <= layer <= depth:
        return layer if layer >= 0 else depth + 1 + layer
    raise InputError(f"{name}: there is no layer {layer!r}; choose 0 to {depth}, or -1 for the last")


def _device(wanted: str) -> torch.device:
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"device {wanted!r} is not on this machine; use auto or cpu") from None
    return device


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        return "bf16" if device.type == "cuda" else "f32"
    return wanted


def _tokens(folder: Path) -> tuple[NDArray[np.int64], tuple[int, int, int]]:
    """Token id of each residue id, and those of start, stop and padding."""
    from transformers import EsmTokenizer

    if not (folder / "vocab.txt").is_file():
        raise InputError(f"{folder}: the model folder has no vocab.txt; copy the whole folder")
    tokenizer = EsmTokenizer.from_pretrained(folder, local_files_only=True)
    table = np.array(tokenizer.convert_tokens_to_ids([*RESIDUES, "X"]), dtype=np.int64)
    special = tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    if tokenizer.unk_token_id in (*table, *special) or None in special:
        raise InputError(f"{folder}: vocab.txt lacks residues or special tokens; copy the whole folder")
    return table, special


def _load_model(folder: Path) -> Any:
    """The model in float32 on the CPU, every weight of it from the files."""
    import transformers

    model_class: Any = transformers.EsmModel

    _weight_files(folder)
    try:
        with _quiet():
            model, report = model_class.from_pretrained(
                folder,
                local_files_only=True,
                add_pooling_layer=False,
                # The default, said once more: a pickle is only ever read as plain tensors.
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        # Damaged weights surface as errors of many libraries; what they have in common is the remedy.
        raise InputError(f"{folder}: the weights cannot be loaded ({_first_line(error)}); copy them again") from error
    # transformers fills what is missing with random numbers and goes on.
    needed = [k for k in sorted(report["missing_keys"]) if not k.startswith("contact_head") and "inv_freq" not in k]
    if needed:
        raise InputError(f"{folder}: the weights lack {needed[0]!r}; copy the whole folder")
    return model.float().eval()


def _prepared(model: Any, layer: int, depth: int, device: torch.device, precision: str) -> Any:
    import torch

    if layer < depth:
        # Cut off what the features do not pass through.
        model.encoder.layer = model.encoder.layer[:layer]
        model.encoder.emb_layer_norm_after = None
    if precision == "bf16":
        # Rotary frequencies rounded to bf16 would be off by whole turns at the end of a long protein.
        rotary = [(m, m.inv_freq) for m in model.modules() if hasattr(m, "inv_freq")]
        model = model.to(torch.bfloat16)
        for module, frequencies in rotary:
            module.inv_freq = frequencies
    return model.to(device)


def _position_limit(config: Any) -> int:
    # Positions are numbered from the padding id + 1, and start and stop take one each: 1,026 -> 1,022.
    return int(config.max_position_embeddings) - int(config.pad_token_id) - 3


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loader's report and bar off the terminal: what matters of them becomes an error here."""
    import transformers

    log: Any = transformers.utils.logging
    verbosity = log.get_verbosity()
    bar = log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights; of a sharded model the index as well."""
    import json

    for name in _WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix != ".json":
            return [path]
        try:
            shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError):
            raise InputError(f"{path}: not a readable index of weights; copy it again") from None
        if missing := [shard for shard in shards if not (folder / shard).is_file()]:
            raise InputError(f"{folder}: the model folder lacks {missing[0]}; copy the whole folder")
        return [path, *(folder / shard for shard in shards)]
    raise InputError(f"{folder}: the model folder has no weights (model.safetensors); copy the whole folder")


def _license(name: str, folder: Path) -> str:
    card = folder / "README.md"
    if card.is_file():
        front = re.match(r"---\r?\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        if front and (stated := re.search(r"^license:\s*['\"]?([\w.-]+)", front[1], re.MULTILINE)):
            return _SPDX.get(stated[1].lower(), stated[1])
    return "MIT" if name in _PARAMETERS else "unknown"


def _commit(folder: Path) -> str | None:
    """The hub's commit, if the folder is a snapshot of the local cache."""
    return folder.name if folder.parent.name == "snapshots" else None


def _cached(name: str) -> Path | None:
    """The folder of a whole model in the hub's local cache; no network is used."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        _weight_files(folder)
    except InputError:
        return None
    return folder if (folder / "vocab.txt").is_file() else None


def _downloaded(name: str) -> Path:
    """Fetch a model from the hub: its safetensors, or its pickled tensors if there is nothing else."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_SMALL_FILES))
        # Of a model that cannot be used nothing big is fetched.
        _checked_config(folder)
        snapshot_download(name, allow_patterns=["*.safetensors", "*.safetensors.index.json"])
        if not any((folder / weights).is_file() for weights in _WEIGHTS[:2]):
            snapshot_download(name, allow_patterns=["pytorch_model*.bin", "*.bin.index.json"])
    except RepositoryNotFoundError:
        raise InputError(
            f"{name}: not a folder here and not a public model of the hub; check the name or the path"
        ) from None
    except (LocalEntryNotFoundError, ConnectionError):
        raise _advice(name, "not a folder here, not in the local cache, and the hub cannot be reached") from None
    except OSError as error:
        raise InputError(f"{name}: the download failed ({_first_line(error)}); try again") from error
    if _cached(name) is None:
        # With the network off the hub's library returns what part of a model it has.
        raise _advice(name, "not whole in the local cache, and the hub did not give the rest")
    return folder


def _advice(name: str, problem: str) -> InputError:
    return InputError(
        f"{name}: {problem}; on a connected machine run `hf download {name} --local-dir {name.split('/')[1]}`, "
        "copy the folder here and give its path"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _recognises(name: str) -> bool:
    config = folder_config(Path(name))
    if config is not None:
        return "limbeck" not in config
    is_file_name = Path(name).suffix in {".hmm", ".safetensors"}
    return not Path(name).exists() and not is_file_name and _HUB_NAME.fullmatch(name) is not None


def _load(name: str, options: Options) -> Encoder:
    options.check(
        name,
        layers="counted from 1",
        precisions=("f32", "bf16"),
        devices=("cpu", "cuda", "mps"),
        poolings=("mean",),
    )
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError:
        raise InputError(f"{name} needs PyTorch and transformers: pip install 'limbeck[transformers]'") from None
    if options.threads:
        torch.set_num_threads(options.threads)
    folder = Path(name) if Path(name).is_dir() else _cached(name) or _downloaded(name)
    return Esm2Encoder(name, folder, layer=options.layer, device=options.device, precision=options.precision)


def _available() -> list[EncoderInfo]:
    return [
        EncoderInfo(name, "ESM-2", dimension, parameters, "MIT", _cached(name) is not None)
        for name, (dimension, parameters) in _PARAMETERS.items()
    ]


FAMILY = Family(_recognises, _load, _available)
