"""What an index is and how good, as text for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from limbeck.embedding.source import stem
from limbeck.errors import InputError
from limbeck.search.folder import Manifest

__all__ = ["described", "index_name"]


def index_name(inputs: Sequence[str]) -> str:
    """The index of a single input file: its name with ``.index``, in the working directory."""
    if len(inputs) != 1 or inputs[0] == "-":
        raise InputError("name the index with -o; only a single input file names it by itself")
    return f"{stem(inputs[0])}.index"


def described(folder: str | os.PathLike[str], manifest: Manifest) -> str:
    """A small table: encoder, engine, recall, labels and their reliability."""
    origin, engine, recall = manifest.origin, manifest.engine, manifest.recall
    size = sum(file["bytes"] for file in manifest.files.values())
    rows = {
        "proteins": f"{manifest.count:,}",
        "encoder": f"{origin.encoder}, {origin.dimension} numbers, {origin.precision}",
        "similarity": f"cosine {'about the mean of the index' if manifest.centred else 'as the vectors are'}",
        "search": "exact",
    }
    if engine["name"] != "exact":
        lists = f"{engine['name']} {engine['version']}, {engine['probes']} of {engine['lists']} lists"
        measured = f"recall@{recall['k']} {recall['recall']:.4f}, on {recall['queries']} proteins of the index"
        rows["search"] = f"{lists}; {measured}"
    if note := engine.get("note"):
        rows["note"] = note
    rows.update(_of_labels(manifest.labels))
    rows["index"] = f"{os.fspath(folder)}, {size / 1e6:,.1f} MB"
    return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


def _of_labels(labels: dict[str, Any]) -> dict[str, str]:
    if not labels:
        return {"labels": "none"}
    text = f"{labels['different']:,} different, of {labels['labelled']:,} proteins"
    if labels["unlabelled"]:
        text += f"; {labels['unlabelled']:,} have none"
    if labels["unused"]:
        text += f"; {labels['unused']:,} ids of the table are not in the index"
    found = labels["calibration"]
    if found is None:
        return {"labels": text, "reliability": "not calibrated: too few proteins have a label"}
    report = found["report"]
    group = labels["group_column"]
    left_out = f"each without its {group}" if group else "each left out, its relatives not (see --group-column)"
    right = f"accuracy {report['accuracy']:.3f}, calibration error {report['calibration_error']:.3f}"
    return {
        "labels": text,
        "transfer": f"{found['voters']} nearest vote; {right}, on {report['held_out']:,} proteins, {left_out}",
    }
