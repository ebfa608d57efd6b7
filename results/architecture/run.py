"""Which network should the student be? Four of about equal size on equal terms: speed where it runs, and what it
learns from the same batches.

    python results/architecture/run.py speed
    python results/architecture/run.py quality --corpus corpus.h5 --contexts library.safetensors

Needs the extras ``train`` and ``transformers``, and onnx, onnxscript and onnxruntime. Writes ``speed.json`` or
``quality.json`` beside this file, from which ``python results/architecture/run.py table`` prints the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ModernBertConfig, ModernBertModel, T5Config, T5EncoderModel

from limbeck.distillation.config import StudentConfig, TrainingConfig
from limbeck.distillation.corpus import Corpus
from limbeck.distillation.network import Student
from limbeck.distillation.objectives import Contexts
from limbeck.distillation.training import train
from limbeck.residues import PAD_ID

HERE = Path(__file__).parent
WIDTH = 384


class Convolution(Student):
    """The student as it is in limbeck: dense dilated convolutions."""


class T5(Student):
    """MTDP's network (arXiv 2405.11735) at its depth, its width brought down to the common size."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        shape = T5Config(
            vocab_size=PAD_ID + 1, d_model=WIDTH, d_kv=48, num_heads=8, d_ff=1120, num_layers=6,
            feed_forward_proj="relu", dropout_rate=0.0, use_cache=False,
        )  # fmt: skip
        self.encoder = T5EncoderModel(shape)
        self.blocks = nn.ModuleList()

    def residues(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.encoder(input_ids=ids, attention_mask=mask[..., 0]).last_hidden_state)


class ModernBert(Student):
    """A stock architecture of transformers with local and global attention."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        shape = ModernBertConfig(
            vocab_size=PAD_ID + 1, hidden_size=WIDTH, intermediate_size=608, num_hidden_layers=6,
            num_attention_heads=6, max_position_embeddings=8192, pad_token_id=PAD_ID, local_attention=128,
            bos_token_id=None, eos_token_id=None, cls_token_id=None, sep_token_id=None, attn_implementation="sdpa",
        )  # fmt: skip
        self.encoder = ModernBertModel(shape)
        self.blocks = nn.ModuleList()

    def residues(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.encoder(input_ids=ids, attention_mask=mask[..., 0].long()).last_hidden_state)


class HybridBlock(nn.Module):
    """A depthwise convolution or self-attention, then a feed-forward layer."""

    def __init__(self, attention: bool) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.conv = None if attention else nn.Conv1d(WIDTH, WIDTH, 9, padding=4, groups=WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH) if attention else None
        self.attended = nn.Linear(WIDTH, WIDTH) if attention else None
        self.up, self.down = nn.Linear(WIDTH, 1376), nn.Linear(1376, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.norm(x)
        if self.conv is not None:
            x = x + self.conv((h * mask).transpose(1, 2)).transpose(1, 2)
        else:
            rows, length, _ = x.shape
            q, k, v = self.qkv(h).view(rows, length, 3, 6, WIDTH // 6).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=(mask[..., 0] > 0)[:, None, None, :])
            x = x + self.attended(y.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Hybrid(Student):
    """Depthwise convolutions with self-attention in every second block."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(HybridBlock(attention=index % 2 == 1) for index in range(6))


NETWORKS: dict[str, type[Student]] = {
    "dense dilated convolutions": Convolution,
    "T5 encoder (MTDP's)": T5,
    "ModernBERT": ModernBert,
    "depthwise convolutions + attention": Hybrid,
}


class Residues(nn.Module):
    """Only what a residue embedding needs, as a traceable module of ids and mask."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.student.residues(ids, mask)


def parameters(student: Student) -> int:
    """Of the network that gives the residue features, without the pooling."""
    heads = {*student.contexts.parameters(), *student.project.parameters(), *student.profile.parameters()}
    return sum(p.numel() for p in student.parameters() if p not in heads)


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def matrix_rate() -> float:
    """bf16 matrix product of this machine now, TFLOP/s."""
    a, b = torch.randn(4096, 2048).bfloat16(), torch.randn(2048, 2048).bfloat16()
    return 2 * 4096 * 2048 * 2048 / median_seconds(lambda: a @ b, 7) / 1e12


def speeds(student: Student, rows: int, length: int, repeats: int) -> dict[str, float | None]:
    """Residues/s by runtime and precision; None where the runtime cannot take the network."""
    module = Residues(student).eval()
    ids, mask = torch.randint(0, 20, (rows, length)), torch.ones(rows, length, 1)
    result: dict[str, float | None] = {}

    def timed(name: str, prepare: Callable[[], Callable[[], object]]) -> None:
        try:
            with torch.no_grad():
                result[name] = rows * length / median_seconds(prepare(), repeats)
        except Exception as error:  # a runtime's converter may fail in any way; the table says so
            print(f"  {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
            result[name] = None

    def pytorch(dtype: torch.dtype) -> Callable[[], object]:
        def run() -> object:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                return module(ids, mask)

        return run

    def openvino(precision: str) -> Callable[[], object]:
        import openvino as ov

        model = ov.convert_model(module, example_input=(ids, mask))
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        inputs = [ids.numpy(), mask.numpy()]
        return lambda: compiled(inputs)

    def onnxruntime() -> Callable[[], object]:
        import onnxruntime as ort

        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/network.onnx"
            torch.onnx.export(module, (ids, mask), path, dynamo=True, input_names=["ids", "mask"], verbose=False)
            session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        feed = dict(zip([i.name for i in session.get_inputs()], [ids.numpy(), mask.numpy()], strict=True))
        return lambda: session.run(None, feed)

    timed("PyTorch f32", lambda: pytorch(torch.float32))
    timed("PyTorch bf16", lambda: pytorch(torch.bfloat16))
    timed("OpenVINO f32", lambda: openvino("f32"))
    timed("OpenVINO bf16", lambda: openvino("bf16"))
    timed("ONNX Runtime f32", onnxruntime)
    return result


def measure_speed(options: argparse.Namespace) -> None:
    rows = []
    for name, network in NETWORKS.items():
        torch.manual_seed(0)
        student = network(StudentConfig())
        before = matrix_rate()
        measured = speeds(student, options.rows, options.length, options.repeats)
        rows.append(
            {
                "network": name,
                "parameters": parameters(student),
                "residues_per_second": measured,
                "matrix_tflops_bf16": round((before + matrix_rate()) / 2, 3),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    shape = {"rows": options.rows, "length": options.length, "repeats": options.repeats}
    (HERE / "speed.json").write_text(json.dumps({"batch": shape, "networks": rows}, indent=1) + "\n")


def measure_quality(options: argparse.Namespace) -> None:
    corpus = Corpus(options.corpus)
    config = TrainingConfig(
        steps=options.steps, warmup=10, evaluate_every=options.steps, compile=False, learning_rate=options.learning_rate
    )
    rows = []
    for name, network in NETWORKS.items():
        torch.manual_seed(0)
        student = network(config.student)
        with tempfile.TemporaryDirectory() as folder:
            last = None

            def keep(progress):
                nonlocal last
                last = progress

            train(
                config, corpus, [Contexts(options.contexts, config.student)], Path(folder), student=student, report=keep
            )
        row = {
            "network": name,
            "parameters": parameters(student),
            "validation": last.validation,
            "validation_sum": float(np.sum(list(last.validation.values()))),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    settings = dataclasses.asdict(config)
    (HERE / "quality.json").write_text(json.dumps({"config": settings, "networks": rows}, indent=1) + "\n")


def table() -> str:
    speed = {r["network"]: r for r in json.loads((HERE / "speed.json").read_text())["networks"]}
    quality = {r["network"]: r for r in json.loads((HERE / "quality.json").read_text())["networks"]}
    runtimes = list(next(iter(speed.values()))["residues_per_second"])
    head = ["network", "parameters, M", *runtimes, "KL to contexts", "KL to profile", "sum of losses"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in speed.items():
        cells = [f"{v:,.0f}" if v else "fails" for v in row["residues_per_second"].values()]
        learned = quality[name]
        cells += [f"{learned['validation'][k]:.3f}" for k in ("contexts", "profile")]
        cells.append(f"{learned['validation_sum']:.3f}")
        lines.append("| " + " | ".join([name, f"{row['parameters'] / 1e6:.1f}", *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    speed = verbs.add_parser("speed")
    speed.add_argument("--rows", type=int, default=32)
    speed.add_argument("--length", type=int, default=384)
    speed.add_argument("--repeats", type=int, default=5)
    speed.set_defaults(run=measure_speed)
    quality = verbs.add_parser("quality")
    quality.add_argument("--corpus", type=Path, required=True)
    quality.add_argument("--contexts", type=Path, required=True)
    quality.add_argument("--steps", type=int, default=100)
    quality.add_argument("--learning-rate", type=float, default=1e-3)
    quality.set_defaults(run=measure_quality)
    verbs.add_parser("table").set_defaults(run=lambda _: print(table()))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
