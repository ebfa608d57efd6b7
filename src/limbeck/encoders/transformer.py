"""What all encoders that run through the ``transformers`` library share.

A family subclasses :class:`TransformerEncoder`: it names transformers' classes, where the stack of layers is, how
its tokenizer is spoken to and how long a window may be. Everything else is here: loading, devices, precision,
choice of layers, batches, pooling.

The features of layer i are ``transformers``' ``hidden_states[i]`` of the protein alone: layer 0 is the input
embedding, the last layer is the model's output (after a final norm, where there is one). Start, stop and padding
tokens are in no feature and no pool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.encoders.base import Encoder, ResidueEncoder
from limbeck.encoders.batches import Piece
from limbeck.encoders.checkpoint import (
    cached,
    card_license,
    commit,
    download,
    first_line,
    is_hub_name,
    quiet,
    weight_files,
)
from limbeck.encoders.registry import (
    EncoderInfo,
    Family,
    Options,
    choose_layers,
    file_hash,
    fingerprint,
    folder_config,
)
from limbeck.encoders.tokens import Tokens, load_tokenizer, read_tokens
from limbeck.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Listed",
    "TransformerEncoder",
    "family",
    "in_precision",
    "load_with",
    "model_config",
    "model_kind",
    "resolve_device",
]

Config = dict[str, Any]
_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


class Listed(NamedTuple):
    """A well-known model of the hub."""

    dimension: int
    parameters: int | None
    """Without heads and decoder; ``None`` if it is only known from the file."""
    license: str
    kind: str | None = None
    """What ``limbeck encoders`` calls it, if that is not the family's name."""


class _LayerReached(Exception):
    """The last layer that was asked for has been computed."""


def resolve_device(name: str) -> torch.device:
    """The device that a user's name stands for: ``auto`` is CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: if it is not on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"device {name!r} is not on this machine; use auto or cpu") from None
    return device


class TransformerEncoder(ResidueEncoder):
    """Features of residues from one layer of a transformer or from several side by side, mean-pooled.

    Args:
        name: what the user called it.
        folder: config, tokenizer and weights in the hub's format.
        layer: 0 (input embedding) to the number of layers, or negative from the end; several, or ``"all"``
            (1 to the last) side by side; by default the last.
        device: see :func:`resolve_device`.
        precision: one of :attr:`precisions`; ``"auto"`` is f32 on the CPU and MPS, bf16 on CUDA.

    Raises:
        InputError: if the folder is not whole, is of another kind, or lacks an option asked for.
    """

    kind: ClassVar[str]
    """The family, as ``limbeck encoders`` shows it."""
    model_class: ClassVar[str]
    config_class: ClassVar[str]
    """Names in ``transformers``."""
    required: ClassVar[tuple[str, ...]] = ("num_hidden_layers", "hidden_size")
    """Keys that ``config.json`` must have: defaults would load a part of the weights, or another model."""
    model_options: ClassVar[Mapping[str, Any]] = {}
    unneeded_weights: ClassVar[str] = r"$^"
    """Pattern of weights that the features do not depend on, so they may be missing."""
    tokenizer_class: ClassVar[str] = "AutoTokenizer"
    tokenizer_options: ClassVar[Mapping[str, Any]] = {}
    spellings: ClassVar[tuple[str, ...]] = ("glued",)
    prefixes: ClassVar[tuple[str, ...]] = ()
    """See :func:`limbeck.encoders.tokens.read_tokens`."""
    precisions: ClassVar[tuple[str, ...]] = ("f32", "bf16", "f16")
    listed: ClassVar[Mapping[str, Listed]] = {}

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        layer: int | str | Sequence[int] | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.check(folder)
        self._folder = folder
        config = self._read_config(folder)
        self.layers = int(config.num_hidden_layers)
        self._chosen = choose_layers(name, layer, depth=self.layers, default=self.layers, first=0)
        self._device = resolve_device(device)
        self.precision = _precision(precision, self._device)
        self._tokens = self._read_tokens(folder)
        weights = weight_files(folder)
        self._model, missing = self._load(folder)
        self._check_vocabulary(folder)
        self.max_length = self.window(config, self._tokens)
        self.overlap = min(256, self.max_length // 4)
        self._width = int(config.hidden_size)
        self.dimension = self._width * len(self._chosen)
        self._kept: dict[int, torch.Tensor] = {}
        self._blocks = self.blocks(self._model)
        self._watch(self._blocks)
        self.parameters = sum(p.numel() for n, p in self._model.named_parameters() if n not in missing)
        self._model = in_precision(self._model, self.precision).to(self._device)
        digests = [file_hash(path) for path in weights]
        self.name = name
        self.version = commit(folder) or fingerprint(*digests)[:12]
        self.license = card_license(folder) or (self.listed[name].license if name in self.listed else "unknown")
        self.fingerprint = fingerprint(
            self.kind,
            1,
            file_hash(folder / "config.json"),
            *digests,
            self._tokens.residues.tolist(),
            self._tokens.before,
            self._tokens.after,
            self.max_length,
            self.overlap,
            self._chosen,
            self.pooling,
        )
        self.bytes_per_token = self._bytes_per_token(config)

    @classmethod
    def matches(cls, config: Config) -> bool:
        """Whether a ``config.json`` is one of this family's."""
        raise NotImplementedError

    @classmethod
    def check(cls, folder: Path) -> None:
        """Refuse a folder whose small files show that it cannot be loaded.

        Raises:
            InputError: says what is missing or wrong.
        """
        config = folder_config(folder)
        if config is None:
            raise InputError(f"{folder}: the model folder has no config.json; copy the whole folder")
        if missing := [key for key in cls.required if key not in config]:
            raise InputError(f"{folder}: config.json lacks {missing[0]!r}; copy the whole folder")

    def window(self, config: Any, tokens: Tokens) -> int:
        """Most residues of one window."""
        raise NotImplementedError

    def blocks(self, model: Any) -> Any:
        """The stack of layers: a ``ModuleList`` that the model runs through in order."""
        raise NotImplementedError

    def attention_bytes(self, config: Any, size: int) -> int:
        """Memory of attention for one token of a full window, given the size of a number in bytes: none with
        kernels that never hold the whole matrix."""
        return 0

    def tokens(self, residues: int) -> int:
        return residues + self._tokens.special

    def forward(self, windows: list[str]) -> list[NDArray[np.float32]]:
        features = self._features(windows).cpu().numpy()
        start = len(self._tokens.before)
        return [f[start : start + len(w)] for f, w in zip(features, windows, strict=True)]

    def pooled_sums(self, windows: list[str], pieces: list[Piece]) -> NDArray[np.floating]:
        features, start = self._features(windows), len(self._tokens.before)
        owned = [slice(start + p.owned.start, start + p.owned.stop) for p in pieces]
        sums = [f[kept].sum(dim=0) for f, kept in zip(features, owned, strict=True)]
        return np.stack([s.cpu().numpy() for s in sums])

    @property
    def network(self) -> torch.nn.Module:
        """The PyTorch network, up to the last layer asked for."""
        return self._model

    @property
    def stack(self) -> torch.nn.ModuleList:
        """The network's layers, in order, up to the last one asked for."""
        return self._blocks

    @property
    def vocabulary(self) -> Tokens:
        """How the network writes a protein."""
        return self._tokens

    @property
    def chosen_layers(self) -> tuple[int, ...]:
        """Those of the features, side by side in this order."""
        return self._chosen

    @property
    def device(self) -> str:
        """Where the network is, as PyTorch names it."""
        return str(self._device)

    def features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Features of a batch of token ids and an attention mask, both (n, tokens): (n, tokens, dimension) float32.

        Those of fixed tokens and of padding are among them. Gradients are kept unless the caller turns them off.
        """
        import torch

        states = self._run(ids, mask)
        return torch.cat([states[layer].float() for layer in self._chosen], dim=-1)

    def _features(self, windows: list[str]) -> torch.Tensor:
        """Features of all tokens, (n, special + longest, dimension) float32, on the device.

        Raises:
            InputError: if a number of f16 has overflowed.
        """
        import torch

        ids, mask = self._tokens.batch(windows)
        with torch.inference_mode():
            features = self.features(torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device))
        if self.precision == "f16" and not bool(torch.isfinite(features).all()):
            raise InputError(f"{self.name}: its numbers do not fit into f16; use precision bf16 or f32")
        return features

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[int, torch.Tensor]:
        """States of the chosen layers, each (n, tokens, width), of a batch of token ids (n, tokens)."""
        self._kept.clear()
        try:
            # A mask is given even without padding: ESM scales its embeddings by what it says.
            output = self._model(input_ids=ids, attention_mask=mask)
            self._kept[self.layers] = output.last_hidden_state
        except _LayerReached:
            pass
        states = dict(self._kept)
        self._kept.clear()
        return states

    def _watch(self, blocks: Any) -> None:
        """Keep the states of the chosen layers as they are computed, and end the computation after the last."""
        last = max(self._chosen)
        # Of the blocks above nothing is needed, neither time nor memory; one must stay to be entered at all.
        del blocks[max(last, 1) :]

        def keep(layer: int, state: torch.Tensor) -> None:
            self._kept[layer] = state
            if layer == last:
                raise _LayerReached

        if 0 in self._chosen:
            blocks[0].register_forward_pre_hook(
                lambda module, args, kwargs: keep(0, args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
        for layer in self._chosen:
            if 0 < layer < self.layers:
                blocks[layer - 1].register_forward_hook(
                    lambda module, args, output, layer=layer: keep(
                        layer, output[0] if isinstance(output, tuple) else output
                    )
                )

    @classmethod
    def _transformers(cls, name: str) -> Any:
        import transformers

        found = getattr(transformers, name, None)
        if found is None:
            raise InputError(
                f"{cls.kind} needs a newer transformers than {transformers.__version__}: pip install -U transformers"
            )
        return found

    def _read_config(self, folder: Path) -> Any:
        try:
            with quiet():
                return self._transformers(self.config_class).from_pretrained(folder, local_files_only=True)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{folder}: config.json cannot be used ({first_line(error)}); copy the whole folder"
            ) from error

    def _read_tokens(self, folder: Path) -> Tokens:
        self._transformers(self.tokenizer_class)
        tokenizer = load_tokenizer(folder, self.tokenizer_class, **self.tokenizer_options)
        return read_tokens(folder, tokenizer, self.spellings, self.prefixes)

    def _load(self, folder: Path) -> tuple[Any, set[str]]:
        """The model in float32 on the CPU, and the weights that the files lack and the features do without."""
        return self._load_as(folder, self.model_class, self.model_options)

    def _load_as(self, folder: Path, model_class: str, options: Mapping[str, Any]) -> tuple[Any, set[str]]:
        """The same as one of transformers' classes, with options for that class."""
        import torch

        loader = self._transformers(model_class)
        try:
            with quiet():
                model, report = loader.from_pretrained(
                    folder,
                    local_files_only=True,
                    # The default, said once more: a pickle is only ever read as plain tensors.
                    weights_only=True,
                    output_loading_info=True,
                    dtype=torch.float32,
                    **options,
                )
        except Exception as error:
            # Damaged weights surface as errors of many libraries; what they have in common is the remedy.
            raise InputError(
                f"{folder}: the weights cannot be loaded ({first_line(error)}); copy them again"
            ) from error
        # transformers fills what is missing with random numbers and goes on; buffers it computes from the config.
        missing = set(report["missing_keys"]) & {name for name, _ in model.named_parameters()}
        if needed := sorted(name for name in missing if not re.search(self.unneeded_weights, name)):
            raise InputError(f"{folder}: the weights lack {needed[0]!r}; copy the whole folder")
        return model.eval(), missing

    def _check_vocabulary(self, folder: Path) -> None:
        known = getattr(self._model.get_input_embeddings(), "num_embeddings", None)
        if known is None:
            raise InputError(f"{folder}: the model has no table of tokens, so it does not read sequences")
        used = max(*self._tokens.residues.tolist(), *self._tokens.before, *self._tokens.after, self._tokens.pad)
        if used >= known:
            raise InputError(
                f"{folder}: the tokenizer has token {used}, but the weights know {known}; copy the whole folder"
            )

    def _bytes_per_token(self, config: Any) -> int:
        size = 4 if self.precision == "f32" else 2
        # The feed-forward part, the widest, lives in several copies while its activation is computed.
        wide = 5 * max(int(getattr(config, "intermediate_size", 0) or getattr(config, "d_ff", 0)), 4 * self._width)
        return size * wide + 4 * self.dimension * (len(self._chosen) > 1) + self.attention_bytes(config, size)


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        return "bf16" if device.type == "cuda" else "f32"
    return wanted


def in_precision(model: Any, precision: str) -> Any:
    """The model with its weights in another precision; its buffers stay as they are.

    Rotary frequencies rounded to bf16 would be off by whole turns at the end of a long protein.
    """
    import torch

    if precision == "f32":
        return model
    buffers = [(module, name, value) for module in model.modules() for name, value in module._buffers.items()]
    model = model.to(getattr(torch, _DTYPES[precision]))
    for module, name, value in buffers:
        module._buffers[name] = value
    return model


def model_config(name: str) -> Config | None:
    """``config.json`` of a model's folder or of the hub's local cache; ``None`` if it is in neither."""
    config = folder_config(Path(name))
    if config is not None:
        return None if "limbeck" in config else config
    if not is_hub_name(name):
        return None
    folder = cached(name, whole=False)
    return folder_config(folder) if folder else None


def model_kind(config: Config) -> str | None:
    """``model_type`` of a config; some older ones have only the name of a class to tell it by."""
    kind = config.get("model_type")
    if kind is None:
        names = config.get("architectures") or [""]
        kind = next((k for k in ("bert", "t5", "esm") if str(names[0]).lower().startswith(f"{k}for")), None)
    return kind


def load_with(choose: Callable[[Path], type[TransformerEncoder]], name: str, options: Options) -> Encoder:
    """Load a model from a folder, the hub's cache or the hub.

    Args:
        choose: the class for a folder that holds at least the small files.
        name: the folder, or a name of the hub.
        options: what the user chose.

    Raises:
        InputError: if it cannot be had, or lacks an option asked for.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError:
        raise InputError(f"{name} needs PyTorch and transformers: pip install 'limbeck[transformers]'") from None

    def check(folder: Path) -> type[TransformerEncoder]:
        encoder = choose(folder)
        options.check(
            name,
            layers="counted from 1",
            precisions=encoder.precisions,
            devices=("cpu", "cuda", "mps"),
            poolings=("mean",),
        )
        encoder.check(folder)
        return encoder

    if options.threads:
        torch.set_num_threads(options.threads)
    folder = Path(name) if Path(name).is_dir() else cached(name) or download(name, check)
    encoder = check(folder)
    return encoder(name, folder, layer=options.layer, device=options.device, precision=options.precision)


def family(
    encoder: type[TransformerEncoder],
    *,
    also: Callable[[str], bool] = lambda name: False,
    load: Callable[[str, Options], Encoder] | None = None,
) -> Family:
    """The family of an encoder: it claims its listed names and every model whose config it matches.

    Args:
        encoder: the class.
        also: further names that it claims.
        load: what loads it; by default :func:`load_with` does.
    """

    def recognises(name: str) -> bool:
        if name in encoder.listed and not Path(name).exists():
            return True
        config = model_config(name)
        return also(name) if config is None else encoder.matches(config)

    def available() -> list[EncoderInfo]:
        return [
            EncoderInfo(
                name,
                model.kind or encoder.kind,
                model.dimension,
                model.parameters,
                model.license,
                cached(name) is not None,
            )
            for name, model in encoder.listed.items()
        ]

    return Family(
        recognises, load or (lambda name, options: load_with(lambda folder: encoder, name, options)), available
    )
