"""Building an index: a stream from files of embeddings (or of proteins) to a folder that appears when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from limbeck.embedding.pipeline import embed
from limbeck.errors import InputError
from limbeck.files import sync
from limbeck.progress import Progress
from limbeck.search.engine import PROBES, build_engine, chosen_engine, open_engine
from limbeck.search.exact import nearest
from limbeck.search.folder import CENTRE, PROTEINS, VECTORS, Manifest, checksum, write_manifest
from limbeck.search.index import CANDIDATES, directions
from limbeck.search.labels import Labels, codes, read_labels, split_label
from limbeck.search.transfer import SMALLEST_SAMPLE, VOTERS, calibrate
from limbeck.search.vectors import Origin, blocks, is_table, origin_of
from limbeck.version import __version__

__all__ = ["Sources", "build_index"]

Paths = Sequence[str | os.PathLike[str]]

AT_ONCE = 8192
CALIBRATION_SAMPLE = 2000
RECALL_SAMPLE, RECALL_AT = 1000, 10
ENOUGH = 0.99
"""Recall that an engine is set to."""
SEED = 0
REMEMBERED = ("encoder", "layer", "dimension", "pooling")
"""Options of an encoder that are kept, so that queries can be embedded with it later."""


def build_index(
    inputs: str | os.PathLike[str] | Paths,
    output: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    group_column: str | None = None,
    engine: Literal["auto", "exact", "approximate"] = "auto",
    dtype: Literal["float32", "float16"] = "float32",
    centre: bool = True,
    loading: dict[str, Any] | None = None,
    progress: bool = True,
) -> Manifest:
    """Build an index of proteins.

    Args:
        inputs: files that ``limbeck embed`` wrote, all of one encoder and precision; or files of proteins, which are
            embedded first.
        output: the folder to make.
        labels: a table (CSV, TSV, Parquet) with a label for each protein; several labels are separated by ``;``.
        label_column: of that table.
        id_column: of that table; found by its usual names if not given.
        group_column: of that table: proteins of one group (a family, a cluster) don't vouch for each other when the
            reliability of labels is calibrated.
        engine: ``"exact"`` compares with every vector, ``"approximate"`` looks into lists
            (:mod:`limbeck.search.engine`), ``"auto"`` chooses by the number of proteins.
        dtype: of the stored vectors; ``"float16"`` halves them.
        centre: take the mean of the index off all vectors before they are compared.
        loading: options for :func:`limbeck.load` where ``inputs`` are proteins.
        progress: show progress on standard error.

    Raises:
        InputError: if something cannot be used; nothing is left under ``output`` then.
    """
    paths: Paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    if (labels is None) != (label_column is None):
        raise InputError("labels need a table and its column; give --labels and --label-column together")
    with _new_folder(Path(output)) as folder:
        with Sources(paths, folder, loading or {}, progress) as sources:
            ids = _stack(sources, folder, progress)
        found = None
        if labels is not None and label_column is not None:
            found = read_labels(labels, ids.to_pylist(), label_column, id_column=id_column, group_column=group_column)
        mean = _centred(folder, len(ids), sources.origin.dimension, centre, dtype, progress)
        np.save(folder / CENTRE, mean)
        _write_proteins(folder, ids, found)
        manifest = Manifest(
            origin=sources.origin,
            count=len(ids),
            dtype=dtype,
            centred=centre,
            limbeck_version=__version__,
            inputs=[Path(path).name for path in paths],
            loading={
                name: value for name, value in sources.loading.items() if name in REMEMBERED and value is not None
            },
            engine=chosen_engine(engine, len(ids)),
            labels={} if found is None else _columns(found, label_column, group_column),
        )
        return _finish(folder, manifest, found, progress)


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder beside the output to build in; it moves there when it is whole, and goes if it will never be."""
    if output.exists():
        raise InputError(f"{output} is there already; remove it or name another")
    if not output.absolute().parent.is_dir():
        raise InputError(f"the output's folder {str(output.parent)!r} does not exist; create it first")
    partial = output.with_name(output.name + ".partial")
    if partial.exists():
        # Nothing of an index can be continued, so what an earlier run left is of no use.
        shutil.rmtree(partial)
    try:
        partial.mkdir()
        yield partial
        os.replace(partial, output)
    except OSError as error:
        raise InputError(f"{output}: {error.strerror or error}; put that right and repeat the command") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass
class Sources:
    """Vectors of files, whichever kind they are; in a context, because proteins are embedded to a file first.

    Raises:
        InputError: on entering, if the files don't go together.
    """

    paths: Paths
    scratch: Path
    loading: dict[str, Any]
    progress: bool

    def __enter__(self) -> Sources:
        if not self.paths:
            raise InputError("no input; name at least one file of embeddings or of proteins")
        tables = [path != "-" and is_table(path) for path in self.paths]
        if any(tables) and not all(tables):
            raise InputError("give either files of embeddings or files of proteins, not both at once")
        self.tables: Paths = self.paths
        if all(tables):
            if self.loading:
                raise InputError("options of an encoder go with files of proteins; these are embedded already")
        else:
            embedded = self.scratch / "embeddings.npz"
            # The scratch folder is on the output's disk, so that room is looked at where it is needed.
            embed(self.paths, embedded, progress=self.progress, **self.loading)
            self.tables = [embedded]
        self.origin = self._common_origin()
        return self

    def __exit__(self, *_: object) -> None:
        (self.scratch / "embeddings.npz").unlink(missing_ok=True)

    def blocks(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        return blocks(self.tables, self.origin.dimension, AT_ONCE)

    def _common_origin(self) -> Origin:
        first = origin_of(self.tables[0])
        for path in self.tables[1:]:
            first.refuse_other(origin_of(path), os.fspath(self.tables[0]), os.fspath(path))
        return first


def _stack(sources: Sources, folder: Path, progress: bool) -> pa.StringArray:
    """Write all vectors end to end to ``folder/raw``; returns the ids.

    Raises:
        InputError: if an id occurs twice, or there is no protein.
    """
    ids = []
    with (folder / "raw").open("wb") as file, Progress("reading", "proteins", None, progress) as bar:
        for names, vectors in sources.blocks():
            ids.append(pa.array(names, pa.large_string()))
            file.write(vectors.tobytes())
            bar.update(len(names))
    if not ids:
        raise InputError(f"{os.fspath(sources.paths[0])} has no proteins")
    every = pa.concat_arrays(ids)
    if pc.count_distinct(every).as_py() < len(every):
        counts = pc.value_counts(every)
        repeated = counts.field("values")[pc.index(pc.greater(counts.field("counts"), 1), True).as_py()]
        raise InputError(f"the id {repeated.as_py()!r} occurs more than once; an index needs ids that are different")
    return every


def _centred(folder: Path, count: int, dimension: int, centre: bool, dtype: str, progress: bool) -> NDArray[np.float32]:
    """Directions of the raw vectors about their mean, written to the index; returns the mean (or zeros)."""
    raw = np.memmap(folder / "raw", dtype=np.float32, mode="r", shape=(count, dimension))
    mean = np.zeros(dimension)
    if centre:
        if count < 2:
            raise InputError("one protein is its own mean, and has no direction about it; use --no-centre")
        for start in range(0, count, AT_ONCE):
            mean += raw[start : start + AT_ONCE].sum(axis=0, dtype=np.float64)
    result = (mean / count).astype(np.float32)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": raw.shape}
    # Not a map: where the disk fills meanwhile, the system would kill the process without a word.
    with (folder / VECTORS).open("wb") as file, Progress("centring", "proteins", count, progress) as bar:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, AT_ONCE):
            part = directions(raw[start : start + AT_ONCE], result)
            file.write(part.astype(dtype).tobytes())
            bar.update(len(part))
    del raw
    (folder / "raw").unlink()
    return result


def _write_proteins(folder: Path, ids: pa.StringArray, labels: Labels | None) -> None:
    columns = {"id": ids}
    if labels is not None:
        columns["label"] = pa.array([label or None for label in labels.labels], pa.large_string())
    table = pa.table(columns)
    with pa.OSFile(str(folder / PROTEINS), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _columns(labels: Labels, label_column: str | None, group_column: str | None) -> dict[str, Any]:
    own = [split_label(label) for label in set(labels.labels)]
    return {
        "column": label_column,
        "group_column": group_column,
        "labelled": len(labels.labels) - labels.unlabelled,
        "unlabelled": labels.unlabelled,
        "unused": labels.unused,
        "different": len({label for several in own for label in several}),
        "several": any(len(several) > 1 for several in own),
    }


def _finish(folder: Path, manifest: Manifest, labels: Labels | None, progress: bool) -> Manifest:
    """Build the engine, measure it, calibrate, and write the manifest."""
    vectors: NDArray[np.floating] = np.load(folder / VECTORS, mmap_mode="r")
    build_engine(folder, manifest.engine, vectors, progress)
    manifest.recall.update(_recall(folder, manifest, vectors))
    if labels is not None:
        manifest.labels["calibration"] = _calibration(vectors, labels, progress)
    del vectors
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            sync(file.fileno())
        manifest.files[path.name] = {"bytes": path.stat().st_size, "sha256": checksum(path)}
    write_manifest(folder, manifest)
    return manifest


def _recall(folder: Path, manifest: Manifest, vectors: NDArray[np.floating]) -> dict[str, Any]:
    """How many of the true neighbours of proteins of the index the engine finds, themselves left out.

    On half of a sample the smallest number of probes is chosen that finds :data:`ENOUGH` of them; the other half says
    how good it is.
    """
    engine = open_engine(folder, manifest)
    k = min(RECALL_AT, len(vectors) - 1)
    if engine is None or k < 1:
        return {"recall": 1.0, "k": k, "queries": 0}
    chosen = _sample(np.arange(len(vectors)), RECALL_SAMPLE)
    queries = np.asarray(vectors[chosen], np.float32)
    truth, _ = nearest(vectors, queries, k, groups=(chosen, np.arange(len(vectors))))
    count = min(CANDIDATES * (k + 1), len(vectors))
    half = len(chosen) // 2
    for engine.probes in sorted({min(probes, manifest.engine["lists"]) for probes in PROBES}):
        if _found(engine.candidates(queries[:half], count), truth[:half]) >= ENOUGH:
            break
    manifest.engine["probes"] = engine.probes
    recall = _found(engine.candidates(queries[half:], count), truth[half:])
    return {"recall": recall, "k": k, "queries": len(chosen) - half}


def _found(candidates: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Share of the true neighbours, (q, k), that are among the candidates."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(candidates.tolist(), truth.tolist(), strict=True))
    return hits / truth.size if truth.size else 1.0


def _calibration(vectors: NDArray[np.floating], labels: Labels, progress: bool) -> dict[str, Any] | None:
    labelled = np.flatnonzero([bool(label) for label in labels.labels])
    if len(labelled) < SMALLEST_SAMPLE:
        return None
    sample = _sample(labelled, CALIBRATION_SAMPLE)
    groups = np.arange(len(vectors)) if labels.groups is None else codes(labels.groups)
    queries = np.asarray(vectors[sample], np.float32)
    with Progress("calibrating", "proteins", len(sample), progress) as bar:
        rows, similarities = nearest(vectors, queries, max(VOTERS), groups=(groups[sample], groups))
        bar.update(len(sample))
    found = calibrate(labels.labels, sample, rows, similarities)
    return {
        "voters": found.voters,
        "transfer": found.transfer.as_dict(),
        "hits": found.hits.as_dict(),
        "report": found.report,
    }


def _sample(rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """So many of the rows in random order, the same ones each time."""
    return np.random.default_rng(SEED).permutation(rows)[:size]
