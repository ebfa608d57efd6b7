"""Meta-train the in-context predictor.

    python results/in_context/train.py --data FOLDER --output FOLDER [--steps N] [--fold K]

writes ``in_context.safetensors`` and ``training.json``; run again, it goes on where it was interrupted. Without
``--fold`` it is the network that comes with limbeck; the five of ``--fold 0`` to ``4`` leave out each protein once, for
the learning curves of ``results/few_labels``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import assays
import torch

from limbeck import load
from limbeck.landscapes.in_context.meta import MetaSettings, Task, meta_train
from limbeck.landscapes.in_context.network import InContextNetwork, Shape
from limbeck.landscapes.in_context.variants import CHANGE, Describer
from limbeck.landscapes.in_context.weights import save_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--encoder", help="as limbeck.load takes it")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fold", type=int, choices=range(assays.FOLDS), help="leave out this fifth of the proteins")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    encoder = load(options.encoder)
    found = assays.read(options.data)
    family = assays.families(found, options.threads)
    parts = assays.divided(found, family, fold=options.fold)
    print({part: sorted({a.protein for a in of}) for part, of in parts.items()}, flush=True)
    describers: dict[str, Describer] = {}

    def task(assay: assays.Measured) -> Task:
        if assay.wild_type not in describers:
            describers[assay.wild_type] = Describer(encoder, [assay.wild_type])
        return Task(assay.name, family[assay.protein], describers[assay.wild_type](assay.rows), assay.scores)

    learned, held = ([task(a) for a in parts[part]] for part in ("train", "choose"))
    settings = MetaSettings(steps=options.steps, seed=options.seed)
    torch.manual_seed(options.seed)
    network = InContextNetwork(Shape(place=learned[0].variants.shape[1] - CHANGE, change=CHANGE))
    print(network.parameters_count, "parameters", flush=True)
    history = meta_train(
        network,
        learned,
        held,
        settings,
        options.output / "checkpoint.safetensors",
        lambda line: print(line, flush=True),
    )
    about = {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "parameters": network.parameters_count,
        "settings": vars(settings),
        **{part: [a.name for a in of] for part, of in parts.items()},
        # By these the ladder sees that an assay is no new one to the network.
        "proteins": {a.protein: a.wild_type for part in ("train", "choose") for a in parts[part]},
    }
    save_network(network, options.output / "in_context.safetensors", about)
    text = json.dumps({**about, "history": history}, indent=1)
    (options.output / "training.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
