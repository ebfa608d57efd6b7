"""A comparison as a real run would make it, on an assay whose effects are drawn at random."""

from __future__ import annotations

import numpy as np
import pandas as pd

from limbeck.landscapes.assay import Assay
from limbeck.landscapes.comparison import METRIC_NAMES, Comparison

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
SPLITS = (
    ("random", "variants held out at random", "variant", "not needed"),
    ("position-modulo", "every fifth position of the protein, never mutated in training", "position", "needed"),
    ("position-contiguous", "a stretch of the protein, never mutated in training", "position", "unclear"),
    ("few-to-many", "more mutations than any variant in training", "variant", "needed"),
    ("low-to-high", "higher scores than any in training", "variant", "unclear"),
    ("family", "proteins of other families", "family", "needed"),
    ("file: two_vs_rest", "as the file has it", "variant", "not needed"),
)
MODELS = (
    ("mean of training", "floor", None, 0.0),
    ("composition, ridge", "floor", None, 0.21),
    ("one-hot, ridge", "one-hot", None, 0.70),
    ("one-hot, ridge (alpha 1)", "one-hot", None, 0.68),
    ("one-hot, Gaussian process", "one-hot", None, 0.72),
    ("CNN, max pool", "network", None, 0.69),
    ("random-student, ridge", "random network", "random-student", 0.5),
    ("limbeck-9m, ridge", "pretrained", "limbeck-9m", 0.66),
    ("limbeck-9m at mutations, ridge", "pretrained", "limbeck-9m", 0.71),
    ("facebook/esm2_t33_650M_UR50D at mutations, ridge", "pretrained", "facebook/esm2_t33_650M_UR50D", 0.79),
    ("one-hot + facebook/esm2_t33_650M_UR50D, ridge", "pretrained", "facebook/esm2_t33_650M_UR50D", 0.81),
    ("BiLSTM <b>& co</b>", "network", None, 0.64),
)


def make_assay(*, n=600, width=56, parents=1, most=3, name="GB1 <i>&", wild_types=True, single_share=0.6, seed=0):
    """n variants with additive effects of residues, and a cap on top."""
    rng = np.random.default_rng(seed)
    names = ["GB1 & co"] if parents == 1 else [f"protein {i}" for i in range(parents)]
    sequences = {each: "".join(rng.choice(list(LETTERS), width)) for each in names}
    effect = rng.normal(-0.5, 0.8, (width, 26)) * rng.beta(0.8, 1.2, (width, 1)) * 2
    rows, scores, owners = [], [], []
    for i in range(n):
        owner = names[i % parents]
        row = list(sequences[owner])
        count = 0 if i < parents else 1 if rng.random() < single_share else int(rng.integers(1, most + 1))
        total = 0.0
        for position in rng.choice(width, count, replace=False):
            row[position] = rng.choice(list(LETTERS + "*"), p=[0.049] * 20 + [0.02])
            if row[position] == "*":
                row[position + 1 :] = "-" * (width - position - 1)
            total += effect[position, ord(row[position]) - ord("A")] if row[position] != "*" else -3
            if row[position] == "*":
                break
        rows.append("".join(row))
        owners.append(owner)
        scores.append(3.7 - 2.4 / (1 + np.exp(2.0 + 1.7 * total)) + rng.normal(0, 0.08))
    spread = np.abs(rng.normal(0.1, 0.04, n))
    spread[::3] = np.nan
    return Assay(
        name=name,
        rows=rows,
        scores=np.array(scores),
        parents=np.array(owners if wild_types else [""] * n, dtype=object),
        wild_types=sequences if wild_types else {},
        splits={"two_vs_rest": np.array(["train", "test"] * (n // 2), dtype=object)},
        lines=np.arange(2, n + 2),
        replicates=np.where(np.isnan(spread), 1, 3),
        spread=spread,
        first_position={names[0]: 227} if wild_types else {},
        notes=[
            "Took “mutant” for mutations and DMS_score for scores.",
            "Left out 3 rows without a score: lines 7, 9 and 12.",
        ],
    )


def make_comparison(assay=None, *, splits=7, models=12, sample=False, std=False, most_tested=10_000):
    """Scores about what such models reach; ``sample`` adds a second look at one-hot models on all rows."""
    assay = assay or make_assay()
    rng = np.random.default_rng(1)
    kept, n = SPLITS[:splits], len(assay)
    frames = {name: [] for name in ("splits", "scores", "differences", "verdicts", "predictions")}
    for s, (split, question, unit, verdict) in enumerate(kept):
        test = np.sort(rng.choice(n, min(n // 3, most_tested), replace=False))
        units = {"variant": len(test), "position": 11, "family": 6}[unit]
        frames["splits"].append((split, question, n // 2, n // 8, len(test), unit, units))
        for model, kind, encoder, skill in MODELS[:models]:
            value = max(-0.05, skill * (1 - 0.11 * s) + rng.normal(0, 0.02)) if skill else 0.0
            half = 0.02 + 0.3 / np.sqrt(units)
            for rows in ("sample", "all") if sample and encoder is None else ("sample",) if sample else ("all",):
                frames["scores"] += _scores(split, model, kind, encoder, rows, value, half, n, len(test))
            noise = np.std(assay.scores) * np.sqrt(1 / max(value, 0.1) ** 2 - 1)
            predicted = assay.scores[test] + rng.normal(0, noise, len(test))
            shrunk = np.mean(assay.scores) + value * (predicted - np.mean(predicted))
            for row, each in zip(test, shrunk, strict=True):
                deviation = 0.4 if std and "Gaussian" in model else np.nan
                frames["predictions"].append((split, row, model, assay.scores[row], each, deviation))
            frames["differences"].append(
                (split, model, MODELS[4][0], "spearman", value - 0.7, value - 0.76, value - 0.64, len(test))
            )
        frames["verdicts"].append(_verdict(split, verdict, models, len(test), units))
    columns = {
        "splits": "split question train valid test unit units",
        "scores": "split model kind pretrained encoder rows metric value low high valid n_train n_test seconds note",
        "differences": "split model baseline metric value low high n",
        "verdicts": "split verdict sentence advice model baseline difference low high n units",
        "predictions": "split row model measured predicted std",
    }
    return Comparison(
        assay=assay,
        settings={
            "ladder": "quick",
            "seed": 0,
            "version": "0.4.0",
            "encoders": [
                {"name": "limbeck-9m", "fingerprint": "9f2c41d0", "license": "CC-BY-4.0"},
                {"name": "facebook/esm2_t33_650M_UR50D", "fingerprint": "aa01bb02cc03", "license": "MIT"},
            ],
            "versions": {"numpy": "2.3.1", "scikit-learn": "1.7.0"},
            "seconds": 412.5,
        },
        left_out=pd.DataFrame(
            [
                ("low-to-high", "fewer than 50 variants score above the wild type"),
                ("BiLSTM", "needs PyTorch: pip install 'limbeck[landscape]'"),
            ],
            columns=["what", "reason"],
        ),
        curves=_curves(models),
        leaks=_leaks(kept[0][0], n),
        **{name: pd.DataFrame(rows, columns=columns[name].split()) for name, rows in frames.items()},
    )


def _scores(split, model, kind, encoder, rows, value, half, n, tested):
    values = {
        "spearman": value,
        "pearson": value * 0.97,
        "mse": 1.1 - value,
        "ndcg": 0.6 + value * 0.4,
        "recall": value * 0.8,
    }
    note = "validation chose alpha 12.6" if "ridge" in model and encoder else None
    head = (split, model, kind, kind == "pretrained", encoder, rows)
    return [
        (*head, metric, values[metric], values[metric] - half, values[metric] + half, value, n // 2, tested, 3.25, note)
        for metric in METRIC_NAMES
    ]


DIFFERENCES = {"needed": (0.09, 0.05, 0.13), "not needed": (-0.01, -0.03, 0.01), "unclear": (0.04, -0.05, 0.12)}


def _verdict(split, verdict, models, n, units):
    baseline, model = MODELS[4][0], MODELS[min(10, models - 1)][0]
    difference, low, high = DIFFERENCES[verdict]
    sentence = (
        f"Transfer learning is {verdict} for {split}, by the encoders tried (limbeck-9m, "
        f"facebook/esm2_t33_650M_UR50D): {model} ranks with {0.72 + difference:.2f}, {baseline} with 0.72; the "
        f"difference is {difference:+.2f} ({low:+.2f} to {high:+.2f}) on {n:,} test variants."
    )
    advice = "Measure 200 more double mutants, at positions that no variant covers yet." if verdict == "unclear" else ""
    return (split, verdict, sentence, advice, model, baseline, difference, low, high, n, units)


def _curves(models):
    rows = []
    for model, kind, _, skill in MODELS[:models]:
        for size in (24, 96, 384, 1536):
            value = skill * (1 - (0.5 if kind == "pretrained" else 0.9) * np.exp(-size / 300))
            for metric, each in (("spearman", value), ("mse", 1.2 - value)):
                rows.append((model, kind == "pretrained", size, 5, metric, each, each - 0.05, each + 0.05))
    return pd.DataFrame(rows, columns=["model", "pretrained", "n_train", "repeats", "metric", "value", "low", "high"])


def _leaks(split, n):
    near = "21 test variants have one in training that differs by a single residue."
    known = "The wild type was in the training data of limbeck-9m."
    return pd.DataFrame(
        [
            ("near duplicates", split, None, 21, n // 3, 63 / n, near, ["A24V:D40Y", "T25A"]),
            ("corpus", None, "limbeck-9m", 1, n, 1 / n, known, ["GB1 & co"]),
        ],
        columns=["kind", "split", "encoder", "count", "of", "share", "sentence", "examples"],
    )
