"""Small random weights in every format that limbeck reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from limbeck.encoders.contexts import Library, save_library

CSBLAST_ORDER = "ARNDCQEGHILKMFPSTWYV"
ESM_VOCABULARY = [
    "<cls>",
    "<pad>",
    "<eos>",
    "<unk>",
    "L",
    "A",
    "G",
    "V",
    "S",
    "E",
    "R",
    "T",
    "I",
    "D",
    "P",
    "K",
    "Q",
    "N",
    "F",
    "Y",
    "M",
    "H",
    "W",
    "C",
    "X",
    "B",
    "U",
    "Z",
    "O",
    ".",
    "-",
    "<null_1>",
    "<mask>",
]


def protein(length: int, seed: int = 0, letters: str = "ACDEFGHIKLMNPQRSTVWY") -> str:
    return "".join(np.random.default_rng([seed, length]).choice(list(letters), size=length))


def write_unirep(path: Path, units: int = 6, layers: int = 4, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {
        "embed": rng.normal(size=(26, 10)),
        "head.weight": rng.normal(size=(units, 25)),
        "head.bias": rng.normal(size=25),
    }
    for index in range(layers):
        width = units if index else 10
        for name, shape in {
            "wx": (width, 4 * units),
            "wh": (units, 4 * units),
            "wmx": (width, units),
            "wmh": (units, units),
        }.items():
            tensors[f"layers.{index}.{name}"] = rng.normal(size=shape)
            tensors[f"layers.{index}.{name.replace('w', 'g', 1)}"] = rng.uniform(0.5, 1.5, size=shape[1])
        tensors[f"layers.{index}.b"] = rng.normal(size=4 * units)
    save_file({name: tensor.astype(np.float32) for name, tensor in tensors.items()}, path)
    return path


def hmm_text(states: int = 5, width: int = 13, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    scores = np.rint(-1000 * np.log2(rng.dirichlet(np.full(20, 2.0), size=(states, width)))).astype(int)
    chain = rng.dirichlet(np.ones(states), size=states)
    transitions = np.rint(-1000 * np.log2(chain)).astype(int)
    lines = ["HMM", f"NSTATES\t{states}", f"NTRANS\t{states**2}", f"NCOLS\t{width}"]
    lines += ["ITERS\t1", "TRLOG\t0", "STLOG\t1"]
    for state in range(states):
        lines += ["ContextProfileState", f"INDEX\t{state}", f"PRIOR\t{1 / states:.6g}", f"NCOLS\t{width}"]
        lines += ["ALPH\t20", "LOG\t1", f"NSTATES\t{states}", "PROF\t" + "\t".join(CSBLAST_ORDER)]
        for position, row in enumerate(scores[state]):
            lines.append("\t".join(map(str, (position + 1, *row))))
        lines.append("//")
    lines.append("TRANS")
    lines += [f"{i}\t{j}\t{transitions[i, j]}" for i in range(states) for j in range(states)]
    return "\n".join([*lines, "//", ""])


def write_hmm(path: Path, **shape: int) -> Path:
    path.write_text(hmm_text(**shape))
    return path


def write_library(path: Path, states: int = 7, width: int = 5, sharpness: float = 1.5) -> Path:
    rng = np.random.default_rng(1)
    columns = rng.dirichlet(np.full(20, 2.0), size=(states, width))
    prior = rng.dirichlet(np.ones(states))
    to_f32 = (np.log(x).astype(np.float32) for x in (prior, columns))
    save_library(path, Library(*to_f32, sharpness=sharpness, license="CC0-1.0", version="3"))
    return path


def write_esm2(folder: Path, *, residues: int = 128, layers: int = 3, safe: bool = True, **config: object) -> Path:
    """A random ESM-2 checkpoint in the hub's format that takes proteins of up to so many residues."""
    import torch
    from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(ESM_VOCABULARY))
    settings = {
        "vocab_size": len(ESM_VOCABULARY),
        "mask_token_id": 32,
        "pad_token_id": 1,
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": residues + 4,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "emb_layer_norm_before": False,
    }
    torch.manual_seed(0)
    # Masked-LM checkpoints are what the hub holds: their tensors carry the prefix "esm.".
    model = shaken(EsmForMaskedLM(EsmConfig(**(settings | config))))
    EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    if safe:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def write_esm1b(folder: Path, **config: object) -> Path:
    return write_esm2(folder, position_embedding_type="absolute", emb_layer_norm_before=True, **config)


def shaken(model: Any) -> Any:
    """A model whose weights differ enough that no mistake drowns in the tolerance, as it would with the library's."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def write_esmc(folder: Path, *, residues: int = 128, layers: int = 3) -> Path:
    """A random ESM C checkpoint, with the head that the hub's have."""
    import torch
    from transformers import EsmcConfig, EsmcForMaskedLM, EsmcTokenizer

    torch.manual_seed(0)
    config = EsmcConfig(
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=residues + 2,
    )
    shaken(EsmcForMaskedLM(config)).save_pretrained(folder)
    EsmcTokenizer().save_pretrained(folder)
    return folder


PROTT5_PIECES = ["<pad>", "</s>", "<unk>", *(f"▁{letter}" for letter in "ALGVSREDTIPKFQNYMHWCXBOUZ")]
ANKH_TOKENS = ["<pad>", "</s>", "<unk>", *"ALGVSREDTIPKFQNYMHWCXBOUZ"]
PROTBERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO"]
LETTERED_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", *"ACDEFGHIKLMNPQRSTVWYX"]


def sentencepiece_model(pieces: list[str]) -> bytes:
    """What ``spiece.model`` holds: a protocol buffer with one message for each piece."""

    def field(number: int, value: bytes) -> bytes:
        assert len(value) < 128
        return bytes([number << 3 | 2, len(value)]) + value

    def piece(index: int, text: str) -> bytes:
        score = b"\x15" + np.float32(-index / 8).tobytes()
        # Kinds: 3 is a control symbol, 2 the unknown one, 1 a normal piece.
        kind = b"\x18" + bytes([{0: 3, 1: 3, 2: 2}.get(index, 1)])
        return field(1, text.encode()) + score + kind

    return b"".join(field(1, piece(i, text)) for i, text in enumerate(pieces)) + field(2, b"\x18\x01")


def write_prott5(folder: Path, *, layers: int = 3, whole: bool = False, **config: object) -> Path:
    """A random ProtT5: as an encoder in half precision, or as a whole T5."""
    import torch
    from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

    torch.manual_seed(0)
    settings = {
        "vocab_size": len(PROTT5_PIECES),
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": layers,
        "num_heads": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    kind = T5ForConditionalGeneration if whole else T5EncoderModel
    model = shaken(kind(T5Config(**(settings | config))))
    (model if whole else model.half()).save_pretrained(folder)
    (folder / "spiece.model").write_bytes(sentencepiece_model(PROTT5_PIECES))
    return folder


def write_ankh(folder: Path, *, prefix: bool = False) -> Path:
    """A random Ankh; with ``prefix`` an Ankh3."""
    tokens = [*ANKH_TOKENS, *(["[NLU]", "[S2S]"] if prefix else [])]
    shape = {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8, "vocab_size": len(tokens)}
    write_prott5(folder, whole=True, num_decoder_layers=1, **shape)
    (folder / "spiece.model").unlink()
    save_letter_tokenizer(folder, tokens, after="</s>", unknown="<unk>", padding="<pad>")
    return folder


def save_letter_tokenizer(
    folder: Path, tokens: list[str], *, before: str = "", after: str, unknown: str, padding: str
) -> None:
    """The file of a fast tokenizer that cuts text into letters."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(""), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(),
        special_tokens=[(token, tokens.index(token)) for token in (before, after) if token],
    )
    extra = [token for token in tokens if token.startswith("[") and token not in (unknown, padding)]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=unknown, pad_token=padding, additional_special_tokens=extra
    ).save_pretrained(folder)


def write_protbert(folder: Path, *, layers: int = 3) -> Path:
    """A random ProtBert, whose config does not say what kind of model it is: the oldest on the hub do not."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PROTBERT_TOKENS),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=500,
    )
    shaken(BertForMaskedLM(config)).save_pretrained(folder)
    kept = json.loads((folder / "config.json").read_text())
    del kept["model_type"]
    (folder / "config.json").write_text(json.dumps(kept))
    (folder / "vocab.txt").write_text("\n".join(PROTBERT_TOKENS))
    return folder


def write_roberta(folder: Path, *, layers: int = 3, residues: int = 128) -> Path:
    """A random encoder of a kind that has no family, with letters as tokens."""
    import torch
    from transformers import RobertaConfig, RobertaForMaskedLM

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(LETTERED_TOKENS),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=residues + 4,
        pad_token_id=1,
    )
    return _lettered(RobertaForMaskedLM(config), folder)


def write_gpt2(folder: Path, *, layers: int = 3, residues: int = 128) -> Path:
    """A random network whose linear maps are ``Conv1D``, with letters as tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(LETTERED_TOKENS),
        n_embd=16,
        n_layer=layers,
        n_head=2,
        n_positions=residues + 4,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return _lettered(GPT2LMHeadModel(config), folder)


def _lettered(model: Any, folder: Path) -> Path:
    """Save a network that reads :data:`LETTERED_TOKENS`."""
    shaken(model).save_pretrained(folder)
    save_letter_tokenizer(folder, LETTERED_TOKENS, before="<s>", after="</s>", unknown="<unk>", padding="<pad>")
    return folder


def write_mt5(folder: Path) -> Path:
    """A random model with encoder and decoder that has no family."""
    import torch
    from transformers import MT5Config, MT5ForConditionalGeneration

    torch.manual_seed(0)
    config = MT5Config(
        vocab_size=len(ANKH_TOKENS), d_model=16, d_kv=8, d_ff=32, num_layers=3, num_decoder_layers=1, num_heads=2
    )
    shaken(MT5ForConditionalGeneration(config)).save_pretrained(folder)
    save_letter_tokenizer(folder, ANKH_TOKENS, after="</s>", unknown="<unk>", padding="<pad>")
    return folder
