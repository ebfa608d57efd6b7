"""Learning curves from 8 to 512 labels, on assays of single mutants of different proteins (:mod:`assays`).

    python results/few_labels/run.py --data FOLDER --work FOLDER [--relatives FASTA] [--unirep FILE] [--in-context DIR]
    python results/few_labels/run.py --data FOLDER --work FOLDER ... --table

DATA holds ``dms_proteingym_single``. From each assay's 1,024 variants the last 512 of a random order are tested, and
the first 8, 16, ... 512 are the labels; 10 orders. Whatever a model chooses, it chooses within its labels. Every
assay and order is kept in WORK as it is finished, so that a killed run goes on, and a later one adds what is new;
``--table`` makes table and figure of what there is.

RELATIVES are natural proteins for homology profiles (here the default model's training corpus); UNIREP the weights of
the network with 256 units; DIR has folders of networks that ``results/in_context/train.py`` trained, of which each
assay is predicted by the first that never saw its protein or a relative. Without them these rows are left out.

Writes ``few_labels.json``, ``few_labels.md`` and ``few_labels.png`` beside this file, and the table that limbeck ships,
``src/limbeck/landscapes/few_labels.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from assays import assays, protein_of
from table import write

from limbeck.files import whole
from limbeck.landscapes.assay import Assay, expressed
from limbeck.landscapes.in_context import InContextModel
from limbeck.landscapes.in_context.weights import load_network
from limbeck.landscapes.models import GaussianProcessModel, Model, RidgeModel
from limbeck.landscapes.models.in_context import InContextLinearModel
from limbeck.landscapes.models.ranker import LinearRanker
from limbeck.landscapes.models.zero_labels import ZeroLabelModel
from limbeck.landscapes.scores import score
from limbeck.landscapes.vectors import Source
from limbeck.landscapes.zero_labels import site_scores

HERE = Path(__file__).parent
SIZES = (8, 16, 32, 64, 128, 256, 512)
TESTED = 512
ORDERS = 10
RANKED = 128
"""Labels up to which the ranker is fitted: its time grows with their cube, and it is cross-validated."""
SHIPPED = ("limbeck-9m", "limbeck-contexts")
IN_CONTEXT = "in-context predictor"


def zero_labels(
    assay: Assay, relatives: Path | None, unirep: Path | None, weights: str | None
) -> dict[str, Callable[[list[str]], np.ndarray]]:
    """What scores rows without labels, by name."""
    wild_types = tuple(assay.wild_types.values())

    def by(*encoders: str, masked: bool = False) -> Callable[[list[str]], np.ndarray]:
        return ZeroLabelModel(encoders, masked, wild_types=wild_types).ratios

    found = {f"zero-label {name}": by(name) for name in SHIPPED}
    found["zero-label limbeck-9m, each residue masked"] = by("limbeck-9m", masked=True)
    if unirep:
        found["zero-label UniRep"] = by(str(unirep))
    found["zero-label limbeck-9m, limbeck-contexts"] = by(*SHIPPED)
    if relatives:
        found["zero-label homology"] = by(f"homology:{relatives}")
        found["zero-label limbeck-9m, homology"] = by("limbeck-9m", f"homology:{relatives}")
    if weights:
        found[f"{IN_CONTEXT}, no label"] = InContextModel(weights, wild_types=wild_types).rank
    return found


def search(chosen: list[Assay], relatives: Path) -> None:
    """Find the relatives of all wild types at once: a search reads its whole database, and the process remembers."""
    proteins = [expressed(wild_type) for assay in chosen for wild_type in assay.wild_types.values()]
    site_scores(Source(f"homology:{relatives}").load(), proteins)


def fitted(assay: Assay, work: Path, relatives: Path | None, weights: str | None) -> dict[str, Callable[[int], Model]]:
    """The models that learn from labels: by name what makes one, given the number of the order."""
    cache, wild_types = str(work / "vectors"), tuple(assay.wild_types.values())
    known = {"wild_types": wild_types, "cache": cache}

    def ridge(*features: str) -> Callable[[int], Model]:
        return lambda order: RidgeModel(features, random_state=order, **known)

    found: dict[str, Callable[[int], Model]] = {
        "ridge on one-hot": lambda order: RidgeModel("one-hot", random_state=order),
        "ridge on one-hot + zero-label limbeck-9m": ridge("one-hot", "zero-label"),
        "ridge on one-hot + limbeck-9m": ridge("one-hot", "embedding:mean"),
        "ridge on one-hot + limbeck-9m at mutations": ridge("one-hot", "embedding:mutated"),
        "ridge on limbeck-9m": ridge("embedding:mean"),
        "ridge on limbeck-9m at mutations": ridge("embedding:mutated"),
        "ridge on limbeck-9m at mutations + zero-label limbeck-9m": ridge("embedding:mutated", "zero-label"),
        "Gaussian process on limbeck-9m": lambda order: GaussianProcessModel("embedding:mean", **known),
        "Gaussian process on limbeck-9m at mutations": lambda order: GaussianProcessModel("embedding:mutated", **known),
        "in-context linear regression on limbeck-9m": lambda order: InContextLinearModel("embedding:mean", **known),
        "in-context linear regression on limbeck-9m, H of all variants": lambda order: InContextLinearModel(
            "embedding:mean", context=tuple(assay.rows), **known
        ),
        "linear ranker on one-hot + zero-label limbeck-9m": lambda order: LinearRanker(
            ("one-hot", "zero-label"), random_state=order, **known
        ),
    }
    if relatives:
        homology = f"zero-label:homology:{relatives}"
        found["ridge on one-hot + zero-label homology"] = ridge("one-hot", homology)
        found["ridge on limbeck-9m at mutations + zero-label homology"] = ridge("embedding:mutated", homology)
    if weights:
        found[IN_CONTEXT] = lambda order: InContextModel(weights, wild_types=wild_types, random_state=order)
    return found


def unseen(assay: Assay, folder: Path | None) -> str | None:
    """The weights of the first network of a folder that was tested on the assay's protein, so never learned from it."""
    for path in sorted(folder.glob("*/in_context.safetensors")) if folder else ():
        if protein_of(assay.name) in tested_on(path):
            return str(path)
    return None


def tested_on(weights: Path) -> set[str]:
    """The proteins that a network was tested on, so never learned from."""
    return {protein_of(name) for name in load_network(weights)[1]["test"]}


def measured(
    assay: Assay,
    order: int,
    models: dict[str, Callable[[int], Model]],
    ranked: dict[str, Callable[[list[str]], np.ndarray]],
    known: dict[str, dict[str, list[float]]],
) -> dict[str, dict[str, list[float]]]:
    """Spearman's correlation and NDCG on the tested variants, by number of labels and method; what is known is kept."""
    shuffled = np.random.default_rng((1, order)).permutation(len(assay))
    labelled, tested = shuffled[:-TESTED], assay.take(shuffled[-TESTED:])
    found = {size: dict(known.get(size, {})) for size in ("0", *map(str, SIZES))}
    for name, rank in ranked.items():
        if name not in found["0"]:
            found["0"][name] = both(tested.scores, rank(tested.rows))
    for size in SIZES:
        train = assay.take(labelled[:size])
        for name, make in models.items():
            if name in found[str(size)] or ("ranker" in name and size > RANKED):
                continue
            predicted = make(order).fit(train.rows, train.scores).predict(tested.rows)
            found[str(size)][name] = both(tested.scores, predicted)
    return found


def both(truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    values = score(truth, predicted)
    return [round(values["spearman"], 4), round(values["ndcg"], 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--relatives", type=Path)
    parser.add_argument("--unirep", type=Path)
    parser.add_argument("--in-context", type=Path, metavar="DIR")
    parser.add_argument(
        "--part", default="0/1", metavar="I/N", help="every Nth assay from the Ith, for several processes"
    )
    parser.add_argument("--table", action="store_true", help="measure nothing more")
    arguments = parser.parse_args()
    chosen = assays(arguments.data)
    files = {
        (a.name, order): arguments.work / "scores" / f"{order}-{a.name}.json" for a in chosen for order in range(ORDERS)
    }
    if not arguments.table:
        (arguments.work / "scores").mkdir(parents=True, exist_ok=True)
        first, every = map(int, arguments.part.split("/"))
        if arguments.relatives:
            search(chosen[first::every], arguments.relatives)
        # A few orders of every assay first: a run that is cut short is still one of all assays.
        for orders in (range(2), range(2, 5), range(5, ORDERS)):
            for assay in chosen[first::every]:
                weights = unseen(assay, arguments.in_context)
                models = fitted(assay, arguments.work, arguments.relatives, weights)
                ranked = zero_labels(assay, arguments.relatives, arguments.unirep, weights)
                for order in orders:
                    path = files[assay.name, order]
                    known = json.loads(path.read_text()) if path.exists() else {}
                    found = measured(assay, order, models, ranked, known)
                    with whole(path) as partial:
                        partial.write_text(json.dumps(found))
                    print(assay.name, order, flush=True)
    write(HERE, chosen, {key: json.loads(path.read_text()) for key, path in files.items() if path.exists()})


if __name__ == "__main__":
    main()
