"""Small random weights in every format that limbeck reads."""

from __future__ import annotations

from pathlib import Path

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
    model = EsmForMaskedLM(EsmConfig(**(settings | config)))
    with torch.no_grad():
        for parameter in model.parameters():
            # The library's own initial weights are so small that every mistake would drown in the tolerance.
            parameter.add_(0.3 * torch.randn_like(parameter))
    EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    if safe:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder
