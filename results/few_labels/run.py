"""Learning curves from 8 to 512 labels, on assays of single mutants of different proteins (:mod:`assays`).

    python results/few_labels/run.py --data FOLDER --work FOLDER [--relatives FASTA] [--unirep FILE]
    python results/few_labels/run.py --data FOLDER --work FOLDER ... --table

DATA holds ``dms_proteingym_single``. From each assay's 1,024 variants the last 512 of a random order are tested, and
the first 8, 16, ... 512 are the labels; 10 orders. Whatever a model chooses, it chooses within its labels. Every
assay and order is kept in WORK as it is finished, so that a killed run goes on; ``--table`` makes table and figure of
what there is.

RELATIVES are natural proteins for homology profiles (here 333,892 of the default model's training corpus, at most 50
of a family); UNIREP the weights of the network with 256 units. Without them these rows are left out.

Writes ``few_labels.json``, ``few_labels.md`` and ``few_labels.svg`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from assays import assays
from table import write

from limbeck.files import whole
from limbeck.landscapes.assay import Assay, expressed
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


def zero_labels(relatives: Path | None, unirep: Path | None) -> dict[str, tuple[str, ...]]:
    """Encoders of each zero-label score."""
    found: dict[str, tuple[str, ...]] = {"limbeck-9m": ("limbeck-9m",), "limbeck-contexts": ("limbeck-contexts",)}
    if unirep:
        found["UniRep"] = (str(unirep),)
    found["limbeck-9m and -contexts"] = SHIPPED
    if relatives:
        found["homology profile"] = (f"homology:{relatives}",)
        found["limbeck-9m and homology"] = ("limbeck-9m", f"homology:{relatives}")
    return found


def fitted(assay: Assay, work: Path, relatives: Path | None) -> dict[str, Callable[[int], Model]]:
    """The models that learn from labels: by name what makes one, given the number of labels and of the order."""
    cache, wild_types = str(work / "vectors"), tuple(assay.wild_types.values())
    known = {"wild_types": wild_types, "cache": cache}

    def ridge(*features: str) -> Callable[[int], Model]:
        return lambda order: RidgeModel(features, random_state=order, **known)

    found: dict[str, Callable[[int], Model]] = {
        "ridge on one-hot": lambda order: RidgeModel("one-hot", random_state=order),
        "ridge on one-hot + zero-label": ridge("one-hot", "zero-label"),
        "ridge on one-hot + limbeck-9m": ridge("one-hot", "embedding:mean"),
        "ridge on one-hot + limbeck-9m at mutations": ridge("one-hot", "embedding:mutated"),
        "ridge on limbeck-9m": ridge("embedding:mean"),
        "ridge on limbeck-9m at mutations": ridge("embedding:mutated"),
        "ridge on limbeck-9m at mutations + zero-label": ridge("embedding:mutated", "zero-label"),
        "Gaussian process on limbeck-9m": lambda order: GaussianProcessModel("embedding:mean", **known),
        "Gaussian process on limbeck-9m at mutations": lambda order: GaussianProcessModel("embedding:mutated", **known),
        "in-context linear regression on limbeck-9m": lambda order: InContextLinearModel("embedding:mean", **known),
        "the same, H of all variants": lambda order: InContextLinearModel(
            "embedding:mean", context=tuple(assay.rows), **known
        ),
        "linear ranker on one-hot + zero-label": lambda order: LinearRanker(
            ("one-hot", "zero-label"), random_state=order, **known
        ),
    }
    if relatives:
        homology = f"zero-label:homology:{relatives}"
        found["ridge on one-hot + homology"] = ridge("one-hot", homology)
        found["ridge on limbeck-9m at mutations + homology"] = ridge("embedding:mutated", homology)
    return found


def measured(
    assay: Assay, order: int, models: dict[str, Callable[[int], Model]], ranked: dict[str, tuple[str, ...]]
) -> dict[str, dict[str, list[float]]]:
    """Spearman's correlation and NDCG on the tested variants, by number of labels and method."""
    shuffled = np.random.default_rng((1, order)).permutation(len(assay))
    labelled, tested = shuffled[:-TESTED], assay.take(shuffled[-TESTED:])
    found: dict[str, dict[str, list[float]]] = {"0": {}}
    for name, encoders in ranked.items():
        ratios = ZeroLabelModel(encoders, wild_types=tuple(assay.wild_types.values())).ratios(tested.rows)
        found["0"][name] = both(tested.scores, ratios)
    for size in SIZES:
        train = assay.take(labelled[:size])
        found[str(size)] = {}
        for name, make in models.items():
            if "ranker" in name and size > RANKED:
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
        ranked = zero_labels(arguments.relatives, arguments.unirep)
        # One search finds the relatives of all proteins.
        proteins = [expressed(wild_type) for assay in chosen for wild_type in assay.wild_types.values()]
        for encoder in {encoder for encoders in ranked.values() for encoder in encoders}:
            site_scores(Source(encoder).load(), proteins)
        # A few orders of every assay first: a run that is cut short is still one of all assays.
        for orders in (range(2), range(2, 5), range(5, ORDERS)):
            for assay in chosen[first::every]:
                models = fitted(assay, arguments.work, arguments.relatives)
                for order in orders:
                    if (path := files[assay.name, order]).exists():
                        continue
                    found = measured(assay, order, models, ranked)
                    with whole(path) as partial:
                        partial.write_text(json.dumps(found))
                    print(assay.name, order, flush=True)
    write(HERE, chosen, {key: json.loads(path.read_text()) for key, path in files.items() if path.exists()})


if __name__ == "__main__":
    main()
