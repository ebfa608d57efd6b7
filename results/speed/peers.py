"""The encoders that limbeck's speed is compared with, each run in a process of its own by ``run.py``.

Weights are random, which costs what trained ones do. Nothing is downloaded.

    python results/speed/peers.py NAME SETTINGS THREADS FASTA

prints one JSON object: residues and proteins encoded, tokens computed, seconds and seconds of processor time that
encoding took, and seconds until it was ready.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from limbeck.encoders.batches import pack
from limbeck.records import read_records

ESM_LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO"
ESM_TOKENS = ["<cls>", "<pad>", "<eos>", "<unk>", *ESM_LETTERS, ".", "-", "<null_1>", "<mask>"]
ESM2 = {"8M": (6, 320), "35M": (12, 480), "150M": (30, 640), "650M": (33, 1280)}
USUAL_BATCH = 8
TOKENS = 4096
MTDP_LENGTH, MTDP_BATCH = 1001, 10


def configuration(name: str) -> tuple[str, dict[str, Any]]:
    """The class of ``transformers`` and the arguments of its configuration."""
    if name.startswith("ESM-2 "):
        layers, width = ESM2[name.removeprefix("ESM-2 ")]
        return "EsmModel", {
            "model_type": "esm", "vocab_size": 33, "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": 20, "intermediate_size": 4 * width, "max_position_embeddings": 1026,
            "position_embedding_type": "rotary", "token_dropout": True, "pad_token_id": 1, "mask_token_id": 32,
        }  # fmt: skip
    shapes = {"ProtT5-XL, encoder": (1024, 128, 16384, 24, 32), "MTDP": (512, 64, 2048, 6, 8)}
    width, key, inner, layers, heads = shapes[name]
    return "T5EncoderModel", {
        "model_type": "t5", "vocab_size": 128, "d_model": width, "d_kv": key, "d_ff": inner, "num_layers": layers,
        "num_heads": heads, "feed_forward_proj": "relu",
    }  # fmt: skip


def operations(name: str, length: int) -> int:
    """Additions and multiplications of the matrix products for one residue of a protein of this length."""
    _, shape = configuration(name)
    if name.startswith("ESM-2 "):
        width, layers, inner = shape["hidden_size"], shape["num_hidden_layers"], shape["intermediate_size"]
        heads = width
    else:
        width, layers, inner = shape["d_model"], shape["num_layers"], shape["d_ff"]
        heads = shape["num_heads"] * shape["d_kv"]
    weights = 4 * width * heads + 2 * width * inner
    return 2 * layers * (weights + 2 * heads * length)


def network(name: str, dtype: Any) -> Any:
    import torch
    import transformers

    kind, shape = configuration(name)
    with torch.device("meta"):
        model = getattr(transformers, kind)(transformers.AutoConfig.for_model(**shape))
    model = model.to_empty(device="cpu").to(dtype).eval()
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor, -0.03, 0.03)
    return model


def batches(lengths: list[int], settings: str) -> list[list[int]]:
    """Indices: in the file's order and 8 at a time (``usual``), or of like length (``best``)."""
    if settings == "best":
        return pack(lengths, TOKENS)
    return [list(range(i, min(i + USUAL_BATCH, len(lengths)))) for i in range(0, len(lengths), USUAL_BATCH)]


def run_network(name: str, settings: str, sequences: list[str]) -> int:
    """Mean of the residues' vectors of each protein; returns the tokens computed."""
    import torch

    from limbeck.distillation.precision import resolve_precision

    bf16 = settings == "best" and resolve_precision("auto", "cpu") == "bf16"
    model = network(name, torch.bfloat16 if bf16 else torch.float32)
    ready()
    tokens = 0
    for batch in batches([len(s) for s in sequences], settings):
        width = max(len(sequences[i]) for i in batch) + 2
        ids, mask = torch.ones(len(batch), width, dtype=torch.long), torch.zeros(len(batch), width, dtype=torch.long)
        for row, index in enumerate(batch):
            letters = [4 + ESM_LETTERS.find(letter) for letter in sequences[index]]
            ids[row, 1 : len(letters) + 1] = torch.tensor(letters)
            mask[row, : len(letters) + 2] = 1
        with torch.inference_mode():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
        tokens += ids.numel()
    return tokens


def run_mtdp(sequences: list[str]) -> int:
    """As its repository runs it: f32, in the file's order, 10 proteins a batch, all padded to 1,001 and cut there."""
    import torch

    model, head = network("MTDP", torch.float32), torch.nn.Linear(512, 1280)
    ready()
    for start in range(0, len(sequences), MTDP_BATCH):
        batch = sequences[start : start + MTDP_BATCH]
        ids = torch.zeros(len(batch), MTDP_LENGTH, dtype=torch.long)
        for row, sequence in enumerate(batch):
            letters = [3 + ESM_LETTERS.find(letter) for letter in sequence[: MTDP_LENGTH - 1]]
            ids[row, : len(letters)] = torch.tensor(letters)
        with torch.inference_mode():
            head(model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state).mean(1).numpy()
    return -(-len(sequences) // MTDP_BATCH) * MTDP_BATCH * MTDP_LENGTH


def run_sentence_transformers(sequences: list[str]) -> int:
    """ESM-2 8M and mean pooling in a ``SentenceTransformer``, which sorts by length; batches of 32, f32."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.txt").write_text("\n".join(ESM_TOKENS) + "\n")
        network("ESM-2 8M", torch.float32).save_pretrained(folder)
        transformers.EsmTokenizer(str(Path(folder, "vocab.txt"))).save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=1024)
        pooling = Pooling(transformer.get_embedding_dimension())
        model = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    ready()
    model.encode(sequences, batch_size=32, show_progress_bar=False)
    return sum(min(len(s), 1022) + 2 for s in sequences)


def run_limbeck(threads: int, sequences: list[str]) -> int:
    import limbeck

    encoder = limbeck.load(threads=threads)
    # Compiled once for a machine, then read from the cache.
    encoder.encode(["MKTAYIAK"])
    ready()
    tokens: list[int] = []
    encoder.encode(sequences, lambda residues, computed: tokens.append(computed))
    return sum(tokens)


_ready: list[tuple[float, float]] = [(time.perf_counter(), time.process_time())]


def ready() -> None:
    """The network is there, and encoding begins."""
    _ready.append((time.perf_counter(), time.process_time()))


def main(name: str, settings: str, threads: int, fasta: str) -> None:
    sequences = [record.text.upper() for record in read_records(Path(fasta))]
    if name == "limbeck-9m":
        tokens = run_limbeck(threads, sequences)
    else:
        import torch

        torch.set_num_threads(threads)
        if name == "MTDP":
            tokens = run_mtdp(sequences)
        elif name.startswith("sentence-transformers"):
            tokens = run_sentence_transformers(sequences)
        else:
            tokens = run_network(name, settings, sequences)
    ready()
    (began, _), (start, start_processor), (end, end_processor) = _ready
    result = {
        "proteins": len(sequences),
        "residues": sum(map(len, sequences)),
        "tokens": tokens,
        "seconds": end - start,
        "processor_seconds": end_processor - start_processor,
        "until_ready": start - began,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
