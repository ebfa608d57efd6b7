"""How much faster the default student is than the encoders that people distil from.

    python results/distillation/speed.py

ESM-2 650M and ProtT5-XL's encoder run through ``transformers`` with random weights, which cost what trained ones do, in
bf16 where the processor multiplies such matrices, else in f32. All read proteins of one length, in batches without
padding, alternating; the figure is the median of several rounds. No files are read. Writes ``speed.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import limbeck
from limbeck.distillation.precision import resolve_precision
from limbeck.files import whole
from limbeck.residues import RESIDUES

HERE = Path(__file__).parent
LENGTH = 300
PEERS = {
    "ESM-2 650M": (
        "EsmModel",
        {
            "model_type": "esm", "vocab_size": 33, "hidden_size": 1280, "num_hidden_layers": 33,
            "num_attention_heads": 20, "intermediate_size": 5120, "max_position_embeddings": 1026,
            "position_embedding_type": "rotary", "token_dropout": True, "pad_token_id": 1, "mask_token_id": 32,
        },
    ),
    "ProtT5-XL, encoder": (
        "T5EncoderModel",
        {
            "model_type": "t5", "vocab_size": 128, "d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_layers": 24,
            "num_heads": 32, "feed_forward_proj": "relu",
        },
    ),
}  # fmt: skip


def peer(name: str, dtype: torch.dtype) -> Callable[[int], None]:
    """A function that encodes so many proteins."""
    kind, shape = PEERS[name]
    config = transformers.AutoConfig.for_model(**shape)
    with torch.device("meta"):
        model = getattr(transformers, kind)(config)
    model = model.to_empty(device="cpu").to(dtype).eval()
    for parameter in [*model.parameters(), *model.buffers()]:
        if parameter.is_floating_point():
            torch.nn.init.normal_(parameter, std=0.02)

    def encode(proteins: int) -> None:
        with torch.inference_mode():
            model(
                input_ids=torch.randint(4, 24, (proteins, LENGTH)), attention_mask=torch.ones(proteins, LENGTH).long()
            )

    return encode


def product_rate(dtype: torch.dtype, size: int = 2048) -> float:
    a = torch.randn(size, size).to(dtype)
    a @ a
    began = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * size**3 / (time.perf_counter() - began)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    precision = resolve_precision("auto", "cpu")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    student = limbeck.load()
    rng = np.random.default_rng(0)
    proteins = ["".join(rng.choice(list(RESIDUES), LENGTH)) for _ in range(64)]

    def encode_student(count: int) -> None:
        student.encode(proteins[:count])

    contestants: dict[str, tuple[Callable[[int], None], int]] = {"limbeck-9m": (encode_student, 64)}
    for name in PEERS:
        contestants[name] = (peer(name, dtype), 2)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rates: list[float] = []
    for round_number in range(options.rounds + 1):
        for name, (encode, count) in contestants.items():
            began = time.perf_counter()
            encode(count)
            # The first round warms up.
            if round_number:
                seconds[name].append((time.perf_counter() - began) / (count * LENGTH))
        rates.append(product_rate(dtype))
    own = statistics.median(seconds["limbeck-9m"])
    report: dict[str, Any] = {
        "precision": precision,
        "threads": torch.get_num_threads(),
        "machine": {"processor": platform.machine(), "product_rate": statistics.median(rates)},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "limbeck": limbeck.__version__},
        "residues_per_second": {name: 1 / statistics.median(values) for name, values in seconds.items()},
        "student_is_faster_by": {name: statistics.median(values) / own for name, values in seconds.items()},
        "seconds_per_residue": seconds,
    }
    print(json.dumps(report, indent=1))
    with whole(options.output / "speed.json") as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
